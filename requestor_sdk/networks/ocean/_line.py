"""Signed calls of one address at one server, one after the other: each has the next nonce.

A server takes a nonce only where it is above the one before, so two signed calls under way at once
could overtake each other. They stand in line; each is over, as far as the line goes, once the
server has begun to answer.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, Final, TypeVar
from weakref import WeakKeyDictionary

from requestor_sdk.networks.ocean._refused import Refused
from requestor_sdk.ocean.messages import signable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")

_TRIES: Final = 5
"""How often a call is made whose nonce was too low: other programs may use the address, too."""


class NonceLine:
    """Gives nonces to calls in the order in which they were asked for."""

    def __init__(self) -> None:
        self._last: int | None = None
        self._waiting: deque[_Call] = deque()
        self._worker: asyncio.Task[None] | None = None

    async def call(
        self,
        text: Callable[[str], str],
        send: Callable[[str], Awaitable[T]],
        *,
        read: Callable[[], Awaitable[int]],
        harmless: bool,
    ) -> T:
        """Make a call when its turn has come.

        Where the server says that the nonce is too low it is asked for its own, and the call is
        made once more.

        Args:
            text: What is signed, for a nonce.
            send: Makes the call with a nonce; raises ``Refused`` where the server refuses.
            read: Asks the server for the highest nonce that it has of the address.
            harmless: Whether the call may be made again although the server may have acted on it.
        """
        call = _Call(text, send, read, harmless)
        self._waiting.append(call)
        if self._worker is None or self._worker.done():
            self._worker = asyncio.get_running_loop().create_task(
                self._work(), name="signed calls in line"
            )
        try:
            result: T = await call.done
        except asyncio.CancelledError:
            call.give_up()
            raise
        return result

    async def _work(self) -> None:
        while self._waiting:
            call = self._waiting.popleft()
            if call.done.done():
                continue
            call.task = asyncio.get_running_loop().create_task(self._make(call))
            try:
                await asyncio.wait({call.task})
            except asyncio.CancelledError:
                call.task.cancel()
                await asyncio.wait({call.task})
                for waiting in (call, *self._waiting):
                    waiting.done.cancel()
                raise
            call.settle()

    async def _make(self, call: _Call) -> Any:
        for left in reversed(range(_TRIES)):
            try:
                return await call.send(await self._next(call))
            except Refused as refused:
                # With any other status than these the server may have acted before it refused.
                sure = refused.refusal.status in (400, 401)
                if not left or not refused.refusal.of_nonce or not (call.harmless or sure):
                    raise
                self._last = None
        raise AssertionError("the last try returns or raises")

    async def _next(self, call: _Call) -> str:
        if self._last is None:
            self._last = await call.read()
        self._last += 1
        while not signable(call.text(str(self._last))):
            self._last += 1
        return str(self._last)


_lines: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[tuple[str, str], NonceLine]] = (
    WeakKeyDictionary()
)


def line_of(url: str, address: str) -> NonceLine:
    """Return the one line of an address at a server, whoever of this program calls."""
    lines = _lines.setdefault(asyncio.get_running_loop(), {})
    return lines.setdefault((url, address), NonceLine())


class _Call:
    """A call that stands in line."""

    def __init__(
        self,
        text: Callable[[str], str],
        send: Callable[[str], Awaitable[Any]],
        read: Callable[[], Awaitable[int]],
        harmless: bool,
    ) -> None:
        self.text = text
        self.send = send
        self.read = read
        self.harmless = harmless
        self.done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.task: asyncio.Task[Any] | None = None

    def give_up(self) -> None:
        """Nobody waits for it any more."""
        if self.task is not None:
            self.task.cancel()

    def settle(self) -> None:
        """Pass on how it ended."""
        assert self.task is not None
        error = None if self.task.cancelled() else self.task.exception()
        if self.done.done():
            self._drop()
        elif self.task.cancelled():
            self.done.cancel()
        elif error is not None:
            self.done.set_exception(error)
        else:
            self.done.set_result(self.task.result())

    def _drop(self) -> None:
        """Let go of an answer that came for nobody."""
        assert self.task is not None
        if not self.task.cancelled() and self.task.exception() is None:
            close = getattr(self.task.result(), "close", None)
            if close is not None:
                close()
