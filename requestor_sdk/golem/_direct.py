"""A service on the daemon's bus itself: the shorter way, where the bus can be reached.

A message goes through the daemon once, as it is, and may be long; by the web socket of the REST API
it is taken apart, put together anew, and kept under 64 KiB. What is served ends with the process.

The bus may be another daemon's than the REST API (``GSB_URL`` is set for itself), so it is tried
first whether our own identity is reached through it.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from requestor_sdk.golem import _served
from requestor_sdk.golem._chunks import Chunk, chunk_reply
from requestor_sdk.golem._served import Answer, Refusal, Served
from requestor_sdk.golem.bus import Bus, Call
from requestor_sdk.golem.flexbuffers import decode, encode
from requestor_sdk.model.errors import NetworkError

if TYPE_CHECKING:
    from requestor_sdk.golem._rest import Daemon

LARGEST_CHUNK: Final = 1024 * 1024
"""Bytes of a file that one answer may carry."""
LONGEST_REQUEST: Final = 4 * 1024 * 1024
AT_A_TIME: Final = 64
"""Requests that are taken at a time; more are refused."""
PROBE_SEC: Final = 2.0

_log = logging.getLogger(__name__)


class Direct:
    """One name on the bus, open from ``open`` to ``close``; as ``Served``."""

    def __init__(self, bus: Bus, on: str, answer: Answer) -> None:
        self._bus = bus
        self._on = on
        self._answer = answer
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._closed = False

    async def open(self) -> None:
        """Register the name.

        Raises:
            NetworkError: The bus refuses it, or is not there.
        """
        await self._bus.register(self._on, self._handle)

    async def close(self) -> None:
        """Serve it no more. Idempotent."""
        self._closed = True
        await self._bus.unregister(self._on)
        async with self._turn:
            return  # what is being answered is answered

    async def _handle(self, call: Call) -> bytes:
        if self._waiting >= AT_A_TIME or len(call.data) > LONGEST_REQUEST:
            return encode({"Err": {"InternalError": "that is too much at a time"}})
        self._waiting += 1
        try:
            # In the order in which they came, as by the web socket.
            async with self._turn:
                if self._closed:
                    return encode({"Err": {"InternalError": "it is not served any more"}})
                value = await self._answer(call.component, decode(call.data))
        except Refusal as refusal:
            return encode({"Err": refusal.error})
        finally:
            self._waiting -= 1
        if isinstance(value, Chunk):
            return chunk_reply(value.content, value.offset)
        return encode({"Ok": value})


class Serving:
    """One name of a daemon's, served by the shorter way where there is one.

    Args:
        daemon: Whose.
        shared: Its bus.
        on: The address, e.g. ``/public/gftp/NAME``.
        components: What can be called below it.
        answer: Makes what answers, of the bytes of a file that one answer may carry.
    """

    def __init__(
        self,
        daemon: Daemon,
        shared: SharedBus,
        on: str,
        components: Sequence[str],
        answer: Callable[[int], Answer],
    ) -> None:
        self._daemon = daemon
        self._shared = shared
        self._on = on
        self._components = components
        self._answer = answer
        self._by: Direct | Served | None = None
        self._bus: Bus | None = None

    async def open(self) -> None:
        """Serve it; once this returns, requests are answered.

        Raises:
            NetworkError: The daemon refuses the name, or is not there.
        """
        self._bus = await self._shared.take()
        if self._bus is None:
            answer = self._answer(_served.LARGEST_CHUNK)
            self._by = Served(self._daemon, self._on, self._components, answer)
        else:
            self._by = Direct(self._bus, self._on, self._answer(LARGEST_CHUNK))
        await self._by.open()

    async def close(self) -> None:
        """Serve it no more. Idempotent; to be called where ``open`` failed, too."""
        by, self._by = self._by, None
        bus, self._bus = self._bus, None
        try:
            if by is not None:
                await by.close()
        finally:
            if bus is not None:
                await self._shared.leave()


class SharedBus:
    """The bus of a daemon, open while anybody uses it, if it can be used at all.

    Args:
        daemon: Open while it is used.
        allowed: Whether it may be used.
    """

    def __init__(self, daemon: Daemon, *, allowed: bool = True) -> None:
        self._daemon = daemon
        self._usable: bool | None = None if allowed else False
        self._users = 0
        self._opening: asyncio.Task[Bus | None] | None = None

    async def take(self) -> Bus | None:
        """Return the bus, to be given back by ``leave``; ``None`` where it is of no use."""
        if self._usable is False:
            return None
        self._users += 1
        try:
            if self._opening is None:
                self._opening = asyncio.create_task(self._opened(), name="service bus for files")
            bus = await asyncio.shield(self._opening)
        except BaseException:
            await self.leave()
            raise
        if bus is None:
            await self.leave()
        return bus

    async def leave(self) -> None:
        """Give it back; who does so last closes it."""
        self._users -= 1
        opening = self._opening
        if self._users or opening is None:
            return
        self._opening = None
        opening.cancel()
        await asyncio.wait({opening})
        if opening.cancelled() or opening.exception() is not None:
            return
        if (bus := opening.result()) is not None:
            await bus.close()

    async def _opened(self) -> Bus | None:
        bus = Bus(self._daemon.config.gsb_url, name="files")
        try:
            await bus.open()
            if self._usable is None:
                self._usable = await self._is_ours(bus)
        except NetworkError as error:
            _log.info("files go by web socket: %s", error.message)
            self._usable = False
        except BaseException:
            await bus.close()
            raise
        if self._usable:
            return bus
        await bus.close()
        return None

    async def _is_ours(self, bus: Bus) -> bool:
        name, token = f"probe-{secrets.token_hex(16)}", secrets.token_bytes(16)

        async def answer(_call: Call) -> bytes:
            return encode(token)

        await bus.register(f"/public/gftp/{name}", answer)
        try:
            path = f"/net/{self._daemon.identity}/gftp/{name}/GetMetadata"
            said = await bus.call(path, encode({}), seconds=PROBE_SEC)
            return said == encode(token)
        finally:
            await bus.unregister(f"/public/gftp/{name}")
