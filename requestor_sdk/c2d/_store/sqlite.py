"""A store in a file of SQLite, for one provider host.

One thread writes; what waits while it commits is committed together. ``synchronous=FULL``: a start
whose order was used up, or a nonce that rose, must not come back after the power failed, and with
commits in groups it costs one wait for the disk per group.
"""

from __future__ import annotations

import os
import sqlite3
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import create_engine, event
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from requestor_sdk.c2d._store.lanes import Lane
from requestor_sdk.c2d._store.sql import SqlStore, Told, as_ours, check, of_one, prepare
from requestor_sdk.c2d._store.sql_runs import SqlRows
from requestor_sdk.model.errors import StoreFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from sqlalchemy import Connection

_BUSY_SEC: Final = 20.0
_READERS: Final = 2


class SqliteStore(SqlStore):
    """Rows in one file; a second process may open it too, and is heard of within ``poll_sec``.

    Args:
        path: The file; made where it is missing, for the user alone.
        looking: Only to look: it is neither made nor written, and who writes it never waits.
    """

    poll_sec = 5.0

    def __init__(self, path: Path, *, looking: bool = False) -> None:
        super().__init__()
        self._path = path
        self._looking = looking
        address = f"{path.absolute().as_uri()}?mode=ro&uri=true" if looking else str(path)
        self._engine = create_engine(
            f"sqlite+pysqlite:///{address}",
            poolclass=NullPool,
            isolation_level="AUTOCOMMIT",
            connect_args={"timeout": _BUSY_SEC, "check_same_thread": False},
        )
        if not looking:
            event.listen(self._engine, "connect", _set_up)
        self._connections: list[Connection] = []

    async def open(self) -> None:
        """Get ready.

        Raises:
            StoreFailed: The file cannot be opened, or is of another version.
        """
        writer = Lane("c2d-writer", self._write_group, settle=self._settle)
        readers = [Lane(f"c2d-reader-{n}", self._reading(n)) for n in range(_READERS)]
        try:
            await writer.run(self._open_to_look if self._looking else self._open_all)
        except BaseException:
            for lane in (writer, *readers):
                await lane.close()
            self._close_all()
            raise
        self._readers = [*readers]
        if self._looking:
            await writer.close()
        else:
            self._writers = [writer]

    def _open_to_look(self) -> None:
        if not self._path.is_file():
            raise StoreFailed(
                f"there is no provider's store {self._path}",
                hint="`requestor-sdk c2d serve` makes one; name the --data-dir that it has",
            )
        try:
            self._connections = [self._engine.connect() for _ in range(1 + _READERS)]
            check(self._connections[0])
        except SQLAlchemyError as error:
            raise as_ours(error) from error

    def _open_all(self) -> None:
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self._connections = [self._engine.connect() for _ in range(1 + _READERS)]
            with _transaction(self._connections[0]):
                prepare(self._connections[0])
            for reader in self._connections[1:]:
                reader.exec_driver_sql("PRAGMA query_only=ON")
        except SQLAlchemyError as error:
            raise as_ours(error) from error
        except OSError as error:
            raise StoreFailed(
                f"the store {self._path} cannot be opened: {error.strerror}",
                hint="name a folder that can be written by --data-dir",
            ) from error

    async def close(self) -> None:
        """Finish what was begun, and let go. Idempotent."""
        await self._close_lanes()
        self._writers, self._readers = [], []
        self._close_all()

    async def skew(self) -> float:
        """Return nothing: it has no clock of its own."""
        return 0.0

    def _close_all(self) -> None:
        connections, self._connections = self._connections, []
        for connection in connections:
            connection.close()
        self._engine.dispose()

    def _write_group(self, group: Sequence[Callable[[Any], Any]]) -> Sequence[Told]:
        connection = self._connections[0]
        try:
            with _transaction(connection):
                return [_in_savepoint(connection, do) for do in group]
        except SQLAlchemyError as error:
            return [Told(error=as_ours(error)) for _ in group]

    def _reading(self, number: int) -> Callable[[Sequence[Callable[[Any], Any]]], Sequence[Told]]:
        def do_group(group: Sequence[Callable[[Any], Any]]) -> Sequence[Told]:
            connection = self._connections[1 + number]
            try:
                with _transaction(connection, "BEGIN"):
                    return [_try(SqlRows(connection, writing=False), do) for do in group]
            except SQLAlchemyError as error:
                return [Told(error=as_ours(error)) for _ in group]

        return do_group


class _transaction:  # noqa: N801 - reads as a function
    """Begin, then commit or roll back, by SQLite's own words."""

    def __init__(self, connection: Connection, begin: str = "BEGIN IMMEDIATE") -> None:
        self._run, self._begin = connection.exec_driver_sql, begin

    def __enter__(self) -> None:
        self._run(self._begin)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            try:
                self._run("COMMIT")
            except SQLAlchemyError:
                self._roll_back()
                raise
        else:
            self._roll_back()

    def _roll_back(self) -> None:
        try:
            self._run("ROLLBACK")
        except SQLAlchemyError as error:
            # SQLite rolled it back by itself, e.g. because the disk is full.
            if "no transaction" not in str(error):
                raise


def _in_savepoint(connection: Connection, do: Callable[[Any], Any]) -> Told:
    """Do one of a group so that what it changed goes where it raises, and only that."""
    connection.exec_driver_sql("SAVEPOINT one")
    told = _try(SqlRows(connection, writing=True), do)
    if told.error is not None:
        connection.exec_driver_sql("ROLLBACK TO one")
    connection.exec_driver_sql("RELEASE one")
    return told


def _try(rows: SqlRows, do: Callable[[Any], Any]) -> Told:
    try:
        answer = do(rows)
    except SQLAlchemyError as error:
        if not of_one(error):
            # Nothing of the group counts.
            raise
        return Told(error=as_ours(error))
    except Exception as error:  # noqa: BLE001 - it is raised where the answer is awaited
        return Told(error=error)
    return Told(answer=answer, rings=tuple(rows.rings))


def _set_up(connection: sqlite3.Connection, _: object) -> None:
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "temp_store=MEMORY"):
        connection.execute(f"PRAGMA {pragma}").close()
