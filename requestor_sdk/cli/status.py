"""``requestor-sdk status``: one run, its instances, what is open, and its bill."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import click

from requestor_sdk.cli._columns import say, table, width
from requestor_sdk.cli._runs import bill_of, bill_rows, run_argument
from requestor_sdk.cli.runs import as_record, giving_up, lasted, nothing_of
from requestor_sdk.observe import text
from requestor_sdk.observe._names import SUFFIX, name_of

if TYPE_CHECKING:
    from requestor_sdk.observe.runs import RunSummary

_HEAD = ("instance", "state", "provider", "attempt", "cost", "why")
_JOBS = ("job", "runs", "environment", "status", "worker", "attempt", "time", "left", "why")
_NUMBERS = ("attempt", "cost", "time", "left")


@click.command()
@run_argument
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(run: str | None, *, as_json: bool) -> None:
    """Show one run: its instances, what of it is still open, its bill.

    RUN is the id of a run or the beginning of it, or the path of a journal; the newest run, where
    it is left out. The status is 1 where not all of the journal could be read.
    """
    from requestor_sdk.cli._chosen import chosen

    summary = chosen(run).summary()
    if as_json:
        click.echo(json.dumps(_record(summary), indent=2))
    else:
        for line in _lines(summary):
            say(line)
    if summary.problem is not None:
        click.secho(str(summary.problem), err=True, fg="red")
        if summary.state.value == "damaged" and (way := giving_up(summary.path)):
            click.echo(f"  {way}", err=True)
        sys.exit(1)


def _lines(summary: RunSummary) -> Iterator[str]:
    view = summary.view
    if summary.state.value == "empty":
        yield from nothing_of(summary.run_id, summary.path)
        return
    where = f" on {view.network}" if view.network else ""
    yield f"run {summary.run_id}{where}: {summary.state}"
    seconds = lasted(summary)
    if summary.started is not None and seconds is not None:
        yield f"began {summary.started.astimezone():%Y-%m-%d %H:%M:%S}, {text.duration(seconds)}"
    if view.notice:
        yield view.notice
    for head, rows in ((_HEAD, _instances(summary)), (_JOBS, _jobs(summary))):
        if rows:
            yield ""
            yield from table(head, rows, within=width(), right=_NUMBERS)
    yield ""
    yield bill_of(summary).render()
    yield ""
    yield from _open(summary)


def _instances(summary: RunSummary) -> list[tuple[str, ...]]:
    return [
        _tidy(
            row.instance_id,
            row.state,
            row.provider_name or row.provider_id,
            str(row.attempt),
            text.amount(row.cost),
            row.cause,
        )
        for row in summary.view.instances
    ]


def _jobs(summary: RunSummary) -> list[tuple[str, ...]]:
    now = datetime.now(UTC) if summary.state.value == "alive" else summary.last
    return [
        _tidy(
            row.instance_id,
            job.algorithm,
            job.environment,
            job.outcome.replace("_", " ") or job.text or row.state,
            job.worker,
            str(row.attempt),
            "" if (seconds := job.lasted(now)) is None else text.duration(seconds),
            "" if job.size is None else text.size(job.size),
            job.error,
        )
        for row in summary.view.jobs
        if (job := row.job) is not None
    ]


def _tidy(*cells: str) -> tuple[str, ...]:
    return tuple(" ".join(cell.split()) for cell in cells)


def _open(summary: RunSummary) -> Iterator[str]:
    found = {kind: ids for kind, ids in summary.view.open_ids().items() if ids}
    if not found and not summary.unsettled:
        yield "nothing is left open"
        return
    if found:
        yield "open:" if summary.state.value == "alive" else "still open:"
        for kind, ids in found.items():
            told = f"{kind} {', '.join(ids)}"
            yield from wrap(told, width() or 100, initial_indent="  ", subsequent_indent="    ")
    yield from _ways_on(summary)


def _ways_on(summary: RunSummary) -> Iterator[str]:
    name = name_of(summary.path)
    if summary.state.value == "suspended":
        yield "its suspended instances cost until a program takes them up, or they are ended"
        yield f"try: requestor-sdk recover --end-suspended {name}"
    elif summary.state.value in ("crashed", "ended"):
        if summary.path.suffix != SUFFIX:
            yield "a journal of lines does not tell whether its process lives: make sure it is over"
        yield f"try: requestor-sdk recover {name}"


def _record(summary: RunSummary) -> dict[str, Any]:
    bill = bill_of(summary)
    return {
        **as_record(summary),
        "instances": [
            {
                "instance": row.instance_id,
                "state": row.state,
                "provider": row.provider_id,
                "provider_name": row.provider_name,
                "attempt": row.attempt,
                "cost": text.exact(row.cost),
                "cause": row.cause,
            }
            for row in summary.view.instances
        ],
        "jobs": [
            {
                "job": row.instance_id,
                "provider_name": row.provider_name,
                "algorithm": job.algorithm,
                "datasets": list(job.datasets),
                "environment": job.environment,
                "state": row.state,
                "status": job.text,
                "outcome": job.outcome or None,
                "worker": job.worker,
                "attempt": row.attempt,
                "seconds": job.seconds,
                "size": job.size,
                "error": job.error,
            }
            for row in summary.view.jobs
            if (job := row.job) is not None
        ],
        "open": {kind: list(ids) for kind, ids in summary.view.open_ids().items()},
        "bill": bill_rows(bill),
        "unspent": text.exact(bill.unspent),
    }
