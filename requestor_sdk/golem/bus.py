"""The daemon's service bus as a client: serve names, call others, survive the daemon's restart.

One connection, one owner: a task that connects, registers what is served, and begins anew with a
back-off when the connection breaks. Calls in flight fail then; nothing is ever sent again by
itself. Knows frames, and nothing of what is in the payloads.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial as bound
from random import uniform
from typing import Any, Final, TypeVar

from requestor_sdk.golem import _frames as frames
from requestor_sdk.golem._link import Link, connector
from requestor_sdk.golem._parts import Parts
from requestor_sdk.model.errors import (
    NetworkError,
    NetworkInterrupted,
    NetworkTimeout,
    NetworkUnreachable,
    NotAvailable,
    RequestorError,
)

CONNECT_SEC: Final = 10.0
"""Seconds that a connection may take, and that a registration waits for one."""
REPLY_SEC: Final = 10.0
"""Seconds in which a registration is answered."""
HANDLERS: Final = 1024
"""Calls of others that are served at one time; more are answered by an error."""
FIRST_BACKOFF_SEC: Final = 0.1
LONGEST_BACKOFF_SEC: Final = 1.0

_START_HINT: Final = "start the daemon: `yagna service run`; GSB_URL says where its bus is"

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a service.

    Attributes:
        caller: The identity that calls, as the daemon tells it.
        address: What is called, e.g. ``/public/exeunit/ID/Exec``.
        component: The last part of the address, e.g. ``Exec``.
        data: The payload, decompressed.
    """

    caller: str
    address: str
    component: str
    data: bytes


Answer = bytes | AsyncIterator[bytes]
"""The answer to a call, or the parts of one that comes bit by bit."""
Handler = Callable[[Call], Awaitable[Answer]]
"""Answers calls. What it raises is told to the caller as an error."""


