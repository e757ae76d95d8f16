"""What a worker has taken on, on disk: written before the call that tells of it.

After a crash it says which runs are to be handed back and which were finished and not yet told.
It survives the death of the process, not that of the machine: there the lease's end does the same.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING

from requestor_sdk.model.errors import NotAvailable
from requestor_sdk.model.fields import from_json, to_json
from requestor_sdk.ports.worker import Completion, Lease

if TYPE_CHECKING:
    from pathlib import Path

_log = logging.getLogger(__name__)
_VERSION = 1
_TABLE = """
create table if not exists attempts (
    run_id text not null, attempt integer not null, fence text not null, stage text not null,
    folder text not null, completion text, primary key (run_id, attempt, fence)
)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An attempt that is not settled.

    Attributes:
        stage: ``claimed``, a ``Stage``, or ``completing``.
        folder: Where its log and outputs lie, a name below the worker's folder.
        completion: How it ended, where it did.
    """

    lease: Lease
    stage: str
    folder: str
    completion: Completion | None = None


class Journal:
    """The journal of one worker.

    Args:
        path: The file; made where it is not there.

    Raises:
        NotAvailable: Another process of this worker has it, or it is no journal.
    """

    def __init__(self, path: Path) -> None:
        path.touch(mode=0o600)  # it holds fences, by which one could speak for the worker
        self._db = sqlite3.connect(path, isolation_level=None, timeout=1.0)
        try:
            # Held until it is closed: two processes of one worker would take each other's runs.
            self._db.execute("pragma locking_mode=exclusive")
            self._db.execute("pragma journal_mode=wal")
            self._db.execute("begin immediate")
            self._db.execute("commit")
        except sqlite3.DatabaseError as error:
            self._db.close()
            raise NotAvailable(
                f"the worker's journal {path} is in use, or is none: {error}",
                hint="is another process of this worker running? Else the file can be removed: "
                "what it had taken is given to others once its leases are over",
            ) from None
        self._db.execute("pragma synchronous=normal")
        (version,) = self._db.execute("pragma user_version").fetchone()
        if version not in (0, _VERSION):
            # What another version left is the lease's to end.
            self._db.execute("drop table if exists attempts")
        self._db.execute(_TABLE)
        self._db.execute(f"pragma user_version={_VERSION}")

    def _write(self, statement: str, values: tuple[object, ...]) -> None:
        try:
            self._db.execute(statement, values)
        except sqlite3.Error as error:
            # What a crash would leave now, the end of its lease clears up.
            _log.error("the worker's journal cannot be written: %s", error)

    def note(self, lease: Lease, stage: str, folder: str) -> None:
        """Write down how far an attempt is."""
        self._write(
            "insert into attempts (run_id, attempt, fence, stage, folder) values (?, ?, ?, ?, ?) "
            "on conflict do update set stage = excluded.stage, folder = excluded.folder",
            (*_key(lease), stage, folder),
        )

    def completing(self, lease: Lease, completion: Completion) -> None:
        """Write down how an attempt ended, before anybody is told."""
        self._write(
            "update attempts set stage = 'completing', completion = ? "
            "where run_id = ? and attempt = ? and fence = ?",
            (json.dumps(to_json(completion)), *_key(lease)),
        )

    def settled(self, lease: Lease) -> None:
        """Forget an attempt: the queue knows its end, or it is somebody else's."""
        self._write(
            "delete from attempts where run_id = ? and attempt = ? and fence = ?", _key(lease)
        )

    def left(self) -> list[Entry]:
        """Return what is not settled, oldest first."""
        rows = self._db.execute(
            "select run_id, attempt, fence, stage, folder, completion from attempts order by rowid"
        )
        return [
            Entry(
                lease=Lease(run_id=run_id, attempt=attempt, fence=fence),
                stage=stage,
                folder=folder,
                completion=None if said is None else from_json(Completion, json.loads(said)),
            )
            for run_id, attempt, fence, stage, folder, said in rows
        ]

    def close(self) -> None:
        """Let go. Idempotent."""
        self._db.close()


def _key(lease: Lease) -> tuple[str, int, str]:
    return lease.run_id, lease.attempt, lease.fence
