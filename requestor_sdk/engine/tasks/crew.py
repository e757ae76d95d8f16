"""The workers of a job: hired as there is work, let go when there is none, replaced on failure."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

from requestor_sdk.engine.tasks.stream import TaskStream
from requestor_sdk.model.errors import InstanceError, TaskTimeout, WorkersExhausted
from requestor_sdk.model.lifecycle import ServiceState, Stimulus
from requestor_sdk.model.tasks import Grant, Stop

if TYPE_CHECKING:
    from requestor_sdk.engine.cluster import Cluster
    from requestor_sdk.engine.core import Core
    from requestor_sdk.engine.instance import Instance
    from requestor_sdk.engine.tasks.desk import Desk
    from requestor_sdk.engine.tasks.options import Options
    from requestor_sdk.engine.tasks.worker import TaskWorker
    from requestor_sdk.model.tasks import Decision, TaskBook
    from requestor_sdk.service.tasks import Task

MOST_BARREN: Final = 5
"""Attempts in a row that a worker has to come to ask for its first task."""

_START_LATE: Final = (
    "begin with `async for task in tasks`; Settings(start_timeout=...) gives longer"
)
_TASK_LATE: Final = "see what the worker waits for; a longer task_timeout= gives it more time"

_UNSTARTED = (ServiceState.pending, ServiceState.starting)


class Crew:
    """The workers of one job.

    Args:
        core: What the engine shares.
        job_id: Whose workers.
        options: What was asked for.
        book: Which task is where.
        desk: The tasks.
        changed: Called when the job is to look at what is to be done next.
        give_up: Called with why there can be no workers any more.

    Attributes:
        closed: Whether nobody gets any more work; what is being done can still be settled.
    """

    def __init__(
        self,
        core: Core,
        job_id: str,
        options: Options,
        *,
        book: TaskBook,
        desk: Desk,
        changed: Callable[[], None],
        give_up: Callable[[BaseException], None],
    ) -> None:
        self._core = core
        self._job_id = job_id
        self.options: Options = options
        self._book = book
        self._desk = desk
        self._changed = changed
        self._give_up = give_up
        self._members: dict[str, Instance] = {}
        self._cluster: Cluster[TaskWorker] | None = None
        self._empty = asyncio.Event()
        self._spent = 0
        self._any_asked = False
        self.closed: bool = False

    # Who is needed -------------------------------------------------------------------------------

    @property
    def wanted(self) -> int:
        """How many workers there is work for."""
        return min(self._book.work, self.options.max_workers - self._spent)

    def adopt(self, cluster: Cluster[TaskWorker]) -> None:
        """The cluster is there, with its first workers."""
        self._cluster = cluster
        cluster.shunned = self._book.shunned
        self._expect(cluster.members())

    def disband(self) -> None:
        """The cluster is over."""
        self._cluster = None

    def adjust(self) -> None:
        """Hire or let go, and wake those for whom there is something to do.

        Raises:
            NotAvailable: The cluster takes no more workers.
        """
        if self._cluster is not None:
            missing = self.wanted - len(self._book.workers)
            if missing > 0:
                self._cluster.spawn_instances(instance_params=[{"crew": self}] * missing)
                self._expect(self._cluster.members()[-missing:])
            elif missing < 0 and self._book.input_over:
                self._fire(self.wanted)
        self._wake()

    def _expect(self, members: tuple[Instance, ...]) -> None:
        for member in members:
            self._members[member.id] = member
            self._book.worker_expected(member.id)
            member.over.on_done(partial(self._gone, member))

    def _fire(self, wanted: int) -> None:
        """Stop workers that have not begun and are not needed any more, the newest first."""
        for name in reversed(self._book.on_their_way):
            if len(self._book.workers) <= wanted:
                return
            member = self._members.get(name)
            if member is None:
                continue  # it ended in the moment in which the job did, and goes nowhere
            if member.state in _UNSTARTED:
                self._book.worker_gone(name)
                member.post(Stimulus.stop)

    def _wake(self) -> None:
        """Wake as many as there is work for; all of them where not each may take what there is."""
        idle = [s for m in self._members.values() if (s := _worker(m).stream) and s.idle]
        all_of_them = self.closed or self._book.retrying or self._book.input_over
        for stream in idle if all_of_them else idle[: self._book.waiting]:
            stream.wake()

    async def go_home(self, seconds: float) -> None:
        """The work is done: let the workers' own code end by itself, within this time."""
        self._fire(0)
        self._wake()
        if self._members:
            try:
                async with asyncio.timeout(seconds):
                    await self._empty.wait()
            except TimeoutError:
                pass

    def _gone(self, member: Instance) -> None:
        del self._members[member.id]
        if not self._members:
            self._empty.set()
        stream = _worker(member).stream
        if stream is not None:
            self._leave(stream, None, member.failure)
        if not self.closed:
            self._book.worker_gone(member.id)
            self._changed()

    # What workers say ----------------------------------------------------------------------------

    def seat(self, worker: TaskWorker) -> TaskStream:
        """A worker's code begins: return its tasks."""
        stream = TaskStream(self, worker)
        if self.closed or worker.id not in self._book.workers:
            stream.end()
            return stream
        self._book.worker_ready(
            worker.id,
            provider_id=worker.provider_id or "",
            provider_name=worker.provider_name or "",
        )
        seconds = self._core.settings.start_timeout
        stream.arm(seconds, "the worker did not ask for a task", hint=_START_LATE)
        return stream

    def left(
        self, stream: TaskStream, error: BaseException | None, failure: BaseException | None
    ) -> None:
        """A worker's code is over; what it has not settled is tried again. Idempotent.

        Args:
            stream: Its tasks.
            error: What it raised.
            failure: What ended its attempt, where it was cut off.
        """
        if self._leave(stream, error, failure):
            self._book.worker_expected(stream.worker.id)
            self._changed()

    def _leave(
        self, stream: TaskStream, error: BaseException | None, failure: BaseException | None
    ) -> bool:
        """Settle what a worker leaves; returns whether it left just now, and keeps its seat."""
        worker = stream.worker
        first = not stream.left
        stream.left = True
        stream.end()
        if not first or self.closed or worker.id not in self._book.workers:
            return False
        if (grant := self._book.grant_of(worker.id)) is not None:
            if error is None or isinstance(error, asyncio.CancelledError | GeneratorExit):
                error = failure or InstanceError(
                    "its worker was stopped", ids={"instance": worker.id, "job": self._job_id}
                )
            self._desk.attempt_failed(grant, error)
        return True

    def wants_again(self, worker: TaskWorker) -> bool:
        """Decide whether a worker whose attempt ended is tried again."""
        if worker.stream is not None and worker.stream.asked:
            worker.barren = 0
        else:
            worker.barren += 1
        if self.closed or worker.id not in self._book.workers:
            return False
        if worker.barren >= MOST_BARREN:
            self._worker_spent(worker)
            return False
        if self._book.grant_of(worker.id) is not None or not self._book.input_over:
            return True
        if len(self._book.workers) <= self.wanted:
            return True
        self._book.worker_gone(worker.id)
        return False

    def _worker_spent(self, worker: TaskWorker) -> None:
        self._spent += 1
        others = self._any_asked or self._any_hopeful()
        if others and self._spent < self.options.max_workers:
            return
        exhausted = WorkersExhausted(
            f"{worker.id} was tried {worker.barren} times and never came to ask for a task, and "
            "there is nobody else",
            ids={"job": self._job_id, "instance": worker.id},
            story=self._core.story(most=20, instance=worker.id),
            hint="see the failures above: the payload, start() or the worker's own beginning",
        )
        exhausted.__cause__ = worker.failure
        self._give_up(exhausted)

    def _any_hopeful(self) -> bool:
        """Tell whether somebody has a provider and has not failed yet: it may still come to ask."""
        return any(
            _worker(member).barren == 0 and member.attempt is not None
            for member in self._members.values()
        )

    def too_late(self, stream: TaskStream, what: str, hint: str) -> None:
        """A worker's code took too long: its attempt is ended, and others have what it had."""
        member = self._members.get(stream.worker.id)
        ids = {"instance": stream.worker.id, "job": self._job_id}
        late = TaskTimeout(
            what, ids=ids, story=self._core.story(instance=stream.worker.id), hint=hint
        )
        self.left(stream, late, None)
        if member is not None:
            member.give_up(late)

    # Tasks ---------------------------------------------------------------------------------------

    def now(self) -> float:
        """Seconds of the engine's clock."""
        return self._desk.now()

    def ask(self, stream: TaskStream) -> Decision:
        """Decide what a worker does next."""
        if self.closed:
            return Stop()
        self._any_asked = True
        return self._book.ask(stream.worker.id, self.now())

    def take(self, stream: TaskStream, grant: Grant) -> Task[Any, Any]:
        """A worker takes a task."""
        task = self._desk.take(grant)
        stream.arm(self.options.task_timeout, f"{task.id} was not done", hint=_TASK_LATE)
        self._changed()
        return task

    def accept(self, stream: TaskStream, grant: Grant, result: Any, seconds: float) -> None:
        """A worker accepted a result; where it comes too late it changes nothing."""
        if self._desk.accept(grant, result, seconds):
            self._settled(stream)

    def reject(
        self, stream: TaskStream, grant: Grant, reason: str | None, seconds: float, *, retry: bool
    ) -> None:
        """A worker rejected a result; where it comes too late it changes nothing."""
        if self._desk.reject(grant, reason, seconds, retry=retry):
            self._settled(stream)

    def _settled(self, stream: TaskStream) -> None:
        what = "the worker did not ask for its next task"
        stream.arm(self.options.task_timeout, what, hint=_TASK_LATE)
        self._changed()


def _worker(member: Instance) -> TaskWorker:
    return cast("TaskWorker", member.service)
