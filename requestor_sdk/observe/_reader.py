"""Reads a journal in SQLite: by connections that cannot write, and around what is damaged.

Nothing here changes a journal, makes one, or keeps who writes it from writing.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

from requestor_sdk.model.errors import JournalDamaged, NotSupported, UsageError
from requestor_sdk.observe import _salvage
from requestor_sdk.observe._records import NO_RECORD, UPGRADE, decode, needle

if TYPE_CHECKING:
    from requestor_sdk.model.events import Event

SCHEMA: Final = 1
"""Version of the tables; that of the records is ``events.VERSION``."""

_AT_ONCE: Final = 500
# By keys, not by a scan: it is asked for each row that is of no kind that is wanted.
_OR_ENDS: Final = """
 OR seq = (SELECT max(seq) FROM events)
 OR EXISTS (SELECT 1 FROM events AS later
            WHERE later.seq = events.seq + 1 AND later.kind = 'ComputationRecovered')
"""
# SQLite's primary result codes for: no such table, a disk that cannot be read, a page or a file
# that is not as it should be.
_DAMAGE: Final = frozenset({1, 10, 11, 26})
_LOGGED: Final = b"\x02\x02"

written_here: Final[set[Path]] = set()
"""Journals that this process writes. Only SQLite may open those: a process that closes a file loses
all locks that it has on it."""


class _Broken(Exception):
    """SQLite must not go on reading; the text says why."""


_UNREADABLE: Final = (_Broken, sqlite3.Error, UnicodeDecodeError)
"""What reading ends in; the error text of a damaged schema may be no text."""


class _Losses:
    """What could not be read, as far as it is known."""

    def __init__(self, after: int) -> None:
        self.saved = 0
        self.last = after
        self.reason = ""
        self._missing = 0
        self._first = 0

    def lack(self, first: int, count: int, reason: str = "") -> None:
        """Note that events are missing, from that number on."""
        self.reason = self.reason or reason
        self._first = self._first or first
        self._missing += count

    def reach(self, seq: int) -> None:
        """Note that the next event is that one, and which are missing before it."""
        if seq > self.last + 1:
            self.lack(self.last + 1, seq - self.last - 1)
        self.last = seq

    def error(self, path: Path) -> JournalDamaged:
        """Return what to raise."""
        lost = f"what came after number {self.last}, if anything, is missing"
        if self._missing:
            number = "1 event is" if self._missing == 1 else f"{self._missing} events are"
            lost = f"at least {number} missing, the first is number {self._first}"
        saved = f"{self.saved} event{'' if self.saved == 1 else 's'} could be read"
        return JournalDamaged(
            f"the journal {path} is damaged ({self.reason}): {saved}; {lost}",
            saved=self.saved,
            hint="the file was not changed: keep it, and a copy, before anything is tried on it",
        )


class Reader:
    """Reads a file; every call opens it anew.

    Args:
        path: The file.
        written: Tells whether somebody writes it at the moment.
    """

    def __init__(self, path: Path, written: Callable[[], bool]) -> None:
        self.path = path
        self.log = path.with_name(path.name + "-wal")
        self._written = written

    def numbered(
        self, ids: Mapping[str, str], kinds: Collection[str], after: int, *, ends: bool = False
    ) -> Iterator[tuple[int, Event]]:
        """Return events with their numbers; see ``SqliteJournal.read`` for what it raises."""
        losses = _Losses(after)
        for seq, text in self._texts(losses, ids, kinds, ends):
            try:
                event = decode(text)
            except NotSupported as error:
                raise NotSupported(
                    f"the journal {self.path}, event {seq}: {error.message}", hint=error.hint
                ) from None
            except NO_RECORD as error:
                losses.lack(seq, 1, f"event {seq} is no record of an event: {error}")
                continue
            if event.concerns(ids) and (ends or not kinds or event.kind in kinds):
                losses.saved += 1
                yield seq, event
        if losses.reason:
            raise losses.error(self.path)

    def about(self) -> dict[str, str]:
        """Return what the table ``meta`` says; empty where that cannot be read."""
        try:
            with closing(self._connection()) as connection:
                return _meta(connection)
        except _UNREADABLE as error:
            self._damage(error)
            return {}

    # Rows -----------------------------------------------------------------------------------------

    def _texts(
        self, losses: _Losses, ids: Mapping[str, str], kinds: Collection[str], ends: bool
    ) -> Iterator[tuple[int, bytes]]:
        """Return numbers and texts after the last one; what SQLite cannot read is salvaged."""
        written = self._written()
        try:
            with closing(self._connection()) as connection:
                self._check_version(connection)
                found = _selected(connection, losses.last, ids, kinds, ends)
                if ids or kinds:
                    _check_whole(connection, losses.last)
                else:
                    found = _without_gaps(found, losses.last)
                for seq, text in found:
                    losses.last = seq
                    yield seq, text
                losses.last = _last(connection, losses.last)
        except _UNREADABLE as error:
            losses.reason = self._damage(error)
            yield from self._salvaged(losses)
        else:
            if not written:
                yield from self._behind_the_break(losses)

    def _salvaged(self, losses: _Losses) -> Iterator[tuple[int, bytes]]:
        if self.path.absolute() in written_here:
            return
        try:
            for seq, text in _salvage.rows(self.path, self.log):
                if seq > losses.last:
                    losses.reach(seq)
                    yield seq, text
        except OSError as error:
            losses.reason += f"; {error.strerror or error}"

    def _behind_the_break(self, losses: _Losses) -> Iterator[tuple[int, bytes]]:
        """Return what a damaged log holds behind the place where SQLite stops reading it.

        A power cut may leave a torn end, which was never promised to be there. What was flushed to
        the disk was promised, with all before it.
        """
        try:
            found = _salvage.logged_rows(self.path, self.log, losses.last)
        except OSError:
            return  # the usual case: there is no log
        if any(_is_durable(text) for _, text in found):
            losses.reason = "its log is broken"
            for seq, text in found:
                losses.reach(seq)
                yield seq, text

    # The file -------------------------------------------------------------------------------------

    def _connection(self) -> sqlite3.Connection:
        uri = f"{self.path.absolute().as_uri()}?mode=ro"
        if not self._written():
            uri += self._at_rest()
        connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
        # As bytes: a text that is no UTF-8 would end the reading of all others.
        connection.text_factory = bytes
        return connection

    def _at_rest(self) -> str:
        """Return what to say to SQLite of a file that nobody writes."""
        try:
            with self.path.open("rb") as file:
                header = file.read(20)
            logged = self.log.exists() and self.log.stat().st_size > 0
        except OSError as error:
            self._refuse(error.strerror or error, "requestor-sdk runs")
        if header and not header.startswith(_salvage.MAGIC):
            # SQLite would take some for an empty database.
            raise _Broken("it is no SQLite database")
        # Without its log a copy is read as it is: SQLite would make an empty log beside it.
        return "&immutable=1" if header[18:20] == _LOGGED and not logged else ""

    def _check_version(self, connection: sqlite3.Connection) -> None:
        if not has_tables(connection):
            return
        said = _meta(connection).get("schema", "")
        if not said.isdigit():
            raise _Broken("it names no version")
        if int(said) > SCHEMA:
            raise NotSupported(
                f"the journal {self.path} is of version {said}; this program reads up to {SCHEMA}",
                hint=UPGRADE,
            )

    def _damage(self, error: Exception) -> str:
        """Return what is damaged.

        Raises:
            UsageError: It cannot be read for another reason, which does not lie in the file.
        """
        if isinstance(error, sqlite3.Error):
            code = getattr(error, "sqlite_errorcode", 1) & 0xFF
            if code not in _DAMAGE:
                self._refuse(error, "copy it and its -wal file to a folder that you can write to")
        return str(error)

    def _refuse(self, why: object, hint: str) -> NoReturn:
        raise UsageError(f"the journal {self.path} cannot be read: {why}", hint=hint)


def has_tables(connection: sqlite3.Connection) -> bool:
    """Tell whether there are tables; without, whoever began the file got no further."""
    return bool(connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchall())


def _meta(connection: sqlite3.Connection) -> dict[str, str]:
    if not has_tables(connection):
        return {}
    rows = connection.execute("SELECT key, value FROM meta").fetchall()
    return {_text(key): _text(value) for key, value in rows}


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _selected(
    connection: sqlite3.Connection,
    after: int,
    ids: Mapping[str, str],
    kinds: Collection[str],
    ends: bool,
) -> Iterator[tuple[int, bytes]]:
    """Return rows, some at a time, so that no snapshot is held while the caller works.

    Ids are looked for in the text: an index an id would have to be written by each ``append``.
    """
    if not has_tables(connection):
        return
    conditions = ["seq > ?", *("instr(record, ?)" for _ in ids)]
    if kinds:
        of_kind = f"kind IN ({', '.join('?' for _ in kinds)})"
        conditions.append(f"({of_kind}{_OR_ENDS})" if ends else of_kind)
    query = (
        f"SELECT seq, record FROM events WHERE {' AND '.join(conditions)} "  # noqa: S608 - no values
        f"ORDER BY seq LIMIT {_AT_ONCE}"
    )
    wanted = [*(needle(name, value) for name, value in ids.items()), *kinds]
    more = True
    while more:
        some = connection.execute(query, (after, *wanted)).fetchall()
        for seq, record in some:
            if seq <= after:
                raise _Broken("its rows are out of order")
            after = seq
            yield seq, record if isinstance(record, bytes) else b""
        more = len(some) == _AT_ONCE


def _check_whole(connection: sqlite3.Connection, after: int) -> None:
    """Refuse what lacks rows: among those that are asked for, none would be missed."""
    if not has_tables(connection):
        return
    told = "SELECT count(*), max(seq) FROM events WHERE seq > ?"
    count, last = connection.execute(told, (after,)).fetchone()
    if count != (last or after) - after:
        raise _Broken("events are missing")


def _last(connection: sqlite3.Connection, after: int) -> int:
    """Return the number of the last row; that, where there is none after it."""
    if not has_tables(connection):
        return after
    (last,) = connection.execute("SELECT max(seq) FROM events").fetchone()
    return max(after, last or 0)


def _without_gaps(rows: Iterator[tuple[int, bytes]], last: int) -> Iterator[tuple[int, bytes]]:
    """Return rows as long as none is missing: they are numbered as they are written."""
    for seq, text in rows:
        if seq != last + 1:
            raise _Broken("events are missing")
        last = seq
        yield seq, text


def _is_durable(text: bytes) -> bool:
    try:
        return decode(text).durable
    except (NotSupported, *NO_RECORD):
        return False