class Bus:
    """A client of the service bus.

    Args:
        address: ``tcp://HOST:PORT`` or ``unix:PATH``.
        name: What it calls itself.
        on_up: Told each time when a connection that was lost is back.

    Raises:
        UsageError: The address is none.
    """

    def __init__(self, address: str, *, name: str, on_up: Callable[[], None] | None = None) -> None:
        self._on_up = on_up
        self._address = address
        self._name = name
        self._connect = connector(address)
        self._services: dict[str, Handler] = {}
        self._calls: dict[str, asyncio.Future[bytes]] = {}
        self._parts: dict[str, Parts] = {}
        self._registering: deque[asyncio.Future[None]] = deque()
        self._unregistering: deque[asyncio.Future[None]] = deque()
        self._handlers: set[asyncio.Task[None]] = set()
        self._link: Link | None = None
        self._up = asyncio.Event()
        self._owner: asyncio.Task[None] | None = None
        # Answers are told apart by the id of the request alone, whoever sent it: that of another
        # process of the same name would come as ours.
        self._calls_named = f"{name}-{secrets.token_hex(8)}"
        self._last = 0

    @property
    def connected(self) -> bool:
        """Whether there is a connection, with all that is served registered."""
        return self._up.is_set()

    async def open(self) -> None:
        """Connect; from now on the connection is kept up.

        Raises:
            NetworkUnreachable: Nothing listens there.
            NotAvailable: It is open already.
        """
        if self._owner is not None:
            raise NotAvailable("the service bus is open already")
        link = await self._new_link()
        self._owner = asyncio.create_task(self._run(link), name=f"service bus {self._name}")
        self._up.set()

    async def close(self) -> None:
        """Let go: calls in flight fail, handlers are cancelled. Idempotent."""
        owner, self._owner = self._owner, None
        if owner is None:
            return
        owner.cancel()
        await asyncio.wait({owner})
        if not owner.cancelled() and (failure := owner.exception()) is not None:
            raise failure

    async def register(self, service: str, handler: Handler) -> None:
        """Serve all addresses below a name, now and after each reconnection.

        Raises:
            NetworkUnreachable: There is no connection.
            NetworkError: The name is served by somebody else already.
        """
        link = await self._linked(CONNECT_SEC)
        self._services[service] = handler
        try:
            await self._register(link, service)
        except BaseException:
            self._services.pop(service, None)
            raise

    async def unregister(self, service: str) -> None:
        """Serve a name no more. Idempotent; without a connection there is nothing to tell."""
        if self._services.pop(service, None) is None or self._link is None or not self.connected:
            return
        answer = asyncio.get_running_loop().create_future()
        self._unregistering.append(answer)
        with contextlib.suppress(NetworkError):
            await self._link.send(frames.unregister(service))
            await _within(REPLY_SEC, answer, f"unregister {service}")

    async def call(self, address: str, data: bytes, *, seconds: float, caller: str = "") -> bytes:
        """Call a service and return its answer, decompressed.

        Args:
            address: e.g. ``/net/0x.../gftp/ID/GetChunk``.
            data: The payload.
            seconds: How long it may take, a connection that is awaited included.
            caller: The identity that calls, where the service asks for one.

        Raises:
            NetworkUnreachable: There is no connection: it was not sent.
            NetworkInterrupted: The connection broke while the answer was awaited.
            NetworkTimeout: No answer came in time.
            NetworkError: The bus or the service refused; ``status`` is 400 or 500.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        link = await self._linked(seconds)
        self._last += 1
        request_id = f"{self._calls_named}-{self._last}"
        answer: asyncio.Future[bytes] = loop.create_future()
        self._calls[request_id] = answer
        try:
            await link.send(frames.call(address, request_id, data, caller=caller))
            return await _within(until - loop.time(), answer, f"call {address}")
        finally:
            del self._calls[request_id]

    async def stream(
        self, address: str, data: bytes, *, seconds: float
    ) -> AsyncGenerator[bytes, None]:
        """Call a service and yield the parts of its answer as they come, decompressed.

        Args:
            address: e.g. ``/public/exeunit/ID/StreamExecBatchResults``.
            data: The payload.
            seconds: How long a connection is awaited; not how long the answer may take.

        Raises:
            NetworkError: As ``call``, also after parts have come.
        """
        link = await self._linked(seconds)
        self._last += 1
        request_id = f"{self._calls_named}-{self._last}"
        parts = self._parts[request_id] = Parts()
        try:
            await link.send(frames.call(address, request_id, data))
            while (part := await parts.next()) is not None:
                yield part
        finally:
            del self._parts[request_id]

    # -- the connection

    async def _run(self, link: Link) -> None:
        try:
            while True:
                cause = await link.lost()
                self._let_go(cause)
                _log.warning("the service bus at %s is lost: %s", self._address, cause.message)
                link = await self._again()
                if self._on_up is not None:
                    self._on_up()
                _log.info("the service bus at %s is back", self._address)
        finally:
            last = self._link
            self._let_go(NetworkInterrupted("the service bus was closed"))
            if self._handlers:
                await asyncio.wait(self._handlers)
            if last is not None:
                await last.closed()

    async def _again(self) -> Link:
        pause = FIRST_BACKOFF_SEC
        while True:
            await asyncio.sleep(pause * uniform(0.5, 1.0))  # noqa: S311 - spreads, hides nothing
            pause = min(pause * 2, LONGEST_BACKOFF_SEC)
            try:
                link = await self._new_link()
                # The daemon may not yet have noticed that the old connection is gone.
                for service in tuple(self._services):
                    await self._register(link, service)
            except NetworkError as error:
                _log.debug("the service bus at %s: %s", self._address, error.message)
                self._let_go(NetworkInterrupted(error.message))
                continue
            if link.up:
                self._up.set()
                return link
            self._let_go(await link.lost())

    async def _new_link(self) -> Link:
        try:
            async with asyncio.timeout(CONNECT_SEC):
                link = await self._connect(self._take)
        except TimeoutError:
            raise NetworkUnreachable(
                f"the service bus at {self._address} did not answer in {CONNECT_SEC:g} s",
                hint=_START_HINT,
            ) from None
        except OSError as error:
            raise NetworkUnreachable(
                f"no service bus answers at {self._address}: {error.strerror or error}",
                hint=_START_HINT,
            ) from None
        self._link = link
        await link.send(frames.hello(self._name, secrets.token_bytes(16)))
        return link

    async def _linked(self, seconds: float) -> Link:
        if not self.connected:
            if self._owner is None:
                raise NotAvailable("the service bus is closed")
            try:
                async with asyncio.timeout(seconds):
                    await self._up.wait()
            except TimeoutError:
                raise NetworkUnreachable(
                    f"the service bus at {self._address} is not there", hint=_START_HINT
                ) from None
        if self._link is None:
            raise NotAvailable("the service bus is closed")
        return self._link

    def _let_go(self, cause: NetworkError) -> None:
        """Drop the connection, and all that hangs on it."""
        self._up.clear()
        if self._link is not None:
            self._link.drop(cause)
            self._link = None
        waiting: tuple[asyncio.Future[Any], ...] = (
            *self._calls.values(),
            *self._registering,
            *self._unregistering,
        )
        self._registering.clear()
        self._unregistering.clear()
        for answer in waiting:
            if not answer.done():
                answer.set_exception(NetworkInterrupted(cause.message, hint=cause.hint))
                answer.exception()  # whoever waited may be gone: that is no warning's matter
        for parts in self._parts.values():
            parts.fail(NetworkInterrupted(cause.message, hint=cause.hint))
        for task in self._handlers:
            task.cancel()

    async def _register(self, link: Link, service: str) -> None:
        answer = asyncio.get_running_loop().create_future()
        self._registering.append(answer)
        await link.send(frames.register(service))
        await _within(REPLY_SEC, answer, f"register {service}")

    # -- what comes

    def _take(self, packet: frames.Packet) -> None:
        match packet:
            case frames.CallRequest():
                self._serve(packet)
            case frames.CallReply():
                self._answered(packet)
            case frames.RegisterReply():
                self._registered(packet)
            case frames.UnregisterReply():
                if self._unregistering:
                    _settle(self._unregistering.popleft(), None)
            case _:
                pass

    def _registered(self, packet: frames.RegisterReply) -> None:
        if not self._registering:
            return
        answer = self._registering.popleft()
        if packet.code == frames.OK:
            _settle(answer, None)
            return
        why = "it is taken" if packet.code == frames.CONFLICT else packet.message
        text = f"the service bus refuses a name: {why}"
        _settle(answer, NetworkError(text, status=packet.code))

    def _answered(self, packet: frames.CallReply) -> None:
        if (parts := self._parts.get(packet.request_id)) is not None:
            parts.came(packet)
            return
        answer = self._calls.get(packet.request_id)
        if answer is None or answer.done() or packet.partial:
            return
        try:
            data = frames.unpacked(packet.data)
        except NetworkError as error:
            answer.set_exception(error)
            return
        if packet.code == frames.OK:
            answer.set_result(data)
            return
        said = data.decode(errors="replace")[:500]
        answer.set_exception(
            NetworkError(f"the service bus: {said or 'refused'}", status=packet.code)
        )

    def _serve(self, packet: frames.CallRequest) -> None:
        link = self._link
        if link is None:
            return
        handler = self._served(packet.address)
        if handler is None:
            link.write(_refusal(packet, f"nothing is served at {packet.address}"))
        elif len(self._handlers) >= HANDLERS:
            link.write(_refusal(packet, f"{HANDLERS} calls are being served already"))
        else:
            task = asyncio.create_task(self._handle(link, packet, handler), name=packet.address)
            self._handlers.add(task)
            task.add_done_callback(bound(self._ended, link, packet))

    def _ended(self, link: Link, packet: frames.CallRequest, task: asyncio.Task[None]) -> None:
        self._handlers.discard(task)
        if task.cancelled():
            return
        failure = task.exception()
        if isinstance(failure, NetworkError) and not link.up:
            _log.debug("nobody hears the answer of %s", packet.address)
        elif isinstance(failure, RequestorError):
            link.write(_refusal(packet, failure.message))
        elif failure is not None:
            _log.error("a call of %s failed: a defect", packet.address, exc_info=failure)
            link.write(_refusal(packet, f"internal error: {type(failure).__name__}"))

    def _served(self, address: str) -> Handler | None:
        service = address
        while service:
            service = service.rpartition("/")[0]
            handler = self._services.get(service)
            if handler is not None:
                return handler
        return None

    async def _handle(self, link: Link, packet: frames.CallRequest, handler: Handler) -> None:
        data = frames.unpacked(packet.data)
        component = packet.address.rpartition("/")[2]
        answer = await handler(Call(packet.caller, packet.address, component, data))
        if isinstance(answer, bytes):
            await self._reply(link, packet, answer)
            return
        try:
            async for part in answer:
                await self._reply(link, packet, part, partial=True)
        finally:
            close = getattr(answer, "aclose", None)
            if close is not None:
                await close()
        await self._reply(link, packet, b"")

    async def _reply(
        self, link: Link, packet: frames.CallRequest, data: bytes, *, partial: bool = False
    ) -> None:
        if packet.no_reply:
            return
        if len(data) > frames.FRAME_LIMIT - 1024:
            raise NotAvailable(f"the answer has {len(data)} bytes: too long for the service bus")
        await link.send(frames.reply(packet.request_id, data, partial=partial))


def _refusal(packet: frames.CallRequest, message: str) -> bytes:
    if packet.no_reply:
        return b""
    return frames.reply(packet.request_id, message.encode(), code=frames.FAILURE)


def _settle(answer: asyncio.Future[None], error: NetworkError | None) -> None:
    if answer.done():
        return
    if error is None:
        answer.set_result(None)
    else:
        answer.set_exception(error)


async def _within(seconds: float, answer: asyncio.Future[_T], what: str) -> _T:
    try:
        async with asyncio.timeout(seconds):
            return await answer
    except TimeoutError:
        raise NetworkTimeout(f"{what}: no answer in {seconds:.3g} s") from None
