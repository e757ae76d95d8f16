"""The host's end of the socket into a sandbox: frames in, frames out, nothing trusted.

One operation (a command or a transfer) at a time is current; frames of any other are dropped.
Reading stops while the current operation has much to digest, so a slow reader slows the writer.
Must not interpret the frames of an operation.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket

MAX_FRAME = 256 * 1024
# Host to init.
RUN, KILL, PUT, DATA, END, ABORT, GET, LIST, TERM, MAKE = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10
# Init to host.
HELLO, STDOUT, STDERR, EXIT, DONE, FAILED, REFUSED, BYTES, ENTRY = (
    65,
    66,
    67,
    68,
    69,
    70,
    71,
    72,
    73,
)
_KINDS = frozenset(range(HELLO, ENTRY + 1))
_HEAD = 9
_HIGH, _LOW = 1 << 20, 1 << 18
# What handling a frame costs beside its body: else frames of nothing would be free.
_FRAME_COST = 1024
# An honest init may still be sending what was given up; it does not go on for ever.
_MAX_STALE = 64 << 20
_MAX_TEXT = 4096


class Channel(asyncio.Protocol):
    """Frames to and from one init."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._frames: deque[tuple[int, bytes]] = deque()
        self._pending = 0
        self._stale = 0
        self._current = 0
        self._waiter: asyncio.Future[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        loop = asyncio.get_running_loop()
        self.hello: asyncio.Future[None] = loop.create_future()
        self.lost: asyncio.Future[str] = loop.create_future()

    @classmethod
    async def over(cls, sock: socket.socket) -> Channel:
        """Take over a connected socket."""
        loop = asyncio.get_running_loop()
        _, channel = await loop.create_connection(cls, sock=sock)
        return channel

    # -- the loop's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """Wake whoever waits: nothing more will come."""
        if not self.lost.done():
            self.lost.set_result("" if exc is None else str(exc))
        if not self.hello.done():
            # What is no frame is what the set-up said before it failed.
            self.hello.set_exception(ConnectionError(self._said()))
            self.hello.exception()
        self._writable.set()
        self._wake()

    def _said(self) -> str:
        return self._buffer[:_MAX_TEXT].decode("utf-8", "replace").strip()

    def data_received(self, data: bytes) -> None:
        """Cut what came into frames."""
        self._buffer += data
        while len(self._buffer) >= _HEAD:
            size = int.from_bytes(self._buffer[:4], "big")
            kind = self._buffer[4]
            if not 5 <= size <= MAX_FRAME or kind not in _KINDS:
                self._nonsense()
                return
            if len(self._buffer) < 4 + size:
                break
            ident = int.from_bytes(self._buffer[5:9], "big")
            body = bytes(self._buffer[9 : 4 + size])
            del self._buffer[: 4 + size]
            self._frame(kind, ident, body)
            if self._stale > _MAX_STALE:
                self._nonsense()
                return

    def _nonsense(self) -> None:
        if not self.hello.done():
            if len(self._buffer) > _MAX_TEXT:
                self.close()
            return  # a message of the set-up; it is read when the connection is lost
        if not self.lost.done():
            self.lost.set_result("its init broke the protocol")
        self.close()

    def _frame(self, kind: int, ident: int, body: bytes) -> None:
        cost = len(body) + _FRAME_COST
        if kind == HELLO:
            self._stale += cost
            if not self.hello.done():
                self.hello.set_result(None)
            return
        if ident != self._current or not self._current:
            self._stale += cost
            return
        self._frames.append((kind, body))
        self._pending += cost
        if self._pending > _HIGH and self._transport is not None:
            self._transport.pause_reading()
        self._wake()

    def pause_writing(self) -> None:
        """Note that the sandbox reads more slowly than it is written to."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Note that it has caught up."""
        self._writable.set()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # -- the sandbox's side

    def begin(self, ident: int) -> None:
        """Make an operation the current one."""
        self._drop()
        self._stale = 0
        self._current = ident

    def finish(self) -> None:
        """Let the current operation go; late frames of it are dropped."""
        self._current = 0
        self._drop()

    def _drop(self) -> None:
        self._frames.clear()
        self._pending = 0
        self._resume()

    def _resume(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    async def receive(self) -> tuple[int, bytes]:
        """Return the next frame of the current operation.

        Raises:
            ConnectionError: The sandbox is gone.
        """
        while not self._frames:
            if self.lost.done():
                raise ConnectionError(self.lost.result())
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        kind, body = self._frames.popleft()
        self._pending -= len(body) + _FRAME_COST
        if self._pending < _LOW:
            self._resume()
        return kind, body

    def has_frame(self) -> bool:
        """Whether ``receive`` would return at once."""
        return bool(self._frames)

    def post(self, kind: int, ident: int, body: bytes = b"") -> None:
        """Send a small frame without waiting; nothing happens where the sandbox is gone."""
        if self._transport is None or self._transport.is_closing():
            return
        head = (5 + len(body)).to_bytes(4, "big") + bytes([kind]) + ident.to_bytes(4, "big")
        self._transport.write(head + body)

    async def send(self, kind: int, ident: int, body: bytes = b"") -> None:
        """Send a frame, at the pace that the sandbox takes it.

        Raises:
            ConnectionError: The sandbox is gone.
        """
        self.post(kind, ident, body)
        await self._writable.wait()
        if self.lost.done():
            raise ConnectionError(self.lost.result())

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.abort()
