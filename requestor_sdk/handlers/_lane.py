"""A lane: the calls of one handler, its queue, its batches and how many work at a time.

A ``Work`` is one handing-over of calls to a runner: one call, or a batch. A runner tells it parts,
the end, and that its place is free again; it tells each of the last two once, in this order.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from requestor_sdk.handlers._calls import Call, stopped
from requestor_sdk.handlers._model import HandlersFull, Outcome, Status

if TYPE_CHECKING:
    from requestor_sdk.handlers._metrics import LaneMetrics
    from requestor_sdk.handlers._signature import Codec, HandlerSpec


class Runner(Protocol):
    """Where handlers work."""

    def begin(self, work: Work) -> None:
        """Begin; tell the work what comes of it."""
        ...

    def stop(self, work: Work) -> None:
        """Stop it; still tell of its end and of its place."""
        ...


class Desk(Protocol):
    """What a lane needs of the whole."""

    def begins(self, calls: Sequence[Call], then: Callable[[], None]) -> None:
        """Calls begin; ``then`` is called once that is written down."""
        ...

    def finish(self, call: Call, outcome: Outcome) -> None:
        """A call is over. Later ends of the same call change nothing."""
        ...


class Borrower(Protocol):
    """A thread that takes calls by itself, one at a time; it has one place of the lane."""

    def works_on(self, lane: Lane) -> bool:
        """Whether it works on a call now."""
        ...

    def recall(self, lane: Lane) -> None:
        """Give all back, at once: then ``give_back`` is called."""
        ...


class Work:
    """Calls that were handed over together."""

    __slots__ = ("_timer", "began", "begun", "calls", "data", "lane", "over", "stopping", "why")

    def __init__(self, lane: Lane, calls: list[Call]) -> None:
        self.lane = lane
        self.calls = calls
        self.stopping: Status | None = None
        self.why = ""
        self.over = False
        self.begun = False
        """Whether a runner has it."""
        self.began = 0.0
        self.data: object = None
        """The runner's own."""
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Hand the calls that are still wanted over."""
        self.calls = [call for call in self.calls if not call.ending]
        if not self.calls:
            self.over = True
            self.lane.released(self)
            return
        self.begun = True
        self.lane.runner.begin(self)

    def starts(self) -> None:
        """Its handler starts: from now on its time counts. Called by the runner."""
        self.began = time.perf_counter()
        timeout = self.lane.spec.limits.timeout
        if timeout is not None:
            self._timer = asyncio.get_running_loop().call_later(timeout, self._late, timeout)

    def _late(self, timeout: float) -> None:
        self.stop(Status.timed_out, f"it took longer than {timeout:g} s")

    def stop(self, status: Status, why: str) -> None:
        """Stop the work; idempotent: the first reason stays."""
        if self.over or self.stopping is not None:
            return
        self.stopping, self.why = status, why
        self.lane.runner.stop(self)

    def part(self, data: bytes) -> None:
        """A stream sent a part."""
        if not self.over and self.stopping is None:
            self.calls[0].add_part(data)

    def done(self, outcomes: Sequence[Outcome]) -> None:
        """It is over, with an outcome for each call."""
        if self.over:
            return
        self.over = True
        if self._timer is not None:
            self._timer.cancel()
        if self.began:
            self.lane.metrics.took(time.perf_counter() - self.began)
        for call, outcome in zip(self.calls, outcomes, strict=True):
            if self.stopping is not None:
                outcome = stopped(self.stopping, self.why)  # noqa: PLW2901 - too late to count
            self.lane.desk.finish(call, outcome)

    def done_all(self, outcome: Outcome) -> None:
        """It is over, with one outcome for all calls."""
        self.done([outcome] * len(self.calls))

    def released(self) -> None:
        """Its place is free again."""
        self.lane.released(self)


class Lane:
    """The calls of one handler."""

    def __init__(
        self, spec: HandlerSpec, codec: Codec, runner: Runner, desk: Desk, metrics: LaneMetrics
    ) -> None:
        self.spec = spec
        self.codec = codec
        self.runner = runner
        self.desk = desk
        self.metrics = metrics
        self.open = False
        """Whether calls are let through to the runner."""
        self._waiting: deque[Call] = deque()
        self._reserved = 0
        self._works: set[Work] = set()
        self._borrower: Borrower | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def queued(self) -> int:
        """Calls that wait."""
        return len(self._waiting) + self._reserved

    @property
    def working(self) -> int:
        """Handings-over whose place is not free yet."""
        lent = self._borrower is not None and self._borrower.works_on(self)
        return len(self._works) + lent

    @property
    def abandoned(self) -> int:
        """Works that are over for their callers and yet could not be ended."""
        return sum(1 for work in self._works if work.over)

    # In ------------------------------------------------------------------------------------------

    def reserve(self) -> None:
        """Take a place for a call that is about to come.

        Raises:
            HandlersFull: There is none.
        """
        limits = self.spec.limits
        free = (limits.concurrency - self.working) * limits.batch
        if self.queued >= limits.queue + max(0, free):
            self.metrics.refused += 1
            raise HandlersFull(
                f"{self.spec.name} has {self.working} at work and {self.queued} waiting",
                retry_after=self._retry_after(),
            )
        self._reserved += 1

    def _retry_after(self) -> int:
        each = self.metrics.mean() * (self.queued + 1) / self.spec.limits.concurrency
        return max(1, min(60, round(each)))

    def unreserve(self) -> None:
        """Give a reserved place back."""
        self._reserved -= 1

    def submit(self, call: Call) -> None:
        """Put a call into its reserved place."""
        self._reserved -= 1
        self.add(call)

    def add(self, call: Call) -> None:
        """Put a call at the end of the queue."""
        if self.spec.limits.batch > 1:
            call.queued_at = time.monotonic()
        self._waiting.append(call)
        self.pump()

    # On ------------------------------------------------------------------------------------------

    def pump(self) -> None:
        """Hand over what can be."""
        limits = self.spec.limits
        # What is lent keeps its place until it is back: a call may begin there at any moment.
        places = limits.concurrency - (self._borrower is not None)
        while self.open and self._waiting and len(self._works) < places:
            if limits.batch > 1 and not self._batch_is_due():
                return
            calls = [self._waiting.popleft()]
            while len(calls) < limits.batch and self._waiting:
                calls.append(self._waiting.popleft())
            self._hand_over(calls)
        if self._waiting:
            self.recall()

    def _batch_is_due(self) -> bool:
        limits = self.spec.limits
        waited = time.monotonic() - self._waiting[0].queued_at
        if len(self._waiting) >= limits.batch or waited >= limits.batch_wait:
            return True
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(limits.batch_wait - waited + 0.001, self._pump_late)
        return False

    def _pump_late(self) -> None:
        self._timer = None
        self.pump()

    def _hand_over(self, calls: list[Call]) -> None:
        work = Work(self, calls)
        self._works.add(work)
        for call in calls:
            call.work = work
        self.metrics.batch(len(calls))
        self.desk.begins(calls, work.begin)

    def released(self, work: Work) -> None:
        """A place is free again."""
        self._works.discard(work)
        self.pump()

    # On loan -------------------------------------------------------------------------------------

    @property
    def lends(self) -> bool:
        """Whether a thread may take calls of this handler by itself."""
        limits = self.spec.limits
        plain = limits.isolation == "thread" and limits.batch == 1
        free = not self._waiting and len(self._works) < limits.concurrency
        return plain and free and self.open and not limits.timeout

    def lend(self, borrower: Borrower) -> None:
        """Give one place away."""
        self._borrower = borrower

    def recall(self) -> None:
        """Have the place back, if it is lent."""
        if self._borrower is not None:
            self._borrower.recall(self)

    def give_back(self) -> None:
        """The place is back."""
        self._borrower = None
        self.pump()

    def adopt(self, call: Call) -> Work:
        """Return the work of a call that has begun where the place was lent."""
        work = call.work = Work(self, [call])
        work.begun, work.began = True, time.perf_counter()
        self._works.add(work)
        return work

    # Out -----------------------------------------------------------------------------------------

    def stop(self, call: Call, status: Status, why: str) -> None:
        """Stop one call, wherever it is. A batch goes on for the others."""
        work = call.work
        if call.ending:
            return
        if work is None:
            if call in self._waiting:
                self._waiting.remove(call)
            self.desk.finish(call, stopped(status, why))
        elif not work.begun or any(c is not call and not c.ending for c in work.calls):
            self.desk.finish(call, stopped(status, why))
        else:
            work.stop(status, why)

    def reject_waiting(self, why: str) -> list[Call]:
        """Take all that wait out of the queue, and return them."""
        self.open = False
        waiting, self._waiting = list(self._waiting), deque()
        for call in waiting:
            self.desk.finish(call, stopped(Status.rejected, why))
        return waiting

    def stop_all(self, why: str) -> None:
        """Stop all that is at work."""
        self.open = False
        for work in list(self._works):
            work.stop(Status.cancelled, why)

    def at_work(self) -> list[Call]:
        """Return the calls that are worked on."""
        return [call for work in self._works for call in work.calls]

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nobody waits for an end."""
        return not self.queued and all(work.over for work in self._works)
