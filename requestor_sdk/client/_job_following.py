"""Following one job at its provider, for however many wait for it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Final, cast

from requestor_sdk.model.errors import NotAvailable

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from requestor_sdk.model.jobs import JobStatus
    from requestor_sdk.ports.jobs import Jobs

_KEPT: Final = 1000
"""How many statuses of a job are kept: a server that changes its mind for ever fills no memory."""


class Following:
    """Follows one job: keeps what it came through, and wakes who waits for more."""

    def __init__(self, jobs: Jobs, first: JobStatus, tell: Callable[[JobStatus], None]) -> None:
        self._jobs = jobs
        self._tell = tell
        self._seen: deque[JobStatus] = deque(maxlen=_KEPT)
        self.count = 0
        self.error: Exception | None = None
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closed = False
        self._is_told = False
        self._take(first)

    @property
    def last(self) -> JobStatus:
        """How it stood when it was last heard of."""
        return self._seen[-1]

    def since(self, count: int) -> list[JobStatus]:
        """Return what was seen after the first so many; of very many the last."""
        return list(self._seen)[-(self.count - count) :] if self.count > count else []

    def begin(self) -> None:
        """See to it that it is followed, unless it is over."""
        if self._closed or self.last.over or (self._task is not None and not self._task.done()):
            return
        self.tell()
        self.error = None
        loop = asyncio.get_running_loop()
        self._task = loop.create_task(self._follow(), name=f"job {self.last.id}")

    def tell(self) -> None:
        """Write down how it stands, and from now on what becomes of it."""
        if not self._is_told:
            self._is_told = True
            self._tell(self.last)

    async def more_than(self, count: int) -> None:
        """Wait until more than so many statuses were seen.

        Raises:
            RequestorError: It could not be followed.
        """
        self.begin()
        while self.count <= count and not self.last.over:
            if self.error is not None:
                raise self.error
            news = self._news
            await news.wait()

    async def close(self, why: str) -> None:
        """Follow it no more; who waits is told why."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        self.fail(NotAvailable(why, ids={"job": self.last.id}))

    def put(self, status: JobStatus) -> None:
        """Take in what was heard on another way."""
        if status != self.last and not self.last.over:
            self._take(status)

    def fail(self, error: Exception) -> None:
        """Tell all who wait that it cannot be followed."""
        self.error = error
        self._wake()

    async def _follow(self) -> None:
        try:
            updates = cast("AsyncGenerator[JobStatus]", self._jobs.updates(self.last.id))
            async with aclosing(updates):
                async for status in updates:
                    self.put(status)
        except Exception as error:  # noqa: BLE001 - whoever waits for the job is told
            self.fail(error)

    def _take(self, status: JobStatus) -> None:
        self._seen.append(status)
        self.count += 1
        # A job that is only listed is none of this run's.
        if self._is_told:
            self._tell(status)
        self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()
