"""What the parts of an engine share: ports, settings, the ledger, events and owned tasks."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, TypeVar

from requestor_sdk.engine.aio import Alarms, Limit, can_wait, dispensable, own_code
from requestor_sdk.engine.effects import Turns
from requestor_sdk.engine.room import RoomLines
from requestor_sdk.model.errors import EngineFailed, NotAvailable, RequestorError
from requestor_sdk.model.events import (
    CallbackAbandoned,
    ComputationRecovered,
    ComputationStarted,
    Event,
    LoopRetried,
)
from requestor_sdk.service import _current

if TYPE_CHECKING:
    from requestor_sdk.engine.billing import Billing
    from requestor_sdk.engine.health import Health
    from requestor_sdk.engine.instance import Instance
    from requestor_sdk.model.ledger import Ledger
    from requestor_sdk.ports.basics import Clock, Journal, Sink
    from requestor_sdk.ports.network import Network
    from requestor_sdk.settings import Settings

logger: logging.Logger = logging.getLogger("requestor_sdk.engine")
# Silent as a library: without a handler, Python's last resort would print to standard error.
logging.getLogger("requestor_sdk").addHandler(logging.NullHandler())

T = TypeVar("T")

_DEFECT: Final = "this is a defect of requestor_sdk; the chained error shows where"


class Core:
    """What the parts of an engine share.

    Args:
        network: The market that it runs on, open.
        settings: Delays and limits.
        clock: Time.
        journal: Where events are written before anything else sees them.
        ledger: The budget's book.
        run_id: Of this run.

    Attributes:
        asked: What was asked for and became allocations of this run: amount and time.
        attached: Which instance has an agreement or activity, by the id of either.
        unheard: Unused agreements whose end the network has not heard: id to provider's id.
        abandoned: Tasks of users' code that would not end, and were left to themselves.
        callbacks: The tasks of users' callbacks, in the order they began.
        tellers: Tasks that tell the network what it has not heard yet; the end cancels them.
        over: Whether the run's last event is written: what is asked of it later happens to nobody.
        leave_by: Until when, in the clock's seconds, what is released on leaving has to be.
    """

    def __init__(
        self,
        *,
        network: Network,
        settings: Settings,
        clock: Clock,
        journal: Journal,
        ledger: Ledger,
        run_id: str,
    ) -> None:
        self.network = network
        self.settings = settings
        self.clock = clock
        self.journal = journal
        self.ledger = ledger
        self.room: RoomLines = RoomLines(ledger)
        self.turns: Turns = Turns()
        self.creation: Limit = Limit(settings.create_timeout)
        self.answers: Limit = Limit(settings.approval_timeout)
        self.signing: Limit = Limit(2 * settings.approval_timeout)
        self.release: Limit = Limit(settings.release_timeout)
        self.starts: Alarms[Instance] = Alarms(
            settings.start_timeout, lambda member: member.start_late()
        )
        self.shutdowns: Alarms[Instance] = Alarms(
            settings.shutdown_timeout, lambda member: member.shutdown_late()
        )
        self.run_id = run_id
        # Spreads load and guards nothing; by the run's id, so that a simulated run repeats itself.
        self.dice: random.Random = random.Random(run_id)  # noqa: S311
        self.sinks: list[Sink] = []
        self.allocation_id = ""
        self.asked: list[tuple[Decimal, datetime]] = []
        self.unheard: dict[str, str] = {}
        self.billing: Billing
        self.health: Health
        self.leaving = False
        self.over = False
        self._unwritten = False
        self.fatal: EngineFailed | None = None
        self.abandoned: list[asyncio.Task[Any]] = []
        self.callbacks: dict[asyncio.Task[None], None] = {}
        self.tellers: dict[asyncio.Task[None], None] = {}
        self._untold: list[tuple[Coroutine[Any, Any, None], str]] | None = []
        self.leave_by: float | None = None
        self.attached: dict[str, Instance] = {}
        self._group: asyncio.TaskGroup | None = None
        self._recent: deque[Event] = deque(maxlen=1000)
        self._counters: dict[str, int] = {}
        self.on_fatal: Callable[[], None] = lambda: None
        self._beginning: Event | None = None

    # Events --------------------------------------------------------------------------------------

    def emit(self, kind: type[Event], **fields: Any) -> None:
        """Write an event to the journal, then show it to the sinks; nothing after the end.

        Where it cannot be written the run ends, and what ends it goes on all the same. An act that
        binds asks ``check_written`` after it.
        """
        if self.over:
            return
        fields["at"] = self.clock.now()
        event = kind(**fields)
        try:
            self.journal.append(event)
        except Exception as error:  # noqa: BLE001 - a journal of the user's may raise anything
            # What is not written down must not go on: the run ends in order, and says why.
            self._unwritten = True
            own = error.hint if isinstance(error, RequestorError) else ""
            self.fail(
                error,
                "the journal cannot be written",
                hint=own or "mend the journal= that was given; the chained error shows where",
            )
        self._recent.append(event)
        if isinstance(event, ComputationStarted | ComputationRecovered):
            self._beginning = event
        for sink in self.sinks:
            _show(sink, event)

    def join(self, sink: Sink) -> None:
        """Show a sink the events from now on; first the one that says which run it is of."""
        if self._beginning is not None:
            _show(sink, self._beginning)
        self.sinks.append(sink)

    def check_written(self) -> None:
        """See to it that all is written down that was told, before an act that binds us.

        Raises:
            EngineFailed: It is not, so the act must not be done: no recovery would know of it.
        """
        if self._unwritten:
            assert self.fatal is not None, "the journal's failure ends the run"
            raise self.fatal

    def story(self, most: int = 5, kind: type[Event] = Event, **ids: str) -> list[str]:
        """Return the last events, of this kind, that concern these ids, as lines."""
        told = (event for event in self._recent if isinstance(event, kind))
        return [event.line() for event in told if event.concerns(ids)][-most:]

    def retried(self, loop: str) -> Callable[[RequestorError, float], None]:
        """Return the function that tells of an error that a loop waits out."""

        def tell(error: RequestorError, pause: float) -> None:
            logger.warning("%s: %s; again in %.1f s", loop, error.message, pause)
            self.emit(LoopRetried, loop=loop, error=error.message, after_sec=pause)

        return tell

    def next_id(self, kind: str) -> str:
        """Return ids that count up within the run: ``i-1``, ``i-2``."""
        self._counters[kind] = self._counters.get(kind, 0) + 1
        return f"{kind}-{self._counters[kind]}"

    def continue_ids(self, kind: str, number: int) -> None:
        """Let ids of this kind go on after this number, which an earlier process came to."""
        self._counters[kind] = number

    # Tasks ---------------------------------------------------------------------------------------

    def adopt(self, group: asyncio.TaskGroup | None) -> None:
        """Set the task group that owns what is spawned; ``None`` at the end.

        What a recovery could not tell before there was one is told from now on.
        """
        self._group = group
        untold, self._untold = self._untold, None
        for work, what in untold or ():
            self.spawn_teller(work, what)

    def never_began(self) -> None:
        """The engine did not start: what it could not tell is for a later recovery."""
        for work, _ in self._untold or ():
            work.close()
        self._untold = None

    def spawn(self, work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """Run a coroutine as a task that the engine's root awaits.

        Its failure is fatal to the engine: what a user's code can raise is caught before.

        Raises:
            NotAvailable: The engine is not running.
        """
        task = self.try_spawn(work, name)
        if task is None:
            raise NotAvailable(
                "the engine is not running",
                hint="use it inside `async with Compute(...)`, or after `await compute.start()`",
            )
        return task

    def try_spawn(self, work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T] | None:
        """Like ``spawn``; returns ``None`` where the engine is over or breaks off."""
        if self._group is not None:
            try:
                return self._group.create_task(work, name=name)
            except RuntimeError:
                # The group breaks off because a task of the engine failed.
                logger.debug("%s comes too late to be started", name)
        work.close()
        return None

    def user_code(self, work: Awaitable[T], what: str, instance_id: str = "") -> Awaitable[T]:
        """Await a user's code so that whoever is cancelled over it comes free, whatever it does.

        Args:
            work: The user's code.
            what: Which it is, e.g. ``reset()``.
            instance_id: For whom it runs, where it runs for one.
        """
        if not can_wait(work):
            return own_code(work, what)  # costs no task

        def abandon(task: asyncio.Task[Any]) -> None:
            self.abandoned.append(task)
            logger.warning("%s swallowed its cancellation and was left to itself", task.get_name())
            self.emit(CallbackAbandoned, instance_id=instance_id, what=what)

        name = f"{instance_id} {what}" if instance_id else what
        return dispensable(work, what, name=name, patience=self._close_seconds, abandon=abandon)

    def is_abandoned(self, what: str, instance_id: str) -> bool:
        """Tell whether such code of an instance was abandoned, and still runs."""
        name = f"{instance_id} {what}"
        return any(task.get_name() == name and not task.done() for task in self.abandoned)

    def spawn_callback(
        self,
        call: Callable[[], Awaitable[Any]],
        what: str,
        instance_id: str,
        failed: Callable[[Exception], None],
    ) -> None:
        """Await a user's callback in a task of its own; the end of the engine cancels it.

        Args:
            call: The callback.
            what: What it is.
            instance_id: For whom it runs.
            failed: Told what it raised.
        """
        calling = self._call_user(call, what, instance_id, failed)
        task = self.try_spawn(calling, f"{instance_id} {what}")
        if task is not None:
            self.callbacks[task] = None
            task.add_done_callback(lambda done: self.callbacks.pop(done, None))

    def spawn_teller(self, work: Coroutine[Any, Any, None], what: str) -> None:
        """Go on telling the network something; the end of the engine cancels it."""
        if self._untold is not None:
            self._untold.append((work, what))
            return
        task = self.try_spawn(work, what)
        if task is not None:
            self.tellers[task] = None
            task.add_done_callback(lambda done: self.tellers.pop(done, None))

    def release_seconds(self) -> float:
        """Return how long a release may take now; on leaving, half of what is left of the time."""
        seconds = self.settings.release_timeout
        if self.leave_by is not None:
            seconds = min(seconds, max(0.0, self.leave_by - self.clock.monotonic()) / 2)
        return seconds

    def _close_seconds(self) -> float:
        """Return how long a user's code may take to end; on leaving, what is left of the time."""
        seconds = self.settings.close_timeout
        if self.leave_by is not None:
            # Half for each of two cancellations.
            seconds = min(seconds, max(0.0, self.leave_by - self.clock.monotonic()) / 2)
        return seconds

    async def _call_user(
        self,
        call: Callable[[], Awaitable[Any]],
        what: str,
        instance_id: str,
        failed: Callable[[Exception], None],
    ) -> None:
        _current.instance_id.set(instance_id)
        try:
            await self.user_code(call(), what, instance_id)
        except Exception as error:
            logger.exception("%s of %s failed", what, instance_id)
            failed(error)

    def close_timers(self) -> None:
        """Forget the timers that many share: nothing is under way any more."""
        for limit in (self.creation, self.answers, self.signing, self.release):
            limit.close()
        for alarms in (self.starts, self.shutdowns):
            alarms.close()

    def fail(self, error: BaseException, what: str, *, hint: str = _DEFECT) -> None:
        """The engine itself failed: everything is ended and the error raised at exit."""
        if self.fatal is None:
            said = error.message if isinstance(error, RequestorError) else error
            self.fatal = EngineFailed(
                f"{what}: {type(error).__name__}: {said}", ids={"run": self.run_id}, hint=hint
            )
            self.fatal.__cause__ = error
            logger.error("engine failed: %s", what, exc_info=error)
            self.on_fatal()

    def check_running(self) -> None:
        """Raise what ended the engine, if something did."""
        if self.fatal is not None:
            raise self.fatal
        if self._group is None or self.leaving:
            raise NotAvailable(
                "the engine is not running" if self._group is None else "the engine is leaving",
                hint="do this inside `async with Compute(...)`",
            )

    def ids(self, **ids: str) -> Mapping[str, str]:
        """Return ids with the run's own."""
        return {"run": self.run_id, **ids}


def _show(sink: Sink, event: Event) -> None:
    try:
        sink(event)
    except Exception:
        logger.exception("an event consumer failed on %s", event.kind)
