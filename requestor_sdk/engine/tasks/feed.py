"""Reads a job's input: only as far as there is room for it, and never so that it could hang us."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Generator,
    Iterable,
    Iterator,
)
from typing import TYPE_CHECKING, Any, Final

from requestor_sdk.engine.aio import own_code

if TYPE_CHECKING:
    from requestor_sdk.engine.core import Core

logger: logging.Logger = logging.getLogger("requestor_sdk.engine")

_END: Final = object()


class Feed:
    """The input of a job, read by a task of its own, which ``close`` awaits.

    Args:
        core: What the engine shares.
        data: The user's input.
        has_room: Whether another item may be read.
        take: Called with each item; what it raises ends the reading as the input's own error would.
        on_over: Called once, with the error that the input raised or ``None``; not once it is
            being closed.
        name: For the task.
    """

    def __init__(
        self,
        core: Core,
        data: Iterable[Any] | AsyncIterable[Any],
        *,
        has_room: Callable[[], bool],
        take: Callable[[Any], None],
        on_over: Callable[[Exception | None], None],
        name: str,
    ) -> None:
        self._core = core
        self._data = data
        self._has_room = has_room
        self._take = take
        self._on_over = on_over
        self._name = name
        self._closing = False
        self._woken = asyncio.Event()
        self._iterator: Iterator[Any] | AsyncIterator[Any] | None = None
        # Not of the engine's group: an input that swallows its cancellation would hold up its end.
        self._task = asyncio.get_running_loop().create_task(self._read(), name=name)

    def wake(self) -> None:
        """There may be room again."""
        self._woken.set()

    async def _read(self) -> None:
        found: Exception | None = None
        try:
            await own_code(self._read_all(), self._name)
        except Exception as error:  # noqa: BLE001 - the user's own: raised to the reader
            found = error
        if not self._closing:
            self._on_over(found)

    async def _read_all(self) -> None:
        while True:
            while not self._has_room():
                self._woken.clear()
                await self._woken.wait()
            item = await self._next()
            if item is _END or self._closing:
                return
            self._take(item)

    async def _next(self) -> Any:
        if self._iterator is None:
            data = self._data
            self._iterator = aiter(data) if isinstance(data, AsyncIterable) else iter(data)
        if isinstance(self._iterator, AsyncIterator):
            return await anext(self._iterator, _END)
        return next(self._iterator, _END)

    async def close(self) -> None:
        """End the reading; an input that is not read to its end is closed, if it is a generator."""
        self._closing = True
        task = self._task
        self.cancel()
        limit = self._core.settings.close_timeout
        for _ in range(2):
            if not task.done():
                await asyncio.wait({task}, timeout=limit)
            if task.done():
                break
            task.cancel()
        if not task.done():
            logger.warning("%s swallowed its cancellation and was left to itself", self._name)
            self._core.abandoned.append(task)
            return
        await self._close_iterator(limit)
        self._data, self._iterator = (), None

    def cancel(self) -> None:
        """End the reading, without waiting for it."""
        self._closing = True
        if not self._task.done():
            self._task.cancel()

    async def _close_iterator(self, limit: float) -> None:
        iterator = self._iterator
        if not isinstance(iterator, Generator | AsyncGenerator):
            return  # a file, say, is its owner's to close

        async def closed() -> None:
            if isinstance(iterator, AsyncGenerator):
                await iterator.aclose()
            else:
                iterator.close()

        try:
            async with asyncio.timeout(limit):
                await self._core.user_code(closed(), self._name)
        except Exception:
            logger.exception("%s could not be closed", self._name)
