"""Where calls and their ends are kept in a file, so that they outlive the process.

One thread writes to SQLite; what comes while it writes is committed together, so that many calls
share one flush of the disk. The file belongs to one process at a time.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from requestor_sdk.handlers._frames import load_failure
from requestor_sdk.handlers._logger import logger
from requestor_sdk.handlers._model import Outcome, Record, Status
from requestor_sdk.model.errors import StoreUnusable

if TYPE_CHECKING:
    import sqlite3

_VERSION: Final = 1
_TOGETHER: Final = 500
_PRUNE_SEC: Final = 60.0
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS calls (
  id TEXT PRIMARY KEY, function TEXT NOT NULL, body BLOB NOT NULL, digest BLOB NOT NULL,
  notify INTEGER NOT NULL, attempt INTEGER NOT NULL, status TEXT NOT NULL,
  accepted_at REAL NOT NULL, started_at REAL, finished_at REAL, output BLOB, error TEXT,
  delivered INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS unfinished ON calls (accepted_at) WHERE finished_at IS NULL;
CREATE INDEX IF NOT EXISTS finished ON calls (finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS undelivered ON calls (finished_at)
  WHERE finished_at IS NOT NULL AND notify = 1 AND delivered = 0;
"""
_COLUMNS: Final = (
    "id, function, body, digest, notify, attempt, status, accepted_at, started_at, finished_at,"
    " output, error, delivered"
)
_UNDELIVERED: Final = "finished_at IS NOT NULL AND notify = 1 AND delivered = 0"

Act = Callable[["sqlite3.Connection"], Any]


class _Order(NamedTuple):
    act: Act
    future: asyncio.Future[Any]
    kept: bool
    """Whether it is done later where it fails: the end of a call has happened, written or not."""


