"""One agreement of a simulated provider: its activity, its meter, its deadlines, its invoice."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from requestor_sdk.model.market import ActivityState, EndReason
from requestor_sdk.model.money import CPU, DURATION, ZERO, LinearPricing, quantized
from requestor_sdk.model.script import BatchEvent, CommandResult
from requestor_sdk.networks.simulated._activity import CommandsOfActivity

if TYPE_CHECKING:
    from requestor_sdk.networks.memory import MemoryFiles
    from requestor_sdk.networks.memory._channels import Channel
    from requestor_sdk.networks.simulated._agent import SimulatedAgent
    from requestor_sdk.networks.simulated._provider import SimulatedProvider
    from requestor_sdk.networks.simulated._span import Span
    from requestor_sdk.ports.provider import Execute, GiveUpBatch

NEVER: Final = math.inf


class Deal:
    """One agreement, from its approval to its invoice. It has one living activity at most.

    It is what its activity is surrounded by, see ``Surroundings``. Of its three deadlines only the
    first is set with its agent.

    Args:
        agent: Whose it is.
        agreement_id: Of the agreement.
        pricing: The agreed prices.
        interval_sec: Seconds between two debit notes.

    Attributes:
        totals: What each of its activities has cost, by its id.
        activity_id: Of the activity that lives, or lived last.
    """

    __slots__ = (
        "_agent",
        "_commands",
        "_created",
        "_early",
        "_expires_at",
        "_idle_until",
        "_interval",
        "_misbehaving",
        "_note_at",
        "_notes",
        "_over",
        "_pricing",
        "_rings_at",
        "_told",
        "activity_id",
        "config",
        "id",
        "totals",
    )

    def __init__(
        self,
        agent: SimulatedAgent,
        agreement_id: str,
        *,
        pricing: LinearPricing,
        interval_sec: float,
    ) -> None:
        self.id = agreement_id
        self.config: SimulatedProvider = agent.config
        self.totals: dict[str, Decimal] = {}
        self.activity_id = ""
        self._agent = agent
        self._pricing = pricing
        self._interval = interval_sec
        self._over = False
        self._commands: CommandsOfActivity | None = None
        self._told: tuple[Execute, Channel[BatchEvent] | None] | None = None
        self._created = 0.0
        self._notes = 0
        self._expires_at = self._idle_until = self._note_at = NEVER
        self._rings_at = NEVER
        self._early: asyncio.TimerHandle | None = None
        self._misbehaving: tuple[asyncio.TimerHandle, ...] = ()

    def begin(self, expires: datetime | None, now: datetime) -> None:
        """The agreement is approved: its deadlines run."""
        loop = asyncio.get_running_loop()
        if expires is not None:
            self._expires_at = loop.time() + max(0.0, (expires - now).total_seconds())
        early = self._agent.conduct.early.get("agreement")
        if early is not None:
            reason = EndReason(message="the provider needs it for itself", code="Early")
            self._early = loop.call_later(self._agent.draw(early.after), self.end, reason)
        self._idle_from_now()

    def _idle_from_now(self) -> None:
        self._idle_until = asyncio.get_running_loop().time() + self.config.idle_sec
        self._arm()

    def _arm(self) -> None:
        """See to it that the first deadline is kept; a ring that comes too early does nothing."""
        due = min(self._expires_at, self._idle_until, self._note_at)
        if due < self._rings_at:
            self._rings_at = due
            self._agent.deadlines.set(due, self.id)

    def ring(self, now: float) -> None:
        """A deadline was set for now: do what is due."""
        if now < self._rings_at:
            return
        self._rings_at = NEVER
        if self._expires_at <= now:
            self.end(EndReason(message="the agreement expired", code="Expired"))
        elif self._idle_until <= now:
            seconds = self.config.idle_sec
            self.end(EndReason(message=f"no activity for {seconds:g} s", code="NoActivity"))
        else:
            if self._note_at <= now and self._commands is not None:
                self._note_at = now + self._interval
                self._send_note(self._commands)
            self._arm()

    # Its activity --------------------------------------------------------------------------------

    @property
    def alive(self) -> bool:
        """Whether an activity lives in it."""
        return self._commands is not None

    def create(self, activity_id: str) -> str | None:
        """Take the wish for an activity; returns the reason where it is refused."""
        if self._commands is not None:
            return "the agreement has a living activity; its resources are let once"
        if self.totals and not self.config.multi_activity:
            return "this provider lets one activity an agreement"
        now = asyncio.get_running_loop().time()
        self.activity_id, self._created, self._notes = activity_id, now, 0
        self.totals[activity_id] = ZERO
        self._commands = CommandsOfActivity(self)
        self._idle_until, self._note_at = NEVER, now + self._interval
        self._arm()
        lies = self._agent.conduct.lies
        first = ActivityState.ready if "ready" in lies else ActivityState.initialized
        self._tell_state(activity_id, first)
        if lies or self._agent.conduct.early:
            self._misbehave(activity_id)
        return None

    def _misbehave(self, activity_id: str) -> None:
        conduct = self._agent.conduct
        early = conduct.early.get("activity")
        if early is not None:
            reason = "the provider needs it for itself"
            self._later(early.after, self.end_activity, activity_id, reason)
        for how, state in _LIES.items():
            lie = conduct.lies.get(how)
            if lie is not None:
                self._later(lie.after, self._tell_state, activity_id, state, "so it says")

    def _later(self, span: Span, act: Callable[..., object], *args: object) -> None:
        seconds = self._agent.draw(span)
        timer = asyncio.get_running_loop().call_later(seconds, act, *args)
        self._misbehaving += (timer,)

    def execute(self, batch: Execute) -> None:
        """Perform a batch, once those before it are over."""
        if self._commands is not None and batch.activity_id == self.activity_id:
            self._commands.submit(batch)

    def give_up(self, event: GiveUpBatch) -> None:
        """Drop a batch."""
        if self._commands is not None and event.activity_id == self.activity_id:
            self._commands.give_up(event.batch_id)

    # What its activity is surrounded by ----------------------------------------------------------

    @property
    def files(self) -> MemoryFiles:
        """Where transfers come from and go to."""
        return self._agent.end.market.files

    def draw(self, span: Span) -> float:
        """Draw the seconds of a span."""
        return self._agent.draw(span)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run what the activity has to await."""
        return self._agent.spawn(work)

    def emit(self, batch: Execute, event: BatchEvent) -> None:
        """Pass on an event of a batch."""
        self._agent.say(self._put, batch, event)
        if isinstance(event, CommandResult) and "result" in self._agent.conduct.twice:
            self._agent.say(self._put, batch, event)

    def _put(self, batch: Execute, event: BatchEvent) -> None:
        channel = self._channel_of(batch)
        if channel is not None:
            channel.put_now(event)

    def _channel_of(self, batch: Execute) -> Channel[BatchEvent] | None:
        """Return where the events of a batch go; it takes none once nobody listens any more."""
        if self._told is None or self._told[0] is not batch:
            self._told = batch, self._agent.end.batch(batch.activity_id, batch.batch_id)
        return self._told[1]

    def batch_over(self, batch: Execute) -> None:
        """Tell that a batch is over."""
        self._agent.say(self._close, batch)

    def _close(self, batch: Execute) -> None:
        channel = self._channel_of(batch)
        self._told = None
        if channel is not None:
            channel.close()

    def report(self, state: ActivityState) -> None:
        """Report the state of the activity."""
        self._tell_state(self.activity_id, state)

    def terminated(self) -> None:
        """A script has ended the activity."""
        self.end_activity(self.activity_id, "a script terminated the activity")

    # The end of its activity ---------------------------------------------------------------------

    def _tell_state(
        self, activity_id: str, state: ActivityState, reason: str | None = None
    ) -> None:
        self._agent.say(self._agent.end.set_state, activity_id, state, reason)

    def end_activity(self, activity_id: str, reason: str) -> None:
        """End the activity, with its last debit note. Idempotent."""
        commands = self._commands
        if commands is None or activity_id != self.activity_id:
            return
        commands.close()
        self._send_note(commands)
        self._forget_activity()
        if not self._agent.conduct.silent_on("end"):
            self._tell_state(activity_id, ActivityState.terminated, reason)
        if not self._over:
            self._idle_from_now()

    def _forget_activity(self) -> None:
        for timer in self._misbehaving:
            timer.cancel()
        self._misbehaving = ()
        self._note_at = NEVER
        self._commands = self._told = None

    # Money ---------------------------------------------------------------------------------------

    def _usage(self, commands: CommandsOfActivity) -> tuple[Decimal, ...]:
        """Return what was used, in the order of the agreement's counters."""
        elapsed = asyncio.get_running_loop().time() - self._created
        most = elapsed * self.config.cpu_threads
        known = {DURATION: elapsed, CPU: min(commands.cpu_sec, most)}
        return tuple(Decimal(f"{known.get(name, 0.0):.6f}") for name in self._pricing.counters)

    def _send_note(self, commands: CommandsOfActivity) -> None:
        usage = self._usage(commands)
        total = self.totals[self.activity_id] = self._pricing.cost(usage)
        self._notes += 1
        if self._agent.conduct.charges:
            total, usage = self._charged(total, usage)
        self._agent.say(self._note, self.activity_id, total, usage)

    def _note(self, activity_id: str, total: Decimal, usage: tuple[Decimal, ...]) -> None:
        end = self._agent.end
        note = end.send_debit_note(activity_id=activity_id, total=total, usage=usage)
        if "note" in self._agent.conduct.twice:
            end.market.payment_news.put((note.id, "again"), note)

    def _charged(
        self, total: Decimal, usage: tuple[Decimal, ...]
    ) -> tuple[Decimal, tuple[Decimal, ...]]:
        """Return what one that overcharges asks for instead."""
        charges = self._agent.conduct.charges
        if "total" in charges:
            return quantized(total * Decimal(str(charges["total"].factor))), usage
        factor = Decimal(1)
        if "usage" in charges:
            factor = Decimal(str(charges["usage"].factor))
        elif "falling" in charges and self._notes % 2 == 0:
            factor = Decimal("0.25")
        asked = tuple(amount * factor for amount in usage)
        return self._pricing.cost(asked), asked

    def _send_invoice(self) -> None:
        charges = self._agent.conduct.charges
        amount = sum(self.totals.values(), ZERO)
        if "invoice" in charges:
            amount = quantized(amount * Decimal(str(charges["invoice"].factor)))
        if "none" in charges:
            return
        if "late" in charges:
            seconds = self._agent.draw(charges["late"].after)
            later = asyncio.get_running_loop().call_later
            later(seconds, self._agent.say, self._invoice, amount)
            return
        self._agent.say(self._invoice, amount)
        if "second" in charges:
            self._agent.say(self._invoice, amount, "another")

    def _invoice(self, amount: Decimal, subject: str = "") -> None:
        end = self._agent.end
        invoice = end.send_invoice(
            agreement_id=self.id,
            activity_ids=tuple(self.totals),
            amount=amount,
            subject=subject or self.id,
        )
        if "invoice" in self._agent.conduct.twice:
            end.market.payment_news.put((invoice.id, "again"), invoice)

    # The end -------------------------------------------------------------------------------------

    def end(self, reason: EndReason, *, told: bool = False) -> None:
        """End the agreement, then what runs in it; ``told`` where the requestor knows."""
        if self._over:
            return
        self._over = True
        self._stop_early()
        if not told:
            self._agent.say(self._agent.end.terminate, self.id, reason)
        self.end_activity(self.activity_id, reason.message)
        self._send_invoice()
        self._agent.over(self)

    def vanish(self) -> None:
        """Everything of it is gone at once; nothing is told of it and nothing more is charged."""
        self._over = True
        self._stop_early()
        if self._commands is not None:
            self._commands.close()
        self._forget_activity()

    def _stop_early(self) -> None:
        if self._early is not None:
            self._early.cancel()
            self._early = None


_LIES = {"terminated": ActivityState.terminated, "unresponsive": ActivityState.unresponsive}
