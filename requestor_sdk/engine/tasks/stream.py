"""The tasks that one worker gets: an async iterator, and the settlement of each task."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from requestor_sdk.model.errors import HandlerError
from requestor_sdk.model.tasks import Grant, MoveOn, Wait
from requestor_sdk.service.tasks import Task

if TYPE_CHECKING:
    from requestor_sdk.engine.tasks.crew import Crew
    from requestor_sdk.engine.tasks.worker import TaskWorker


class TaskStream(AsyncIterator[Task[Any, Any]]):
    """The tasks of one attempt of a worker: what the user's worker iterates.

    Args:
        crew: Of the job whose tasks they are.
        worker: Who works on them.

    Attributes:
        asked: Whether the user's code has come to ask for a task.
        moving: Whether the worker is to go on elsewhere, once its code has ended.
        over: Whether there are no more tasks here.
        left: Whether the user's code has ended, or is given up.
    """

    def __init__(self, crew: Crew, worker: TaskWorker) -> None:
        self._crew = crew
        self.worker: TaskWorker = worker
        self.asked: bool = False
        self.moving: bool = False
        self.over: bool = False
        self.left: bool = False
        self._current: Task[Any, Any] | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def __anext__(self) -> Task[Any, Any]:
        self.asked = True
        self.disarm()
        self.check_settled()
        while not self.over:
            match self._crew.ask(self):
                case Grant() as grant:
                    task = self._crew.take(self, grant)
                    self._current = task._copy_for(Settlement(self._crew, self, grant))  # noqa: SLF001
                    return self._current
                case Wait(until=until):
                    await self._sleep(until)
                case MoveOn():
                    self.over = self.moving = True
                case _:
                    self.over = True
        raise StopAsyncIteration

    def check_settled(self) -> None:
        """Refuse to go on from a task that was neither accepted nor rejected.

        Raises:
            HandlerError: The message names the task.
        """
        if self._current is not None and not self._current.status.final:
            raise HandlerError(
                f"the worker goes on from {self._current.id}, which it has neither accepted nor "
                "rejected",
                ids={"task": self._current.id or "", "instance": self.worker.id},
                hint="call task.accept_result(...) or task.reject_result(...) before the next task",
            )

    # Waiting -------------------------------------------------------------------------------------

    @property
    def idle(self) -> bool:
        """Whether the worker waits for a task."""
        return self._waiter is not None

    def wake(self) -> None:
        """There may be a task for it."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _sleep(self, until: float | None) -> None:
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        timer = None if until is None else loop.call_later(until - self._crew.now(), self.wake)
        try:
            await self._waiter
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()

    # Time ----------------------------------------------------------------------------------------

    def arm(self, seconds: float | None, what: str, *, hint: str) -> None:
        """Give the user's code this long for what it does now."""
        self.disarm()
        if seconds is not None and not self.over:
            self._timer = asyncio.get_running_loop().call_later(
                seconds, self._crew.too_late, self, f"{what} within {seconds:g} s", hint
            )

    def disarm(self) -> None:
        """It came to the next step."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def end(self) -> None:
        """There are no more tasks here."""
        self.over = True
        self.disarm()
        self.wake()


class Settlement:
    """What a worker's copy of a task settles, once.

    Args:
        crew: Of the job whose task it is.
        stream: Who has it.
        grant: What it is good for.
    """

    def __init__(self, crew: Crew, stream: TaskStream, grant: Grant) -> None:
        self._crew = crew
        self._stream = stream
        self._grant = grant
        self._began = crew.now()
        self._ended: float | None = None

    def accept(self, result: Any) -> None:
        """The result is right."""
        self._ended = self._crew.now()
        self._crew.accept(self._stream, self._grant, result, self.running_time())

    def reject(self, reason: str | None, *, retry: bool) -> None:
        """The result is not right."""
        self._ended = self._crew.now()
        self._crew.reject(self._stream, self._grant, reason, self.running_time(), retry=retry)

    def running_time(self) -> float:
        """Seconds since the worker took it, until it settled it."""
        return (self._crew.now() if self._ended is None else self._ended) - self._began
