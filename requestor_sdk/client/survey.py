"""What the market has now for a payload, before any money is spent: nothing is reserved or signed.

A demand without conditions is published for a while, so that every offer is heard of and can be
told with what rules it out. Judges as the engine does: by the payload, by what it can cost, by the
strategy.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from requestor_sdk.engine.buying import Buying, judge_for
from requestor_sdk.model.constraints import Clause, Filter, conjuncts, matches, parse
from requestor_sdk.model.market import Demand, Proposal, ProposalState
from requestor_sdk.model.money import Terms
from requestor_sdk.service.strategy import Rejection

if TYPE_CHECKING:
    from requestor_sdk.ports.network import Network

MOST: Final = 10_000
"""Offers that are listened to at most."""
_LEAST_SEC: Final = 0.5
_ZERO: Final = Decimal(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferSeen:
    """What a provider offers; offers that are alike are one.

    Attributes:
        provider_id: The provider's identity.
        provider_name: What it calls itself.
        per_hour: The most that an hour can cost, the start fee apart; ``None`` where its price
            cannot be bounded.
        fixed: The start fee; ``None`` likewise.
        worst: The most that an instance can cost until its expiry; ``None`` likewise.
        score: What the strategy gave; ``None`` where it was not asked, or would not.
        ruled_out: Why it is not taken, a reason each; empty where it can be.
        count: How many such offers it has.
        chosen: For how many instances it would be taken now.
    """

    provider_id: str
    provider_name: str
    per_hour: Decimal | None = None
    fixed: Decimal | None = None
    worst: Decimal | None = None
    score: float | None = None
    ruled_out: tuple[str, ...] = ()
    count: int = 1
    chosen: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What the market has.

    Attributes:
        network: Which market.
        what: For what it was asked, in words.
        offers: The best first, then those that are ruled out.
        wanted: How many instances are wanted.
        budget: What may be spent in all.
        seconds: How long an instance would be paid for at most.
        more: Whether there were more offers than were listened to.
    """

    network: str
    what: str
    offers: tuple[OfferSeen, ...]
    wanted: int
    budget: Decimal
    seconds: float
    more: bool = False

    @property
    def fitting(self) -> int:
        """How many offers can be taken."""
        return sum(offer.count for offer in self.offers if not offer.ruled_out)

    @property
    def chosen(self) -> int:
        """For how many instances there are offers."""
        return sum(offer.chosen for offer in self.offers)

    @property
    def worst(self) -> Decimal:
        """The most that those which would be taken can cost together."""
        return sum((offer.chosen * (offer.worst or _ZERO) for offer in self.offers), _ZERO)


async def survey(
    network: Network,
    demand: Demand,
    buying: Buying,
    *,
    what: str,
    wanted: int = 1,
    budget: Decimal,
    lasts: timedelta,
    listen: float | None = None,
) -> Survey:
    """Listen to an open network for a while and judge what it offers.

    Args:
        network: Open.
        demand: What is wanted.
        buying: How it would be bought.
        what: The same in words.
        wanted: How many instances.
        budget: What may be spent in all.
        lasts: How long an agreement would last.
        listen: For how many seconds; the network's own time to collect offers by default, and half
            a second at least.

    Raises:
        RequestorError: The market cannot be asked.
    """
    own = buying.collect_offers
    given = network.traits.collect_offers_sec if own is None else own
    seconds = max(_LEAST_SEC, given if listen is None else listen)
    found = await _heard(network, Demand(properties=demand.properties), seconds)
    conditions = conjuncts(parse(demand.constraints))
    judge = judge_for(buying, budget=lambda: budget, seconds=lasts.total_seconds)
    seen = [
        await _judged(proposal, conditions, buying, judge(proposal), lasts)
        for proposal in found.values()
    ]
    return Survey(
        network=network.traits.name,
        what=what,
        offers=tuple(_choose(_alike(seen), wanted)),
        wanted=wanted,
        budget=budget,
        seconds=lasts.total_seconds(),
        more=len(found) >= MOST,
    )


async def _heard(network: Network, demand: Demand, seconds: float) -> Mapping[object, Proposal]:
    """Return the offers that come within a time, the last of each kind of each provider."""
    found: dict[object, Proposal] = {}
    demand_id = await network.market.subscribe(demand)
    try:
        async with asyncio.timeout(seconds):
            while len(found) < MOST:
                for proposal in await network.market.collect(demand_id):
                    if proposal.state is ProposalState.initial:
                        found[proposal.id] = proposal
    except TimeoutError:
        pass
    finally:
        await network.market.unsubscribe(demand_id)
    return found


async def _judged(
    proposal: Proposal,
    conditions: tuple[Filter, ...],
    buying: Buying,
    objection: str | None,
    lasts: timedelta,
) -> OfferSeen:
    reasons = [
        blame(part, proposal.properties)
        for part in conditions
        if not matches(part, proposal.properties)
    ]
    if objection is not None:
        reasons.append(objection)
    score: float | None = None
    if not reasons:
        verdict = await _opinion(buying, proposal)
        if isinstance(verdict, str):
            reasons.append(verdict)
        else:
            score = verdict
    terms = Terms.from_properties(proposal.properties)
    return OfferSeen(
        provider_id=proposal.provider_id,
        provider_name=proposal.provider_name,
        per_hour=None if terms is None else terms.per_hour(),
        fixed=None if terms is None else terms.pricing.fixed,
        worst=None if terms is None else terms.most(lasts.total_seconds()),
        score=score,
        ruled_out=tuple(reasons),
    )


async def _opinion(buying: Buying, proposal: Proposal) -> float | str:
    """Return the score of an offer, or why the strategy declines it."""
    try:
        found = await buying.strategy.score_offer(proposal)
        if isinstance(found, Rejection):
            return found.reason
        score = float(found)
    except Exception as error:  # noqa: BLE001 - the user's own: told with the offer
        return f"the strategy failed: {type(error).__name__}: {error}"
    if math.isnan(score):
        return "the strategy failed: its score is no number"
    return score if score >= 0 else "its score is too low"


def blame(part: Filter, properties: Mapping[str, object]) -> str:
    """Return which condition an offer does not meet, and what it has instead."""
    if not isinstance(part, Clause):
        return f"{part} does not hold"
    if part.name not in properties:
        return f"{part.name} {part.operator} {part.value} is wanted, and it does not say"
    has = properties[part.name]
    return f"{part.name} {part.operator} {part.value} is wanted, and it has {has}"


def _rank(offer: OfferSeen) -> tuple[bool, float, Decimal, str]:
    price = Decimal("Infinity") if offer.per_hour is None else offer.per_hour
    return bool(offer.ruled_out), -(offer.score or 0.0), price, offer.provider_name


def _alike(seen: list[OfferSeen]) -> list[OfferSeen]:
    counts = Counter(seen)
    found = (replace(offer, count=number) for offer, number in counts.items())
    return sorted(found, key=_rank)


def _choose(seen: list[OfferSeen], wanted: int) -> Iterator[OfferSeen]:
    left = wanted
    for offer in seen:
        taken = 0 if offer.ruled_out else min(left, offer.count)
        left -= taken
        yield replace(offer, chosen=taken)
