"""Files that cross the in-process market: chunk by chunk, under ``mem:`` URLs.

Disks are read and written by worker threads, so that a slow one does not hold up the loop.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Final

from requestor_sdk.model.errors import (
    ActivityError,
    NotAvailable,
    TransferRefused,
    UploadUnreadable,
)

SCHEME: Final = "mem:"
CHUNK: Final = 256 * 1024
"""Bytes that are read at a time."""


class Receipt:
    """A file that a provider is to send; implements the port ``Incoming``."""

    def __init__(self, url: str, target: Path | None, limit: int | None) -> None:
        self._url = url
        self._target = target
        self._limit = limit
        self._done = asyncio.Event()
        self._content = b""
        self._failure: str | None = None

    @property
    def url(self) -> str:
        """Where the provider is to send it."""
        return self._url

    async def content(self) -> bytes:
        """Return what came (empty where it went to a path), once the transfer has ended well.

        Raises:
            ActivityError: The transfer failed, or the URL was closed before it.
        """
        await self._done.wait()
        if self._failure is not None:
            raise ActivityError(f"the file did not arrive: {self._failure}")
        return self._content

    async def take(self, chunks: AsyncIterator[bytes]) -> int:
        """Take the file as the provider sends it; returns the bytes that came."""
        try:
            bounded = self._bounded(chunks)
            if self._target is None:
                sent = await self._to_memory(bounded)
            else:
                sent = await _to_path(self._target, bounded)
        except BaseException as error:
            self._end(str(error) or type(error).__name__)
            raise
        self._failure = None
        self._done.set()
        return sent

    def close(self) -> None:
        """Let nothing arrive any more."""
        if not self._done.is_set():
            self._end("it was not sent while its URL was open")

    def _end(self, failure: str) -> None:
        self._failure = failure
        self._done.set()

    async def _bounded(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        came = 0
        async for chunk in chunks:
            came += len(chunk)
            if self._limit is not None and came > self._limit:
                raise TransferRefused(f"the file is above the limit of {self._limit} bytes")
            yield chunk

    async def _to_memory(self, chunks: AsyncIterator[bytes]) -> int:
        pieces = [bytes(chunk) async for chunk in chunks]
        self._content = b"".join(pieces)
        return len(self._content)


class MemoryFiles:
    """What the requestor serves and takes at the moment, by URL."""

    def __init__(self, ids: Callable[[], str]) -> None:
        self._ids = ids
        self._sources: dict[str, Path | bytes] = {}
        self._receipts: dict[str, Receipt] = {}

    @asynccontextmanager
    async def publish(self, source: Path | bytes) -> AsyncIterator[str]:
        """Serve a file or bytes for as long as it is open; the value is the URL.

        Raises:
            UploadUnreadable: The file cannot be read.
        """
        if isinstance(source, Path):
            await asyncio.to_thread(_check_readable, source)
        url = SCHEME + self._ids()
        self._sources[url] = source
        try:
            yield url
        finally:
            del self._sources[url]

    @asynccontextmanager
    async def receive(
        self, target: Path | None, *, limit: int | None = None
    ) -> AsyncIterator[Receipt]:
        """Take a file for as long as it is open, to a path or into memory."""
        receipt = Receipt(SCHEME + self._ids(), target, limit)
        self._receipts[receipt.url] = receipt
        try:
            yield receipt
        finally:
            del self._receipts[receipt.url]
            receipt.close()

    async def fetch(self, url: str) -> AsyncIterator[bytes]:
        """Read what is published at a URL."""
        source = self._source(url)
        if isinstance(source, bytes):
            view = memoryview(source)
            for start in range(0, len(view), CHUNK):
                yield bytes(view[start : start + CHUNK])
            return
        file = await asyncio.to_thread(_open_to_read, source)
        try:
            while chunk := await asyncio.to_thread(file.read, CHUNK):
                yield chunk
        finally:
            file.close()

    async def size_of(self, url: str) -> int | None:
        """Return how many bytes are published at a URL."""
        source = self._source(url)
        if isinstance(source, bytes):
            return len(source)
        return (await asyncio.to_thread(_check_readable, source)).st_size

    async def deliver(self, url: str, chunks: AsyncIterator[bytes]) -> int:
        """Send a file to a URL; returns the bytes sent."""
        receipt = self._receipts.get(url)
        if receipt is None:
            raise TransferRefused(f"nothing is awaited at {url}")
        return await receipt.take(chunks)

    def _source(self, url: str) -> Path | bytes:
        try:
            return self._sources[url]
        except KeyError:
            raise NotAvailable(f"nothing is published at {url}") from None


def _check_readable(path: Path) -> os.stat_result:
    with _open_to_read(path) as file:
        return os.fstat(file.fileno())


def _open_to_read(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise UploadUnreadable(f"{path} cannot be read: {error.strerror or error}") from error


async def _to_path(target: Path, chunks: AsyncIterator[bytes]) -> int:
    """Write beside the target and rename at the end, so that half a file is never seen there."""
    fresh = target.with_name(f".{target.name}.{os.urandom(6).hex()}.part")
    try:
        file: BinaryIO = await asyncio.to_thread(fresh.open, "xb")
    except OSError as error:
        raise NotAvailable(f"{target} cannot be written: {error.strerror or error}") from error
    sent = 0
    pending = BytesIO()
    try:
        async for chunk in chunks:
            pending.write(chunk)
            sent += len(chunk)
            if pending.tell() >= CHUNK:
                await asyncio.to_thread(file.write, pending.getvalue())
                pending = BytesIO()
        await asyncio.to_thread(_finish, file, pending.getvalue(), fresh, target)
    except OSError as error:
        raise NotAvailable(f"{target} cannot be written: {error.strerror or error}") from error
    finally:
        file.close()
        fresh.unlink(missing_ok=True)
    return sent


def _finish(file: BinaryIO, rest: bytes, fresh: Path, target: Path) -> None:
    file.write(rest)
    file.close()
    fresh.replace(target)
