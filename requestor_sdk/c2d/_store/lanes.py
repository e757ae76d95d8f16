"""Work of a database in a thread of its own, in groups: what comes meanwhile makes the next group.

So a commit that waits for the disk is paid once for all who wait for it, and one alone waits for
nobody.
"""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from requestor_sdk.model.errors import StoreFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_log = logging.getLogger(__name__)

J = TypeVar("J")
R = TypeVar("R")


class Lane(Generic[J, R]):
    """One thread that does groups of jobs.

    Args:
        name: Of the thread.
        do: Does a group, in the thread; returns an answer, or an error, for each.
        settle: Called on the loop with what a group led to, before the answers are given.
        most: How many make a group at most.
    """

    def __init__(
        self,
        name: str,
        do: Callable[[Sequence[J]], Sequence[R]],
        *,
        settle: Callable[[Sequence[R]], object] = lambda _: None,
        most: int = 256,
    ) -> None:
        self._do, self._settle, self._most = do, settle, most
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._waiting: list[tuple[J, asyncio.Future[R]]] = []
        self._worker: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def load(self) -> int:
        """How much is to be done."""
        return len(self._waiting) + (self._worker is not None)

    async def done(self, job: J) -> R:
        """Return what a job led to; it is done even where nobody waits any more.

        Raises:
            StoreFailed: It is closed.
        """
        if self._closed:
            raise StoreFailed("the store is closed")
        answer: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((job, answer))
        if self._worker is None:
            self._worker = asyncio.create_task(self._work(), name="work of the store")
        return await answer

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                group, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
                jobs = [job for job, _ in group]
                try:
                    told = await loop.run_in_executor(self._thread, self._do, jobs)
                    self._settle(told)
                except Exception as error:  # noqa: BLE001 - logged, and told to all
                    _log.exception("the store failed at %d calls", len(group))
                    _refuse([answer for _, answer in group], error)
                    continue
                for (_, answer), result in zip(group, told, strict=True):
                    if not answer.done():
                        answer.set_result(result)
        finally:
            self._worker = None

    async def run(self, call: Callable[[], Any]) -> Any:
        """Return what a call in the thread says, after all groups before it."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    async def close(self) -> None:
        """Do what is waiting, then end the thread. Idempotent."""
        self._closed = True
        while self._worker is not None:
            await asyncio.shield(self._worker)
        self._thread.shutdown(wait=False)


def _refuse(answers: Sequence[asyncio.Future[Any]], error: Exception) -> None:
    """Tell those who wait: one that is never answered would hang."""
    for answer in answers:
        if not answer.done():
            failed = StoreFailed(f"the store failed: {type(error).__name__}")
            failed.__cause__ = error
            answer.set_exception(failed)
