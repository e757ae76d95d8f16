"""``Task``: one unit of work of a job, as its maker, its worker and its reader see it."""

from __future__ import annotations

import copy
from datetime import timedelta
from typing import Any, Generic, Protocol, Self, TypeVar, overload

from requestor_sdk.model.errors import NotAvailable
from requestor_sdk.model.tasks import TaskAttempt, TaskStatus

D = TypeVar("D")
R = TypeVar("R")


class Attempt(Protocol):
    """What a worker's copy of a task settles; users have no business with it."""

    def accept(self, result: Any) -> None:
        """The result is right."""
        ...

    def reject(self, reason: str | None, *, retry: bool) -> None:
        """The result is not right."""
        ...

    def running_time(self) -> float:
        """Seconds since the worker took it."""
        ...


class Task(Generic[D, R]):
    """One unit of work: some data, and in the end a result.

    Made by the user, or by ``execute_tasks`` of plain data. A worker gets a copy of its own for
    each attempt, and settles it by ``accept_result()`` or ``reject_result()``; the reader of
    ``execute_tasks`` gets the task itself.

    Args:
        data: What the worker needs to know. It stays in this process and is in no event.
    """

    def __init__(self, data: D) -> None:
        self._data = data
        self._id: str | None = None
        self._status = TaskStatus.waiting
        self._result: R | None = None
        self._error: BaseException | None = None
        self._attempts: tuple[TaskAttempt, ...] = ()
        self._seconds: float | None = None
        self._attempt: Attempt | None = None

    def __repr__(self) -> str:
        # Without the data: it may be secret, or long.
        return f"<{type(self).__name__} {self._id or 'of no job'}, {self._status}>"

    @property
    def id(self) -> str | None:
        """Its id in the run, e.g. ``task-7``; ``None`` until a job has read it."""
        return self._id

    @property
    def data(self) -> D:
        """What it was made with."""
        return self._data

    @property
    def status(self) -> TaskStatus:
        """Where it is; as its reader gets it, it is over."""
        return self._status

    @property
    def result(self) -> R:
        """What the worker accepted.

        Raises:
            TaskFailed: It was tried as often as the job allows.
            ResultRejected: The worker rejected its result for good.
            NotAvailable: It is not over.
        """
        if self._error is not None:
            raise self._error
        if self._status is not TaskStatus.accepted:
            raise NotAvailable(
                f"{self!r} has no result yet",
                ids=self._ids(),
                hint="read it from `async for task in compute.execute_tasks(...)`",
            )
        return self._result  # type: ignore[return-value]

    @property
    def error(self) -> BaseException | None:
        """Why there is no result, where it is over without one."""
        return self._error

    @property
    def attempts(self) -> tuple[TaskAttempt, ...]:
        """What was tried, once it is over: where, and why it did not end in a result."""
        return self._attempts

    @property
    def running_time(self) -> timedelta | None:
        """How long the last attempt took, or has taken so far."""
        seconds = self._seconds if self._attempt is None else self._attempt.running_time()
        return None if seconds is None else timedelta(seconds=seconds)

    @overload
    def accept_result(self: Task[D, None]) -> None: ...
    @overload
    def accept_result(self, result: R) -> None: ...
    def accept_result(self, result: Any = None) -> None:
        """For workers: the task is done, and this is its result.

        Where the attempt is over already (it took too long, or its provider was lost), somebody
        else has the task, and this changes nothing.

        Raises:
            NotAvailable: It was accepted or rejected before, or is no worker's copy.
        """
        self._settled(TaskStatus.accepted).accept(result)

    def reject_result(self, reason: str | None = None, retry: bool = True) -> None:
        """For workers: what came out is not right.

        Args:
            reason: Why; told in events and in the task's error.
            retry: Whether it is tried again, on another provider where there is one, as often as
                the job allows. Otherwise it is over.

        Raises:
            NotAvailable: It was accepted or rejected before, or is no worker's copy.
        """
        self._settled(TaskStatus.rejected).reject(reason, retry=retry)

    def _settled(self, status: TaskStatus) -> Attempt:
        if self._attempt is None:
            raise NotAvailable(
                f"{self!r} is with no worker: there is nothing to accept or reject",
                ids=self._ids(),
                hint="call it in the worker, on the task that the worker was given",
            )
        if self._status is not TaskStatus.running:
            raise NotAvailable(
                f"{self!r} was settled before",
                ids=self._ids(),
                hint="call accept_result() or reject_result() once for each task that is given out",
            )
        self._status = status
        return self._attempt

    def _ids(self) -> dict[str, str]:
        return {"task": self._id} if self._id else {}

    # The engine's side ---------------------------------------------------------------------------

    def _adopt(self, task_id: str) -> None:
        """A job has read it."""
        if self._id is not None or self._attempt is not None:
            raise NotAvailable(
                f"{self!r} was handed over before; a task is done once",
                ids=self._ids(),
                hint="make a new Task of the same data",
            )
        self._id = task_id

    def _copy_for(self, attempt: Attempt) -> Self:
        """Return a worker's copy."""
        mine = copy.copy(self)
        mine._attempt, mine._status = attempt, TaskStatus.running  # noqa: SLF001
        return mine

    def _set(
        self,
        status: TaskStatus,
        *,
        result: Any = None,
        error: BaseException | None = None,
        attempts: tuple[TaskAttempt, ...] = (),
        seconds: float | None = None,
    ) -> None:
        """It changed hands, or is over."""
        self._status, self._result, self._error = status, result, error
        self._attempts, self._seconds = attempts, seconds
