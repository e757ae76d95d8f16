"""``requestor-sdk recover``: settles what runs left behind whose process died."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from requestor_sdk.cli._columns import say, table, width
from requestor_sdk.model.errors import RequestorError
from requestor_sdk.observe import text

if TYPE_CHECKING:
    from requestor_sdk.model.history import PastAgreement, RunHistory
    from requestor_sdk.observe.runs import RunStore

_HEAD = ("agreement", "provider", "instance", "outcome", "paid")
_DONE = ("settled", "suspended")


@dataclass(slots=True, kw_only=True)
class Recovered:
    """What became of one run.

    Attributes:
        run_id: The run.
        before: What it was: ``crashed``, ``suspended``, ``left over`` or ``settled``.
        after: What it is now.
        agreements: Those that were open before, as they are now.
        suspended: The agreements of instances that stay suspended.
        problem: Why it could not be recovered, if so.
    """

    run_id: str
    before: str = ""
    after: str = ""
    agreements: list[PastAgreement] = field(default_factory=list)
    suspended: frozenset[str] = frozenset()
    problem: str = ""

    @property
    def done(self) -> bool:
        """Whether nothing of it is left open."""
        return not self.problem and self.after in _DONE

    def outcome(self, agreement: PastAgreement) -> str:
        """Return what became of an agreement, as one line."""
        if agreement.id in self.suspended:
            return "suspended"
        if agreement.ended is None:
            return "still open: it could not be ended"
        if agreement.left_over is not None:
            told = f"still open: at most {text.amount(agreement.left_over)} can be asked for"
            return f"{told}; {_rejected(agreement)}" if _rejected(agreement) else told
        if agreement.written_off:
            return "closed: nobody can ask for it any more"
        if not agreement.uses:
            return "ended, nothing owed"
        return "ended and paid"


def _rejected(agreement: PastAgreement) -> str:
    reasons = [why for why in agreement.judged.values() if why is not None]
    return f"rejected: {reasons[-1]}" if reasons else ""


@click.command()
@click.argument("runs", metavar="[RUN]...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Suspended runs, too.")
@click.option("--end-suspended", is_flag=True, help="End suspended instances as well.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
def command(runs: tuple[str, ...], *, everything: bool, end_suspended: bool, as_json: bool) -> None:
    """Settle what runs left behind: end their agreements, pay what was worked, free the rest.

    RUN is the id of a run or the beginning of it; all that crashed or have something left over,
    where it is left out. A run that is alive is refused. Suspended instances stay as they are,
    unless --end-suspended says otherwise. The status is 0 only where nothing is left open.
    """
    from requestor_sdk.observe.runs import RunStore

    store = RunStore()
    found = [store.find(name) for name in runs] or _waiting(store, everything=everything)
    told = asyncio.run(_recover_all(store, found, end_suspended=end_suspended))
    if as_json:
        click.echo(json.dumps([_record(one) for one in told], indent=2))
    else:
        for line in _lines(told):
            say(line)
    if not all(one.done for one in told):
        sys.exit(1)


def _waiting(store: RunStore, *, everything: bool) -> list[str]:
    """Return the runs that something can be done for, the oldest first."""
    states = ("crashed", "left over", *(("suspended",) if everything else ()))
    told = [store.summary(run_id) for run_id in reversed(store.ids())]
    return [
        one.run_id
        for one in told
        # What is left of one that cannot be read in full is not known: it is told, not passed over.
        if one.problem is not None or (one.history.state in states and one.state.value != "alive")
    ]


async def _recover_all(
    store: RunStore, run_ids: Sequence[str], *, end_suspended: bool
) -> list[Recovered]:
    """Recover one after another: one that fails does not hold up the rest."""
    return [await recovered(store, run_id, end_suspended=end_suspended) for run_id in run_ids]


async def recovered(store: RunStore, run_id: str, *, end_suspended: bool = False) -> Recovered:
    """Recover one run and tell what became of it."""
    from requestor_sdk import Compute

    try:
        before = _history(store, run_id)
    except RequestorError as error:
        return Recovered(run_id=run_id, problem=_problem(error))
    told = Recovered(run_id=run_id, before=before.state)
    try:
        async with Compute.recover(run_id, journal=store.path(run_id), end_suspended=end_suspended):
            pass
    except RequestorError as error:
        told.problem = _problem(error)
    after = _history(store, run_id)
    told.after = after.state
    told.agreements = [after.agreements[one.id] for one in before.open_agreements]
    told.suspended = frozenset(i.agreement_id or "" for i in after.suspended)
    return told


def _problem(error: RequestorError) -> str:
    return error.message + (f"; try: {error.hint}" if error.hint else "")


def _history(store: RunStore, run_id: str) -> RunHistory:
    from requestor_sdk.model.history import RunHistory

    return RunHistory.of(store.journal(run_id).read(), run_id)


def _lines(told: Sequence[Recovered]) -> Iterator[str]:
    if not told:
        yield "no run has anything left to settle"
    for place, one in enumerate(told):
        if place:
            yield ""
        yield f"run {one.run_id} was {one.before or 'not read'}, is {one.after or 'as it was'}"
        if one.agreements:
            yield from table(_HEAD, [_row(one, a) for a in one.agreements], within=width())
        if one.problem:
            yield one.problem
        elif not one.done:
            yield f"what is still open is settled by a later: requestor-sdk recover {one.run_id}"


def _row(one: Recovered, agreement: PastAgreement) -> tuple[str, ...]:
    return (
        agreement.id,
        " ".join((agreement.provider_name or agreement.provider_id).split()),
        agreement.instance_id,
        one.outcome(agreement),
        text.amount(agreement.accepted),
    )


def _record(one: Recovered) -> dict[str, Any]:
    return {
        "run": one.run_id,
        "before": one.before,
        "after": one.after,
        "done": one.done,
        "problem": one.problem or None,
        "agreements": [
            {
                "agreement": agreement.id,
                "provider": agreement.provider_id,
                "provider_name": agreement.provider_name,
                "instance": agreement.instance_id,
                "outcome": one.outcome(agreement),
                "paid": str(agreement.accepted),
                "at_most": None if agreement.left_over is None else str(agreement.left_over),
            }
            for agreement in one.agreements
        ],
    }
