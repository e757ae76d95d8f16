"""Reads the rows of a journal out of a damaged SQLite file, page by page, without SQLite.

SQLite reads a table from its root, so that one bad page, or a cut end, can take away all of it. A
journal's rows are only ever added and each leaf page tells its own, so that they can be read off
whatever pages are there, in the file and in its write-ahead log. The format is that of
https://sqlite.org/fileformat2.html; what does not follow it is passed over. Nothing is written.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Final

MAGIC: Final = b"SQLite format 3\0"
PAGE: Final = 4096
"""The size of a journal's pages."""

_LEAF: Final = 0x0D
_INTEGER_KEY: Final = 0
_FIRST_TEXT: Final = 13
_WAL_HEADER: Final = 32
_FRAME_HEADER: Final = 24
_SALTS: Final = 8
_SALTS_AT: Final = 16
_FRAME_SALTS_AT: Final = 8
_MOST_SEQ: Final = 1 << 48


class Pages:
    """The pages of a file as its log has them, or as they were before.

    Args:
        file: The database.
        log: Its write-ahead log, if there is one.

    Attributes:
        count: How many there are at most.
        logged: The numbers of those that the log has.
    """

    def __init__(self, file: IO[bytes], log: IO[bytes] | None) -> None:
        self._file = file
        self._log = log
        self._frames: Mapping[int, int] = {} if log is None else _committed(log)
        self.logged = tuple(sorted(self._frames))
        self.count = max(_size(file) // PAGE + 1, *self._frames, 1)

    def old(self, number: int) -> bytes:
        """Return a page as the file has it; short or empty beyond its end."""
        return _read(self._file, (number - 1) * PAGE)

    def new(self, number: int) -> bytes:
        """Return a page as the log has it, or else the file."""
        at = self._frames.get(number)
        return self.old(number) if at is None or self._log is None else _read(self._log, at)

    def versions(self, number: int) -> tuple[bytes, ...]:
        """Return a page as the log has it and as the file has it: one of them may be damaged."""
        return (
            (self.new(number), self.old(number)) if number in self._frames else (self.new(number),)
        )


def rows(path: Path, log: Path) -> Iterator[tuple[int, bytes]]:
    """Return numbers and records of all rows that can be found, by number, each once.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        try:
            opened = log.open("rb")
        except OSError:
            yield from _all_rows(Pages(file, None))
            return
        with opened:
            yield from _all_rows(Pages(file, opened))


def _all_rows(pages: Pages) -> Iterator[tuple[int, bytes]]:
    return _rows(pages, range(2, pages.count + 1))


def logged_rows(path: Path, log: Path, after: int) -> list[tuple[int, bytes]]:
    """Return the rows beyond a number that only the log has: SQLite stops at its first bad frame.

    Raises:
        OSError: A file cannot be read.
    """
    with path.open("rb") as file, log.open("rb") as opened:
        pages = Pages(file, opened)
        return [row for row in _rows(pages, pages.logged) if row[0] > after]


def _rows(pages: Pages, numbers: Iterable[int]) -> Iterator[tuple[int, bytes]]:
    # Only where a row lies is kept: a journal may be larger than the memory.
    places: dict[int, tuple[int, int, int]] = {}
    for number in numbers:
        for version, page in enumerate(pages.versions(number)):
            for cell in _cells(page):
                seq = _seq(page, cell)
                if seq is not None and _record(pages, page, cell) is not None:
                    places.setdefault(seq, (number, version, cell))
    for seq in sorted(places):
        number, version, cell = places[seq]
        found = _record(pages, pages.versions(number)[version], cell)
        if found is not None:
            yield seq, found


def _cells(page: bytes) -> Iterator[int]:
    """Return where the cells of a leaf page of a table begin."""
    if len(page) < 8 or page[0] != _LEAF:
        return
    page = page.ljust(PAGE, b"\0")
    (count,) = struct.unpack_from(">H", page, 3)
    for index in range(min(count, (PAGE - 8) // 2)):
        (at,) = struct.unpack_from(">H", page, 8 + 2 * index)
        if 8 + 2 * count <= at < PAGE:
            yield at


def _seq(page: bytes, cell: int) -> int | None:
    _, at = _varint(page, cell)
    seq, _ = _varint(page, at)
    return seq if 0 < seq < _MOST_SEQ else None


def _record(pages: Pages, page: bytes, cell: int) -> bytes | None:
    """Return the record of a cell; ``None`` where it is no row of events."""
    size, at = _varint(page, cell)
    _, at = _varint(page, at)
    payload = _payload(pages, page, at, size)
    if payload is None:
        return None
    header, at = _varint(payload, 0)
    types: list[int] = []
    while at < min(header, len(payload)):
        kind, at = _varint(payload, at)
        types.append(kind)
    if len(types) != 3 or types[0] != _INTEGER_KEY or at != header:
        return None
    if any(kind < _FIRST_TEXT or kind % 2 == 0 for kind in types[1:]):
        return None
    name, text = ((kind - _FIRST_TEXT) // 2 for kind in types[1:])
    return payload[header + name :] if header + name + text == len(payload) else None


def _payload(pages: Pages, page: bytes, at: int, size: int) -> bytes | None:
    """Return what a cell holds, with what of it lies on pages of its own."""
    most = PAGE - 35
    if size <= most:
        return page[at : at + size] if 0 < size <= len(page) - at else None
    least = (PAGE - 12) * 32 // 255 - 23
    local = least + (size - least) % (PAGE - 4)
    if local > most:
        local = least
    if size > pages.count * PAGE or at + local + 4 > len(page):
        return None
    parts = [page[at : at + local]]
    missing = size - local
    (following,) = struct.unpack_from(">I", page, at + local)
    while missing > 0:
        more = pages.new(following) if 1 < following <= pages.count else b""
        part = more[4 : 4 + missing]
        if len(part) < min(missing, PAGE - 4):
            return None
        parts.append(part)
        missing -= len(part)
        (following,) = struct.unpack_from(">I", more)
    return b"".join(parts)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Return a number of one to nine bytes and what comes after it; -1 where it is cut off."""
    value = 0
    for place in range(at, at + 8):
        if place >= len(data):
            return -1, len(data)
        value = value << 7 | data[place] & 0x7F
        if data[place] < 0x80:
            return value, place + 1
    if at + 8 >= len(data):
        return -1, len(data)
    return value << 8 | data[at + 8], at + 9


def _committed(log: IO[bytes]) -> dict[int, int]:
    """Return where the log has the last committed version of each page.

    Frames of a former use of the log lie behind those of the last one, and have other salts.
    """
    salts = _read(log, _SALTS_AT, _SALTS)
    first = _read(log, _WAL_HEADER + _FRAME_SALTS_AT, _SALTS)
    return _frames(log, salts) or _frames(log, first)


def _frames(log: IO[bytes], salts: bytes) -> dict[int, int]:
    found: dict[int, int] = {}
    pending: dict[int, int] = {}
    size = _FRAME_HEADER + PAGE
    for at in range(_WAL_HEADER, _size(log) - size + 1, size):
        frame = _read(log, at, _FRAME_HEADER)
        if frame[_FRAME_SALTS_AT : _FRAME_SALTS_AT + _SALTS] != salts:
            continue
        number, committed = struct.unpack_from(">II", frame)
        pending[number] = at + _FRAME_HEADER
        if committed:
            found |= pending
            pending = {}
    return found


def _read(file: IO[bytes], at: int, size: int = PAGE) -> bytes:
    try:
        file.seek(at)
        return file.read(size)
    except OSError:
        return b""  # a bad sector: what lies on it is lost, the rest is not


def _size(file: IO[bytes]) -> int:
    return file.seek(0, 2)
