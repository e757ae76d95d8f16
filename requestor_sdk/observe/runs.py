"""The store of runs: one journal in SQLite a run, below the user's data folder."""

from __future__ import annotations

import heapq
import logging
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final

from requestor_sdk.model import events as ev
from requestor_sdk.model.errors import (
    AmountError,
    JournalUnwritable,
    NotAvailable,
    NotSupported,
    RunNotFound,
    UsageError,
)
from requestor_sdk.model.events import Event
from requestor_sdk.model.history import RunHistory
from requestor_sdk.observe._names import SUFFIX, runs_folder
from requestor_sdk.observe.bill import Accounts
from requestor_sdk.observe.view import RunView

if TYPE_CHECKING:
    from requestor_sdk.observe._lock import RunLock
    from requestor_sdk.observe.sqlite import SqliteJournal

_log = logging.getLogger(__name__)

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
# Most of a journal is these, and a summary tells nothing of them.
_UNTOLD: Final = frozenset(
    kind.__name__
    for kind in (
        ev.ProposalReceived,
        ev.ProposalScored,
        ev.ProposalRejected,
        ev.ProposalConfirmed,
        ev.ScriptSent,
        ev.ScriptFinished,
        ev.CommandExecuted,
        ev.TransferProgress,
        ev.StimulusIgnored,
        ev.CustomEvent,
    )
)

_BEGINS: Final = (ev.ComputationStarted, ev.ComputationRecovered)


class RunState(StrEnum):
    """How a run is."""

    alive = "alive"
    """Its process lives."""
    ended = "ended"
    """It was ended in order."""
    suspended = "suspended"
    """It was left in order, with suspended instances for a later process."""
    crashed = "crashed"
    """Its process died before it was ended."""
    empty = "empty"
    """Its process died before it wrote down anything, and so before it did anything."""
    damaged = "damaged"
    """Not all of its journal can be read."""
    newer = "newer"
    """Its journal is of a newer version of this program."""


@dataclass(slots=True, kw_only=True)
class RunSummary:
    """A run as its journal tells it.

    Attributes:
        run_id: Its id.
        path: Its journal.
        state: How it is.
        started: When it began; ``None`` where that is not known.
        last: When it was last heard of.
        seconds: For how long its processes lived until then: from the first event of each to the
            last, without the time between a crash and the recovery.
        view: Instances, money, and what is still open.
        accounts: Its bill.
        history: What a recovery of it would begin with.
        problem: Why not all of its journal can be read, if so.
    """

    run_id: str
    path: Path
    state: RunState = RunState.crashed
    started: datetime | None = None
    last: datetime | None = None
    seconds: float = 0.0
    view: RunView = field(default_factory=RunView)
    accounts: Accounts = field(default_factory=Accounts)
    history: RunHistory = field(default_factory=RunHistory)
    problem: UsageError | None = None

    @property
    def unsettled(self) -> bool:
        """Whether something of it may still be open or may still have to be paid."""
        if self.state is RunState.empty:
            return False
        return (
            self.state is not RunState.ended
            or self.history.state != "settled"
            or self.view.left_over > 0
            or any(self.view.open_ids().values())
        )

    def apply(self, event: ev.Event) -> None:
        """Take one event."""
        self.started = self.started or event.at
        if self.last is not None and not isinstance(event, _BEGINS):
            self.seconds += (event.at - self.last).total_seconds()
        self.last = event.at
        self.view.apply(event)
        self.history.apply(event)
        self.accounts.apply(event)


