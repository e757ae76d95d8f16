"""Sync handlers in threads of this process.

A thread cannot be ended from outside. A call that is stopped is over for its callers at once; its
place stays taken until the handler returns. Own threads instead of the standard library's pool:
they are daemons, so that a hanging handler does not keep the program from ending; ends are told to
the event loop in bunches; and threads are added only where work really waits, since many threads
that want the interpreter slow each other down.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final

from requestor_sdk.handlers._clerk import HAS_CLERKS, Clerk, Lender, Plain
from requestor_sdk.handlers._context import CurrentCall, running
from requestor_sdk.handlers._inline import STOPPED, Resolve
from requestor_sdk.handlers._invoke import failed, run_sync
from requestor_sdk.handlers._lane import Work
from requestor_sdk.handlers._model import Outcome

if TYPE_CHECKING:
    from pydantic import BaseModel

    from requestor_sdk.handlers._calls import Call
    from requestor_sdk.handlers._desk import CallDesk
    from requestor_sdk.handlers._lane import Lane

_PATIENCE: Final = 0.0005
"""Seconds that the event loop stands still at most for a handler that has been quick so far."""
_PATIENCE_MORE: Final = 0.0001
"""Seconds more for each further one that it waits for at the same time."""
_PATIENCE_MOST: Final = 0.005
"""Seconds at most."""
_WAIT: Final = 0.002
"""Seconds that work waits before a thread is added for it."""
_FEW: Final = 2
"""Threads that are enough for quick handlers, as long as anything of them ends."""


class _Job:
    """A work on its way through a thread."""

    __slots__ = ("call", "outcomes", "parts", "seconds", "values", "work")

    def __init__(self, work: Work) -> None:
        first = work.calls[0]
        self.work = work
        self.values: list[BaseModel] = [c.value for c in work.calls if c.value is not None]
        self.call = CurrentCall(id=first.id, function=work.lane.spec.name, attempt=first.attempt)
        self.outcomes: list[Outcome] = []
        self.parts: deque[bytes] = deque()
        self.seconds = 0.0


class _Bunch:
    """Jobs that one thread does one after another while the event loop stands still for them."""

    __slots__ = ("awaited", "done", "held", "jobs")

    def __init__(self, jobs: list[_Job]) -> None:
        self.jobs = deque(jobs)
        self.done: list[_Job] = []
        self.awaited = True
        self.held = threading.Lock()
        self.held.acquire()


class ThreadRunner:
    """Runs sync handlers in threads.

    Args:
        resolve: Gives a handler's function.
        limit: Bytes of an output at most.
        desk: Hears of calls that a thread took by itself.
        plain: Reads and answers such calls.
    """

    def __init__(self, resolve: Resolve, *, limit: int, desk: CallDesk, plain: Plain) -> None:
        self._resolve = resolve
        self._limit = limit
        self._loop = asyncio.get_running_loop()
        self._jobs: SimpleQueue[_Job | _Bunch | None] = SimpleQueue()
        self._news: deque[_Job] = deque()
        self._lock = threading.Lock()
        self._told = False
        self._threads = 0
        self._busy = 0
        self._timer: asyncio.TimerHandle | None = None
        self._quick = False
        """Whether what was begun last has been quick so far."""
        self._ends = self._seen = 0
        self._bunch: list[_Job] = []
        self._desk, self._plain = desk, plain
        self._clerk: Clerk | None = None

    def begin(self, work: Work) -> None:
        """Queue it for a thread."""
        job = work.data = _Job(work)
        work.starts()
        self._busy += 1
        self._quick = work.lane.metrics.quick and not work.lane.spec.shape.streams
        if not self._quick or not self._threads:
            self._put(job)
        else:
            # What else this turn of the loop brings goes with it: one way to a thread for all.
            self._bunch.append(job)
            if len(self._bunch) == 1:
                self._loop.call_soon(self._flush)

    def _put(self, job: _Job) -> None:
        self._jobs.put(job)
        if self._threads == 0:
            self._add_thread()
        elif self._busy > self._threads and self._timer is None:
            self._timer = self._loop.call_later(_WAIT, self._grow)

    def lend(self, lender: Lender, fd: int, lane: Lane) -> bool:
        """Have a thread serve a connection by itself; ``False`` where that cannot be."""
        if not HAS_CLERKS or not lane.lends:
            return False
        if self._clerk is None or self._clerk.left:
            self._clerk = Clerk(self._desk, self, self._plain)
        self._clerk.lend(lender, fd, lane)
        return True

    def _flush(self) -> None:
        jobs, self._bunch = self._bunch, []
        if self._busy == len(jobs):
            self._wait(jobs)
        else:
            for job in jobs:
                self._put(job)

    def _wait(self, jobs: list[_Job]) -> None:
        """Stand still for a moment: being told by a thread takes longer than a quick handler."""
        bunch = _Bunch(jobs)
        self._jobs.put(bunch)
        patience = _PATIENCE + _PATIENCE_MORE * (len(jobs) - 1)
        if not bunch.held.acquire(timeout=min(patience, _PATIENCE_MOST)):
            self._give_up(bunch)
        for job in bunch.done:
            self._ended(job)

    def _give_up(self, bunch: _Bunch) -> None:
        """What is not begun may be done by other threads, and what is not over will be told."""
        with self._lock:
            bunch.awaited = False
        while bunch.jobs:
            try:
                self._put(bunch.jobs.popleft())
            except IndexError:
                return  # its thread was quicker

    def _grow(self) -> None:
        self._timer = None
        # Lanes bound how many work at a time, and so how many threads there can be. Doubled each
        # time, and not all at once: what waits may be quick, and then more threads only get in each
        # other's way.
        missing = min(self._jobs.qsize(), self._busy - self._threads)
        progress, self._seen = self._ends > self._seen, self._ends
        quick = self._quick and progress and self._threads >= _FEW
        for _ in range(0 if quick else min(missing, self._threads)):
            self._add_thread()
        if missing > 0:
            self._timer = self._loop.call_later(_WAIT, self._grow)

    def _add_thread(self) -> None:
        self._threads += 1
        name = f"handler-{self._threads}"
        threading.Thread(target=self._thread, name=name, daemon=True).start()

    def adopt(self, call: Call, current: CurrentCall) -> Callable[[Outcome, float], None]:
        """Make a call that a thread took by itself a work, and its thread one of these."""
        work = call.lane.adopt(call)
        job = work.data = _Job(work)
        job.call = current
        self._busy += 1
        self._threads += 1

        def go_on(outcome: Outcome, seconds: float) -> None:
            job.outcomes, job.seconds = [outcome], seconds
            self._tell(job)
            self._thread()

        return go_on

    def stop(self, work: Work) -> None:
        """Tell the handler, if it asks; nobody waits for it any more."""
        job = work.data
        assert isinstance(job, _Job)
        job.call.stop()
        work.done_all(STOPPED)

    # In threads ----------------------------------------------------------------------------------

    def _thread(self) -> None:
        while (item := self._jobs.get()) is not None:
            # A fresh context each: what one call sets is not seen by the next.
            if isinstance(item, _Job):
                contextvars.Context().run(self._run, item, None)
            else:
                self._run_bunch(item)
            del item

    def _run_bunch(self, bunch: _Bunch) -> None:
        while bunch.jobs:
            try:
                job = bunch.jobs.popleft()
            except IndexError:
                return  # given to other threads
            contextvars.Context().run(self._run, job, bunch)
        with self._lock:
            if bunch.awaited:
                bunch.held.release()

    def _run(self, job: _Job, bunch: _Bunch | None) -> None:
        def part(data: bytes) -> None:
            job.parts.append(data)
            self._tell(job)

        began = time.perf_counter()
        outcomes = self._outcomes(job.work.calls, job.values, job.call, part)
        job.seconds = time.perf_counter() - began
        with self._lock:
            job.outcomes = outcomes
            if bunch is not None and bunch.awaited:
                bunch.done.append(job)
                return
        self._tell(job)

    def invoke(self, call: Call, current: CurrentCall) -> Outcome:
        """Call a handler, in this thread. Raises nothing."""
        assert call.value is not None
        run = contextvars.Context().run
        return run(self._outcomes, [call], [call.value], current, call.add_part)[0]

    def _outcomes(
        self,
        calls: list[Call],
        values: list[BaseModel],
        current: CurrentCall,
        part: Callable[[bytes], None],
    ) -> list[Outcome]:
        lane = calls[0].lane
        running.set(current)
        try:
            return run_sync(
                self._resolve(lane.spec.name),
                values,
                lane.spec,
                lane.codec,
                limit=self._limit,
                part=part,
                wanted=lambda: not current.stopped,
            )
        except BaseException as error:  # noqa: BLE001 - SystemExit too: it is the handler's own
            told = [call.id for call in calls]
            outcome = STOPPED if current.stopped else failed(error, lane.spec, told)
            return [outcome] * len(values)

    def _tell(self, job: _Job) -> None:
        with self._lock:
            self._news.append(job)
            told, self._told = self._told, True
        if not told:
            try:
                self._loop.call_soon_threadsafe(self._hear)
            except RuntimeError:
                # The loop is closed: the program has ended and nobody waits any more.
                return

    # On the loop ---------------------------------------------------------------------------------

    def _hear(self) -> None:
        with self._lock:
            news, self._news = self._news, deque()
            self._told = False
        for job in news:
            while job.parts:
                job.work.part(job.parts.popleft())
            if job.outcomes:
                self._ended(job)

    def _ended(self, job: _Job) -> None:
        outcomes, job.outcomes = job.outcomes, []
        self._busy -= 1
        self._ends += 1
        job.work.lane.metrics.worked(job.seconds)
        job.work.done(outcomes)
        job.work.released()

    async def close(self) -> None:
        """Let idle threads end; those that hang end with the process."""
        if self._timer is not None:
            self._timer.cancel()
        if self._clerk is not None:
            self._clerk.close()
        for _ in range(self._threads):
            self._jobs.put(None)
        self._hear()
