"""``requestor-sdk cost``: what a run cost, by provider and by instance."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from requestor_sdk.cli._columns import say, table, width
from requestor_sdk.cli._runs import bill_of, bill_rows, run_argument
from requestor_sdk.cli.runs import nothing_of
from requestor_sdk.observe import text

if TYPE_CHECKING:
    from decimal import Decimal

    from requestor_sdk.observe.bill import Bill
    from requestor_sdk.observe.runs import RunSummary

_PROVIDERS = ("provider", "agreements", "time", "amount", "an hour")
_INSTANCES = ("instance", "state", "provider", "attempts", "amount")
_NUMBERS = ("agreements", "time", "amount", "an hour", "attempts")


@click.command()
@run_argument
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(run: str | None, *, as_json: bool) -> None:
    """Show what a run cost: by provider, by instance, and against its budget.

    RUN is the id of a run or the beginning of it, or the path of a journal; the newest run, where
    it is left out. Amounts are in the network's token, of what was accepted to be paid; of a run
    that is alive, so far. The status is 1 where not all of the journal could be read.
    """
    from requestor_sdk.cli._chosen import chosen

    summary = chosen(run).summary()
    bill = bill_of(summary)
    if as_json:
        click.echo(json.dumps(_record(summary, bill), indent=2))
    else:
        for line in _lines(summary, bill):
            say(line)
    if summary.problem is not None:
        click.secho(str(summary.problem), err=True, fg="red")
        sys.exit(1)


def _lines(summary: RunSummary, bill: Bill) -> Iterator[str]:
    if summary.state.value == "empty":
        yield from nothing_of(summary.run_id, summary.path)
        return
    so_far = " so far" if summary.state.value == "alive" else ""
    yield f"run {summary.run_id}: {text.amount(bill.total)} of {text.amount(bill.budget)}{so_far}"
    if bill.left_over:
        yield f"at most {text.amount(bill.left_over)} left over: invoices still to come"
    if held := summary.view.held:
        yield f"living agreements can still cost {text.amount(held)}"
    providers = [
        (
            " ".join((row.provider_name or text.short(row.provider_id)).split()),
            str(row.agreements),
            text.duration(row.seconds),
            text.amount(row.amount),
            text.amount(hourly) if (hourly := _hourly(row.amount, row.seconds)) is not None else "",
        )
        for row in bill.rows
    ]
    instances = [
        (
            row.instance_id,
            row.state,
            " ".join((row.provider_name or row.provider_id).split()),
            str(row.attempt),
            text.amount(row.cost),
        )
        for row in sorted(summary.view.instances, key=lambda row: -row.cost)
    ]
    for head, rows in ((_PROVIDERS, providers), (_INSTANCES, instances)):
        if rows:
            yield ""
            yield from table(head, rows, within=width(), right=_NUMBERS)


def _hourly(amount: Decimal, seconds: float) -> Decimal | None:
    """Return what an hour cost on average; of less than a second nothing can be said."""
    return None if seconds < 1 else amount * 3600 / round(seconds)


def _record(summary: RunSummary, bill: Bill) -> dict[str, Any]:
    return {
        "run": summary.run_id,
        "state": summary.state.value,
        "budget": text.exact(bill.budget),
        "spent": text.exact(bill.total),
        "left_over": text.exact(bill.left_over),
        "held": text.exact(summary.view.held),
        "unspent": text.exact(bill.unspent),
        "providers": bill_rows(bill),
        "instances": [
            {
                "instance": row.instance_id,
                "state": row.state,
                "provider": row.provider_id,
                "provider_name": row.provider_name,
                "attempts": row.attempt,
                "amount": text.exact(row.cost),
            }
            for row in summary.view.instances
        ],
        "problem": summary.problem.message if summary.problem else None,
    }
