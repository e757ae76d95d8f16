"""A provider of the simulated network: one object that is told what is asked of it, and acts.

It has no task of its own. What is asked waits in a line, in order, for as long as the provider's
latency says; deadlines and the intervals of debit notes are timers of the loop.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Coroutine, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from requestor_sdk.model.errors import RequestorError
from requestor_sdk.model.market import EndReason, Offer
from requestor_sdk.model.money import LinearPricing
from requestor_sdk.model.props import DEBIT_NOTE_INTERVAL, EXPIRATION, SUBNET
from requestor_sdk.networks.memory import MemoryMarket, ProviderEnd
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
    from requestor_sdk.networks.simulated._provider import SimulatedProvider, Span
    from requestor_sdk.ports.basics import Signer

SHORTEST_INTERVAL_SEC = 0.1
"""Debit notes that are asked for more often than this would be a flood."""

_log = logging.getLogger(__name__)


class SimulatedAgent:
    """One provider at work. Made by the network; also the inbox that the market knows it by.

    Attributes:
        config: What it lets, and how.
        end: Its acts in the market.
        deals: The agreements that it keeps, by their id.
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
        self.config = config
        self.subnet = config.subnet or subnet
        self.dice = random.Random(f"{seed}/{config.name}")  # noqa: S311 - a simulation's chance
        self.deals: dict[str, Deal] = {}
        self.rejected: dict[str, str] = {}
        self.end = ProviderEnd(market, signer, self)
        self._market = market
        self._offer = config.offer(signer.identity, subnet)
        self._latency = latency if config.latency is None else config.latency
        self._offers: dict[str, None] = {}
        self._line: deque[ProviderEvent] = deque()
        self._last_due = 0.0
        self._there = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._acts = {
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
        loop = asyncio.get_running_loop()
        seconds = self.draw(self._latency)
        if seconds <= 0 and not self._line:
            loop.call_soon(self._next)
        else:
            self._last_due = max(self._last_due, loop.time() + seconds)
            loop.call_at(self._last_due, self._next)
        self._line.append(item)

    def close(self, reason: str = "", *, drop: bool = False) -> None:
        """The market let it go, or it left: everything of it ends at once."""
        del drop
        self._there = False
        self._line.clear()
        self._offers.clear()
        for deal in self.deals.values():
            deal.vanish(reason)
        self.deals.clear()

    def _next(self) -> None:
        if self._line:
            self.act(self._line.popleft())

    def act(self, event: ProviderEvent) -> None:
        """Do what is asked."""
        try:
            self._acts[type(event)](event)  # type: ignore[operator]
        except RequestorError as error:
            # Withdrawn, cancelled or ended meanwhile: there is nothing to answer any more.
            _log.debug("provider %s: %s", self.name, error.message)

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
        reason = self._objection(event.properties)
        if reason is not None:
            self.end.decline(event.proposal_id, reason)
            return
        self.end.propose(event.proposal_id, self._answer(event.properties))

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
        expires = expiration_of(demand)
        if expires is not None:
            seconds = (expires - self._market.clock.now()).total_seconds()
            if seconds <= 0:
                return f"the demand expired at {expires.isoformat()}"
            if seconds > self.config.max_duration_sec:
                return f"too long: {seconds:.0f} s, at most {self.config.max_duration_sec:.0f} s"
        return None

    def _consider(self, event: AgreementProposed) -> None:
        self._offers.pop(event.offer_id, None)
        try:
            reason = self._objection(event.demand)
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
            pricing=LinearPricing.from_properties(event.offer) or self.config.pricing,
            interval_sec=float(str(interval)),
        )
        self.deals[deal.id] = deal
        deal.begin(expiration_of(event.demand), self._market.clock.now())

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
        refusal = "there is no such agreement" if deal is None else deal.create(event.activity_id)
        if refusal is not None:
            self.end.refuse_activity(event.activity_id, refusal)

    def _execute(self, event: Execute) -> None:
        deal = self._deal_of(event.activity_id)
        if deal is not None:
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
