"""What the stores in SQL share: transactions in threads, the version, errors told as ours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from sqlalchemy import inspect, select, update
from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    IntegrityError,
    InterfaceError,
    ProgrammingError,
    SQLAlchemyError,
)

from requestor_sdk.c2d._store import tables
from requestor_sdk.c2d._store.bells import Bells
from requestor_sdk.c2d._store.port import OLDEST, SCHEMA
from requestor_sdk.model.errors import StoreFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Connection

    from requestor_sdk.c2d._store.bells import Ear
    from requestor_sdk.c2d._store.lanes import Lane

T = TypeVar("T")

_VERSION: Final = "schema"


@dataclass(slots=True)
class Told:
    """What a transaction led to: an answer or an error, and what it rings."""

    answer: Any = None
    error: Exception | None = None
    rings: Sequence[str] = ()

    def result(self) -> Any:
        """Return the answer, or raise the error."""
        if self.error is not None:
            raise self.error
        return self.answer


class SqlStore:
    """A store whose lanes do transactions; the kinds of it say how."""

    poll_sec: float

    def __init__(self) -> None:
        self._bells = Bells()
        self._readers: list[Lane[Callable[[Any], Any], Told]] = []
        self._writers: list[Lane[Callable[[Any], Any], Told]] = []

    async def read(self, do: Callable[[Any], T]) -> T:
        """Return what a function finds."""
        found: T = await self._on(self._readers, do)
        return found

    async def write(self, do: Callable[[Any], T]) -> T:
        """Return what a function says once what it changed is kept."""
        told: T = await self._on(self._writers, do)
        return told

    async def _on(self, lanes: list[Lane[Callable[[Any], Any], Told]], do: Any) -> Any:
        if not lanes:
            raise StoreFailed("the store is not open")
        told = await min(lanes, key=lambda lane: lane.load).done(do)
        return told.result()

    def listen(self, *topics: str) -> Ear:
        """Hear of topics."""
        return self._bells.listen(*topics)

    def tap(self, call: Callable[[str], object]) -> None:
        """Have each topic that rings told to a call."""
        self._bells.taps.append(call)

    def ring(self, topic: str) -> None:
        """Wake those who listen to a topic."""
        self._bells.ring([topic])

    def _settle(self, group: Sequence[Told]) -> None:
        for told in group:
            self._bells.ring(told.rings)

    async def _close_lanes(self) -> None:
        self._bells.ring_all()
        for lane in (*self._writers, *self._readers):
            await lane.close()


def prepare(connection: Connection) -> None:
    """Make the tables where there are none, and bring those of an older version to this one.

    Raises:
        StoreFailed: They are of a newer version, or of none that is known.
    """
    if not inspect(connection).has_table(tables.about.name):
        tables.metadata.create_all(connection)
        connection.execute(tables.about.insert(), {"key": _VERSION, "value": SCHEMA})
    kept = _version(connection)
    if isinstance(kept, int) and OLDEST <= kept < SCHEMA:
        from requestor_sdk.c2d._store.upgrades import upgrade

        upgrade(connection, kept, SCHEMA)
        told = update(tables.about).where(tables.about.c.key == _VERSION)
        connection.execute(told.values(value=SCHEMA))
    elif kept != SCHEMA:
        raise StoreFailed(
            f"the store is of version {kept}; this program has version {SCHEMA}",
            hint="pip install --upgrade requestor-sdk"
            if isinstance(kept, int) and kept > SCHEMA
            else "name another --data-dir, or serve with the program that made this one",
        )


def check(connection: Connection) -> None:
    """See that the tables are there, and of this version; changes nothing.

    Raises:
        StoreFailed: They are not.
    """
    if not inspect(connection).has_table(tables.about.name):
        raise StoreFailed(
            "there is no provider's store in it",
            hint="`requestor-sdk c2d serve` makes one; name the --data-dir that it has",
        )
    kept = _version(connection)
    if kept != SCHEMA:
        raise StoreFailed(
            f"the store is of version {kept}; this program has version {SCHEMA}",
            hint="look at it with the program that serves it; `requestor-sdk c2d serve` of this "
            "version brings an older one up to date",
        )


def _version(connection: Connection) -> object:
    return connection.execute(
        select(tables.about.c.value).where(tables.about.c.key == _VERSION)
    ).scalar()


def as_ours(error: SQLAlchemyError) -> StoreFailed:
    """Return the error of a database as ours; it says nothing of the rows."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    text = str(cause).strip().splitlines()
    return StoreFailed(
        f"the store failed: {text[0] if text else type(cause).__name__}",
        hint="see that its disk is not full and its server runs",
    )


def of_one(error: SQLAlchemyError) -> bool:
    """Tell whether what was asked is at fault, and not the database."""
    return isinstance(error, DataError | IntegrityError | InterfaceError | ProgrammingError)
