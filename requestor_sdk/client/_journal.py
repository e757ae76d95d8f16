"""Where a run is written down: what the user names, what the network brings, or the store."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from requestor_sdk.model.errors import JournalUnwritable, RunLocked, RunNotFound
from requestor_sdk.model.history import RunHistory
from requestor_sdk.observe import JsonlJournal, MemoryJournal, journal_at
from requestor_sdk.observe._names import name_of
from requestor_sdk.observe.runs import RunStore
from requestor_sdk.observe.sqlite import SqliteJournal

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from requestor_sdk.ports.basics import Journal
    from requestor_sdk.ports.network import NetworkTraits

_LOCKED = (SqliteJournal, JsonlJournal)
_log = logging.getLogger(__name__)


def opened_journal(
    given: Journal | os.PathLike[str] | str | None,
    own: Journal | None,
    *,
    run_id: str,
    traits: NetworkTraits,
    now: Callable[[], datetime],
) -> Journal:
    """Return where a run that begins is written down.

    Args:
        given: What the user gave as ``journal=``.
        own: What the network brings where the user gave nothing.
        run_id: The run.
        traits: What its network is like.
        now: Returns the time.

    Raises:
        JournalUnwritable: The store cannot be written, and what the network does outlives this
            process.
        NotAvailable: There is a run of this id in the store.
        RunLocked: Another run that is alive is written there.
    """
    if isinstance(given, str | os.PathLike):
        given = journal_at(given)
    if isinstance(given, _LOCKED):
        # Now, and not at the first event: until then nothing has been asked of the network.
        given.open()
    chosen = own if given is None else given
    return _stored(run_id, traits, now()) if chosen is None else chosen


def _stored(run_id: str, traits: NetworkTraits, started: datetime) -> Journal:
    try:
        return RunStore().create(run_id, network=traits.name, started=started)
    except JournalUnwritable as error:
        if traits.outlives_process:
            raise JournalUnwritable(
                error.message, hint="point REQUESTOR_SDK_HOME to a folder that you can write to"
            ) from error
        _log.warning("%s; run %s is kept in memory only", error.message, run_id)
        return MemoryJournal()


def existing_journal(given: Journal | os.PathLike[str] | str | None, run_id: str) -> Journal:
    """Return the journal of a run that another process began.

    Raises:
        RunNotFound: There is no such run in the store.
        RunLocked: The run is alive.
    """
    journal: Journal = (
        RunStore().journal(run_id)
        if given is None
        else journal_at(given)
        if isinstance(given, str | os.PathLike)
        else given
    )
    if isinstance(journal, _LOCKED) and journal.is_written:
        raise RunLocked(
            f"run {run_id} is alive: only its own process may go on with it",
            ids={"run": run_id},
            hint="wait until it is over, or end it; "
            f"`requestor-sdk status {name_of(journal.path)}` shows it",
        )
    return journal


def history_of(journal: Journal, run_id: str) -> RunHistory:
    """Return what a journal says of a run.

    Raises:
        RunNotFound: Nothing.
        UsageError: It cannot be read.
    """
    history = RunHistory.of(journal.read(), run_id)
    if not history.run_id:
        raise RunNotFound(
            f"the journal has no run {run_id!r}",
            ids={"run": run_id},
            hint="requestor-sdk runs --all",
        )
    return history


def taken_over(journal: Journal, run_id: str) -> RunHistory:
    """Take the lock of a run's journal, where it has one, and return what it says.

    The caller closes it, also where this raises.

    Raises:
        RunLocked: The run is alive.
        UsageError: It cannot be read or written.
    """
    if isinstance(journal, _LOCKED):
        journal.open()
    return history_of(journal, run_id)
