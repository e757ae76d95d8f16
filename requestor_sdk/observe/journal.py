"""Journals: where a run is written down, in memory or to a file of one JSON object a line.

A journal never judges what it holds. A file may end in half a line, as a killed process leaves it:
reading passes over it, and the next append begins on a line of its own.
"""

from __future__ import annotations

import os
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

from requestor_sdk.model.errors import JournalDamaged, JournalUnwritable, NotSupported, UsageError
from requestor_sdk.observe._records import NO_RECORD, decode, encode

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from requestor_sdk.model.events import Event
    from requestor_sdk.observe._lock import RunLock
    from requestor_sdk.observe.sqlite import SqliteJournal


def journal_at(path: str | os.PathLike[str]) -> SqliteJournal | JsonlJournal:
    """Return the journal of a file: in SQLite where its name ends in ``.sqlite``, else of lines."""
    if Path(path).suffix == ".sqlite":
        from requestor_sdk.observe.sqlite import SqliteJournal

        return SqliteJournal(path)
    return JsonlJournal(path)


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

    An existing file is continued. It is opened by the first ``append``, so that reading needs no
    right to write, and one process writes: under a lock that ends with it.

    Args:
        path: The file; missing parent folders are made. The lock is a file beside it, e.g.
            ``run.jsonl.lock``.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path: Path = Path(path)
        self._file: IO[bytes] | None = None
        self._lock: RunLock | None = None
        self._new = False

    def open(self) -> None:
        """Open it to write, as the first ``append`` does. Idempotent.

        Raises:
            RunLocked: Another process, or another journal of this one, writes it.
            JournalUnwritable: It cannot be written.
        """
        if self._file is None:
            try:
                self._file = self._opened()
            except JournalUnwritable:
                self.close()
                raise
            except OSError as error:
                self.close()
                raise self._unwritable(error) from error

    def append(self, event: Event) -> None:
        """Write one event.

        Raises:
            JournalUnwritable: The file cannot be written.
            RunLocked: It was not open, and somebody else writes it.
        """
        line = encode(event)
        self.open()
        assert self._file is not None
        try:
            self._file.write(line.encode() + b"\n")
            self._file.flush()
        except OSError as error:
            raise self._unwritable(error) from error
        self._new = False

    def _unwritable(self, error: OSError) -> JournalUnwritable:
        return JournalUnwritable(
            f"the journal {self.path} cannot be written: {error.strerror or error}",
            hint="name another file; or make room for it, or the right to write it",
        )

    def read(self, *, ids: Mapping[str, str] | None = None) -> Iterator[Event]:
        """Return what was written, oldest first; only what concerns all of ``ids``.

        Raises:
            JournalDamaged: A line is no record; raised after the last event that can be read.
            NotSupported: It was written by a newer version.
            UsageError: There is no such file, or it cannot be read.
        """
        saved, bad, why = 0, 0, ""
        try:
            with self.path.open("rb") as file:
                for number, line in enumerate(file, 1):
                    if not line.endswith(b"\n"):
                        continue
                    try:
                        event = self._decoded(number, line)
                    except NO_RECORD as error:
                        bad += 1
                        why = why or f"line {number} is no record of an event: {error}"
                        continue
                    if event.concerns(ids or {}):
                        saved += 1
                        yield event
        except OSError as error:
            raise UsageError(
                f"the journal {self.path} cannot be read: {error.strerror or error}"
            ) from error
        if bad:
            raise JournalDamaged(
                f"the journal {self.path}, {why}; {saved} events could be read, "
                f"{bad} line{'' if bad == 1 else 's'} could not",
                saved=saved,
                hint="the file was not changed: keep it, and a copy, before it is mended",
            )

    def close(self) -> None:
        """Close the file and release its lock. Idempotent; a later ``append`` opens it again.

        A file that it made and wrote nothing to goes away again.
        """
        file, self._file = self._file, None
        lock, self._lock = self._lock, None
        new, self._new = self._new, False
        try:
            if file is not None:
                with suppress(OSError):  # what could not be written was told by ``append``
                    file.close()
        finally:
            if lock is not None:
                self._release(lock, new=new)

    def _release(self, lock: RunLock, *, new: bool) -> None:
        from requestor_sdk.observe._lock import remove_empty

        if new:
            remove_empty(self.path)
        lock.release()
        if new:
            remove_empty(lock.path)

    @property
    def is_written(self) -> bool:
        """Whether it is open to be written, here or in another process."""
        from requestor_sdk.observe._lock import is_held

        return self._lock is not None or is_held(self._lock_path)

    @property
    def _lock_path(self) -> Path:
        return self.path.with_name(f"{self.path.name}.lock")

    def _opened(self) -> IO[bytes]:
        # SQLite loads with the first lock: who only names a journal does not pay for it.
        from requestor_sdk.observe._lock import RunLock

        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = RunLock(self._lock_path, journal=self.path)
        self._new = not self.path.exists()
        file = self.path.open("a+b")
        kept = _whole_lines(file)
        if kept < file.tell():
            file.truncate(kept)
        return file

    def _decoded(self, number: int, line: bytes) -> Event:
        try:
            return decode(line)
        except NotSupported as error:
            where = f"the journal {self.path}, line {number}"
            raise NotSupported(f"{where}: {error.message}", hint=error.hint) from None


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
