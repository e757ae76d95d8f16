"""A run's journal in SQLite: what it holds is committed when ``append`` returns.

One process writes, under a lock that ends with it; any number read meanwhile. A file is never
repaired, cut or replaced: what is damaged stays as it is, and reading saves what can be saved.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

from requestor_sdk._version import __version__
from requestor_sdk.model.errors import JournalUnwritable
from requestor_sdk.model.events import VERSION
from requestor_sdk.observe._lock import RunLock, is_held, remove_empty
from requestor_sdk.observe._reader import SCHEMA, Reader, has_tables, written_here
from requestor_sdk.observe._records import encode
from requestor_sdk.observe._salvage import PAGE

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from requestor_sdk.model.events import Event

_TABLES: Final = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE events (seq INTEGER PRIMARY KEY, kind TEXT NOT NULL, record TEXT NOT NULL);
"""
_INSERT: Final = "INSERT INTO events (kind, record) VALUES (?, ?)"


class SqliteJournal:
    """Writes a run to an SQLite file; each event is committed before ``append`` returns.

    Events that concern money or commitments are flushed to the disk as well. An existing journal is
    continued. Reading needs no right to write, makes no file, and does not disturb who writes.

    Args:
        path: The file, e.g. ``run.sqlite``; missing parent folders are made by the first
            ``append``. The lock is a file beside it, ``run.lock``.
        about: What a new file's table ``meta`` says of the run, e.g. its id and network.
        lock: A lock of it that the caller holds and releases; by default the journal takes one when
            it opens to write, and releases it when it closes.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        about: Mapping[str, str] | None = None,
        lock: RunLock | None = None,
    ) -> None:
        self.path: Path = Path(path)
        self._about = dict(about or {})
        self._given_lock = lock
        self._own_lock: RunLock | None = None
        self._connection: sqlite3.Connection | None = None
        self._durable: bool | None = None
        self._new = False
        self._reader = Reader(self.path, lambda: self.is_written)

    # Writing --------------------------------------------------------------------------------------

    def open(self) -> None:
        """Open it to write, as the first ``append`` does. Idempotent.

        Raises:
            RunLocked: Another process, or another journal of this one, writes it.
            JournalDamaged: There is one that is damaged; it was not touched.
            NotSupported: There is one of a newer version; it was not touched.
            JournalUnwritable: It cannot be written.
        """
        self._opened()

    def append(self, event: Event) -> None:
        """Write one event.

        Raises:
            JournalUnwritable: The file cannot be written.
            RequestorError: It was not open and cannot be opened; see ``open``.
        """
        connection = self._connection or self._opened()
        try:
            if event.durable is not self._durable:
                level = "FULL" if event.durable else "NORMAL"
                connection.execute(f"PRAGMA synchronous={level}").close()
                self._durable = event.durable
            connection.execute(_INSERT, (event.kind, encode(event))).close()
            self._new = False
        except sqlite3.Error as error:
            raise self._unwritable(error) from error

    def close(self) -> None:
        """Close the file and release its lock. Idempotent; a later ``append`` opens it again.

        A file that it made and wrote nothing to goes away again.
        """
        connection, self._connection = self._connection, None
        if connection is not None:
            with closing(connection):
                _fold(connection)
            written_here.discard(self.path.absolute())
            if self._new:
                remove_empty(self.path)
        lock, self._own_lock = self._own_lock, None
        if lock is not None:
            lock.release()
            if self._new:
                remove_empty(lock.path)
        self._new = False

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            except OSError as error:
                raise self._unwritable(error.strerror or error) from error
            if self._given_lock is None:
                self._own_lock = RunLock(self.path.with_suffix(".lock"))
            try:
                self._connection = self._connected()
            except BaseException:
                self.close()
                raise
            written_here.add(self.path.absolute())
            self._durable = None
        return self._connection

    def _connected(self) -> sqlite3.Connection:
        self._new = not self.path.exists()
        if self.path.is_file():
            for _ in self.read():
                pass  # all of it can be read, or it stays as it is
        connection: sqlite3.Connection | None = None
        try:
            connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
            connection.execute(f"PRAGMA page_size={PAGE}").close()
            connection.execute("PRAGMA journal_mode=WAL").close()
            connection.execute("BEGIN IMMEDIATE").close()  # refused where it may only be read
            connection.execute("ROLLBACK").close()
            if not has_tables(connection):
                self._make_tables(connection)
        except sqlite3.Error as error:
            if connection is not None:
                connection.close()
            raise self._unwritable(error) from error
        return connection

    def _make_tables(self, connection: sqlite3.Connection) -> None:
        about = {"schema": SCHEMA, "record": VERSION, "package": __version__, **self._about}
        connection.executescript(f"BEGIN;{_TABLES}").close()
        rows = [(key, str(value)) for key, value in about.items()]
        connection.executemany("INSERT INTO meta VALUES (?, ?)", rows).close()
        connection.execute("COMMIT").close()

    def _unwritable(self, why: object) -> JournalUnwritable:
        return JournalUnwritable(
            f"the journal {self.path} cannot be written: {why}",
            hint="name another file; or make room for it, or the right to write it",
        )

    # Reading --------------------------------------------------------------------------------------

    def read(
        self,
        *,
        ids: Mapping[str, str] | None = None,
        kinds: Collection[str] = (),
        ends: bool = False,
    ) -> Iterator[Event]:
        """Return what was written, oldest first; only what concerns all of ``ids``.

        Args:
            ids: Ids by kind, e.g. ``{"instance": "i-1"}``.
            kinds: Only events of these kinds; of all, where it is empty.
            ends: Also the last event of each process that wrote it, of whatever kind: until then
                it lived. Of a damaged file, all events.

        Raises:
            JournalDamaged: Not all can be read; raised after the last event that can be.
            NotSupported: It was written by a newer version.
            UsageError: There is no such file, or it cannot be read.
        """
        for _, event in self._reader.numbered(ids or {}, kinds, 0, ends=ends):
            yield event

    def numbered(self, *, after: int = 0) -> Iterator[tuple[int, Event]]:
        """Return events as ``read`` does, with their numbers; only those after that number."""
        return self._reader.numbered({}, (), after)

    def about(self) -> dict[str, str]:
        """Return what its table ``meta`` says; empty where that cannot be read.

        Raises:
            UsageError: There is no such file, or it cannot be read.
        """
        return self._reader.about()

    @property
    def is_written(self) -> bool:
        """Whether it is open to be written, here or in another process."""
        if self._connection is not None:
            return True
        mine = self._own_lock is not None or self._given_lock is not None
        return not mine and is_held(self.path.with_suffix(".lock"))


def _fold(connection: sqlite3.Connection) -> None:
    """Leave one file, without a log beside it, unless somebody reads or the disk is full."""
    try:
        connection.execute("PRAGMA busy_timeout=0").close()
        connection.execute("PRAGMA journal_mode=DELETE").close()
    except sqlite3.OperationalError:
        pass  # all is in the log, which readers know of
