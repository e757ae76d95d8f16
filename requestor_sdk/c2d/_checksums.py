"""Checksums of the files that algorithms are trusted by.

Anybody may ask what a job takes, unsigned, and have an algorithm's files fetched by that: from the
web they are fetched once in a while, whoever asks and however often.
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from requestor_sdk.c2d._files import FileFailed

if TYPE_CHECKING:
    from requestor_sdk.c2d._files import Files, FileSource

_REMEMBERED_SEC: Final = 30.0
_FAILED_SEC: Final = 3.0


@dataclass(slots=True)
class _Known:
    until: float = 0.0
    digest: str | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Checksums:
    """SHA-256 of the catalogue's files, in hex."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._known: dict[tuple[str, tuple[tuple[str, str], ...]], _Known] = {}

    async def of(self, source: FileSource, *, limit: int) -> str:
        """Return a file's checksum; from the web as it was half a minute ago at most.

        Raises:
            FileFailed: It cannot be had, or has more bytes than ``limit``.
        """
        if not source.url:
            return await self._computed(source, limit)
        key = (source.url, tuple(sorted(source.headers.items())))
        known = self._known.setdefault(key, _Known())
        loop = asyncio.get_running_loop()
        async with known.lock:
            if loop.time() >= known.until:
                try:
                    known.digest = await self._computed(source, limit)
                except FileFailed:
                    known.digest = None
                known.until = loop.time() + (_REMEMBERED_SEC if known.digest else _FAILED_SEC)
        if known.digest is None:
            raise FileFailed("the algorithm's file could not be had")
        return known.digest

    async def _computed(self, source: FileSource, limit: int) -> str:
        return hashlib.sha256(await self._files.read_all(source, limit=limit)).hexdigest()
