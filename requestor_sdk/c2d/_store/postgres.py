"""A store in PostgreSQL, for several provider hosts.

Each writing transaction has a connection of its own; rows that it reads by their key are locked,
and claims pass over runs that another claim has its hands on (``SKIP LOCKED``). What rings is told
to the other hosts by ``NOTIFY``.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from requestor_sdk.c2d._store.keys import is_storable
from requestor_sdk.c2d._store.lanes import Lane
from requestor_sdk.c2d._store.port import MAX_SKEW_SEC
from requestor_sdk.c2d._store.sql import SqlStore, Told, as_ours, check, prepare
from requestor_sdk.c2d._store.sql_runs import SqlRows
from requestor_sdk.model.errors import StoreFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Connection
    from sqlalchemy.pool import ConnectionPoolEntry

_WRITERS: Final = 4
_READERS: Final = 2
_CHANNEL: Final = "requestor_sdk_c2d"
# Any number will do, as long as no other program in the database locks it.
_LOCK: Final = 0x72736B_633264
# PostgreSQL takes less than 8000 bytes; no topic of ours comes near.
_LONGEST: Final = 1900
_TRIES: Final = 8
_CONNECT_SEC: Final = 10
_PAUSES_SEC: Final = (0.1, 0.5, 2.0, 5.0)

_NOTIFY: Final = text(
    "SELECT pg_notify(:channel, topic) FROM unnest(CAST(:topics AS text[])) topic"
)

_TIME: Final = text("SELECT extract(epoch FROM clock_timestamp())")

_log = logging.getLogger(__name__)


class PostgresStore(SqlStore):
    """Rows in a database of PostgreSQL.

    Args:
        url: ``postgresql://user:password@host/database``, as libpq takes it.
        looking: Only to look: no table is made, nothing is written, and news are not heard.

    Raises:
        StoreFailed: That is no such address.
    """

    poll_sec = 2.0

    def __init__(self, url: str, *, looking: bool = False) -> None:
        super().__init__()
        self._only_looks = looking
        try:
            address = make_url(re.sub(r"^postgres(ql)?://", "postgresql+psycopg://", url))
        except ArgumentError:
            # The address may hold a password: it is not repeated.
            raise StoreFailed("the address of the store is none", hint=_HINT) from None
        if address.drivername != "postgresql+psycopg":
            raise StoreFailed("the address of the store is none of PostgreSQL", hint=_HINT)
        self._address = address
        self._engine = create_engine(
            address,
            pool_size=_WRITERS + _READERS,
            max_overflow=0,
            pool_reset_on_return=None,
            connect_args={"connect_timeout": _CONNECT_SEC},
        )
        # What this host rings it has heard by then: its own news are passed over.
        self._own: set[int] = set()
        event.listen(self._engine, "connect", self._connected)
        event.listen(self._engine, "close", self._parted)
        event.listen(self._engine, "invalidate", self._parted)
        self._looking = self._engine.execution_options(
            isolation_level="REPEATABLE READ", postgresql_readonly=True
        )
        self._hearing: asyncio.Task[None] | None = None

    def _connected(self, connection: Any, record: ConnectionPoolEntry) -> None:
        record.info["pid"] = connection.info.backend_pid
        self._own.add(record.info["pid"])

    def _parted(self, _: Any, record: ConnectionPoolEntry, *__: Any) -> None:
        self._own.discard(record.info.get("pid", 0))

    async def open(self) -> None:
        """Get ready.

        Raises:
            StoreFailed: The server does not answer, or the tables are of another version.
        """
        if self._only_looks:
            await self._open_to_look()
            return
        writers = [
            Lane(f"c2d-writer-{n}", self._write, settle=self._settle, most=1)
            for n in range(_WRITERS)
        ]
        readers = [Lane(f"c2d-reader-{n}", self._read) for n in range(_READERS)]
        try:
            await writers[0].run(self._prepare)
            listening = asyncio.Event()
            self._hearing = asyncio.create_task(self._hear(listening), name="news of the store")
            await listening.wait()
        except BaseException:
            for lane in (*writers, *readers):
                await lane.close()
            self._engine.dispose()
            raise
        self._writers, self._readers = [*writers], [*readers]

    async def _open_to_look(self) -> None:
        reader = Lane("c2d-reader-0", self._read)
        try:
            await reader.run(self._check)
        except BaseException:
            await reader.close()
            self._engine.dispose()
            raise
        self._readers = [reader]

    def _check(self) -> None:
        try:
            with self._looking.connect() as connection:
                check(connection)
                connection.rollback()
        except SQLAlchemyError as error:
            raise as_ours(error) from error

    def _prepare(self) -> None:
        try:
            with self._engine.begin() as connection:
                connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
                prepare(connection)
                skew = abs(_skew(connection))
        except SQLAlchemyError as error:
            raise as_ours(error) from error
        if skew > MAX_SKEW_SEC:
            raise StoreFailed(
                f"the clocks of this host and of the store's differ by {skew:.0f} s: leases would "
                "end early or late",
                hint="set the clocks by NTP",
            )

    async def close(self) -> None:
        """Finish what was begun, and let go. Idempotent."""
        hearing, self._hearing = self._hearing, None
        if hearing is not None:
            hearing.cancel()
            with suppress(asyncio.CancelledError):
                await hearing
        await self._close_lanes()
        self._writers, self._readers = [], []
        self._engine.dispose()

    async def skew(self) -> float:
        """Return by how many seconds this host's clock is ahead of the database's."""
        return await asyncio.to_thread(self._look_at_clocks)

    def _look_at_clocks(self) -> float:
        try:
            with self._looking.connect() as connection:
                found = _skew(connection)
                connection.rollback()  # the pool gives a connection on as it comes back
                return found
        except SQLAlchemyError as error:
            raise as_ours(error) from error

    def _write(self, group: Sequence[Callable[[Any], Any]]) -> Sequence[Told]:
        return [self._write_one(do) for do in group]

    def _write_one(self, do: Callable[[Any], Any]) -> Told:
        tries = 0
        while True:
            tries += 1
            committing = False
            try:
                with self._engine.connect() as connection:
                    rows = SqlRows(connection, writing=True)
                    answer = do(rows)
                    _tell_others(connection, rows.rings)
                    committing = True
                    connection.commit()
                    return Told(answer=answer, rings=tuple(rows.rings))
            except DBAPIError as error:
                if tries >= _TRIES or not _may_try_again(error, committing=committing):
                    return Told(error=as_ours(error))
            except SQLAlchemyError as error:
                return Told(error=as_ours(error))
            except Exception as error:  # noqa: BLE001 - it is raised where the answer is awaited
                return Told(error=error)

    def _read(self, group: Sequence[Callable[[Any], Any]]) -> Sequence[Told]:
        return [self._read_one(do) for do in group]

    def _read_one(self, do: Callable[[Any], Any]) -> Told:
        tries = 0
        while True:
            tries += 1
            try:
                with self._looking.connect() as connection:
                    answer = do(SqlRows(connection, writing=False))
                    connection.rollback()
                    return Told(answer=answer)
            except DBAPIError as error:
                if tries >= _TRIES or not _may_try_again(error, committing=False):
                    return Told(error=as_ours(error))
            except SQLAlchemyError as error:
                return Told(error=as_ours(error))
            except Exception as error:  # noqa: BLE001 - it is raised where the answer is awaited
                return Told(error=error)

    async def _hear(self, listening: asyncio.Event) -> None:
        """Ring here what rings elsewhere; after a loss everything, as it may have been missed."""
        import psycopg

        address = self._address.set(drivername="postgresql").render_as_string(hide_password=False)
        losses = 0
        while True:
            try:
                async with await psycopg.AsyncConnection.connect(
                    address, autocommit=True, connect_timeout=_CONNECT_SEC
                ) as connection:
                    await connection.execute(f"LISTEN {_CHANNEL}")
                    losses = 0
                    listening.set()
                    self._bells.ring_all()
                    async for news in connection.notifies():
                        if news.pid not in self._own:
                            self._bells.ring([news.payload])
            except psycopg.Error as error:
                _log.warning("news of the store are not heard for now: %s", type(error).__name__)
            listening.set()
            await asyncio.sleep(_PAUSES_SEC[min(losses, len(_PAUSES_SEC) - 1)])
            losses += 1


_HINT: Final = "use postgresql://USER@HOST/DATABASE"


def _skew(connection: Connection) -> float:
    return time.time() - float(connection.execute(_TIME).scalar_one())


def _tell_others(connection: Connection, topics: Sequence[str]) -> None:
    told = [
        topic for topic in dict.fromkeys(topics) if is_storable(topic) and len(topic) < _LONGEST
    ]
    if told:
        connection.execute(_NOTIFY, {"channel": _CHANNEL, "topics": told})


def _may_try_again(error: DBAPIError, *, committing: bool) -> bool:
    """Tell whether nothing was kept, and the next time may be better.

    Two that waited for one another, or a connection that broke before the end was asked for.
    """
    state = getattr(error.orig, "sqlstate", None)
    return state in {"40001", "40P01"} or (error.connection_invalidated and not committing)
