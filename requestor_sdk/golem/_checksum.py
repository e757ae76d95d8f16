"""A checksum over bytes that come bit by bit, reckoned beside the loop."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Final

_BATCH: Final = 1024 * 1024
"""Bytes that are handed to a thread at a time: handing over costs as much as a small piece."""


class Checksum:
    """Takes pieces in order; one batch is reckoned in a thread while the next one comes.

    Args:
        kind: e.g. ``sha3_256``.
    """

    def __init__(self, kind: str) -> None:
        self._sum = hashlib.new(kind)
        self._pieces: list[bytes] = []
        self._size = 0
        self._busy: asyncio.Future[None] | None = None

    async def add(self, piece: bytes) -> None:
        """Take the next piece; waits where reckoning is slower than what comes."""
        self._pieces.append(piece)
        self._size += len(piece)
        if self._size >= _BATCH:
            await self._settle()
            pieces, self._pieces, self._size = self._pieces, [], 0
            loop = asyncio.get_running_loop()
            self._busy = loop.run_in_executor(None, self._reckon, pieces)

    async def hex(self) -> str:
        """Return the checksum of all that came."""
        await self._settle()
        pieces, self._pieces, self._size = self._pieces, [], 0
        self._reckon(pieces)
        return self._sum.hexdigest()

    async def _settle(self) -> None:
        busy, self._busy = self._busy, None
        if busy is not None:
            await busy

    def _reckon(self, pieces: list[bytes]) -> None:
        for piece in pieces:
            self._sum.update(piece)
