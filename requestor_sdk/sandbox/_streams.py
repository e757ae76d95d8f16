"""Streams of a container image's layers: hashed as they are read, bounded, unpacked on the way."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import shutil
import subprocess
import threading
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, BinaryIO, cast

from requestor_sdk.model.errors import ImageInvalid

if TYPE_CHECKING:
    from collections.abc import Iterator

BLOCK = 1 << 20
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"


class Hashed(io.RawIOBase):
    """Hashes what is read through it, and stops at a bound."""

    def __init__(self, stream: BinaryIO, most: int) -> None:
        super().__init__()
        self._stream = stream
        self._left = most
        self._hash = hashlib.sha256()

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer; returns how many bytes came.

        Raises:
            ImageInvalid: There are more than there may be.
        """
        data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        self._hash.update(data)
        self._left -= len(data)
        if self._left < 0:
            raise ImageInvalid("it holds more than an image may")
        return len(data)

    def rest(self) -> str:
        """Read on to the end, and return the digest of everything."""
        buffer = bytearray(BLOCK)
        while self.readinto(buffer):
            pass
        return f"sha256:{self._hash.hexdigest()}"


@contextmanager
def plain(source: io.BufferedReader) -> Iterator[BinaryIO]:
    """Give the tar in a layer, however it is packed."""
    head = source.peek(8)[:8]
    if head.startswith(_GZIP):
        yield cast("BinaryIO", gzip.GzipFile(fileobj=source))
    elif head.startswith(_ZSTD):
        with _unzstd(source) as stream:
            yield stream
    else:
        yield cast("BinaryIO", source)


@contextmanager
def _unzstd(source: io.BufferedReader) -> Iterator[BinaryIO]:
    program = shutil.which("zstd")
    if program is None:
        raise ImageInvalid(
            "a layer is packed by zstd, and zstd is not installed", hint="apt install zstd"
        )
    process = subprocess.Popen(
        [program, "-dcq"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdin is not None
    assert process.stdout is not None
    feeder = threading.Thread(target=_feed, args=(source, process.stdin), name="unzstd")
    feeder.start()
    try:
        yield cast("BinaryIO", process.stdout)
        if process.wait() != 0:
            raise ImageInvalid("a layer is no zstd")
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        feeder.join()


def _feed(source: io.BufferedReader, sink: IO[bytes]) -> None:
    """Copy until there is nothing more, or nobody reads on; the digest tells if all was copied."""
    with contextlib.suppress(OSError, ImageInvalid), sink:
        shutil.copyfileobj(source, sink, BLOCK)
