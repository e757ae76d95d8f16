"""One instance: feeds events to the lifecycle's table and performs the effects, in order.

Events are taken synchronously, so that what was asked for has happened when the call returns.
Effects that take time queue in a task that lives only while there is something to do.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final

from requestor_sdk.engine import contracts
from requestor_sdk.engine.attempt import Attempt
from requestor_sdk.engine.batches import BatchQueue
from requestor_sdk.engine.contracts import Contract
from requestor_sdk.engine.effects import EffectQueue
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
    NEW,
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
from requestor_sdk.service.service import Service, overrides

if TYPE_CHECKING:
    from requestor_sdk.engine.cluster import Cluster
    from requestor_sdk.engine.core import Core
    from requestor_sdk.engine.recovery import Kept

logger: logging.Logger = logging.getLogger("requestor_sdk.engine")

_NOT_NEEDED: Final = EndReason(message="the requestor no longer needs it")

_DONE: Final = {
    "start": Stimulus.start_done,
    "run": Stimulus.run_done,
    "shutdown": Stimulus.shutdown_over,
}
_FAILED: Final = {
    "start": Stimulus.start_failed,
    "run": Stimulus.run_failed,
    "shutdown": Stimulus.shutdown_over,
}
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
        params: What the object was made from.
        replaces: Whose place it takes once it runs.

    Attributes:
        successor: Who is to take its place, while that one lives.
    """

    __slots__ = (
        "_closing",
        "_cluster",
        "_core",
        "_deadline",
        "_effects",
        "_ending_cause",
        "_hold_timers",
        "_inbox",
        "_loss",
        "_mail",
        "_mail_over",
        "_pump",
        "_replaces",
        "_stepping",
        "_successor",
        "_watchers",
        "attempt",
        "failure",
        "id",
        "over",
        "params",
        "record",
        "search",
        "service",
    )

    def __init__(
        self,
        core: Core,
        cluster: Cluster[Any],
        service: Service,
        instance_id: str,
        *,
        params: Mapping[str, object],
        replaces: Instance | None = None,
    ) -> None:
        self._core = core
        self._cluster = cluster
        self.service: Service = service
        self.id: str = instance_id
        self.params: Mapping[str, object] = params
        self._replaces = replaces
        self._successor: Instance | None = None
        self._mail: Mailbox | None = None
        self._mail_over: str | None = None
        self.record: Record = NEW
        self.failure: BaseException | None = None
        self.over: Outcome[None] = Outcome()
        self.attempt: Attempt | None = None
        self.search: Search = Search(core, cluster, self)
        self._pump: Pump | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._hold_timers: Sequence[asyncio.TimerHandle] = ()
        self._inbox: list[tuple[Stimulus, BaseException | None]] | None = None
        self._stepping = False
        self._effects = EffectQueue(core, f"{instance_id} effects")
        self._watchers: Sequence[tuple[frozenset[ServiceState], Callable[[], None]]] = ()
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
    def mailbox(self) -> Mailbox:
        """Its message queues, made when they are first asked for: most never are."""
        if self._mail is None:
            self._mail = Mailbox(self._core.settings.mailbox_size)
            if self._mail_over is not None:
                self._mail.close(self._mail_over)
        return self._mail

    def close_mailbox(self, why: str) -> None:
        """Nothing more will be said: wake all who wait for a message, or for room for one."""
        self._mail_over = why
        if self._mail is not None:
            self._mail.close(why)

    @property
    def replaces(self) -> Service | None:
        """Whose place it takes, if it was made for that."""
        return self._replaces.service if self._replaces else None

    @property
    def successor(self) -> Instance | None:
        """Who is to take its place, or has taken it; ``None`` where that one is over."""
        made = self._successor
        return None if made is None or made.state is ServiceState.terminated else made

    def make_way_for(self, successor: Instance) -> None:
        """Stop once the successor runs; until then its life goes on."""
        self._successor = successor
        successor.watch(frozenset({ServiceState.running}), lambda: self.post(Stimulus.stop))

    @property
    def counts(self) -> bool:
        """Whether it is a member to be counted: it lives, and nobody takes its place."""
        return self.state is not ServiceState.terminated and self.successor is None

    @property
    def context(self) -> WorkContext | None:
        """The work context of this attempt."""
        return self.attempt.context if self.attempt else None

    # Events in -----------------------------------------------------------------------------------

    def begin(self) -> None:
        """Start the first attempt."""
        self._effects.queue(self._begin_acquiring)

    def take_up(self, kept: Kept) -> None:
        """Go on where an earlier process was, on the same agreement and activity."""
        past, contract = kept.past, kept.contract
        self.record = Record(
            state=past.state, behind=past.behind, started=True, deployed=True, attempt=past.attempt
        )
        self._cluster.census.moved(self, ServiceState.pending, past.state)
        self.search.note_attempt()
        self._have(past.attempt, contract, scripts=kept.scripts)
        self._core.emit(
            events.ServiceTakenUp,
            instance_id=self.id,
            cluster_id=self._cluster.id,
            agreement_id=contract.id,
            activity_id=contract.activity_id or "",
            attempt=past.attempt,
        )
        if past.state is ServiceState.suspended:
            self.resume()
        elif past.state is ServiceState.unresponsive:
            self._arm_deadline(self._core.settings.unresponsive_deadline)
        else:
            self._run_next_handler()

    def resume(self) -> None:
        """Run again after a suspend; a provider that was silent before it has to answer in time."""
        self.post(Stimulus.resume)
        use = None if self.attempt is None else self.attempt.contract.use
        if use is not None and use.silent_since is not None:
            self.post(Stimulus.silent)

    async def stay(self) -> None:
        """The engine leaves: here nothing of it goes on; its agreement and activity stay."""
        await self._effects.idle()
        gone = NotAvailable(
            f"instance {self.id} is suspended, and its process ends", ids={"instance": self.id}
        )
        for timer in self._hold_timers:
            timer.cancel()
        if self.attempt is not None:
            await self.attempt.batches.close(gone)
        self.close_mailbox(gone.message)
        self.over.succeed(None)
        self._cluster.member_over()

    def watch(self, states: frozenset[ServiceState], callback: Callable[[], None]) -> None:
        """Have a function called the next time that it comes to one of these states."""
        self._watchers = (*self._watchers, (states, callback))

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
        if self._stepping:
            self._inbox = [*(self._inbox or ()), (stimulus, error)]
            return
        self._stepping = True
        try:
            self._step(stimulus, error)
            while self._inbox:
                self._step(*self._inbox.pop(0))
        finally:
            self._stepping = False

    def give_up(self, error: BaseException) -> None:
        """End this attempt as failed, as if its ``run()`` had raised this."""
        self.post(Stimulus.run_failed, error=error, attempt=self.record.attempt)

    def callback_failed(self, error: BaseException, attempt: int) -> None:
        """End an attempt as failed by a callback of the user's; told only, where it ends already.

        Called by the queue of batches.
        """
        failed = Stimulus.run_failed if self.record.started else Stimulus.start_failed
        if attempt == self.record.attempt and rule_for(self.record, failed) is not None:
            self.post(failed, error=error, attempt=attempt)
        else:
            self.keep_failure(error, attempt)

    def _step(self, stimulus: Stimulus, error: BaseException | None) -> None:
        before = self.record
        if error is not None and rule_for(before, stimulus) is not None:
            self.keep_failure(error)
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
        if error is not None and stimulus in (Stimulus.lost, Stimulus.deadline):
            self._loss = error
        if done.record.state is not before.state:
            self._tell_change(before, stimulus, cause)
        elif done.record.stop_asked and not before.stop_asked:
            self._core.emit(
                events.ServiceStopAsked,
                instance_id=self.id,
                cluster_id=self._cluster.id,
                state=before.state,
                stimulus=stimulus,
            )
        elif done.record.behind is not before.behind:
            self._tell_behind(stimulus)
        for effect in done.effects:
            self._PERFORM[effect](self, before)
        if done.record.state is not before.state:
            self._tell_watchers(before.state, done.record.state)

    def _tell_watchers(self, old: ServiceState, new: ServiceState) -> None:
        self._cluster.census.moved(self, old, new)
        if self._watchers:
            due = [callback for states, callback in self._watchers if new in states]
            self._watchers = tuple(w for w in self._watchers if new not in w[0])
            for callback in due:
                callback()

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

    def _tell_behind(self, stimulus: Stimulus) -> None:
        behind = self.record.behind
        assert behind is not None, "only what is unresponsive changes it and stays as it is"
        self._core.emit(
            events.ServiceBehindChanged,
            instance_id=self.id,
            cluster_id=self._cluster.id,
            behind=behind,
            stimulus=stimulus,
        )

    def keep_failure(self, error: BaseException, attempt: int | None = None) -> None:
        """Keep why an attempt failed, and tell it."""
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
            self.keep_failure(error)
            return False

    # Effects out ---------------------------------------------------------------------------------

    def _close_handler(self: Instance, before: Record) -> None:
        state = self.record.state
        pump, loss, self._loss = self._pump, self._loss, None
        self._pump = None
        if pump is not None:
            self._stop_clock()
        if pump is not None and not pump.over:
            pump.withhold()
            at_once = loss is not None or state is ServiceState.terminated
            self._effects.queue(partial(self._close, pump, before.attempt, at_once, loss))
        if state is ServiceState.stopping and self._has_batches():
            assert self.attempt is not None
            until = self._core.clock.monotonic() + self._core.settings.stop_grace
            batches = self.attempt.batches
            self._effects.queue(lambda: batches.drain(until - self._core.clock.monotonic()))

    def _run_next_handler(self) -> None:
        self._effects.queue(partial(self._run_handler, self.record.attempt, self.record.state))

    def _await_answer(self) -> None:
        self._arm_deadline(self._core.settings.unresponsive_deadline)

    def _has_batches(self) -> bool:
        return self.attempt is not None and not self.attempt.batches.idle

    # Handlers ------------------------------------------------------------------------------------

    def _run_handler(self, number: int, state: ServiceState) -> None:
        if self.record.attempt != number or self.record.state is not state:
            return  # something else has happened meanwhile
        name = _HANDLER_OF[state]
        pump = self._pump
        if pump is not None and pump.handler == name and not pump.task.done():
            return
        if name == "shutdown" and not self._has_shutdown():
            self.post(Stimulus.shutdown_over, attempt=number)
            return
        if name == "run" and not overrides(type(self.service), "run"):
            return  # the default waits for ever: that takes no task
        attempt = self.attempt
        assert attempt is not None
        try:
            generator = getattr(self.service, name)()
        except Exception as error:  # noqa: BLE001 - the user's own: it ends the attempt
            self._handler_done(name, number, error)
            return
        self._pump = Pump(
            generator,
            attempt.batches.submit,
            self._pumped,
            owner=self.id,
            handler=name,
            attempt=number,
        )
        if name == "start":
            self._core.starts.set(self)
        elif name == "shutdown":
            self._core.shutdowns.set(self)

    def _has_shutdown(self) -> bool:
        """Tell whether there is something to do: the default does no more than the release."""
        ran = self.record.deployed or self.record.started
        return ran and overrides(type(self.service), "shutdown")

    def _pumped(self, pump: Pump, error: BaseException | None) -> None:
        number = pump.attempt
        if pump is self._pump:
            self._handler_done(pump.handler, number, error)
        elif error is not None and not isinstance(error, asyncio.CancelledError):
            # It ended by itself in the moment before it would have been closed.
            self._closed_with(error, number)

    def _stop_clock(self) -> None:
        """No handler is on the clock any more."""
        self._core.starts.cancel(self)
        self._core.shutdowns.cancel(self)

    def start_late(self) -> None:
        """Its ``start()`` has had its time. Called by the core's alarms."""
        seconds = self._core.settings.start_timeout
        late = StartTimeout(
            f"start() took longer than {seconds:g} s",
            ids={"instance": self.id},
            story=self._core.story(instance=self.id),
            hint="see what start() waits for; Settings(start_timeout=...) gives it longer",
        )
        self.post(Stimulus.start_failed, error=late)

    def shutdown_late(self) -> None:
        """Its ``shutdown()`` has had its time. Called by the core's alarms."""
        seconds = self._core.settings.shutdown_timeout
        late = ShutdownTimeout(
            f"shutdown() took longer than {seconds:g} s",
            ids={"instance": self.id},
            story=self._core.story(instance=self.id),
            hint="see what shutdown() waits for; Settings(shutdown_timeout=...) gives it longer",
        )
        self.post(Stimulus.shutdown_over, error=late)

    def _handler_done(self, name: str, number: int, error: BaseException | None) -> None:
        if isinstance(error, asyncio.CancelledError):
            error = NotAvailable(f"{name}() of {self.id} was cancelled from outside")
        stimulus = (_DONE if error is None else _FAILED)[name]
        if number == self.record.attempt:
            self._stop_clock()
        self.post(stimulus, error=error, attempt=number)

    async def _close(
        self, pump: Pump, number: int, at_once: bool, error: BaseException | None
    ) -> None:
        settings = self._core.settings
        self._closing = pump
        stuck = await pump.close(
            grace=0 if at_once else settings.stop_grace,
            close_timeout=settings.close_timeout,
            error=error,
        )
        self._closing = None
        if stuck is not None:
            self._core.abandoned.append(pump.task)
            self._core.emit(events.HandlerAbandoned, instance_id=self.id, handler=pump.name)
            self.keep_failure(stuck, number)
        elif pump.close_error is not None:
            self._closed_with(pump.close_error, number)

    def _closed_with(self, error: BaseException, number: int) -> None:
        """A handler's last words; a loss that was raised in it is known already."""
        known = self.failure
        if error is not known and not (isinstance(error, ProviderLost) and _is_loss(known)):
            self.keep_failure(error, number)

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

    def _begin_acquiring(self) -> None:
        if self.record.state is ServiceState.pending:
            self.search.begin(self.record.attempt)

    def refused(self, number: int, error: BaseException) -> None:
        """An attempt ended before it began. Called by the search."""
        self.post(Stimulus.creation_refused, error=error, attempt=number)

    def attach(self, number: int, contract: Contract) -> None:
        """An attempt has an agreement and an activity. Called by the search."""
        self._have(number, contract)
        self.post(Stimulus.ready, attempt=number)

    def _have(self, number: int, contract: Contract, *, scripts: int = 0) -> None:
        batches = BatchQueue(
            self._core,
            self,
            attempt=number,
            activity_id=contract.activity_id or "",
            scripts=scripts,
        )
        self.attempt = Attempt(number, contract, batches)
        self._cluster.attached(self, contract)
        self._hold_timers = self._cluster.time_hold(self, number, contract.until)

    def check_available(self) -> None:
        """Raise where it takes no commands now. Called by the queue of batches."""
        if not is_available(self.record.state):
            raise NotAvailable(
                f"instance {self.id} is {self.record.state}: it takes no commands",
                ids={"instance": self.id},
                story=self._core.story(instance=self.id),
                hint="wait for it: await cluster.wait('running', count=1)",
            )

    def deployed(self, number: int) -> None:
        """The runtime of an attempt was started. Called by the queue of batches."""
        if number == self.record.attempt:
            self.record = self.record.with_deployed()

    def _begin_release(self: Instance, before: Record) -> None:
        """End the search for a provider at once; queue the release of what there is."""
        if (searching := self.search.cancel()) is not None:
            # It sees to the withdrawal of what it has signed, for which the engine must be there.
            seconds = self._core.settings.release_timeout
            self._effects.queue(lambda: _end_of(searching, seconds))
        for timer in self._hold_timers:
            timer.cancel()
        self._hold_timers = ()
        attempt = self.attempt
        if attempt is None:
            self._let_go_of_kept()
            return
        failed = self._ending_cause is not None
        self.search.attempt_over(
            attempt.contract.provider_id, started=before.started, failed=failed
        )
        again = self.record.state is ServiceState.pending
        keep = again and not (failed and self._cluster.policy.avoid_failed_provider)
        failure = self.failure if failed else None
        self._effects.queue(partial(self._release, attempt, failure, keep), in_turn=True)

    def _let_go_of_kept(self) -> None:
        kept = self.search.let_go()
        if kept is not None:
            self._effects.queue(lambda: contracts.end_agreement(self._core, kept, _NOT_NEEDED))

    async def _release(self, attempt: Attempt, failure: BaseException | None, keep: bool) -> None:
        contract = attempt.contract
        await attempt.batches.close()
        reason = (
            _NOT_NEEDED
            if failure is None
            else EndReason(message=told(failure)[:500], code="Failure")
        )
        await contracts.end_activity(self._core, contract, reason)
        self._cluster.detached(contract)
        self.attempt = None
        # Asked only now: a stop may have come meanwhile, or the provider's end of the agreement.
        wanted = keep and self.record.state is ServiceState.pending
        if wanted and contracts.can_be_reused(self._core, contract):
            self.search.keep(contract)
        else:
            await contracts.end_agreement(self._core, contract, reason)

    def _finish(self) -> None:
        self.close_mailbox(f"instance {self.id} is over: nobody speaks or listens there any more")
        self.over.succeed(None)
        self._cluster.member_over()

    # What stands here by name says the type of its self: pyright takes it for a subclass's else.
    _PERFORM: ClassVar[Mapping[Effect, Callable[[Instance, Record], None]]] = {
        Effect.close_handler: _close_handler,
        Effect.run_handler: lambda self, _: self._run_next_handler(),
        Effect.arm_deadline: lambda self, _: self._await_answer(),
        Effect.cut_deadline: lambda self, _: self._cut_deadline(),
        Effect.clear_deadline: lambda self, _: self._cancel_timer("_deadline"),
        Effect.release: _begin_release,
        Effect.acquire: lambda self, _: self._effects.queue(self._begin_acquiring),
        Effect.finish: lambda self, _: self._effects.queue(self._finish),
    }


async def _end_of(task: asyncio.Task[None], seconds: float) -> None:
    await asyncio.wait({task}, timeout=seconds)


def _is_loss(error: BaseException | None) -> bool:
    """Tell whether an instance failed by the loss of its provider, also as the last of many."""
    return isinstance(error, ProviderLost) or (
        isinstance(error, RestartsExhausted) and isinstance(error.__cause__, ProviderLost)
    )