class CallStore:
    """Calls in a SQLite file.

    Args:
        path: The file; made where it is not there.
        keep: Seconds that ends are kept.
    """

    def __init__(self, path: Path, *, keep: float) -> None:
        self._path = path
        self._keep = keep
        self._acts: SimpleQueue[_Order | None] = SimpleQueue()
        self._late: list[_Order] = []
        self._trial: asyncio.Future[Any] | None = None
        self._thread = threading.Thread(target=self._write, name="handlers-store", daemon=True)
        self._loop: asyncio.AbstractEventLoop
        self._opened: asyncio.Future[None]
        self._pruned = 0.0
        self.broken: str | None = None
        """Why the file cannot be written any more."""

    async def open(self) -> None:
        """Open the file.

        Raises:
            StoreUnusable: It is no such store, belongs to a living process, or cannot be written.
        """
        self._loop = asyncio.get_running_loop()
        self._opened = self._loop.create_future()
        self._thread.start()
        await self._opened

    async def close(self) -> None:
        """Write what is left and close the file."""
        self._acts.put(None)
        await asyncio.to_thread(self._thread.join)

    # What is kept --------------------------------------------------------------------------------

    def add(self, record: Record) -> asyncio.Future[Record | None]:
        """Keep a call that was accepted; gives the one that has its id already, if any."""
        row = (
            record.id,
            record.function,
            record.body,
            record.digest,
            record.notify,
            record.attempt,
            record.status,
            record.accepted_at,
        )

        def act(db: sqlite3.Connection) -> Record | None:
            added = db.execute(
                "INSERT INTO calls (id, function, body, digest, notify, attempt, status,"
                " accepted_at) VALUES (?,?,?,?,?,?,?,?) ON CONFLICT (id) DO NOTHING",
                row,
            )
            return None if added.rowcount else _one(db, record.id)

        return self._do(act)

    def begin(self, ids: Sequence[tuple[str, int]], now: float) -> asyncio.Future[None]:
        """Write down that the handler begins with these calls (id, attempt)."""

        def act(db: sqlite3.Connection) -> None:
            db.executemany(
                "UPDATE calls SET status = 'running', started_at = ?, attempt = ?"
                " WHERE id = ? AND finished_at IS NULL",
                [(now, attempt, call_id) for call_id, attempt in ids],
            )

        return self._do(act)

    def finish(self, call_id: str, outcome: Outcome, now: float) -> asyncio.Future[None]:
        """Keep how a call ended; the first end stays."""
        error = json.dumps(outcome.error.document()) if outcome.error else None

        def act(db: sqlite3.Connection) -> None:
            db.execute(
                "UPDATE calls SET status = ?, finished_at = ?, output = ?, error = ?, body = x''"
                " WHERE id = ? AND finished_at IS NULL",
                (outcome.status, now, outcome.output, error, call_id),
            )

        return self._do(act, kept=True)

    def deliver(self, call_id: str) -> asyncio.Future[None]:
        """The callback has the end of a call."""

        def act(db: sqlite3.Connection) -> None:
            db.execute("UPDATE calls SET delivered = 1 WHERE id = ?", (call_id,))

        return self._do(act)

    def get(self, call_id: str) -> asyncio.Future[Record | None]:
        """Return a call."""
        return self._do(lambda db: _one(db, call_id))

    def unfinished(self) -> asyncio.Future[list[Record]]:
        """Return the calls without an end, oldest first."""
        return self._do(lambda db: _many(db, "finished_at IS NULL", "accepted_at, rowid"))

    def undelivered(self, most: int) -> asyncio.Future[list[Record]]:
        """Return calls whose end the callback does not have, oldest first."""
        return self._do(lambda db: _many(db, _UNDELIVERED, f"finished_at LIMIT {int(most)}"))

    async def try_again(self, seconds: float) -> None:
        """Where nothing could be written: look whether that is over, for at most so long."""
        if self.broken is None:
            return
        if self._trial is None or self._trial.done():
            self._trial = self._do(lambda db: db.execute(f"PRAGMA user_version = {_VERSION}"))
        await asyncio.wait({self._trial}, timeout=seconds)

    def _do(self, act: Act, *, kept: bool = False) -> asyncio.Future[Any]:
        future = self._loop.create_future()
        # An end that nobody waits for is no error of the program's.
        future.add_done_callback(_look)
        self._acts.put(_Order(act, future, kept))
        return future

    # The writing thread --------------------------------------------------------------------------

    def _write(self) -> None:
        import sqlite3

        try:
            db = self._connect()
        except (sqlite3.Error, OSError, StoreUnusable) as error:
            self._loop.call_soon_threadsafe(_fail, self._opened, self._unusable(error))
            return
        self._loop.call_soon_threadsafe(_settle, self._opened, None)
        try:
            while (acts := self._together()) is not None:
                self._commit(db, acts)
            if self._late:
                self._commit(db, [])
        finally:
            db.close()

    def _unusable(self, error: Exception) -> StoreUnusable:
        if isinstance(error, StoreUnusable):
            return error
        locked = "locked" in str(error)
        why = "it belongs to a program that is alive" if locked else str(error)
        return StoreUnusable(
            f"the store {self._path} cannot be used: {why}",
            hint="one store for each program: store=ANOTHER_PATH",
        )

    def _connect(self) -> sqlite3.Connection:
        import sqlite3

        db = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, timeout=1.0)
        try:
            self._prepare(db)
        except BaseException:
            db.close()
            raise
        return db

    def _prepare(self, db: sqlite3.Connection) -> None:
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version not in (0, _VERSION):
            raise StoreUnusable(
                f"the store {self._path} is of version {version}; this package knows {_VERSION}",
                hint="upgrade requestor-sdk, or store=ANOTHER_PATH",
            )
        db.executescript(_SCHEMA)
        # Writing takes the lock that keeps other processes out.
        db.execute(f"PRAGMA user_version = {_VERSION}")

    def _together(self) -> list[_Order] | None:
        """Wait for something to do, and return all that there is."""
        first = self._acts.get()
        if first is None:
            return None
        found = [first]
        while len(found) < _TOGETHER:
            try:
                more = self._acts.get_nowait()
            except Empty:
                break
            if more is None:
                self._acts.put(None)
                break
            found.append(more)
        return found

    def _commit(self, db: sqlite3.Connection, orders: Sequence[_Order]) -> None:
        import sqlite3

        orders, self._late = [*self._late, *orders], []
        results: list[tuple[asyncio.Future[Any], Any]] = []
        try:
            db.execute("BEGIN IMMEDIATE")
            results = [(order.future, order.act(db)) for order in orders]
            self._prune(db)
            db.execute("COMMIT")
        except sqlite3.Error as error:
            if db.in_transaction:
                db.execute("ROLLBACK")
            self._fails(error)
            # As many as calls were under way: none is accepted while nothing can be written.
            self._late = [order for order in orders if order.kept]
            failed = self._unusable(error)
            self._tell(_fail_all, [order.future for order in orders], failed)
        else:
            if self.broken is not None:
                logger.info("the store can be written again")
            self.broken = None
            self._tell(_settle_all, results)

    def _fails(self, error: Exception) -> None:
        if self.broken is None:
            logger.critical("the store cannot be written: %s", error)
        self.broken = f"the store cannot be written: {error}"

    def _tell(self, news: Callable[..., None], *what: object) -> None:
        try:
            self._loop.call_soon_threadsafe(news, *what)
        except RuntimeError:
            return  # the loop is closed: nobody waits any more

    def _prune(self, db: sqlite3.Connection) -> None:
        now = time.time()
        if now - self._pruned > _PRUNE_SEC:
            self._pruned = now
            db.execute("DELETE FROM calls WHERE finished_at < ?", (now - self._keep,))


def _one(db: sqlite3.Connection, call_id: str) -> Record | None:
    row = db.execute(f"SELECT {_COLUMNS} FROM calls WHERE id = ?", (call_id,)).fetchone()  # noqa: S608
    return None if row is None else _record(row)


def _many(db: sqlite3.Connection, which: str, order: str) -> list[Record]:
    rows = db.execute(f"SELECT {_COLUMNS} FROM calls WHERE {which} ORDER BY {order}")  # noqa: S608
    return [_record(row) for row in rows]


def _record(row: Sequence[Any]) -> Record:
    status = Status(row[6])
    failure = load_failure(json.loads(row[11])) if row[11] else None
    outcome = Outcome(status=status, output=row[10], error=failure) if status.over else None
    return Record(
        id=row[0],
        function=row[1],
        body=row[2],
        digest=row[3],
        notify=bool(row[4]),
        attempt=row[5],
        status=status,
        accepted_at=row[7],
        started_at=row[8],
        finished_at=row[9],
        outcome=outcome,
        delivered=bool(row[12]),
    )


def _settle(future: asyncio.Future[Any], value: Any) -> None:
    if not future.done():
        future.set_result(value)


def _fail(future: asyncio.Future[Any], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)


def _settle_all(results: Iterable[tuple[asyncio.Future[Any], Any]]) -> None:
    for future, value in results:
        _settle(future, value)


def _fail_all(futures: Iterable[asyncio.Future[Any]], error: Exception) -> None:
    for future in futures:
        _fail(future, error)


def _look(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()
