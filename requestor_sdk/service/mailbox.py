"""The two message queues of an instance: between the user's program and a handler. Bounded."""

from __future__ import annotations

import asyncio
from typing import Any

from requestor_sdk.model.errors import MailboxFull


class _Queue:
    """One direction; made when the first message wants it, so that an idle instance stays small."""

    __slots__ = ("_queue", "_size")

    def __init__(self, size: int) -> None:
        self._size = size
        self._queue: asyncio.Queue[Any] | None = None

    def _made(self) -> asyncio.Queue[Any]:
        if self._queue is None:
            self._queue = asyncio.Queue(self._size)
        return self._queue

    async def put(self, message: Any) -> None:
        """Add a message; waits while the queue is full."""
        await self._made().put(message)

    async def get(self) -> Any:
        """Wait for a message."""
        return await self._made().get()

    def put_nowait(self, message: Any) -> None:
        """Add a message.

        Raises:
            MailboxFull: The queue is full.
        """
        try:
            self._made().put_nowait(message)
        except asyncio.QueueFull:
            raise MailboxFull(
                f"a message queue holds {self._size} messages and nobody reads them",
                hint="read them, or raise Settings(mailbox_size=...)",
            ) from None

    def get_nowait(self) -> Any:
        """Return a message, or ``None``."""
        if self._queue is None or self._queue.empty():
            return None
        return self._queue.get_nowait()


class Mailbox:
    """The queues of one instance.

    Attributes:
        incoming: From the program to the handler.
        outgoing: From the handler to the program.
    """

    __slots__ = ("incoming", "outgoing")

    def __init__(self, size: int) -> None:
        self.incoming = _Queue(size)
        self.outgoing = _Queue(size)
