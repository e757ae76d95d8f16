"""The two message queues of an instance: between the user's program and a handler. Bounded."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from requestor_sdk.model.errors import MailboxFull, NotAvailable


class _Queue:
    """One direction."""

    __slots__ = ("_changed", "_closed", "_messages", "_size")

    def __init__(self, size: int, closed: str | None) -> None:
        self._size = size
        self._messages: deque[Any] = deque()
        self._changed: dict[asyncio.Future[None], None] = {}
        self._closed = closed

    async def put(self, message: Any) -> None:
        """Add a message; waits while the queue is full.

        Raises:
            NotAvailable: The instance is over: nobody will read it.
        """
        while len(self._messages) >= self._size and self._closed is None:
            await self._next_change()
        self._check_open()
        self._messages.append(message)
        self._wake()

    async def get(self) -> Any:
        """Wait for a message.

        Raises:
            NotAvailable: The instance is over, and all its messages were read.
        """
        while not self._messages:
            self._check_open()
            await self._next_change()
        return self.get_nowait()

    def put_nowait(self, message: Any) -> None:
        """Add a message.

        Raises:
            MailboxFull: The queue is full.
            NotAvailable: The instance is over: nobody will read it.
        """
        self._check_open()
        if len(self._messages) >= self._size:
            raise MailboxFull(
                f"a message queue holds {self._size} messages and nobody reads them",
                hint="read them, or raise Settings(mailbox_size=...)",
            )
        self._messages.append(message)
        self._wake()

    def get_nowait(self) -> Any:
        """Return a message, or ``None``."""
        if not self._messages:
            return None
        message = self._messages.popleft()
        self._wake()
        return message

    def close(self, why: str) -> None:
        """Nothing more will be said: wake all who wait. What is there can still be read."""
        self._closed = why
        self._wake()

    def _check_open(self) -> None:
        if self._closed is not None:
            raise NotAvailable(self._closed)

    async def _next_change(self) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._changed[future] = None
        try:
            await future
        finally:
            self._changed.pop(future, None)

    def _wake(self) -> None:
        waiting, self._changed = self._changed, {}
        for future in waiting:
            if not future.done():
                future.set_result(None)


class Mailbox:
    """The queues of one instance, each made when it is first asked for: most never are."""

    __slots__ = ("_closed", "_incoming", "_outgoing", "_size")

    def __init__(self, size: int) -> None:
        self._size = size
        self._closed: str | None = None
        self._incoming: _Queue | None = None
        self._outgoing: _Queue | None = None

    @property
    def incoming(self) -> _Queue:
        """From the program to the handler."""
        if self._incoming is None:
            self._incoming = _Queue(self._size, self._closed)
        return self._incoming

    @property
    def outgoing(self) -> _Queue:
        """From the handler to the program."""
        if self._outgoing is None:
            self._outgoing = _Queue(self._size, self._closed)
        return self._outgoing

    def close(self, why: str) -> None:
        """The instance is over: wake all who wait for a message, or for room for one."""
        self._closed = why
        for queue in (self._incoming, self._outgoing):
            if queue is not None:
                queue.close(why)
