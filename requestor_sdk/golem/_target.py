"""What is received by gftp: chunks put in order, bounded, checked, and only then in their place.

A provider says where in the file a chunk belongs, and nothing of where the file is. What comes too
early waits, up to a bound; what has come already is not taken again. Half a file is never seen at
the target: it is written beside it and renamed at the end.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from pathlib import Path
from typing import BinaryIO, Final

from requestor_sdk.golem._served import Refusal
from requestor_sdk.model.errors import ActivityError, NotAvailable

EARLY: Final = 16 * 1024 * 1024
"""Bytes of chunks that may wait for one that belongs before them."""
_BATCH: Final = 1024 * 1024
"""Bytes that are handed to a thread at a time, while the next ones come."""


class Target:
    """A file that is on its way here.

    Args:
        path: Where it goes; ``None`` keeps it in memory.
        limit: Bytes above which it is refused at once.
    """

    def __init__(self, path: Path | None, limit: int | None) -> None:
        self._path = path
        self._limit = limit
        self._part: Path | None = None
        self._file: BinaryIO | None = None
        self._kept: list[bytes] = []
        self._sum = hashlib.sha3_256()
        self._came = 0
        self._early: dict[int, bytes] = {}
        self._early_size = 0
        self._batch: list[bytes] = []
        self._batch_size = 0
        self._busy: asyncio.Future[None] | None = None
        # Only one batch is written at a time, and in order; it is held while a disk is waited for.
        self._turn = asyncio.Lock()
        self._done = asyncio.Event()
        self._failure: str | None = None
        self._content = b""

    async def open(self) -> None:
        """Make the file beside the target.

        Raises:
            NotAvailable: It cannot be written there.
        """
        if self._path is None:
            return
        self._part = self._path.with_name(f".{self._path.name}.{os.urandom(6).hex()}.part")
        try:
            self._file = await asyncio.to_thread(self._part.open, "xb")
        except OSError as error:
            raise NotAvailable(
                f"{self._path} cannot be written: {error.strerror or error}"
            ) from error

    async def close(self) -> None:
        """Let nothing come any more, and remove what came in part. Idempotent."""
        if not self._done.is_set():
            self._end("it was not sent while its URL was open")
        busy, self._busy = self._busy, None
        if busy is not None:
            await asyncio.wait({busy})
            busy.exception()
        file, self._file = self._file, None
        if file is not None:
            await asyncio.to_thread(_discard, file, self._part)

    async def content(self) -> bytes:
        """Return what came (empty where it went to a path), once all of it is here and checked.

        Raises:
            ActivityError: It did not arrive; the message says why.
        """
        await self._done.wait()
        if self._failure is not None:
            raise ActivityError(f"the file did not arrive: {self._failure}")
        return self._content

    async def add(self, offset: int, content: bytes) -> None:
        """Take a chunk.

        Raises:
            Refusal: The file has failed, with this chunk or before.
        """
        async with self._turn:
            await self._add(offset, content)

    async def _add(self, offset: int, content: bytes) -> None:
        self._check_open()
        if self._limit is not None and offset + len(content) > self._limit:
            raise self._fail(f"the file is above the limit of {self._limit} bytes")
        if offset > self._came:
            self._wait_for_its_turn(offset, content)
            return
        if offset < self._came:
            if offset + len(content) > self._came:
                raise self._fail("its chunks overlap")
            return  # sent again, after an interruption
        self._take(content)
        while (waiting := self._early.pop(self._came, None)) is not None:
            self._early_size -= len(waiting)
            if not waiting:
                break
            self._take(waiting)
        if self._batch_size >= _BATCH:
            await self._settle()
            batch, self._batch, self._batch_size = self._batch, [], 0
            loop = asyncio.get_running_loop()
            self._busy = loop.run_in_executor(None, self._write, batch)

    async def finish(self, checksum: object) -> None:
        """Take the end: all is here, and it is what was sent where the sender says its checksum.

        Raises:
            Refusal: A part is missing, the checksum is another, or it cannot be written.
        """
        async with self._turn:
            await self._finish(checksum)

    async def _finish(self, checksum: object) -> None:
        if self._done.is_set() and self._failure is None:
            return  # said again, after an interruption
        self._check_open()
        await self._settle()
        batch, self._batch = self._batch, []
        if self._early:
            raise self._fail(f"the part from byte {self._came} on did not come")
        try:
            await asyncio.to_thread(self._write, batch)
            if checksum is not None and checksum != self._sum.hexdigest():
                self._end("its checksum is not the one that its sender reckoned")
                raise Refusal("IntegrityError")
            await asyncio.to_thread(self._place)
        except OSError as error:
            raise self._fail(f"it cannot be written: {error.strerror or error}") from None
        if not self._done.is_set():
            self._content = b"".join(self._kept)
            self._done.set()

    def _check_open(self) -> None:
        if self._failure is not None:
            raise Refusal({"WriteError": self._failure})
        if self._done.is_set():
            raise Refusal({"WriteError": "the file has come already"})

    def _wait_for_its_turn(self, offset: int, content: bytes) -> None:
        if offset in self._early:
            return
        self._early_size += len(content)
        if self._early_size > EARLY or len(self._early) >= EARLY // 1024:
            raise self._fail(f"the part from byte {self._came} on does not come")
        self._early[offset] = content

    def _take(self, content: bytes) -> None:
        self._came += len(content)
        self._batch.append(content)
        self._batch_size += len(content)

    async def _settle(self) -> None:
        busy, self._busy = self._busy, None
        if busy is None:
            return
        try:
            await busy
        except OSError as error:
            raise self._fail(f"it cannot be written: {error.strerror or error}") from None

    def _write(self, batch: list[bytes]) -> None:
        for piece in batch:
            self._sum.update(piece)
        if self._file is not None:
            self._file.write(b"".join(batch))
        else:
            self._kept.extend(batch)

    def _place(self) -> None:
        file = self._file
        if file is not None and self._path is not None and self._part is not None:
            file.close()
            self._part.replace(self._path)

    def _fail(self, why: str) -> Refusal:
        self._end(why)
        return Refusal({"WriteError": why})

    def _end(self, why: str) -> None:
        if not self._done.is_set():
            self._failure = why
            self._early.clear()
            self._batch.clear()
            self._kept.clear()
            self._done.set()


def _discard(file: BinaryIO, part: Path | None) -> None:
    file.close()
    if part is not None:
        part.unlink(missing_ok=True)
