"""Journals: where a run is written down, in memory or to a file of one JSON object a line.

A journal never judges what it holds. A file may end in half a line, as a killed process leaves it:
reading passes over it, and the next append begins on a line of its own.
"""

from __future__ import annotations

import json
import os
from collections import deque
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from requestor_sdk.model.errors import NotSupported, UsageError
from requestor_sdk.model.events import VERSION, from_record

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from requestor_sdk.model.events import Event

# What reading JSON and turning it into an event can end in; a Decimal's failure is arithmetic.
_NO_RECORD: Final = (ValueError, TypeError, ArithmeticError)


class MemoryJournal:
    """Keeps the last events of a run in memory.

    Args:
        limit: How many are kept; older ones are dropped.
    """

    def __init__(self, limit: int = 100_000) -> None:
        self._events: deque[Event] = deque(maxlen=limit)

    def append(self, event: Event) -> None:
        """Write one event."""
        self._events.append(event)

    def read(self, *, ids: Mapping[str, str] | None = None) -> Iterator[Event]:
        """Return what is kept, oldest first; only what concerns all of ``ids``."""
        # A copy: the run may go on writing while the caller reads.
        return iter([event for event in self._events if event.concerns(ids or {})])

    def close(self) -> None:
        """Do nothing: the events stay readable."""


class JsonlJournal:
    """Writes a run to a file, one JSON object a line, each flushed before ``append`` returns.

    An existing file is continued. The file is opened by the first ``append``, so that reading
    needs no right to write.

    Args:
        path: The file; missing parent folders are made.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path: Path = Path(path)
        self._file: IO[bytes] | None = None

    def append(self, event: Event) -> None:
        """Write one event.

        Raises:
            UsageError: The file cannot be written.
        """
        line = json.dumps(event.to_record(), ensure_ascii=False, separators=(",", ":"))
        try:
            if self._file is None:
                self._file = self._opened()
            self._file.write(line.encode() + b"\n")
            self._file.flush()
        except OSError as error:
            raise UsageError(
                f"the journal {self.path} cannot be written: {error.strerror or error}",
                hint="name another file; or make room for it, or the right to write it",
            ) from error

    def read(self, *, ids: Mapping[str, str] | None = None) -> Iterator[Event]:
        """Return what was written, oldest first; only what concerns all of ``ids``.

        Raises:
            NotSupported: A record is of a version that this program does not know.
            UsageError: The file cannot be read, or a line of it is no record.
        """
        try:
            with self.path.open("rb") as file:
                for number, line in enumerate(file, 1):
                    event = self._parsed(number, line)
                    if event is not None and event.concerns(ids or {}):
                        yield event
        except OSError as error:
            raise UsageError(
                f"the journal {self.path} cannot be read: {error.strerror or error}"
            ) from error

    def close(self) -> None:
        """Close the file. Idempotent; a later ``append`` opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _opened(self) -> IO[bytes]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = self.path.open("a+b")
        kept = _whole_lines(file)
        if kept < file.tell():
            file.truncate(kept)
        return file

    def _parsed(self, number: int, line: bytes) -> Event | None:
        if not line.endswith(b"\n"):
            return None
        where = f"the journal {self.path}, line {number}"
        try:
            record: object = json.loads(line)
            if not isinstance(record, dict):
                raise TypeError(f"{type(record).__name__} is no object")
            version = record.get("v")
            if isinstance(version, int) and version > VERSION:
                raise NotSupported(
                    f"{where}: written in version {version}; this program reads up to {VERSION}",
                    hint="pip install --upgrade requestor-sdk",
                )
            return from_record(record)
        except _NO_RECORD as error:
            raise UsageError(f"{where} is no record of an event: {error}") from error


def _whole_lines(file: IO[bytes]) -> int:
    """Return how many bytes of the file are whole lines, and leave the position at its end."""
    end = file.seek(0, os.SEEK_END)
    at = end
    while at > 0:
        start = max(0, at - 65_536)
        file.seek(start)
        newline = file.read(at - start).rfind(b"\n")
        if newline >= 0:
            at = start + newline + 1
            break
        at = start
    file.seek(0, os.SEEK_END)
    return at
