"""Strategies: which offers are good, as small classes with one method.

class Nearest(MarketStrategy):
    async def score_offer(self, offer):
        return 1.0 if offer.provider_name == "mine" else SCORE_REJECTED
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

from requestor_sdk.model.errors import AmountError, UsageError
from requestor_sdk.model.events import Event
from requestor_sdk.model.market import Proposal
from requestor_sdk.model.money import CPU, DURATION, ZERO, LinearPricing, to_amount

SCORE_REJECTED: Final = -1.0
"""The score of an offer that is not to be taken."""

SCORE_NEUTRAL: Final = 0.0
"""The score of an offer that is as good as any."""

SCORE_TRUSTED: Final = 100.0
"""The score of an offer that is surely good."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """What ``score_offer`` may return instead of a negative score: it tells the provider why.

    Attributes:
        reason: What the provider is told.
    """

    reason: str


class MarketStrategy:
    """The base of strategies; it takes any offer."""

    async def score_offer(self, offer: Proposal) -> float | Rejection:
        """Judge an offer: the higher the better, negative or a ``Rejection`` for never."""
        del offer
        return SCORE_NEUTRAL

    def on_event(self, event: Event) -> bool:
        """Learn from an event of the run, if the strategy likes to.

        Called with each event while a cluster goes by this strategy. It must not block; what it
        raises is logged, and the run goes on.

        Returns:
            Whether scores changed: then offers that are kept are judged again before any is taken.
        """
        del event
        return False


def check_strategy(strategy: object) -> MarketStrategy:
    """Return a strategy as it is.

    Raises:
        UsageError: It is none, e.g. a class instead of an object.
    """
    if isinstance(strategy, MarketStrategy):
        if not inspect.iscoroutinefunction(strategy.score_offer):
            raise UsageError(
                f"{type(strategy).__name__}.score_offer is no coroutine function",
                hint="write `async def score_offer(self, offer)`",
            )
        return strategy
    if isinstance(strategy, type) and issubclass(strategy, MarketStrategy):
        raise UsageError(
            f"strategy must be an object, not the class {strategy.__name__}",
            hint=f"strategy={strategy.__name__}()",
        )
    raise UsageError(
        f"strategy must be a MarketStrategy, not {strategy!r}",
        hint="a class with `async def score_offer(self, offer)`, based on "
        "requestor_sdk.strategy.MarketStrategy",
    )


class DummyMS(MarketStrategy):
    """Takes any offer, by its old name."""


_HUNDRED: Final = Decimal(100)
_ADDED: Final = Decimal("1.01")


@dataclass
class LeastExpensiveLinearPayuMS(MarketStrategy):
    """Prefers the offer that costs least for an expected time.

    Attributes:
        expected_time_secs: Seconds that an activity is expected to take, of duration and of one
            processor.
        max_fixed_price: The highest start fee that is taken.
        max_price_for: The highest price of a unit of a counter, by the counter's name.

    Raises:
        AmountError: A time, a fee or a price is negative or no number.
    """

    expected_time_secs: int = 60
    max_fixed_price: Decimal | float = Decimal("Infinity")
    max_price_for: Mapping[str, Decimal | float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse negative limits."""
        if not 0 < self.expected_time_secs < math.inf:
            raise AmountError("expected_time_secs must be positive")
        fee = Decimal(str(self.max_fixed_price))
        if fee.is_nan() or fee < 0:
            raise AmountError(f"max_fixed_price must be at least 0, not {self.max_fixed_price!r}")
        for name, price in self.max_price_for.items():
            to_amount(price, name=f"max_price_for[{name}]")

    async def score_offer(self, offer: Proposal) -> float | Rejection:
        """Return 100 / (cost + 1.01), or why the offer is too expensive."""
        pricing = LinearPricing.from_properties(offer.properties)
        if pricing is None:
            return Rejection("no linear price model")
        if pricing.fixed > Decimal(str(self.max_fixed_price)):
            return Rejection(f"start fee {pricing.fixed} is above {self.max_fixed_price}")
        for counter, limit in self.max_price_for.items():
            if pricing.price(counter) > to_amount(limit):
                return Rejection(f"{counter} at {pricing.price(counter)} is above {limit}")
        secs = Decimal(self.expected_time_secs)
        usage = [secs if name in (DURATION, CPU) else ZERO for name in pricing.counters]
        return float(_HUNDRED / (pricing.cost(usage) + _ADDED))
