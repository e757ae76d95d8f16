"""What a worker does, after a crash, about what it had taken on: tells it, or hands it back.

Sandboxes are not its concern: they died with the process that made them.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from typing import TYPE_CHECKING, Final

from requestor_sdk.model.errors import LeaseLost
from requestor_sdk.worker._attempt import deliver
from requestor_sdk.worker._lease import Holding
from requestor_sdk.worker._retry import patiently
from requestor_sdk.worker._teller import Teller

if TYPE_CHECKING:
    from pathlib import Path

    from requestor_sdk.ports.worker import Lease
    from requestor_sdk.worker._attempt import Parts
    from requestor_sdk.worker._journal import Entry
    from requestor_sdk.worker._lease import LeaseKeeper

LEASE_SEC: Final = 30.0
"""How long a lease is taken to be that the journal does not tell the time of."""
_LOG_LIMIT: Final = 1 << 40
_log = logging.getLogger(__name__)


def sweep(runs: Path, entries: list[Entry]) -> None:
    """Remove folders of runs that the journal does not know."""
    known = {entry.folder for entry in entries}
    if not runs.is_dir():
        return
    for folder in runs.iterdir():
        if folder.name not in known:
            shutil.rmtree(folder, ignore_errors=True)


async def recover(parts: Parts, keeper: LeaseKeeper, runs: Path, entry: Entry) -> None:
    """Settle one attempt of a process that died.

    Raises:
        WorkerRefused: The queue does not know the worker.
    """
    folder = runs / entry.folder
    holding = Holding(entry.lease, LEASE_SEC, cancel=_nothing, doubt=_lost, lose=_lost)
    keeper.hold(holding)
    try:
        if entry.completion is None:
            await patiently(lambda: parts.queue.release(entry.lease, "the worker was restarted"))
        else:
            await _tell(parts, folder, entry)
    except LeaseLost:
        _log.info("run %s is not ours any more", entry.lease.run_id)
    except OSError as error:
        # It stays in the journal; the end of its lease gives the run to others.
        _log.error("run %s: its end cannot be told: %s", entry.lease.run_id, error)
        return
    finally:
        keeper.drop(holding)
    parts.journal.settled(entry.lease)
    shutil.rmtree(folder, ignore_errors=True)


async def _tell(parts: Parts, folder: Path, entry: Entry) -> None:
    assert entry.completion is not None
    teller = _teller(parts, entry.lease, folder)
    telling = asyncio.create_task(teller.run())
    try:
        await deliver(parts, entry.lease, folder, entry.completion, teller=teller, telling=telling)
    finally:
        telling.cancel()
        await asyncio.wait({telling})
        teller.close()


def _teller(parts: Parts, lease: Lease, folder: Path) -> Teller:
    # What lay there may be gone; then the queue is told of outputs that are not to be had.
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return Teller(parts.queue, lease, folder / "log", _LOG_LIMIT)


def _nothing() -> None:
    """Take a cancellation as it is: the run has ended."""


def _lost(why: str) -> None:
    _log.info("what is left of a run may be lost: %s", why)
