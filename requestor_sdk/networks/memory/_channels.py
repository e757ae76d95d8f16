"""The two ways that news waits for its reader: a bounded line, and the latest of each subject.

Both lose nothing when a reader is cancelled: an item is taken out only after the last await.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from requestor_sdk.model.errors import NotAvailable

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)


class Closed(Exception):
    """The other end let go; ``reason`` says why, where it said so."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason


class Inbox(Protocol[T_contra]):
    """Where news is put for one reader, whoever that is."""

    async def put(self, item: T_contra) -> bool:
        """Add an item once there is room; ``False`` where nobody will read it."""
        ...

    def put_now(self, item: T_contra) -> None:
        """Add an item past the limit."""
        ...

    def close(self, reason: str = "", *, drop: bool = False) -> None:
        """Let nothing follow; with ``drop`` what is unread goes too."""
        ...


@dataclass(slots=True, kw_only=True)
class Changing:
    """Something whose next change can be waited for; light while nobody waits."""

    _waiters: list[asyncio.Future[None]] | None = field(
        default=None, init=False, repr=False, compare=False
    )

    async def change(self, within: float | None = None) -> None:
        """Wait for the next change, whatever it is, or until so many seconds have passed."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        timer = None if within is None else loop.call_later(within, _wake, waiter)
        if self._waiters is None:
            self._waiters = []
        self._waiters.append(waiter)
        try:
            await waiter
        finally:
            if timer is not None:
                timer.cancel()
            if self._waiters is not None and waiter in self._waiters:
                self._waiters.remove(waiter)

    def changed(self) -> None:
        """Wake all who wait."""
        if self._waiters is not None:
            waiters, self._waiters = self._waiters, None
            for waiter in waiters:
                _wake(waiter)


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


class Channel(Changing, Generic[T]):
    """A bounded line from many writers to one reader; a slow reader slows its writers."""

    __slots__ = ("_closed", "_items", "_limit")

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit
        self._items: deque[T] = deque()
        self._closed: str | None = None

    def __len__(self) -> int:
        return len(self._items)

    async def put(self, item: T) -> bool:
        """Add an item once there is room; ``False`` where nobody will read it."""
        while self._closed is None and len(self._items) >= self._limit:
            await self.change()
        if self._closed is not None:
            return False
        self._items.append(item)
        self.changed()
        return True

    def put_now(self, item: T) -> None:
        """Add an item past the limit; for news of which there cannot be many."""
        if self._closed is None:
            self._items.append(item)
            if self._waiters is not None:
                self.changed()

    async def get(self) -> T:
        """Wait for the next item.

        Raises:
            Closed: All was read and nothing can follow.
        """
        while not self._items:
            if self._closed is not None:
                raise Closed(self._closed)
            await self.change()
        item = self._items.popleft()
        if self._waiters is not None:
            self.changed()
        return item

    def close(self, reason: str = "", *, drop: bool = False) -> None:
        """Let nothing follow; with ``drop`` what is unread goes too. The first reason stays."""
        if self._closed is None:
            self._closed = reason
        if drop:
            self._items.clear()
        self.changed()


class Latest(Changing, Generic[T]):
    """Holds the newest unread item of each subject, in the order in which they came.

    It is bounded by its subjects: an unread item is replaced by a newer one on the same subject.
    """

    __slots__ = ("_closed", "_items")

    def __init__(self) -> None:
        super().__init__()
        self._items: dict[Hashable, T] = {}
        self._closed: str | None = None

    def put(self, subject: Hashable, item: T) -> None:
        """Add the newest item of a subject."""
        if self._closed is None:
            self._items[subject] = item
            if self._waiters is not None:
                self.changed()

    def drop(self, subject: Hashable) -> bool:
        """Forget the unread item of a subject; ``False`` where there is none."""
        return self._items.pop(subject, None) is not None

    async def take(self) -> Sequence[T]:
        """Wait until there is something and take all of it.

        Raises:
            Closed: Nothing can follow.
        """
        while not self._items:
            if self._closed is not None:
                raise Closed(self._closed)
            await self.change()
        found = tuple(self._items.values())
        self._items.clear()
        return found

    def handed_over(self) -> Latest[T]:
        """Return a box with what is unread; who waits at this one never hears of anything."""
        heir: Latest[T] = Latest()
        heir._items, self._items = self._items, {}
        return heir

    def refuse(self, error: Exception) -> None:
        """Let whoever waits just now fail; what is unread stays for the next one who asks."""
        waiters, self._waiters = self._waiters or [], None
        for waiter in waiters:
            if not waiter.done():
                waiter.set_exception(error)

    def close(self, reason: str = "") -> None:
        """Let nothing follow."""
        self._closed = reason
        self.changed()


async def taken(box: Latest[T]) -> Sequence[T]:
    """Wait for what comes next, for a port.

    Raises:
        NotAvailable: Nothing comes any more.
    """
    try:
        return await box.take()
    except Closed as closed:
        raise NotAvailable(closed.reason) from None