class RunStore:
    """The runs of a data folder, in its folder ``runs``.

    Args:
        home: The data folder; by default the user's (``REQUESTOR_SDK_HOME`` moves it).
    """

    def __init__(self, home: Path | None = None) -> None:
        self.folder: Path = runs_folder(home)

    def path(self, run_id: str) -> Path:
        """Return where the journal of a run lies, or would lie.

        Raises:
            UsageError: The id cannot be a file's name.
        """
        if not _NAME.fullmatch(run_id):
            raise UsageError(
                f"a run cannot be named {run_id!r}", hint="letters, digits, dots, - and _"
            )
        return self.folder / f"{run_id}{SUFFIX}"

    def create(self, run_id: str, *, network: str, started: datetime) -> SqliteJournal:
        """Make the journal of a new run and open it to write: from now on the run is alive.

        Raises:
            NotAvailable: There is a run of that id.
            JournalUnwritable: It cannot be made.
        """
        from requestor_sdk.observe.sqlite import SqliteJournal

        path = self.path(run_id)
        if path.exists():
            raise NotAvailable(
                f"there is a run {run_id} already, in {path}",
                ids={"run": run_id},
                hint=f"requestor-sdk runs --remove {run_id}; or name another file by journal=",
            )
        about = {"run": run_id, "network": network, "started": started.isoformat()}
        journal = SqliteJournal(path, about=about)
        journal.open()
        return journal

    def journal(self, run_id: str, *, lock: RunLock | None = None) -> SqliteJournal:
        """Return the journal of a run, to read; or to go on with it, which takes its lock.

        Args:
            run_id: The run.
            lock: Its lock, where the caller has it.

        Raises:
            RunNotFound: There is no such run.
        """
        from requestor_sdk.observe.sqlite import SqliteJournal

        return SqliteJournal(self._there(run_id), lock=lock)

    def lock(self, run_id: str) -> RunLock:
        """Take the lock of a run; nobody else can write its journal until it is released.

        Raises:
            RunNotFound: There is no such run.
            RunLocked: It is alive, here or in another process.
            JournalUnwritable: The lock cannot be taken.
        """
        from requestor_sdk.observe._lock import RunLock

        return RunLock(self._there(run_id).with_suffix(".lock"))

    def is_alive(self, run_id: str) -> bool:
        """Tell whether the process of a run lives."""
        from requestor_sdk.observe._lock import is_held

        return is_held(self.path(run_id).with_suffix(".lock"))

    def ids(self) -> list[str]:
        """Return the ids of all runs, the newest first."""
        return sorted(
            (path.stem for path in self.folder.glob(f"*{SUFFIX}")),
            key=self._place,
            reverse=True,
        )

    def find(self, name: str | None = None) -> str:
        """Return the id of a run by the beginning of it that no other run has.

        Args:
            name: The beginning; the newest run, where it is left out.

        Raises:
            RunNotFound: There is none, or there are several.
        """
        ids = self.ids()
        if name in ids:
            return name
        found = [run_id for run_id in ids if name is None or run_id.startswith(name)]
        if found and (name is None or len(found) == 1):
            return found[0]
        if not ids:
            raise RunNotFound(
                f"no run was written down in {self.folder}",
                hint="run something by `requestor-sdk run FILE.py`, or `requestor-sdk demo`",
            )
        shown = ", ".join((found or ids)[:8]) + (", ..." if len(found or ids) > 8 else "")
        raise RunNotFound(
            f"{len(found)} runs begin with {name!r}: {shown}"
            if found
            else f"there is no run {name!r}; there is {shown}",
            hint="requestor-sdk runs --all; a journal that lies elsewhere is named by its path",
        )

    def summary(self, run_id: str) -> RunSummary:
        """Return what the journal of a run tells; where it is damaged, what can be read of it.

        Raises:
            RunNotFound: There is no such run.
        """
        journal = self.journal(run_id)
        # Asked for first: a run that ends meanwhile has written that it did.
        alive = self.is_alive(run_id)
        told = summarised(
            run_id, journal.path, lambda: journal.read(kinds=_told(), ends=True), alive=alive
        )
        if told.problem is not None:
            # What is left of it is counted whole, as every other reading of it does.
            told = summarised(run_id, journal.path, journal.read, alive=alive)
        return told

    def past_events(self, *, runs: int = 100) -> Iterator[Event]:
        """Return what the newest runs say, oldest first, one run after the other.

        For those who learn from earlier runs: ``Reputation(strategy, RunStore().past_events)``.
        What cannot be read is skipped, and a warning is logged; of a run that is alive it gives
        what is written by now. Offers, batches and the like are left out.

        Args:
            runs: How many runs at most; each is read as it is come to.

        Raises:
            AmountError: That is no whole number above zero.
        """
        if isinstance(runs, bool) or not isinstance(runs, int) or runs < 1:
            raise AmountError(f"runs must be a whole number from 1, not {runs!r}")
        return self._past_events(runs)

    def _past_events(self, runs: int) -> Iterator[Event]:
        # By their files first, so that of a store of thousands only these are opened.
        newest = heapq.nlargest(runs, self.folder.glob(f"*{SUFFIX}"), key=_changed)
        for run_id in sorted((path.stem for path in newest), key=self._place):
            try:
                yield from self.journal(run_id).read(kinds=_told())
            except UsageError as error:
                _log.warning("run %s is not read to its end: %s", run_id, error.message)

    def remove(self, run_id: str, *, unsettled: bool = False) -> None:
        """Remove a run for good.

        Args:
            run_id: The run.
            unsettled: Also where something of it may still be open, or cannot be read.

        Raises:
            RunNotFound: There is no such run.
            RunLocked: It is alive.
            NotAvailable: Something of it may still be open.
            JournalUnwritable: Its files cannot be removed.
        """
        path = self._there(run_id)
        with self.lock(run_id) as lock:
            journal = self.journal(run_id, lock=lock)
            told = summarised(run_id, path, journal.read, alive=False)
            if told.unsettled and not unsettled:
                raise NotAvailable(
                    f"run {run_id} is not settled: something of it may still be open",
                    ids={"run": run_id},
                    hint=f"requestor-sdk status {run_id}; to give it up: "
                    f"requestor-sdk runs --remove {run_id} --force",
                )
            _unlink([path, *(path.with_name(f"{path.name}{end}") for end in ("-wal", "-shm"))])
        _unlink([path.with_suffix(".lock")])

    def _there(self, run_id: str) -> Path:
        path = self.path(run_id)
        if not path.is_file():
            self.find(run_id)  # says what there is
            raise RunNotFound(f"there is no run {run_id!r}", hint="requestor-sdk runs --all")
        return path

    def _place(self, run_id: str) -> tuple[datetime, str]:
        return self._began(run_id), run_id

    def _began(self, run_id: str) -> datetime:
        """Return when a run began; where its journal does not say, when its file last changed."""
        try:
            return datetime.fromisoformat(self.journal(run_id).about()["started"])
        except (KeyError, ValueError, UsageError):
            pass
        return datetime.fromtimestamp(_changed(self.path(run_id)), UTC)


def _told() -> list[str]:
    """Return the kinds of events that tell something of a run as a whole."""
    return sorted(Event.kinds.keys() - _UNTOLD)


def _changed(path: Path) -> float:
    """Return when a file last changed; the beginning of time where it is gone meanwhile."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def summarised(
    run_id: str, path: Path, read: Callable[[], Iterable[ev.Event]], *, alive: bool
) -> RunSummary:
    """Return the summary of a run whose events ``read`` gives, as far as it can."""
    told = RunSummary(run_id=run_id, path=path)
    try:
        for event in read():
            told.apply(event)
    except NotSupported as error:
        told.problem, told.state = error, RunState.newer
    except UsageError as error:
        told.problem, told.state = error, RunState.damaged
    else:
        if told.view.finished:
            suspended = told.history.state == "suspended"
            told.state = RunState.suspended if suspended else RunState.ended
        elif alive:
            told.state = RunState.alive
        elif told.started is None:
            told.state = RunState.empty
    return told


def _unlink(paths: Collection[Path]) -> None:
    try:
        for path in paths:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise JournalUnwritable(
            f"{error.filename or paths} cannot be removed: {error.strerror or error}"
        ) from error
