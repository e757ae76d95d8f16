"""The tasks of a job: who has which, what came of it, and what is told of that.

The book (``model.tasks``) decides; this keeps the users' objects and tells the events. What a task
holds is never told: it may be secret.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from requestor_sdk.engine.tracebacks import told
from requestor_sdk.model import events
from requestor_sdk.model.errors import InstanceError, ResultRejected, TaskFailed
from requestor_sdk.model.tasks import Grant, TaskAttempt, TaskBook, TaskStatus
from requestor_sdk.service.tasks import Task

if TYPE_CHECKING:
    from requestor_sdk.engine.core import Core


class Desk:
    """The tasks of one job that its reader has not got yet.

    Args:
        core: What the engine shares.
        job_id: Whose tasks.
        book: Where each of them is.

    Attributes:
        counts: How many ended how.
    """

    def __init__(self, core: Core, job_id: str, book: TaskBook) -> None:
        self._core = core
        self._job_id = job_id
        self._book = book
        self._tasks: dict[int, Task[Any, Any]] = {}
        self.counts: dict[TaskStatus, int] = dict.fromkeys((s for s in TaskStatus if s.final), 0)

    def now(self) -> float:
        """Seconds of the engine's clock."""
        return self._core.clock.monotonic()

    # In and out ----------------------------------------------------------------------------------

    def add(self, item: Any) -> None:
        """Take an item of the input: a task, or the data of one.

        Raises:
            NotAvailable: The task was handed over before.
        """
        task: Task[Any, Any] = item if isinstance(item, Task) else Task(item)
        task._adopt(self._core.next_id("task"))  # noqa: SLF001
        self._tasks[self._book.add()] = task

    def next_done(self) -> Task[Any, Any] | None:
        """Hand out the next task that is over, if there is one."""
        number = self._book.next_done()
        if number is None:
            return None
        self._book.hand_out(number)
        return self._tasks.pop(number)

    def unfinished(self) -> list[Task[Any, Any]]:
        """Return the tasks that are not over."""
        return [self._tasks[number] for number in self._unfinished()]

    def _unfinished(self) -> list[int]:
        return [number for number in self._tasks if not self._book.status(number).final]

    def cancel_rest(self, error: BaseException) -> None:
        """End what is not over."""
        rest = {number: self._book.attempts(number) for number in self._unfinished()}
        self._book.cancel_rest()
        for number, attempts in rest.items():
            self._end(self._tasks.pop(number), TaskStatus.cancelled, attempts, error=error)

    # What workers do -----------------------------------------------------------------------------

    def take(self, grant: Grant) -> Task[Any, Any]:
        """A worker takes a task; return the copy that it works with."""
        task, attempt = self._tasks[grant.task], self._book.attempts(grant.task)[-1]
        task._set(TaskStatus.running)  # noqa: SLF001
        self._core.emit(
            events.TaskStarted,
            **self._names(task, attempt),
            provider_id=attempt.provider_id,
            provider_name=attempt.provider_name,
        )
        return task

    def accept(self, grant: Grant, result: Any, seconds: float) -> bool:
        """A worker accepted a result. Returns whether that came in time to count."""
        if self._book.accept(grant) is None:
            return False
        task, attempts = self._tasks[grant.task], self._book.attempts(grant.task)
        self._core.emit(events.TaskAccepted, **self._names(task, attempts[-1]))
        self._end(task, TaskStatus.accepted, attempts, result=result, seconds=seconds)
        return True

    def reject(self, grant: Grant, reason: str | None, seconds: float, *, retry: bool) -> bool:
        """A worker rejected a result. Returns whether that came in time to count."""
        if not self._book.is_good(grant):
            return False
        task, attempt = self._tasks[grant.task], self._book.attempts(grant.task)[-1]
        text = reason or "no reason was given"
        error = ResultRejected(
            f"the result of {task.id} on {attempt.provider_name} was rejected: {text}",
            ids={"task": task.id or "", "instance": attempt.instance_id, "job": self._job_id},
        )
        self._core.emit(events.TaskRejected, **self._names(task, attempt), reason=text, retry=retry)
        if retry:
            self._after(grant, self._book.fail(grant, error, self.now()), error, seconds)
        else:
            self._after(grant, self._book.reject(grant, error), error, seconds)
        return True

    def attempt_failed(self, grant: Grant, error: BaseException) -> None:
        """An attempt ended without a result."""
        if not self._book.is_good(grant):
            return
        task, attempt = self._tasks[grant.task], self._book.attempts(grant.task)[-1]
        line = told(error).splitlines()[0]
        self._core.emit(events.TaskAttemptFailed, **self._names(task, attempt), error=line)
        self._after(grant, self._book.fail(grant, error, self.now()), error, None)

    def _after(
        self, grant: Grant, status: TaskStatus | None, error: BaseException, seconds: float | None
    ) -> None:
        """An attempt brought no result: the task waits again, or is over."""
        assert status is not None
        task, attempts = self._tasks[grant.task], self._book.attempts(grant.task)
        if not status.final:
            task._set(status)  # noqa: SLF001
            return
        if status is TaskStatus.failed:
            error = _failed(task, attempts, error)
        self._end(task, status, attempts, error=error, seconds=seconds)

    def _end(
        self,
        task: Task[Any, Any],
        status: TaskStatus,
        attempts: tuple[TaskAttempt, ...],
        *,
        result: Any = None,
        error: BaseException | None = None,
        seconds: float | None = None,
    ) -> None:
        self.counts[status] += 1
        task._set(  # noqa: SLF001
            status, result=result, error=error, attempts=attempts, seconds=seconds
        )
        self._core.emit(
            events.TaskFinished,
            task_id=task.id,
            job_id=self._job_id,
            status=status,
            attempts=len(attempts),
        )

    def _names(self, task: Task[Any, Any], attempt: TaskAttempt) -> dict[str, Any]:
        return {
            "task_id": task.id,
            "job_id": self._job_id,
            "instance_id": attempt.instance_id,
            "attempt": attempt.number,
        }


def _failed(
    task: Task[Any, Any], attempts: tuple[TaskAttempt, ...], last: BaseException
) -> TaskFailed:
    times = "once" if len(attempts) == 1 else f"{len(attempts)} times"
    failed = TaskFailed(
        f"{task.id} was tried {times} and brought no result; the last failure was {_line(last)}",
        ids={"task": task.id or ""},
        story=[
            f"attempt {a.number} on {a.provider_name} ({a.instance_id}): {_line(a.error)}"
            for a in attempts
        ],
        hint="see task.attempts; raise max_retries= if these are no bug of the worker's",
    )
    failed.__cause__ = last
    return failed


def _line(error: BaseException | None) -> str:
    if isinstance(error, InstanceError):
        return f"{type(error).__name__}: {error.message}".splitlines()[0]
    return "-" if error is None else told(error).splitlines()[0]
