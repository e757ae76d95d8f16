"""One instance: feeds events to the lifecycle's table and performs the effects, in order.

Events are taken synchronously, so that what was asked for has happened when the call returns.
Effects that take time queue in a task that lives only while there is something to do.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from requestor_sdk.engine import contracts
from requestor_sdk.engine.attempt import Attempt
from requestor_sdk.engine.batches import BatchQueue
from requestor_sdk.engine.contracts import Contract
from requestor_sdk.engine.pump import Pump
from requestor_sdk.engine.search import Search
from requestor_sdk.engine.tracebacks import text_of, told, trimmed
from requestor_sdk.model import events
from requestor_sdk.model.errors import (
    NotAvailable,
    ProviderLost,
    RestartsExhausted,
    ShutdownTimeout,
    StartTimeout,
)
from requestor_sdk.model.lifecycle import (
    Effect,
    Record,
    ServiceState,
    Stimulus,
    is_available,
    rule_for,
    step,
)
from requestor_sdk.model.market import EndReason
from requestor_sdk.service._handles import Outcome
from requestor_sdk.service.context import WorkContext
from requestor_sdk.service.mailbox import Mailbox
from requestor_sdk.service.service import Service

if TYPE_CHECKING:
    from requestor_sdk.engine.cluster import Cluster
    from requestor_sdk.engine.core import Core

logger = logging.getLogger("requestor_sdk.engine")

_HANDLER_OF = {
    ServiceState.starting: "start",
    ServiceState.running: "run",
    ServiceState.stopping: "shutdown",
}


class Instance:
    """One member of a cluster, over all its attempts.

    Args:
        core: What the engine shares.
        cluster: Where it belongs.
        service: The user's object.
        instance_id: Stable over attempts.
    """

    def __init__(
        self, core: Core, cluster: Cluster[Any], service: Service, instance_id: str
    ) -> None:
        self._core = core
        self._cluster = cluster
        self.service = service
        self.id = instance_id
        self.mailbox = Mailbox(core.settings.mailbox_size)
        self.record = Record()
        self.failure: BaseException | None = None
        self.over: Outcome[None] = Outcome()
        self.attempt: Attempt | None = None
        self.search = Search(
            core,
            cluster,
            service,
            instance_id,
            on_found=self._attach,
            on_refused=self._refused,
        )
        self._pump: Pump | None = None
        self._handler: str | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._handler_timer: asyncio.TimerHandle | None = None
        self._hold_timer: asyncio.TimerHandle | None = None
        self._inbox: deque[tuple[Stimulus, BaseException | None]] = deque()
        self._stepping = False
        self._work: deque[Callable[[], Awaitable[None]]] = deque()
        self._worker: asyncio.Task[None] | None = None
        self._loss: BaseException | None = None
        self._ending_cause: str | None = None
        self._closing: Pump | None = None
        service._member = self  # type: ignore[misc]  # noqa: SLF001 - the one place that attaches

    # What the service object shows ---------------------------------------------------------------

    @property
    def state(self) -> ServiceState:
        """Where it is in its life."""
        return self.record.state

    @property
    def cluster(self) -> Any:
        """Its cluster."""
        return self._cluster

    @property
    def context(self) -> WorkContext | None:
        """The work context of this attempt."""
        return self.attempt.context if self.attempt else None

    # Events in -----------------------------------------------------------------------------------

    def begin(self) -> None:
        """Start the first attempt."""
        self._queue(self._begin_acquiring)

    def post(
        self,
        stimulus: Stimulus,
        *,
        error: BaseException | None = None,
        attempt: int | None = None,
    ) -> None:
        """Take an event; one from an earlier attempt is dropped."""
        if attempt is not None and attempt != self.record.attempt:
            return
        self._inbox.append((stimulus, error))
        if self._stepping:
            return
        self._stepping = True
        try:
            while self._inbox:
                self._step(*self._inbox.popleft())
        finally:
            self._stepping = False

    def give_up(self, error: BaseException) -> None:
        """End this attempt as failed, as if its ``run()`` had raised this."""
        self.post(Stimulus.run_failed, error=error, attempt=self.record.attempt)

    def _step(self, stimulus: Stimulus, error: BaseException | None) -> None:
        before = self.record
        if error is not None and rule_for(before, stimulus) is not None:
            self._keep_failure(error)
        cause = None if error is None else told(error).splitlines()[0]
        done = step(before, stimulus, cause=cause, may_restart=self._may_restart)
        if done.rule is None:
            self._core.emit(
                events.StimulusIgnored,
                instance_id=self.id,
                state=before.state,
                stimulus=stimulus,
            )
            return
        self.record = done.record
        self._ending_cause = cause or before.cause
        self._loss = error if stimulus in (Stimulus.lost, Stimulus.deadline) else self._loss
        if done.record.state is not before.state:
            self._tell_change(before, stimulus, cause)
        for effect in done.effects:
            self._perform(effect, before)
        self._cluster.changed()

    def _tell_change(self, before: Record, stimulus: Stimulus, cause: str | None) -> None:
        attempt = self.attempt
        self._core.emit(
            events.ServiceStateChanged,
            instance_id=self.id,
            cluster_id=self._cluster.id,
            old=before.state,
            new=self.record.state,
            stimulus=stimulus,
            attempt=before.attempt,
            provider_id=attempt.contract.provider_id if attempt else None,
            provider_name=attempt.contract.provider_name if attempt else None,
            cause=cause,
        )

    def _keep_failure(self, error: BaseException, attempt: int | None = None) -> None:
        number = self.record.attempt if attempt is None else attempt
        self.failure = trimmed(error)
        logger.warning("instance %s, attempt %d: %r", self.id, number, error)
        self._core.emit(
            events.ServiceFailed,
            instance_id=self.id,
            cluster_id=self._cluster.id,
            attempt=number,
            error=told(error),
            traceback=text_of(error),
        )

    def _may_restart(self, record: Record) -> bool:
        try:
            return self._cluster.may_restart(self, record)
        except Exception as error:
            logger.exception("restart_condition of %s failed", self.id)
            self._keep_failure(error)
            return False

    # Effects out ---------------------------------------------------------------------------------

    def _perform(self, effect: Effect, before: Record) -> None:
        match effect:
            case Effect.close_handler:
                self._cancel_timer("_handler_timer")
                hurry = self.record.state is ServiceState.terminated
                pump, loss, self._loss = self._pump, self._loss, None
                self._pump = self._handler = None
                if pump is not None:
                    number, grace = before.attempt, 0 if hurry or loss else None
                    self._queue(lambda: self._close(pump, number, grace, loss))
                if self.record.state is ServiceState.stopping and self.attempt is not None:
                    until = self._core.clock.monotonic() + self._core.settings.stop_grace
                    batches = self.attempt.batches
                    self._queue(lambda: batches.drain(until - self._core.clock.monotonic()))
            case Effect.run_handler:
                number, state = self.record.attempt, self.record.state
                self._queue(lambda: self._run_handler(number, state))
            case Effect.arm_deadline:
                self._arm_deadline(self._core.settings.unresponsive_deadline)
            case Effect.cut_deadline:
                self._cut_deadline()
            case Effect.clear_deadline:
                self._cancel_timer("_deadline")
            case Effect.release:
                self._begin_release(before)
            case Effect.acquire:
                self._queue(self._begin_acquiring)
            case Effect.finish:
                self._queue(self._finish)

    def _queue(self, work: Callable[[], Awaitable[None]]) -> None:
        self._work.append(work)
        if self._worker is None:
            # Where the engine breaks off, it is the engine that releases what there is.
            self._worker = self._core.try_spawn(self._do_work(), f"{self.id} effects")

    async def _do_work(self) -> None:
        try:
            while self._work:
                await self._work.popleft()()
        finally:
            self._worker = None

    # Handlers ------------------------------------------------------------------------------------

    async def _run_handler(self, number: int, state: ServiceState) -> None:
        if self.record.attempt != number or self.record.state is not state:
            return  # something else has happened meanwhile
        name = _HANDLER_OF[state]
        if self._handler == name and self._pump is not None and not self._pump.task.done():
            return
        if name == "shutdown" and not (self.record.deployed or self.record.started):
            self.post(Stimulus.shutdown_over, attempt=number)
            return
        attempt = self.attempt
        assert attempt is not None
        try:
            generator = getattr(self.service, name)()
        except Exception as error:  # noqa: BLE001 - the user's own: it ends the attempt
            self._handler_done(name, number, error)
            return
        self._handler = name
        self._pump = pump = Pump(
            generator,
            attempt.batches.submit,
            lambda error: self._pumped(pump, name, number, error),
            name=f"{self.id} {name}",
        )
        self._time_handler(name, number)

    def _pumped(self, pump: Pump, name: str, number: int, error: BaseException | None) -> None:
        if pump is self._pump:
            self._handler_done(name, number, error)
        elif error is not None and not isinstance(error, asyncio.CancelledError):
            # It ended by itself in the moment before it would have been closed.
            self._closed_with(error, number)

    def _time_handler(self, name: str, number: int) -> None:
        settings, loop = self._core.settings, asyncio.get_running_loop()
        if name == "start":
            late: BaseException = StartTimeout(
                f"start() took longer than {settings.start_timeout:g} s", ids={"instance": self.id}
            )
            self._handler_timer = loop.call_later(
                settings.start_timeout,
                lambda: self.post(Stimulus.start_failed, error=late, attempt=number),
            )
        elif name == "shutdown":
            late = ShutdownTimeout(
                f"shutdown() took longer than {settings.shutdown_timeout:g} s",
                ids={"instance": self.id},
            )
            self._handler_timer = loop.call_later(
                settings.shutdown_timeout,
                lambda: self.post(Stimulus.shutdown_over, error=late, attempt=number),
            )

    def _handler_done(self, name: str, number: int, error: BaseException | None) -> None:
        if isinstance(error, asyncio.CancelledError):
            error = NotAvailable(f"{name}() of {self.id} was cancelled from outside")
        failed = error is not None
        stimulus = {
            "start": Stimulus.start_failed if failed else Stimulus.start_done,
            "run": Stimulus.run_failed if failed else Stimulus.run_done,
            "shutdown": Stimulus.shutdown_over,
        }[name]
        if number == self.record.attempt:
            self._cancel_timer("_handler_timer")
        self.post(stimulus, error=error, attempt=number)

    async def _close(
        self, pump: Pump, number: int, grace: float | None, error: BaseException | None
    ) -> None:
        settings = self._core.settings
        self._closing = pump
        stuck = await pump.close(
            grace=settings.stop_grace if grace is None else grace,
            close_timeout=settings.close_timeout,
            error=error,
        )
        self._closing = None
        if stuck is not None:
            self._core.abandoned.append(pump.task)
            self._core.emit(events.HandlerAbandoned, instance_id=self.id, handler=pump.name)
            self._keep_failure(stuck, number)
        elif pump.close_error is not None:
            self._closed_with(pump.close_error, number)

    def _closed_with(self, error: BaseException, number: int) -> None:
        """A handler's last words; a loss that was raised in it is known already."""
        known = self.failure
        if error is not known and not (isinstance(error, ProviderLost) and _is_loss(known)):
            self._keep_failure(error, number)

    def hurry(self) -> list[asyncio.Task[None]]:
        """Cancel the handler at once, whatever grace it has; returns the tasks that now end."""
        found = [pump.task for pump in (self._pump, self._closing) if pump is not None]
        for task in found:
            task.cancel()
        if self.attempt is not None:
            self.attempt.batches.hurry()
        return found

    # Deadlines -----------------------------------------------------------------------------------

    def _arm_deadline(self, seconds: float) -> None:
        self._cancel_timer("_deadline")
        number = self.record.attempt
        lost = ProviderLost(
            f"the provider did not answer within {seconds:g} s", ids={"instance": self.id}
        )
        self._deadline = asyncio.get_running_loop().call_later(
            seconds, lambda: self.post(Stimulus.deadline, error=lost, attempt=number)
        )

    def _cut_deadline(self) -> None:
        deadline, grace = self._deadline, self._core.settings.stop_grace
        left = grace if deadline is None else deadline.when() - asyncio.get_running_loop().time()
        if left >= grace:
            self._arm_deadline(grace)

    def _cancel_timer(self, name: str) -> None:
        timer = getattr(self, name)
        if timer is not None:
            timer.cancel()
            setattr(self, name, None)

    # Attempts ------------------------------------------------------------------------------------

    async def _begin_acquiring(self) -> None:
        if self.record.state is ServiceState.pending:
            self.search.begin(self.record.attempt)

    def _refused(self, number: int, error: BaseException) -> None:
        self.post(Stimulus.creation_refused, error=error, attempt=number)

    def _attach(self, number: int, contract: Contract) -> None:
        batches = BatchQueue(
            self._core,
            instance_id=self.id,
            activity_id=contract.activity_id or "",
            check=self._check_available,
            on_deployed=lambda: self._deployed(number),
            on_lost=lambda error: self.post(Stimulus.lost, error=error, attempt=number),
        )
        self.attempt = Attempt(number, contract, batches)
        self._cluster.attached(self, contract)
        self._hold_timer = self._cluster.time_hold(self, number)
        self.post(Stimulus.ready, attempt=number)

    def _check_available(self) -> None:
        if not is_available(self.record.state):
            raise NotAvailable(
                f"instance {self.id} is {self.record.state}: it takes no commands",
                ids={"instance": self.id},
                story=self._core.story(instance=self.id),
                hint="wait for it: await cluster.wait('running', count=1)",
            )

    def _deployed(self, number: int) -> None:
        if number == self.record.attempt:
            self.record = replace(self.record, deployed=True)

    def _begin_release(self, before: Record) -> None:
        """End the search for a provider at once; queue the release of what there is."""
        self.search.cancel()
        self._cancel_timer("_hold_timer")
        attempt = self.attempt
        if attempt is None:
            return
        failed = self._ending_cause is not None
        self.search.attempt_over(
            attempt.contract.provider_id, started=before.started, failed=failed
        )
        self._queue(lambda: self._release(attempt, self.failure if failed else None))

    async def _release(self, attempt: Attempt, failure: BaseException | None) -> None:
        over = ProviderLost(
            f"the attempt on {attempt.contract.provider_name} is over",
            ids={"instance": self.id, "activity": attempt.contract.activity_id or ""},
        )
        await attempt.batches.close(over)
        reason = (
            EndReason(message="the requestor no longer needs it")
            if failure is None
            else EndReason(message=told(failure)[:500], code="Failure")
        )
        await contracts.release(self._core, attempt.contract, reason)
        self._cluster.detached(attempt.contract)
        self.attempt = None

    async def _finish(self) -> None:
        self.mailbox.close(f"instance {self.id} is over: nobody speaks or listens there any more")
        self.over.succeed(None)
        self._cluster.changed()


def _is_loss(error: BaseException | None) -> bool:
    """Tell whether an instance failed by the loss of its provider, also as the last of many."""
    return isinstance(error, ProviderLost) or (
        isinstance(error, RestartsExhausted) and isinstance(error.__cause__, ProviderLost)
    )
