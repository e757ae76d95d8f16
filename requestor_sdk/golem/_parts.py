"""The parts of one answer of the service bus that comes bit by bit, for whoever reads them."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from requestor_sdk.golem import _frames as frames
from requestor_sdk.model.errors import NetworkError, NetworkInterrupted

MOST_BYTES: Final = 16 * 1024 * 1024
"""Bytes that wait for a slow reader before the answer is given up: the bus cannot be slowed."""


class Parts:
    """What came and was not read yet; ends with the answer, or with the connection."""

    def __init__(self) -> None:
        self._waiting: deque[bytes] = deque()
        self._bytes = 0
        self._over = False
        self._error: NetworkError | None = None
        self._moved = asyncio.Event()

    def came(self, packet: frames.CallReply) -> None:
        """Take one part, or the end."""
        if self._over:
            return
        if packet.code != frames.OK:
            said = packet.data.decode(errors="replace")[:500]
            self.fail(NetworkError(f"the service bus: {said or 'refused'}", status=packet.code))
        elif not packet.partial:
            self._end(None)
        elif self._bytes + len(packet.data) > MOST_BYTES:
            self.fail(NetworkInterrupted("an answer of the service bus is read too slowly"))
        else:
            self._waiting.append(packet.data)
            self._bytes += len(packet.data)
            self._moved.set()

    def fail(self, error: NetworkError) -> None:
        """Nothing more comes."""
        if not self._over:
            self._end(error)

    def _end(self, error: NetworkError | None) -> None:
        self._over, self._error = True, error
        self._moved.set()

    async def next(self) -> bytes | None:
        """Wait for the next part, decompressed; ``None`` at the end.

        Raises:
            NetworkError: The service refused, or the connection broke.
        """
        while not self._waiting:
            if self._error is not None:
                raise self._error
            if self._over:
                return None
            self._moved.clear()
            await self._moved.wait()
        part = self._waiting.popleft()
        self._bytes -= len(part)
        return frames.unpacked(part)
