"""What is published by gftp: a file or bytes, read by position, and known by what is in it.

A file is read by threads and never as a whole into memory. It must stay as it was when it was
published: what was changed since is an error, not another content.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
import threading
import time
from collections import OrderedDict
from pathlib import Path
from typing import Final, Protocol

from requestor_sdk.model.errors import UploadUnreadable

READ_AHEAD: Final = 512 * 1024
"""Bytes that are read at a time for who reads on: a thread's turn costs as much as a chunk."""
WINDOWS: Final = 16
"""Pieces that are kept for readers, each at its place: 8 MiB a file."""
_BLOCK: Final = 1024 * 1024
_REMEMBERED: Final = 256
_SETTLED_NS: Final = 2_000_000_000
"""A file that was changed so shortly ago may be changed again with no sign of it in its times."""

_Mark = tuple[int, int, int, int]


class Changed(Exception):
    """The file is not any more what was published."""


class Source(Protocol):
    """What can be published.

    Attributes:
        checksum: SHA-256 of the content, in hex.
        size: In bytes.
    """

    checksum: str
    size: int

    @property
    def intact(self) -> bool:
        """Whether it is known to be readable still."""
        ...

    async def read(self, offset: int, size: int) -> bytes | memoryview:
        """Return bytes that are within the size; raises ``Changed`` or ``OSError``."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


class BytesSource:
    """Bytes in memory."""

    def __init__(self, content: bytes, checksum: str) -> None:
        self._content = memoryview(content)
        self.checksum = checksum
        self.size = len(content)
        self.intact = True

    async def read(self, offset: int, size: int) -> memoryview:
        """Return a part of it."""
        return self._content[offset : offset + size]

    def close(self) -> None:
        """Do nothing: who gave them lets go of them."""


class FileSource:
    """A file, open for as long as it is published; removing or replacing it does no harm."""

    def __init__(self, file: _File, checksum: str) -> None:
        self._file = file
        self._windows: OrderedDict[int, memoryview] = OrderedDict()
        self._ends: OrderedDict[int, None] = OrderedDict({0: None})
        self.checksum = checksum
        self.size = file.mark[0]
        self.intact = True

    async def read(self, offset: int, size: int) -> memoryview:
        """Return a part of it, and read ahead for who reads one part after the other."""
        held = self._held(offset, size)
        if held is None:
            reads_on = self._ends.pop(offset, 0) is None
            # In whole parts, so that the last one uses up what was read ahead.
            ahead = size * max(1, READ_AHEAD // size) if reads_on and size else size
            wanted = min(ahead, self.size - offset)
            try:
                held = memoryview(await asyncio.to_thread(self._file.read, offset, wanted))
            except (Changed, OSError):
                self.intact = False
                raise
            if len(held) > size:
                self._windows[offset] = held
                if len(self._windows) > WINDOWS:
                    self._windows.popitem(last=False)
            held = held[:size]
        else:
            self._ends.pop(offset, None)
        self._ends[offset + size] = None
        if len(self._ends) > 2 * WINDOWS:
            self._ends.popitem(last=False)
        return held

    def close(self) -> None:
        """Close the file."""
        self._windows.clear()
        self._file.close()

    def _held(self, offset: int, size: int) -> memoryview | None:
        for start, data in self._windows.items():
            if start <= offset and offset + size <= start + len(data):
                if offset + size == start + len(data):
                    del self._windows[start]
                return data[offset - start : offset - start + size]
        return None


class Opener:
    """Opens what is to be published, and remembers the checksums of files that stay as they are."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[_Mark, int], str] = OrderedDict()

    async def open(self, source: Path | bytes) -> Source:
        """Return it, its checksum reckoned.

        Raises:
            UploadUnreadable: It cannot be read, is no regular file, or changes all the time.
        """
        if isinstance(source, bytes):
            reckoned = await asyncio.to_thread(hashlib.sha256, source)
            return BytesSource(source, reckoned.hexdigest())
        stop = threading.Event()
        try:
            file, checksum = await asyncio.to_thread(self._opened, source, stop)
        except (OSError, Changed) as error:
            why = error.strerror if isinstance(error, OSError) else None
            raise UploadUnreadable(f"{source} cannot be read: {why or error}") from error
        finally:
            stop.set()
        return FileSource(file, checksum)

    def _opened(self, path: Path, stop: threading.Event) -> tuple[_File, str]:
        file = _File(path)
        try:
            key = (file.mark, file.changed_ns)
            known = self._known.get(key)
            if known is not None:
                return file, known
            began = time.time_ns()
            checksum = file.checksum(stop)
            if began - file.changed_ns > _SETTLED_NS:
                self._known[key] = checksum
                if len(self._known) > _REMEMBERED:
                    self._known.popitem(last=False)
            return file, checksum
        except BaseException:
            file.close()
            raise


class _File:
    """A regular file that is read by position, by several threads at once.

    Attributes:
        mark: Size, time of change, and which file: what it is known by.
        changed_ns: When anything of it was last changed, its name or its times included.
    """

    def __init__(self, path: Path) -> None:
        # Opening a pipe would wait for its other end, hence the look before.
        if not stat.S_ISREG(path.stat().st_mode):
            raise OSError(0, "it is no regular file")
        self._file = path.open("rb", buffering=0)
        self._turn = threading.Lock()
        found = os.fstat(self._file.fileno())
        self.mark = _mark(found)
        self.changed_ns = max(found.st_ctime_ns, found.st_mtime_ns)

    def read(self, offset: int, size: int) -> bytes:
        pieces = []
        while size > 0:
            piece = self._read_at(offset, size)
            if not piece:
                break
            pieces.append(piece)
            offset += len(piece)
            size -= len(piece)
        self._check(size)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def checksum(self, stop: threading.Event) -> str:
        reckoned = hashlib.sha256()
        left = self.mark[0]
        while left > 0:
            if stop.is_set():
                raise Changed("nobody waits for it any more")
            piece = self._read_at(self.mark[0] - left, min(_BLOCK, left))
            if not piece:
                break
            reckoned.update(piece)
            left -= len(piece)
        self._check(left)
        return reckoned.hexdigest()

    def close(self) -> None:
        with self._turn:
            self._file.close()

    def _check(self, missing: int) -> None:
        if missing or _mark(os.fstat(self._file.fileno())) != self.mark:
            raise Changed("it was changed after it was published")

    def _read_at(self, offset: int, size: int) -> bytes:
        if hasattr(os, "pread"):
            return os.pread(self._file.fileno(), size, offset)
        with self._turn:  # Windows reads where the file stands
            self._file.seek(offset)
            return self._file.read(size) or b""


def _mark(found: os.stat_result) -> _Mark:
    return (found.st_size, found.st_mtime_ns, found.st_ino, found.st_dev)
