"""A service on the bus behind the daemon's REST API: bound, answered by web socket, unbound.

Needs nothing but the REST port. Survives the daemon: it binds again and goes on, with a back-off.
Calls of others wait in the daemon while no socket is open. Knows no message's meaning.

Source: yagna's `/gsb-api/v1`. What of a binding is left by a process that was killed stays in the
daemon until that ends; so each name is used once.
"""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import Awaitable, Callable, Sequence
from random import uniform
from typing import TYPE_CHECKING, Any, Final

from requestor_sdk.golem._chunks import Chunk, chunk_answer
from requestor_sdk.golem.flexbuffers import decode, encode
from requestor_sdk.model.errors import BadAnswer, NetworkError, NetworkInterrupted, NetworkTimeout

if TYPE_CHECKING:
    import aiohttp

    from requestor_sdk.golem._rest import Daemon

OPEN_SEC: Final = 15.0
"""Seconds in which the first web socket must be open."""
UNBIND_SEC: Final = 3.0
LONGEST_MESSAGE: Final = 16 * 1024 * 1024
"""Bytes of the longest message that is taken: above it the socket is closed and opened anew."""
LARGEST_CHUNK: Final = 64 * 1024 - 512
"""Bytes of a file that one answer may carry: the daemon ends a web socket over which a message of
64 KiB comes."""
FIRST_BACKOFF_SEC: Final = 0.05
LONGEST_BACKOFF_SEC: Final = 2.0

_API: Final = "/gsb-api/v1/services"
_PROTOCOL: Final = "gsb+flexbuffers"

_log = logging.getLogger(__name__)

Answer = Callable[[object, Any], Awaitable[object]]
"""Takes a request's component and payload; returns its answer: a ``Chunk`` or any other value."""


class Refusal(Exception):
    """A request is answered by an error; ``error`` is what the other side is told."""

    def __init__(self, error: object) -> None:
        super().__init__(str(error))
        self.error = error


class Served:
    """One name on the bus, open from ``open`` to ``close``.

    Args:
        daemon: Whose bus.
        on: The address, e.g. ``/public/gftp/NAME``.
        components: What can be called below it.
        answer: Answers requests, one at a time; may raise ``Refusal``.
    """

    def __init__(self, daemon: Daemon, on: str, components: Sequence[str], answer: Answer) -> None:
        self._daemon = daemon
        self._listen = {"listen": {"on": on, "components": list(components)}}
        self._path = f"{_API}/{base64.urlsafe_b64encode(on.encode()).decode().rstrip('=')}"
        self._on = on
        self._answer = answer
        self._ready = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._bound = False

    async def open(self) -> None:
        """Bind the name; once it returns, requests are answered.

        Raises:
            NetworkError: The daemon refuses the name, or is not there.
        """
        self._bound = True
        try:
            await self._bind()
            self._task = asyncio.create_task(self._serve(), name=f"serve {self._on}")
            async with asyncio.timeout(OPEN_SEC):
                await self._ready.wait()
        except TimeoutError:
            await self.close()
            raise NetworkTimeout(
                f"the daemon opened no web socket for {self._on} in {OPEN_SEC:g} s"
            ) from None
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Unbind the name. Idempotent; a daemon that is gone has forgotten it anyway."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait({task})
        bound, self._bound = self._bound, False
        if bound:
            try:
                await self._daemon.call("DELETE", self._path, seconds=UNBIND_SEC)
            except NetworkError as error:
                _log.debug("%s is not unbound: %s", self._on, error.message)
        if task and not task.cancelled() and (failure := task.exception()) is not None:
            raise failure

    async def _bind(self) -> None:
        await self._daemon.call("POST", _API, body=self._listen)

    async def _bind_again(self) -> None:
        for _ in range(2):
            try:
                await self._bind()
                return
            except NetworkInterrupted as error:
                # The daemon closes the connection on which it refused a web socket, so that what
                # is sent next on it breaks; the one after that is a fresh one.
                _log.debug("%s is not bound: %s", self._on, error.message)
            except NetworkError as error:
                _log.info("%s is not bound: %s", self._on, error.message)
                return

    async def _serve(self) -> None:
        pause = FIRST_BACKOFF_SEC
        while True:
            answered = 0
            try:
                async with self._daemon.websocket(
                    self._path, protocols=(_PROTOCOL,), max_size=LONGEST_MESSAGE
                ) as socket:
                    self._ready.set()
                    async for message in socket:
                        await self._one(socket, message)
                        answered += 1
                _log.info("the web socket of %s was closed (%s)", self._on, socket.close_code)
            except NetworkError as error:
                why = error.status or type(error).__name__
                _log.info("no web socket for %s: %s", self._on, why)
                if error.status == 404:
                    await self._bind_again()
            if answered:
                pause = FIRST_BACKOFF_SEC
            await asyncio.sleep(pause * uniform(0.5, 1.0))  # noqa: S311 - spreads, hides nothing
            pause = min(pause * 2, LONGEST_BACKOFF_SEC)

    async def _one(
        self, socket: aiohttp.ClientWebSocketResponse, message: aiohttp.WSMessage
    ) -> None:
        if not isinstance(message.data, bytes):
            raise BadAnswer(f"{self._on}: the daemon sent what is no message")
        request = decode(message.data)
        name = request.get("id") if isinstance(request, dict) else None
        if not isinstance(name, str):
            raise BadAnswer(f"{self._on}: the daemon sent a request without an id")
        try:
            value = await self._answer(request.get("component"), request.get("payload"))
            if isinstance(value, Chunk):
                answer = chunk_answer(name, value.content, value.offset)
            else:
                answer = encode({"id": name, "payload": value})
        except Refusal as refusal:
            answer = encode({"id": name, "error": refusal.error})
        await socket.send_bytes(answer)
