"""How loops outlive errors of the daemon: back-off with jitter, a mailbox with bounds. No Golem."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from random import uniform
from typing import Final, Generic, TypeVar

from requestor_sdk.model.errors import NetworkError, NotAvailable

FIRST_PAUSE_SEC: Final = 0.1
LONGEST_PAUSE_SEC: Final = 3.0
QUICK_SEC: Final = 0.05
"""A poll that says nothing in less time than this does not wait, as it should."""

_T = TypeVar("_T")
_log = logging.getLogger(__name__)


class Pause:
    """The pauses between attempts: each twice the last, up to a limit, and never quite alike."""

    def __init__(self) -> None:
        self._next = FIRST_PAUSE_SEC

    async def take(self) -> None:
        """Wait; the next time longer."""
        await asyncio.sleep(self._next * uniform(0.5, 1.0))  # noqa: S311 - spreads, hides nothing
        self._next = min(self._next * 2, LONGEST_PAUSE_SEC)

    def reset(self) -> None:
        """Begin with the shortest again."""
        self._next = FIRST_PAUSE_SEC


async def follow(what: str, step: Callable[[], Awaitable[int]]) -> None:
    """Take steps for ever; a step waits for something and returns how much came.

    Errors of the network are told of once, until it is back; what else a step raises ends it.
    """
    pause = Pause()
    loop = asyncio.get_running_loop()
    silent = False
    while True:
        began = loop.time()
        try:
            came = await step()
        except NetworkError as error:
            if not silent:
                _log.warning("%s: %s", what, error.message)
            silent = True
            await pause.take()
            continue
        if silent:
            _log.info("%s: the daemon is back", what)
            silent = False
        if not came and loop.time() - began < QUICK_SEC:
            await pause.take()
        else:
            pause.reset()


async def steady(what: str, call: Callable[[], Awaitable[_T]], *, seconds: float) -> _T:
    """Make a call that does nothing twice, again where the daemon is away, for so many seconds.

    Raises:
        NetworkError: It was refused, or the time is over; the last error.
    """
    pause = Pause()
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    while True:
        try:
            return await call()
        except NetworkError as error:
            if not error.may_pass or loop.time() >= until:
                raise
            _log.info("%s: %s; tried again", what, error.message)
        await pause.take()


class Mailbox(Generic[_T]):
    """A queue with bounds that can be closed.

    Args:
        size: How many may wait before who puts waits, too.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._items: deque[_T] = deque()
        self._changed = asyncio.Event()
        self._closed: str | None = None

    async def put(self, item: _T) -> None:
        """Add an item once there is room; dropped where it is closed."""
        while len(self._items) >= self._size and self._closed is None:
            self._changed.clear()
            await self._changed.wait()
        if self._closed is None:
            self._items.append(item)
            self._changed.set()

    async def get(self) -> _T:
        """Take the oldest item.

        Raises:
            NotAvailable: It is closed, and nothing is left.
        """
        while not self._items:
            if self._closed is not None:
                raise NotAvailable(self._closed)
            self._changed.clear()
            await self._changed.wait()
        item = self._items.popleft()
        self._changed.set()
        return item

    def close(self, reason: str) -> None:
        """Close it: what waits can still be taken."""
        if self._closed is None:
            self._closed = reason
        self._changed.set()
