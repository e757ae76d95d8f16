"""Where a run is written down: what the user names, what the network brings, or the store."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from requestor_sdk.model.errors import JournalUnwritable
from requestor_sdk.observe import MemoryJournal, journal_at
from requestor_sdk.observe.runs import RunStore

if TYPE_CHECKING:
    from datetime import datetime

    from requestor_sdk.ports.basics import Journal
    from requestor_sdk.ports.network import NetworkTraits

_log = logging.getLogger(__name__)


def journal_of(
    given: Journal | os.PathLike[str] | str | None, own: Journal | None
) -> Journal | None:
    """Return what the user gave as ``journal=``, or else what the network brings, if it does."""
    if isinstance(given, str | os.PathLike):
        return journal_at(given)
    return own if given is None else given


def stored(run_id: str, traits: NetworkTraits, started: datetime) -> Journal:
    """Make a run's journal in the user's data folder.

    Raises:
        JournalUnwritable: It cannot be, and what the network does outlives this process.
        NotAvailable: There is a run of this id.
    """
    try:
        return RunStore().create(run_id, network=traits.name, started=started)
    except JournalUnwritable as error:
        if traits.outlives_process:
            raise JournalUnwritable(
                error.message, hint="point REQUESTOR_SDK_HOME to a folder that you can write to"
            ) from error
        _log.warning("%s; run %s is kept in memory only", error.message, run_id)
        return MemoryJournal()
