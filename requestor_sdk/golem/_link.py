"""One connection to the service bus: bytes over TCP or a unix socket, packets handed on.

Answers pings, holds writers back while the other side is slow, and notices a silent other side.
Decides nothing: who owns it learns by ``lost`` why it ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import urlsplit

from requestor_sdk.golem import _frames as frames
from requestor_sdk.model.errors import (
    BadAnswer,
    NetworkError,
    NetworkInterrupted,
    UsageError,
)

PING_AFTER_SEC: Final = 30.0
"""Seconds of silence after which the other side is asked whether it lives; twice that ends it."""
BUFFER: Final = 4 * 1024 * 1024
"""Bytes that wait for a slow other side before writers wait, too."""

Take = Callable[[frames.Packet], None]
Connect = Callable[[Take], Awaitable["Link"]]


class Link(asyncio.Protocol):
    """One connection.

    Args:
        take: Is handed each packet but pings.
    """

    def __init__(self, take: Take) -> None:
        self._take = take
        self._reader = frames.FrameReader()
        self._transport: asyncio.Transport | None = None
        self._cause: NetworkError | None = None
        self._gone = asyncio.Event()
        self._closed = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._heard = False

    @property
    def up(self) -> bool:
        """Whether it can be used."""
        return self._cause is None

    def write(self, frame: bytes) -> None:
        """Send what is short and urgent, whatever waits already; dropped once it is down."""
        if self._cause is None and self._transport is not None and frame:
            self._transport.write(frame)

    async def send(self, frame: bytes) -> None:
        """Send a frame once there is room for it.

        Raises:
            NetworkInterrupted: The connection is down.
        """
        if not self._writable.is_set():
            await self._writable.wait()
        if self._cause is not None:
            raise NetworkInterrupted(self._cause.message)
        self.write(frame)

    async def lost(self) -> NetworkError:
        """Wait until it is down, and return why; a silent other side is asked, then given up."""
        asked = False
        while self._cause is None:
            self._heard = False
            try:
                async with asyncio.timeout(PING_AFTER_SEC):
                    await self._gone.wait()
            except TimeoutError:
                if self._heard:
                    asked = False
                elif asked:
                    silence = f"the service bus is silent for {2 * PING_AFTER_SEC:g} s"
                    self.drop(NetworkInterrupted(silence))
                else:
                    asked = True
                    self.write(frames.ping())
        return self._cause

    def drop(self, cause: NetworkError) -> None:
        """End it. Idempotent: the first cause stays."""
        if self._cause is None:
            self._cause = cause
            if self._transport is not None:
                # What is written already gets out; what waits for a slow other side does not.
                idle = self._transport.get_write_buffer_size() == 0
                (self._transport.close if idle else self._transport.abort)()
        self._gone.set()
        self._writable.set()

    async def closed(self) -> None:
        """Wait until its socket is closed, which ``drop`` began."""
        await self._closed.wait()

    # -- what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        assert isinstance(transport, asyncio.Transport)
        transport.set_write_buffer_limits(high=BUFFER)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Hand on what is complete by these bytes."""
        self._heard = True
        try:
            packets = self._reader.feed(data)
        except BadAnswer as error:
            self.drop(error)
            return
        for packet in packets:
            if isinstance(packet, frames.Ping):
                self.write(frames.pong())
            else:
                self._take(packet)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell that it is down."""
        self._closed.set()
        self.drop(NetworkInterrupted(f"the service bus closed the connection: {exc or 'its end'}"))

    def pause_writing(self) -> None:
        """Hold writers back."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Let writers go on."""
        self._writable.set()


def connector(address: str) -> Connect:
    """Return what connects to an address, ``tcp://HOST:PORT`` or ``unix:PATH``.

    Raises:
        UsageError: It is no such address.
    """
    if address.startswith("unix:"):
        path = address.removeprefix("unix:")
        path = "/" + path.lstrip("/") if path.startswith("//") else path

        async def by_path(take: Take) -> Link:
            loop = asyncio.get_running_loop()
            return (await loop.create_unix_connection(lambda: Link(take), path))[1]

        return by_path
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port or 7464
    except ValueError:
        host, port = None, 0
    if not address.startswith("tcp://") or not host:
        raise UsageError(
            f"the service bus is at a tcp:// or unix: address, not at {address!r}",
            hint="GSB_URL=tcp://127.0.0.1:7464",
        )

    async def by_port(take: Take) -> Link:
        loop = asyncio.get_running_loop()
        return (await loop.create_connection(lambda: Link(take), host, port))[1]

    return by_port
