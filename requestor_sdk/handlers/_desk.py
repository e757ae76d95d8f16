"""The desk: takes calls, knows them by id, writes them down, and sees to it that each ends once.

Where calls are kept in memory only, ends are forgotten after a while, or when there are too many.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from requestor_sdk.handlers._calls import Call, digest_of, stopped
from requestor_sdk.handlers._logger import logger
from requestor_sdk.handlers._model import (
    CallConflict,
    CallFailure,
    HandlersClosed,
    HandlersFull,
    Outcome,
    Record,
    Status,
)
from requestor_sdk.model.errors import StoreUnusable

if TYPE_CHECKING:
    from pydantic import BaseModel

    from requestor_sdk.handlers._lane import Lane
    from requestor_sdk.handlers._outbox import Outbox
    from requestor_sdk.handlers._store import CallStore

ENDS: Final = 10_000
"""Ends that are kept in memory at most."""
BYTES: Final = 256 << 20
"""Bytes of outputs that are kept in memory at most."""
INPUTS: Final = 256 << 20
"""Bytes of inputs at most that wait or are worked on; one call may have more by itself."""
_LINES: Final = 50
"""Successes that are logged one by one in a second."""
_QUIET: Final = ("WorkerDied", "InitFailed", "Interrupted")
"""Failures that nobody else has logged."""
_TRIES: Final = 3
"""How often an idempotent call is begun, if a process dies each time."""


class CallDesk:
    """All calls of a program.

    Args:
        keep: Seconds that ends are kept in memory.
        store: Where calls are written down, or ``None``.
    """

    def __init__(self, *, keep: float, store: CallStore | None) -> None:
        self._keep = keep
        self._store = store
        self.lanes: dict[str, Lane] = {}
        self.outbox: Outbox | None = None
        self._calls: dict[str, Call] = {}
        self._ends: OrderedDict[str, tuple[Call, float]] = OrderedDict()
        self._bytes = self._held = 0
        self._prefix = os.urandom(8).hex()
        self._made = itertools.count(1)
        self.closed: str | None = "starting"
        """Why no calls are taken, if so."""
        self._quiet = asyncio.Event()
        self._log = _Log()
        self.news: deque[tuple[Call, float]] = deque()
        """Calls that a thread took and ended by itself, with their seconds."""

    # In ------------------------------------------------------------------------------------------

    def new_id(self) -> str:
        """Return an id for a call whose caller named none. May be called in any thread."""
        return f"{self._prefix}-{next(self._made):x}"

    async def accept(
        self, lane: Lane, call_id: str, body: bytes, value: BaseModel, *, notify: bool
    ) -> Call:
        """Take a call; once this returns, it has an end some day. A known id gives its call.

        Raises:
            CallConflict: The id belongs to another call.
            HandlersClosed: The program starts or ends, or its store is broken.
            HandlersFull: Too many wait.
        """
        known = self._calls.get(call_id)
        if known is not None:
            return await self._repeated(known, lane, body)
        call = self._new(lane, call_id, body, value, notify=notify)
        if not call_id.startswith(self._prefix):
            call.digest = digest_of(body)
        if self._store is not None and (earlier := await self._written(call, self._store)):
            return await self._repeated(earlier, lane, body)
        lane.metrics.accepted += 1
        self._hand_on(call)
        return call

    def accept_now(self, lane: Lane, body: bytes, value: BaseModel) -> Call:
        """Take a call that has no id yet, where nothing is to be written down.

        Raises:
            HandlersClosed: The program starts or ends.
            HandlersFull: Too many wait.
        """
        assert self._store is None
        call = self._new(lane, self.new_id(), body, value, notify=False)
        lane.metrics.accepted += 1
        lane.submit(call)
        return call

    def _new(
        self, lane: Lane, call_id: str, body: bytes, value: BaseModel, *, notify: bool
    ) -> Call:
        if self.closed is not None:
            raise HandlersClosed(self.closed, retry_after=1)
        if self._held and self._held + len(body) > INPUTS:
            lane.metrics.refused += 1
            raise HandlersFull(f"inputs of {self._held} bytes are waiting", retry_after=1)
        lane.reserve()
        self._held += len(body)
        call = self._calls[call_id] = Call(call_id, lane, body, value, notify=notify)
        return call

    def _hand_on(self, call: Call) -> None:
        if self.closed is not None and not call.lane.open:
            # The program has begun to end while this was written down.
            call.lane.unreserve()
            self.finish(call, stopped(Status.rejected, self.closed))
        else:
            call.lane.submit(call)

    async def _repeated(self, known: Call, lane: Lane, body: bytes) -> Call:
        if known.lane is not lane or known.digest != digest_of(body):
            raise CallConflict(f"the id {known.id!r} belongs to another call")
        if known.accepted is not None:
            await asyncio.shield(known.accepted)
        return known

    async def _written(self, call: Call, store: CallStore) -> Call | None:
        """Write a call down. Gives the one that had its id before, from the store."""
        call.accepted = asyncio.get_running_loop().create_future()
        call.accepted.add_done_callback(lambda future: future.exception())
        try:
            earlier = await asyncio.shield(store.add(call.record()))
        except StoreUnusable as error:
            self._withdraw(call)
            closed = HandlersClosed("the store cannot be written", retry_after=5)
            call.accepted.set_exception(closed)
            raise closed from error
        call.accepted.set_result(None)
        call.accepted = None
        if earlier is None:
            return None
        self._withdraw(call)
        return self._of_store(earlier)

    def _withdraw(self, call: Call) -> None:
        call.lane.unreserve()
        self._held -= len(call.body)
        del self._calls[call.id]
        self._quiet.set()

    # On ------------------------------------------------------------------------------------------

    def begins(self, calls: Sequence[Call], then: Callable[[], None]) -> None:
        """Calls begin; what follows waits until the store has that."""
        for call in calls:
            call.begins()
        if self._store is None:
            then()
            return
        written = self._store.begin([(call.id, call.attempt) for call in calls], time.time())
        # A store that fails here is told by readiness; the calls are not held up by it.
        written.add_done_callback(lambda _: then())

    def finish(self, call: Call, outcome: Outcome) -> None:
        """A call is over; the first end stays."""
        if call.ending:
            return
        call.ending = True
        call.finished_at = time.time()
        if self._store is None:
            self._ended(call, outcome)
            return
        written = self._store.finish(call.id, outcome, call.finished_at)
        written.add_done_callback(lambda _: self._ended(call, outcome))

    def _ended(self, call: Call, outcome: Outcome) -> None:
        self._held -= len(call.body)
        call.end(outcome)
        self._settled(call, outcome)

    def _settled(self, call: Call, outcome: Outcome) -> None:
        call.lane.metrics.ended[outcome.status] += 1
        self._log(call, outcome)
        self._remember(call)
        if call.notify and self.outbox is not None:
            self.outbox.add(call)
        self._quiet.set()

    def take_over(self, call: Call) -> None:
        """Know a call that a thread took by itself."""
        self._calls[call.id] = call
        self._held += len(call.body)
        call.lane.metrics.accepted += 1
        call.lane.metrics.batch(1)

    def hear(self) -> None:
        """Hear of the calls that threads ended by themselves."""
        while self.news:
            call, seconds = self.news.popleft()
            assert call.outcome is not None
            self.take_over(call)
            call.lane.metrics.took(seconds)
            call.lane.metrics.worked(seconds)
            self._settled(call, call.outcome)
        self._quiet.set()

    def _remember(self, call: Call) -> None:
        assert call.outcome is not None
        # By the clock that nobody sets.
        now = time.monotonic()
        self._ends[call.id] = call, now
        self._bytes += _size(call)
        while self._ends:
            first, ended = next(iter(self._ends.values()))
            old = ended < now - self._keep
            if not old and len(self._ends) <= ENDS and self._bytes <= BYTES:
                return
            del self._ends[first.id], self._calls[first.id]
            self._bytes -= _size(first)

    # Look ----------------------------------------------------------------------------------------

    async def find(self, call_id: str) -> Call | None:
        """Return a call by its id."""
        self.hear()
        call = self._calls.get(call_id)
        if call is None and self._store is not None:
            record = await self._store.get(call_id)
            call = self._calls.get(call_id) or (self._of_store(record) if record else None)
        return call

    def _of_store(self, record: Record) -> Call | None:
        lane = self.lanes.get(record.function)
        return None if lane is None else Call.of_record(record, lane)

    async def wait(self, call: Call, seconds: float) -> Outcome | None:
        """Wait for the end of a call, for at most so long."""
        if call.outcome is None and seconds > 0:
            try:
                async with asyncio.timeout(seconds):
                    await call.over()
            except TimeoutError:
                return None
        return call.outcome

    async def cancel(self, call: Call, why: str) -> None:
        """Cancel a call and wait for its end."""
        call.lane.stop(call, Status.cancelled, why)
        await call.over()

    # Begin and end -------------------------------------------------------------------------------

    async def take_up(self) -> None:
        """Go on with what an earlier process left; open the lanes."""
        if self._store is not None:
            for record in await self._store.unfinished():
                lane = self.lanes.get(record.function)
                if lane is not None:
                    self._take_up(Call.of_record(record, lane))
                else:
                    logger.warning("[%s] `%s` is not there any more", record.id, record.function)
            if self.outbox is not None:
                for call in await self.undelivered():
                    self.outbox.add(call)
        self.closed = None
        for lane in self.lanes.values():
            lane.open = True
            lane.pump()

    def _take_up(self, call: Call) -> None:
        self._calls[call.id] = call
        self._held += len(call.body)
        limits = call.lane.spec.limits
        if call.status is Status.running:
            if not limits.idempotent or call.attempt >= _TRIES:
                said = "the program ended in the middle of it; what it did is not known"
                error = CallFailure(type="Interrupted", message=said)
                self.finish(call, Outcome(status=Status.failed, error=error))
                return
            call.attempt += 1
        call.status = Status.queued
        try:
            call.value = call.lane.codec.read(call.body)
        except ValueError:
            error = CallFailure(type="InvalidInput", message="the input does not fit any more")
            self.finish(call, Outcome(status=Status.failed, error=error))
            return
        call.lane.add(call)

    async def undelivered(self) -> list[Call]:
        """Return ends that the callback does not have, from the store."""
        if self._store is None:
            return []
        found = [self._of_store(record) for record in await self._store.undelivered(5000)]
        return [call for call in found if call is not None]

    async def delivered(self, call: Call) -> None:
        """The callback has the end of a call."""
        if self._store is not None:
            try:
                await self._store.deliver(call.id)
            except StoreUnusable as error:
                logger.error("[%s] not written down as delivered: %s", call.id, error.message)

    async def quiet(self) -> None:
        """Wait until nothing waits and nothing is worked on."""
        while any(not lane.idle for lane in self.lanes.values()) or self._unsettled():
            self._quiet.clear()
            await self._quiet.wait()

    def _unsettled(self) -> Iterable[Call]:
        return [call for call in self._calls.values() if call.outcome is None and call.ending]

    @property
    def keeps(self) -> bool:
        """Whether calls that wait outlive the process."""
        return self._store is not None

    def status_counts(self) -> Mapping[str, int]:
        """Return how many calls wait and are worked on."""
        lanes = self.lanes.values()
        return {"queued": sum(x.queued for x in lanes), "working": sum(x.working for x in lanes)}


def _size(call: Call) -> int:
    output = call.outcome.output if call.outcome else None
    return call.size + len(output or b"") + 500


class _Log:
    """Logs ends: failures all, successes so many a second, since a line costs as much as a call."""

    def __init__(self) -> None:
        self._second = 0
        self._count = 0

    def __call__(self, call: Call, outcome: Outcome) -> None:
        name = call.lane.spec.name
        if outcome.status is Status.succeeded:
            self._success(call.id, name)
        elif outcome.status is Status.timed_out:
            seconds = call.lane.spec.limits.timeout or 0
            logger.task_timeout("[%s] `%s` timed out after %g seconds", call.id, name, seconds)
        elif outcome.status is not Status.failed:
            logger.info("[%s] `%s` %s", call.id, name, outcome.status)
        elif outcome.error is not None and outcome.error.type in _QUIET:
            logger.task_fail("[%s] `%s` failed: %s", call.id, name, outcome.error.type)

    def _success(self, call_id: str, name: str) -> None:
        now = int(time.monotonic())
        if now != self._second:
            if self._count > _LINES:
                logger.task_success("%d more completed successfully", self._count - _LINES)
            self._second, self._count = now, 0
        self._count += 1
        if self._count <= _LINES:
            logger.task_success("[%s] Function: `%s` completed successfully", call_id, name)
