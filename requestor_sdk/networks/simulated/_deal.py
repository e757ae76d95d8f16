"""One agreement of a simulated provider: its activity, its meter, its deadlines, its invoice."""

from __future__ import annotations

import asyncio
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from requestor_sdk.model.market import ActivityState, EndReason
from requestor_sdk.model.money import CPU, DURATION, ZERO, LinearPricing
from requestor_sdk.model.script import BatchEvent
from requestor_sdk.networks.simulated._activity import CommandsOfActivity, Surroundings

if TYPE_CHECKING:
    from requestor_sdk.networks.simulated._agent import SimulatedAgent
    from requestor_sdk.ports.provider import Execute, GiveUpBatch


class Deal:
    """One agreement, from its approval to its invoice. It has one living activity at most.

    Args:
        agent: Whose it is.
        agreement_id: Of the agreement.
        pricing: The agreed prices.
        interval_sec: Seconds between two debit notes.
    """

    __slots__ = (
        "_activity_id",
        "_agent",
        "_commands",
        "_created",
        "_expiry",
        "_idle",
        "_interval",
        "_note",
        "_over",
        "_pricing",
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
        self.totals: dict[str, Decimal] = {}
        self._agent = agent
        self._pricing = pricing
        self._interval = interval_sec
        self._over = False
        self._activity_id = ""
        self._commands: CommandsOfActivity | None = None
        self._created = 0.0
        self._expiry: asyncio.TimerHandle | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._note: asyncio.TimerHandle | None = None

    def begin(self, expires: datetime | None, now: datetime) -> None:
        """The agreement is approved: its deadlines run."""
        loop = asyncio.get_running_loop()
        if expires is not None:
            seconds = max(0.0, (expires - now).total_seconds())
            reason = EndReason(message="the agreement expired", code="Expired")
            self._expiry = loop.call_later(seconds, self.end, reason)
        self._idle_from_now()

    def _idle_from_now(self) -> None:
        seconds = self._agent.config.idle_sec
        reason = EndReason(message=f"no activity for {seconds:g} s", code="NoActivity")
        self._idle = asyncio.get_running_loop().call_later(seconds, self.end, reason)

    # Its activity --------------------------------------------------------------------------------

    def create(self, activity_id: str) -> str | None:
        """Take the wish for an activity; returns the reason where it is refused."""
        if self._commands is not None:
            return "the agreement has a living activity; its resources are let once"
        if self.totals and not self._agent.config.multi_activity:
            return "this provider lets one activity an agreement"
        self._stop_timer("_idle")
        loop = asyncio.get_running_loop()
        self._activity_id, self._created = activity_id, loop.time()
        self.totals[activity_id] = ZERO
        self._commands = CommandsOfActivity(
            Surroundings(
                config=self._agent.config,
                files=self._agent.end.market.files,
                draw=self._agent.draw,
                emit=self._emit,
                over=self._batch_over,
                state=lambda state: self._agent.end.set_state(activity_id, state),
                ended=lambda reason: self.end_activity(activity_id, reason),
                spawn=self._agent.spawn,
            )
        )
        self._note = loop.call_later(self._interval, self._meter)
        self._agent.end.set_state(activity_id, ActivityState.initialized)
        return None

    def execute(self, batch: Execute) -> None:
        """Perform a batch, once those before it are over."""
        if self._commands is not None and batch.activity_id == self._activity_id:
            self._commands.submit(batch)

    def give_up(self, event: GiveUpBatch) -> None:
        """Drop a batch."""
        if self._commands is not None and event.activity_id == self._activity_id:
            self._commands.give_up(event.batch_id)

    def _emit(self, batch: Execute, event: BatchEvent) -> None:
        channel = self._agent.end.batch(batch.activity_id, batch.batch_id)
        if channel is not None:
            channel.put_now(event)

    def _batch_over(self, batch: Execute) -> None:
        channel = self._agent.end.batch(batch.activity_id, batch.batch_id)
        if channel is not None:
            channel.close()

    def end_activity(self, activity_id: str, reason: str) -> None:
        """End the activity, with its last debit note. Idempotent."""
        commands = self._commands
        if commands is None or activity_id != self._activity_id:
            return
        commands.close()
        self._stop_timer("_note")
        self._send_note(commands)
        self._commands = None
        self._agent.end.set_state(activity_id, ActivityState.terminated, reason)
        if not self._over:
            self._idle_from_now()

    # Money ---------------------------------------------------------------------------------------

    def _meter(self) -> None:
        assert self._commands is not None
        self._note = asyncio.get_running_loop().call_later(self._interval, self._meter)
        self._send_note(self._commands)

    def usage(self, commands: CommandsOfActivity) -> tuple[Decimal, ...]:
        """Return what was used, in the order of the agreement's counters."""
        elapsed = asyncio.get_running_loop().time() - self._created
        known = {
            DURATION: elapsed,
            CPU: min(commands.cpu_sec, elapsed * self._agent.config.cpu_threads),
        }
        return tuple(Decimal(f"{known.get(name, 0.0):.6f}") for name in self._pricing.counters)

    def _send_note(self, commands: CommandsOfActivity) -> None:
        usage = self.usage(commands)
        total = self.totals[self._activity_id] = self._pricing.cost(usage)
        self._agent.end.send_debit_note(activity_id=self._activity_id, total=total, usage=usage)

    def _send_invoice(self) -> None:
        self._agent.end.send_invoice(
            agreement_id=self.id,
            activity_ids=tuple(self.totals),
            amount=sum(self.totals.values(), ZERO),
        )

    # The end -------------------------------------------------------------------------------------

    def end(self, reason: EndReason, *, told: bool = False) -> None:
        """End the agreement, then what runs in it; ``told`` where the requestor knows."""
        if self._over:
            return
        self._over = True
        self._stop_timers()
        if not told:
            self._agent.end.terminate(self.id, reason)
        self.end_activity(self._activity_id, reason.message)
        self._send_invoice()
        self._agent.over(self)

    def vanish(self, reason: str) -> None:
        """Everything of it is gone at once; nothing more is sent."""
        del reason
        self._over = True
        self._stop_timers()
        if self._commands is not None:
            self._commands.close()
            self._commands = None

    def _stop_timers(self) -> None:
        for name in ("_expiry", "_idle", "_note"):
            self._stop_timer(name)

    def _stop_timer(self, name: str) -> None:
        timer: asyncio.TimerHandle | None = getattr(self, name)
        if timer is not None:
            timer.cancel()
            setattr(self, name, None)
