"""A provider of the simulated network: one object that is told what is asked of it, and acts.

It has no task of its own. What is asked waits in a line, in order, for as long as the provider's
latency says; deadlines and the intervals of debit notes are timers of the loop.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from requestor_sdk.model.errors import RequestorError
from requestor_sdk.model.market import ActivityState, EndReason, Offer
from requestor_sdk.model.money import LinearPricing
from requestor_sdk.model.props import DEBIT_NOTE_INTERVAL, EXPIRATION, SUBNET
from requestor_sdk.networks.memory import MemoryMarket, ProviderEnd
from requestor_sdk.networks.simulated._behaviour import (
    Conduct,
    SeenAs,
    Unreachable,
    Vanishing,
)
from requestor_sdk.networks.simulated._deadlines import Deadlines
from requestor_sdk.networks.simulated._deal import Deal
from requestor_sdk.ports.provider import (
    AgreementProposed,
    AgreementTerminated,
    CreateActivity,
    DemandReceived,
    DestroyActivity,
    Execute,
    GiveUpBatch,
    NoteJudged,
    ProviderEvent,
)

if TYPE_CHECKING:
    from requestor_sdk.networks.simulated._provider import SimulatedProvider
    from requestor_sdk.networks.simulated._span import Span
    from requestor_sdk.ports.basics import Signer

SHORTEST_INTERVAL_SEC = 0.1
"""Debit notes that are asked for more often than this would be a flood."""

_log = logging.getLogger(__name__)


class SimulatedAgent:
    """One provider at work. Made by the network; also the inbox that the market knows it by.

    Attributes:
        config: What it lets, and how.
        end: Its acts in the market.
        conduct: What its behaviours come to.
        deals: The agreements that it keeps, by their id.
        deadlines: When these are to be rung.
        paused: Whether it cannot be reached just now.
        rejected: The reasons of notes and invoices that were rejected, by their id.
    """

    def __init__(
        self,
        config: SimulatedProvider,
        market: MemoryMarket,
        signer: Signer,
        *,
        seed: int,
        subnet: str,
        latency: Span,
    ) -> None:
        self.config: SimulatedProvider = config
        self.subnet: str = config.subnet or subnet
        self.dice: random.Random = random.Random(f"{seed}/{config.name}")  # noqa: S311 - a simulation's chance
        self.deals: dict[str, Deal] = {}
        self.deadlines = Deadlines(self._ring)
        self.rejected: dict[str, str] = {}
        self.conduct: Conduct = Conduct(config.behaviours)
        self.paused: bool = False
        self.end: ProviderEnd = ProviderEnd(market, signer, self)
        self._market = market
        self._offer = config.offer(signer.identity, subnet)
        self._latency = latency if config.latency is None else config.latency
        self._instant = not self._latency and not config.behaviours
        self._offers: dict[str, None] = {}
        self._line: deque[ProviderEvent] = deque()
        self._last_due = 0.0
        self._last_demand: tuple[Mapping[str, object], datetime | None] = ({}, None)
        self._last_offer: tuple[Mapping[str, object], LinearPricing] = ({}, config.pricing)
        self._there = False
        self._armed = False
        self._held: list[Callable[[], object]] = []
        self._returns: list[asyncio.TimerHandle] = []
        self._silenced: dict[str, ActivityState] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._acts: dict[type, Callable[[Any], None]] = {
            DemandReceived: self._negotiate,
            AgreementProposed: self._consider,
            AgreementTerminated: self._agreement_terminated,
            CreateActivity: self._create_activity,
            Execute: self._execute,
            GiveUpBatch: self._give_up,
            DestroyActivity: self._destroy_activity,
            NoteJudged: self._judged,
        }

    def __repr__(self) -> str:
        return f"<SimulatedAgent {self.config.name}: {len(self.deals)} agreements>"

    @property
    def identity(self) -> str:
        """The identity, ``0x`` and 40 hex digits."""
        return self.end.identity

    @property
    def name(self) -> str:
        """What it calls itself."""
        return self.config.name

    def arrive(self) -> None:
        """Publish the first offers and serve from now on. Idempotent."""
        if not self._there:
            self._there = True
            self._replenish()

    async def leave(self) -> None:
        """Leave the market: what it ran is lost, and its tasks are over. Idempotent."""
        self._forget()
        self._stay_away()
        self.end.leave()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run what an activity has to await; cancelled with its activity."""
        task = asyncio.get_running_loop().create_task(work, name=f"provider {self.name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def draw(self, span: Span) -> float:
        """Draw the seconds of a span."""
        return self.dice.uniform(*span) if isinstance(span, tuple) else span

    # The inbox -----------------------------------------------------------------------------------

    async def put(self, item: ProviderEvent) -> bool:
        """Take what is asked of it."""
        self.put_now(item)
        return self._there

    def put_now(self, item: ProviderEvent) -> None:
        """Take what is asked of it; it acts in the order in which it was asked."""
        if not self._there:
            return
        if self._instant and not self.paused and not self._line:
            self._act(item)
            return
        self._line.append(item)
        if self.paused:
            return  # whoever ends the pause sees to what waits
        loop = asyncio.get_running_loop()
        seconds = self.draw(self._latency) + sum(map(self.draw, self.conduct.slow))
        self._last_due = max(self._last_due, loop.time() + seconds)
        loop.call_at(self._last_due, self._next)

    def close(self, reason: str = "", *, drop: bool = False) -> None:
        """The market let it go, or it left: everything of it ends at once."""
        del reason, drop
        self._offers.clear()
        self._forget()

    def _next(self) -> None:
        if self._line and not self.paused:
            self._act(self._line.popleft())

    def say(self, act: Callable[..., object], *args: object) -> None:
        """Do one of its own acts in the market, or once it can be reached again."""
        if self.paused:
            self._held.append(partial(act, *args))
        elif self._there:
            try:
                act(*args)
            except RequestorError as error:
                self._told_too_late(error)

    def _act(self, event: ProviderEvent) -> None:
        try:
            self._acts[type(event)](event)
        except RequestorError as error:
            self._told_too_late(error)

    def _told_too_late(self, error: RequestorError) -> None:
        """Withdrawn, cancelled or ended meanwhile: there is nothing to answer any more."""
        _log.debug("provider %s: %s", self.name, error.message)

    # Going away ----------------------------------------------------------------------------------

    def vanish(self, seen_as: SeenAs = "silent", back_after: float | None = None) -> None:
        """Stop answering, with all that it ran gone; ``back_after`` so many seconds it is back."""
        if not self._there:
            return
        if seen_as == "lost":
            self.end.leave()
        else:
            if seen_as == "silent":
                self._fall_silent()
            self._forget()
        if back_after is not None:
            loop = asyncio.get_running_loop()
            self._returns.append(loop.call_later(back_after, self.come_back))

    def _forget(self) -> None:
        self._there = self.paused = False
        self._line.clear()
        self._held.clear()
        for deal in self.deals.values():
            deal.vanish()
        self.deals.clear()
        self.deadlines.clear()

    def _stay_away(self) -> None:
        for timer in self._returns:
            timer.cancel()
        self._returns.clear()

    def come_back(self) -> None:
        """Be there again after it had vanished, without its past. Idempotent."""
        self._stay_away()
        if self._there:
            return
        self._there = True
        reason = EndReason(message="the provider was started anew", code="Restarted")
        if self._market.knows(self.identity):
            self._market.end_all_of(self.identity, reason)
        else:
            self._market.join(self.identity, self)
        self._silenced.clear()
        for offer_id in self._offers:
            self.end.withdraw(offer_id)
        self._offers.clear()
        self._replenish()

    def pause(self, seconds: float, seen_as: SeenAs = "silent") -> None:
        """Be out of reach for so many seconds, and go on then as it was."""
        if self._there and not self.paused:
            if seen_as == "silent":
                self._fall_silent()
            self.paused = True
            asyncio.get_running_loop().call_later(seconds, self._resume)

    def _resume(self) -> None:
        if not self.paused:
            return
        self.paused = False
        for activity_id, state in self._silenced.items():
            self.say(self.end.set_state, activity_id, state, None)
        self._silenced.clear()
        held, self._held = self._held, []
        for act in held:
            self.say(act)
        for _ in self._line:
            asyncio.get_running_loop().call_soon(self._next)

    def _fall_silent(self) -> None:
        """The market sees that nothing comes from its activities any more."""
        for deal in self.deals.values():
            if deal.alive:
                activity = self.end.activity(deal.activity_id)
                self._silenced[activity.id] = activity.state
                reason = f"{self.name} does not answer"
                self._market.report(activity, ActivityState.unresponsive, reason)

    def _arm(self) -> None:
        """Its first agreement stands: from now on count the time until it goes away."""
        if self._armed:
            return
        self._armed = True
        later = asyncio.get_running_loop().call_later
        for one in self.conduct.behaviours:
            if isinstance(one, Vanishing):
                back = None if one.back_after is None else self.draw(one.back_after)
                later(self.draw(one.after), self.vanish, one.seen_as, back)
            elif isinstance(one, Unreachable):
                later(self.draw(one.after), self.pause, self.draw(one.seconds), one.seen_as)

    # Negotiation ---------------------------------------------------------------------------------

    def _replenish(self) -> None:
        """Keep as many offers as are wanted and could become agreements."""
        wanted = min(self.config.open_offers, self.config.capacity - len(self.deals))
        while len(self._offers) < wanted:
            self._offers[self.end.publish(self._offer)] = None
        while len(self._offers) > max(wanted, 0):
            offer_id, _ = self._offers.popitem()
            self.end.withdraw(offer_id)

    def _negotiate(self, event: DemandReceived) -> None:
        if self.conduct.silent_on("proposal"):
            return
        reason = self._objection(event.properties) or self.conduct.refusal("proposal")
        if reason is not None:
            self.end.decline(event.proposal_id, reason)
            return
        draft = self.end.propose(event.proposal_id, self._answer(event.properties))
        if "proposal" in self.conduct.twice:
            self._market.offer_proposal(draft, subject=f"{draft.id} again")

    def _answer(self, demand: Mapping[str, object]) -> Offer:
        interval = demand.get(DEBIT_NOTE_INTERVAL)
        if interval is None:
            return self._offer
        properties = {**self._offer.properties, DEBIT_NOTE_INTERVAL: interval}
        return Offer(properties=properties, constraints=self._offer.constraints)

    def _objection(self, demand: Mapping[str, object]) -> str | None:
        """Return why a demand is not taken, or ``None``."""
        if len(self.deals) >= self.config.capacity:
            return f"no capacity: {self.config.capacity} agreements are open"
        subnet = demand.get(SUBNET)
        if subnet is not None and subnet != self.subnet:
            return f"unknown subnet {subnet!r}: this is {self.subnet!r}"
        interval = demand.get(DEBIT_NOTE_INTERVAL, self.config.debit_note_sec)
        if not isinstance(interval, int | float) or not interval >= SHORTEST_INTERVAL_SEC:
            return f"bad debit-note interval {interval!r}: at least {SHORTEST_INTERVAL_SEC} s"
        expires = self._expiry(demand)
        if expires is not None:
            seconds = (expires - self._market.clock.now()).total_seconds()
            if seconds <= 0:
                return f"the demand expired at {expires.isoformat()}"
            if seconds > self.config.max_duration_sec:
                return f"too long: {seconds:.0f} s, at most {self.config.max_duration_sec:.0f} s"
        return None

    def _expiry(self, demand: Mapping[str, object]) -> datetime | None:
        """Return when a demand says that its agreement ends; it comes again and again."""
        known, expires = self._last_demand
        if known is not demand:
            expires = expiration_of(demand)
            self._last_demand = (demand, expires)
        return expires

    def _consider(self, event: AgreementProposed) -> None:
        self._offers.pop(event.offer_id, None)
        try:
            if self.conduct.silent_on("agreement"):
                return
            reason = self._objection(event.demand) or self.conduct.refusal("agreement")
            if reason is not None:
                self.end.decline_agreement(event.agreement_id, reason)
                return
            self.end.approve(event.agreement_id)
            self._begin(event)
        finally:
            self._replenish()

    def _begin(self, event: AgreementProposed) -> None:
        interval = event.offer.get(DEBIT_NOTE_INTERVAL, self.config.debit_note_sec)
        deal = Deal(
            self,
            event.agreement_id,
            pricing=self._pricing(event.offer),
            interval_sec=float(str(interval)),
        )
        self.deals[deal.id] = deal
        deal.begin(self._expiry(event.demand), self._market.clock.now())
        self._arm()

    def _pricing(self, offer: Mapping[str, object]) -> LinearPricing:
        """Return the prices that an offer of its own names; it is the same again and again."""
        known, pricing = self._last_offer
        if known is not offer:
            pricing = LinearPricing.from_properties(offer) or self.config.pricing
            self._last_offer = (offer, pricing)
        return pricing

    def _ring(self, agreement_id: str, now: float) -> None:
        deal = self.deals.get(agreement_id)
        if deal is not None:
            deal.ring(now)

    def over(self, deal: Deal) -> None:
        """An agreement has ended: there is room for another."""
        self.deals.pop(deal.id, None)
        if self._there:
            self._replenish()

    # Agreements and activities -------------------------------------------------------------------

    def _agreement_terminated(self, event: AgreementTerminated) -> None:
        deal = self.deals.get(event.agreement_id)
        if deal is not None:
            deal.end(event.reason, told=True)

    def _create_activity(self, event: CreateActivity) -> None:
        deal = self.deals.get(event.agreement_id)
        if self.conduct.silent_on("activity"):
            return
        refusal = self.conduct.refusal("activity")
        if refusal is None:
            none = "there is no such agreement"
            refusal = none if deal is None else deal.create(event.activity_id)
        if refusal is not None:
            self.end.refuse_activity(event.activity_id, refusal)

    def _execute(self, event: Execute) -> None:
        deal = self._deal_of(event.activity_id)
        if deal is not None and not self.conduct.silent_on("batch"):
            deal.execute(event)

    def _give_up(self, event: GiveUpBatch) -> None:
        deal = self._deal_of(event.activity_id)
        if deal is not None:
            deal.give_up(event)

    def _destroy_activity(self, event: DestroyActivity) -> None:
        deal = self.deals.get(event.agreement_id)
        if deal is not None:
            deal.end_activity(event.activity_id, "the requestor ended the activity")

    def _judged(self, event: NoteJudged) -> None:
        if not event.accepted:
            self.rejected[event.note_id] = event.reason or "no reason was given"

    def _deal_of(self, activity_id: str) -> Deal | None:
        return self.deals.get(self.end.activity(activity_id).agreement.id)

    def terminate(self, agreement_id: str, reason: EndReason) -> None:
        """End an agreement of its own accord."""
        deal = self.deals.get(agreement_id)
        if deal is not None:
            deal.end(reason)


def expiration_of(demand: Mapping[str, object]) -> datetime | None:
    """Return when a demand says that its agreement ends; ``None`` where it names no time."""
    value = demand.get(EXPIRATION)
    if not isinstance(value, int | float):
        return None
    return datetime.fromtimestamp(value / 1000, tz=UTC)
