"""``requestor-sdk recover``: settles what runs left behind whose process died."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from requestor_sdk.cli._columns import say, table, width
from requestor_sdk.cli._runs import runs_beginning
from requestor_sdk.cli.runs import giving_up, nothing_of
from requestor_sdk.model.errors import (
    JournalDamaged,
    RequestorError,
    RunLocked,
    RunNotFound,
    UsageError,
)
from requestor_sdk.observe import journal_at, text
from requestor_sdk.observe._names import name_of

if TYPE_CHECKING:
    from requestor_sdk.model.events import Event
    from requestor_sdk.model.history import RunHistory
    from requestor_sdk.model.past import PastAgreement
    from requestor_sdk.observe.runs import RunStore

_HEAD = ("agreement", "provider", "instance", "outcome", "paid")
_ALIVE = "alive"
_EMPTY = "empty"
_DONE = ("settled", "suspended", _EMPTY)


@dataclass(slots=True, kw_only=True)
class Recovered:
    """What became of one run.

    Attributes:
        run_id: The run.
        path: Its journal.
        before: What it was: ``crashed``, ``suspended``, ``left over``, ``settled``, ``alive`` or
            ``empty``.
        after: What it is now.
        agreements: Those that were open before, as they are now.
        suspended: The agreements of instances that stay suspended.
        problem: Why it could not be recovered, if so.
    """

    run_id: str
    path: Path
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
@click.argument("runs", metavar="[RUN]...", nargs=-1, shell_complete=runs_beginning)
@click.option("--all", "everything", is_flag=True, help="Suspended runs, too.")
@click.option("--end-suspended", is_flag=True, help="End suspended instances as well.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
def command(runs: tuple[str, ...], *, everything: bool, end_suspended: bool, as_json: bool) -> None:
    """Settle what runs left behind: end their agreements, pay what was worked, free the rest.

    RUN is the id of a run or the beginning of it, or the path of a journal; all of the store that
    crashed or have something left over, where it is left out. A run that is alive is refused.
    Suspended instances stay as they are, unless --end-suspended says otherwise. The status is 0
    only where nothing is left open.
    """
    from requestor_sdk.observe.runs import RunStore

    named = [left for name in runs for left in _named(name)]
    found = named or _waiting(RunStore(), everything=everything)
    told = asyncio.run(_recover_all(found, end_suspended=end_suspended))
    if as_json:
        click.echo(json.dumps([_record(one) for one in told], indent=2))
    else:
        for line in _lines(told):
            say(line)
    if not all(one.done for one in told):
        sys.exit(1)


@dataclass(frozen=True, slots=True)
class _Left:
    """A run that is to be recovered, and the journal that it is written in."""

    run_id: str
    path: Path


def _named(name: str) -> list[_Left]:
    """Return the runs of that name: one of the store, or those of a file that are not settled."""
    from requestor_sdk.cli._chosen import chosen

    found = chosen(name)
    if found.store is not None:
        return [_Left(found.name, found.store.path(found.name))]
    path = Path(name)
    try:
        histories = _histories(found.journal.read())
    except UsageError:
        return [_Left(name, path)]  # recovering it tells why it cannot be read
    left = [run_id for run_id, history in histories.items() if history.state != "settled"]
    if not histories:
        raise RunNotFound(f"the journal {name} has no run", hint="requestor-sdk runs")
    return [_Left(run_id, path) for run_id in left or list(histories)[-1:]]


def _histories(events: Iterable[Event]) -> dict[str, RunHistory]:
    """Return what became of each run of a journal: a file is continued by the next one."""
    from requestor_sdk.model.events import ComputationRecovered, ComputationStarted
    from requestor_sdk.model.history import RunHistory

    told: dict[str, RunHistory] = {}
    current: RunHistory | None = None
    for event in events:
        if isinstance(event, ComputationStarted | ComputationRecovered):
            current = told.setdefault(event.run_id, RunHistory())
        if current is not None:
            current.apply(event)
    return told


def _waiting(store: RunStore, *, everything: bool) -> list[_Left]:
    """Return the runs that something can be done for, the oldest first."""
    states = ("crashed", "left over", *(("suspended",) if everything else ()))
    told = [store.summary(run_id) for run_id in reversed(store.ids())]
    return [
        _Left(one.run_id, one.path)
        for one in told
        # What is left of one that cannot be read in full is not known: it is told, not passed over.
        if one.problem is not None
        or (one.history.state in states and one.state.value not in (_ALIVE, _EMPTY))
    ]


async def _recover_all(found: Sequence[_Left], *, end_suspended: bool) -> list[Recovered]:
    """Recover one after another: one that fails does not hold up the rest."""
    return [await recovered(one.path, one.run_id, end_suspended=end_suspended) for one in found]


async def recovered(path: Path, run_id: str, *, end_suspended: bool = False) -> Recovered:
    """Recover one run, of the journal of that file, and tell what became of it."""
    told = Recovered(run_id=run_id, path=path)
    try:
        await _recover(told, end_suspended=end_suspended)
    except RunLocked:
        told.before = told.after = _ALIVE
        told.agreements = []  # they are open, and no failure of a recovery
        told.problem = (
            f"run {run_id} is alive: only its own process may go on with it\n"
            f"  see: requestor-sdk status {name_of(path)}"
        )
    except JournalDamaged as error:
        told.problem = "\n  ".join(filter(None, (_problem(error), giving_up(path))))
    except RequestorError as error:
        told.problem = _problem(error)
    return told


async def _recover(told: Recovered, *, end_suspended: bool) -> None:
    from requestor_sdk import Compute
    from requestor_sdk.model.history import RunHistory
    from requestor_sdk.observe.sqlite import SqliteJournal

    journal = journal_at(told.path)
    if isinstance(journal, SqliteJournal) and journal.is_written:
        raise RunLocked(f"run {told.run_id} is alive")
    before = RunHistory.of(journal.read(), told.run_id)
    if next(iter(journal.read()), None) is None:
        told.before = told.after = _EMPTY
        return
    told.before = before.state
    try:
        async with Compute.recover(told.run_id, journal=told.path, end_suspended=end_suspended):
            pass
    finally:
        # Also what a recovery could not end in full has become of it.
        after = RunHistory.of(journal_at(told.path).read(), told.run_id)
        told.after = after.state
        told.agreements = [after.agreements[one.id] for one in before.open_agreements]
        told.suspended = frozenset(i.agreement_id or "" for i in after.suspended)


def _problem(error: RequestorError) -> str:
    return error.message + (f"\n  try: {error.hint}" if error.hint else "")


def _lines(told: Sequence[Recovered]) -> Iterator[str]:
    if not told:
        yield "no run has anything left to settle"
    for place, one in enumerate(told):
        if place:
            yield ""
        if one.before == _ALIVE:
            yield one.problem
            continue
        if one.before == _EMPTY:
            yield from nothing_of(one.run_id, one.path)
            continue
        yield f"run {one.run_id} was {one.before or 'not read'}, is {one.after or 'as it was'}"
        if one.agreements:
            rows = [_row(one, agreement) for agreement in one.agreements]
            yield from table(_HEAD, rows, within=width(), right=("paid",))
        if one.problem:
            yield one.problem
        elif not one.done:
            name = name_of(one.path)
            yield f"what is still open is settled by a later: requestor-sdk recover {name}"


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
        "journal": str(one.path),
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
                "paid": text.exact(agreement.accepted),
                "at_most": None if agreement.left_over is None else text.exact(agreement.left_over),
            }
            for agreement in one.agreements
        ],
    }
