"""How a cluster buys: what chooses its offers, and the limits that they are held against."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from requestor_sdk.model.errors import BudgetTooSmall, NoMatchingOffer
from requestor_sdk.model.market import MatchReport, Properties, Proposal
from requestor_sdk.model.money import Terms, check_offer, plain, to_amount, to_limit
from requestor_sdk.service.strategy import (
    LeastExpensiveLinearPayuMS,
    MarketStrategy,
    check_strategy,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Buying:
    """How a cluster chooses what it buys, and what that may cost.

    Attributes:
        strategy: Judges offers.
        budget: What the cluster may spend of the whole budget, if there is a limit.
        max_price_per_hour: The most that an hour of an instance may cost, if there is a limit.
        collect_offers: For how many seconds offers are collected before the best are answered;
            ``None`` for the settings' or the network's own.
    """

    strategy: MarketStrategy
    budget: Decimal | None = None
    max_price_per_hour: Decimal | None = None
    collect_offers: float | None = None

    def most(self, whole: Decimal) -> Decimal:
        """Return all that the cluster may ever spend, of the whole budget as it is now."""
        return whole if self.budget is None else min(self.budget, whole)


def make_buying(
    *,
    strategy: MarketStrategy | None = None,
    budget: Decimal | float | str | None = None,
    max_price_per_hour: Decimal | float | str | None = None,
    collect_offers: timedelta | float | None = None,
    default: Buying | None = None,
) -> Buying:
    """Return how a cluster buys; what is left out is as in ``default``.

    Raises:
        AmountError: A limit is no number above zero, or the time is negative.
        UsageError: The strategy is none, e.g. a class instead of an object.
    """
    base = default or Buying(strategy=LeastExpensiveLinearPayuMS())
    if isinstance(collect_offers, timedelta):
        collect_offers = collect_offers.total_seconds()
    limit = to_limit(max_price_per_hour, name="max_price_per_hour")
    return Buying(
        strategy=base.strategy if strategy is None else check_strategy(strategy),
        budget=to_limit(budget, name="budget"),
        max_price_per_hour=base.max_price_per_hour if limit is None else limit,
        collect_offers=base.collect_offers
        if collect_offers is None
        else float(to_amount(collect_offers, name="collect_offers")),
    )


def check_report(
    report: MatchReport | None,
    buying: Buying,
    *,
    seconds: float,
    budget: Decimal,
    ids: dict[str, str],
) -> None:
    """Refuse what the market cannot meet, where it knows that waiting would not help.

    Raises:
        NoMatchingOffer: No offer meets the demand, or none is cheap enough an hour; the message
            says what rules out how many.
        BudgetTooSmall: The cheapest offer's worst case until expiry is above the budget.
    """
    if report is None or not report.complete:
        return
    if report.matching == 0:
        rows = "; ".join(f"{text} rules out {count}" for text, count in report.ruled_out)
        raise NoMatchingOffer(
            f"none of {report.offers} offers meets the payload: {rows or 'there is no offer'}",
            ids=ids,
            hint="ask for less in get_payload(), or give Compute(providers=...) that have it",
        )
    found = (Terms.from_properties(properties) for properties in report.matching_offers)
    known = [terms for terms in found if terms is not None]
    cap = buying.max_price_per_hour
    cheap = [terms for terms in known if cap is None or terms.per_hour() <= cap]
    if known and not cheap and cap is not None:
        raise NoMatchingOffer(
            f"none of {len(known)} offers is within max_price_per_hour={plain(cap)}: on the "
            f"cheapest an hour can cost {plain(min(terms.per_hour() for terms in known))}",
            ids=ids,
            hint="a higher max_price_per_hour=",
        )
    most = buying.most(budget)
    costs = [terms.most(seconds) for terms in cheap]
    if costs and min(costs) > most:
        raise BudgetTooSmall(
            f"the budget of {plain(most)} does not carry one instance: until its expiry "
            f"in {seconds:.0f} s it can cost {plain(min(costs))} on the cheapest offer",
            ids=ids,
            hint="a higher budget=, or an earlier expiration=",
        )


def judge_for(
    buying: Buying, *, budget: Callable[[], Decimal], seconds: Callable[[], float]
) -> Callable[[Proposal], str | None]:
    """Return what rules out proposals whose cost cannot be bounded, or is above the limits.

    Args:
        buying: How the cluster buys.
        budget: Returns the whole budget, which can be raised and never lowered.
        seconds: Returns how long an agreement made now would last; it never grows.
    """
    good: dict[str, Properties] = {}

    def judge(proposal: Proposal) -> str | None:
        # A provider offers the same again and again. What could be paid for once can be later: the
        # end comes nearer, and a budget only grows.
        if good.get(proposal.provider_id) is proposal.properties:
            return None
        objection = check_offer(
            Terms.from_properties(proposal.properties),
            seconds=seconds(),
            budget=buying.most(budget()),
            max_price_per_hour=buying.max_price_per_hour,
        )
        if objection is None:
            good[proposal.provider_id] = proposal.properties
        return objection

    return judge
