"""What ``execute_tasks`` returns: the tasks, as they end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, Generic, Self, TypeVar

from requestor_sdk.engine.tasks.job import Job
from requestor_sdk.service.tasks import Task

D = TypeVar("D")
R = TypeVar("R")


class TaskResults(AsyncIterator[Task[D, R]], Generic[D, R]):
    """The tasks of a job, as they end. Made by ``compute.execute_tasks()``.

    Each that is over is handed out once; those that the end of the job cancels are not.

    The job begins with the first reading. It ends with its last task, by ``aclose()``, at the end
    of ``async with``, or once nobody holds this any more: as a ``break`` out of an ``async for``
    leaves it. In each case its workers are stopped in good order; the first three wait for that.
    """

    def __init__(self, begin: Callable[[], Job]) -> None:
        self._begin: Callable[[], Job] | None = begin
        self._loop = asyncio.get_running_loop()
        self._job: Job | None = None
        self._closed = False

    async def __anext__(self) -> Task[D, R]:
        """Wait for the next task that is over.

        Raises:
            JobTimeout: The time of the job passed, and what was done before is read.
            WorkersExhausted: No worker ever came to ask for a task.
            UsageError: A job of the same id runs.
            RequestorError: It could not begin, or the engine ended.
            Exception: What the input raised, after all that it gave before; with
                ``raise_on_failure``, the error of a task.
        """
        if self._closed:
            raise StopAsyncIteration
        if self._begin is not None:
            self._job, self._begin = self._begin(), None
        job = self._job
        if job is None:
            raise StopAsyncIteration
        while (task := job.next_done()) is None:
            if job.over:
                self._forget()
                if job.error is not None:
                    raise job.error
                raise StopAsyncIteration
            await job.next_change()
        if job.options.raise_on_failure and task.error is not None:
            await self.aclose()
            raise task.error
        return task

    async def aclose(self) -> None:
        """End the job, and wait until its workers are stopped. Idempotent."""
        self._closed = True
        if self._job is not None:
            await self._job.ended()
        self._forget()

    def _forget(self) -> None:
        """All is read, or nobody wants it: hold no data, no result and no worker any more."""
        self._closed = True
        self._job = self._begin = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __del__(self) -> None:
        job: Any = getattr(self, "_job", None)
        if job is None or job.over or self._loop.is_closed():
            return
        # Whatever thread the collector runs on.
        self._loop.call_soon_threadsafe(job.end)
