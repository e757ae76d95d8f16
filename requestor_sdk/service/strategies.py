"""Strategies that build on others: lists, limits, penalties, reputation, weights.

Each wraps a strategy and changes what that one says: ``BlockList(PriceCaps(...), [...])``. What any
of them rejects is not taken.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Awaitable, Callable, Collection, Iterable
from datetime import timedelta
from decimal import Decimal

from requestor_sdk.model.errors import AmountError, UsageError
from requestor_sdk.model.events import AgreementConfirmed, AgreementRejected, Event
from requestor_sdk.model.market import Proposal
from requestor_sdk.model.money import Terms, plain, to_amount, to_limit
from requestor_sdk.model.reputation import Reputations
from requestor_sdk.service.strategy import MarketStrategy, Rejection, check_strategy

HALF_LIFE = timedelta(hours=1)
"""After how long a failure counts half, where nothing else is said."""

_ALMOST = 0.99
"""Failures fade from the first moment on; three in a minute are three all the same."""


class WrappingMarketStrategy(MarketStrategy):
    """Says what another strategy says; the base of those that change it.

    Args:
        base_strategy: The other one.

    Raises:
        UsageError: It is no strategy.
    """

    def __init__(self, base_strategy: MarketStrategy) -> None:
        self.base_strategy: MarketStrategy = check_strategy(base_strategy)

    async def score_offer(self, offer: Proposal) -> float | Rejection:
        """Return the other strategy's score."""
        return await self.base_strategy.score_offer(offer)

    def on_event(self, event: Event) -> bool:
        """Let the other strategy learn from an event."""
        return self.base_strategy.on_event(event)


class ProviderFilter(WrappingMarketStrategy):
    """Takes offers of some providers only.

    Args:
        base_strategy: Judges the offers of those.
        is_allowed: Tells of a provider's id whether it is one of them; a function or coroutine
            function.

    Raises:
        UsageError: The base strategy is none, or ``is_allowed`` is no function.
    """

    def __init__(
        self,
        base_strategy: MarketStrategy,
        is_allowed: Callable[[str], bool] | Callable[[str], Awaitable[bool]],
    ) -> None:
        super().__init__(base_strategy)
        if not callable(is_allowed):
            raise UsageError(
                f"is_allowed must be a function of a provider's id, not {is_allowed!r}",
                hint="AllowList(strategy, [...]) takes ids and names",
            )
        self._is_allowed = is_allowed

    async def score_offer(self, offer: Proposal) -> float | Rejection:
        """Return the base strategy's score for a provider that is allowed."""
        allowed = self._is_allowed(offer.provider_id)
        if not isinstance(allowed, bool) and inspect.isawaitable(allowed):
            allowed = await allowed
        if not allowed:
            return Rejection("the provider is not allowed")
        return await super().score_offer(offer)


class AllowList(WrappingMarketStrategy):
    """Takes offers of the providers on a list only: a white list.

    Args:
        base_strategy: Judges their offers.
        providers: Ids or names of providers; at least one.

    Raises:
        UsageError: The base strategy is none, the providers are no ids or names, or there are none.
    """

    def __init__(self, base_strategy: MarketStrategy, providers: Collection[str]) -> None:
        super().__init__(base_strategy)
        self._providers = _names(providers)
        if not self._providers:
            raise UsageError("an AllowList without providers takes no offer at all")

    async def score_offer(self, offer: Proposal) -> float | Rejection:
        """Return the base strategy's score for a provider on the list."""
        if not _is_in(offer, self._providers):
            return Rejection("the provider is not on the list of those that are taken")
        return await super().score_offer(offer)


class BlockList(WrappingMarketStrategy):
    """Takes no offers of the providers on a list: a black list.

    Args:
        base_strategy: Judges the offers of all others.
        providers: Ids or names of providers.

    Raises:
        UsageError: The base strategy is none, or the providers are no ids or names.
    """

    def __init__(self, base_strategy: MarketStrategy, providers: Collection[str] = ()) -> None:
        super().__init__(base_strategy)
        self._providers = _names(providers)

    def block(self, provider: str) -> None:
        """Put one more on the list; ``await cluster.rescore()`` makes it hold for what is kept."""
        self._providers |= _names([provider])

    async def score_offer(self, offer: Proposal) -> float | Rejection:
        """Return the base strategy's score for a provider that is not on the list."""
        if _is_in(offer, self._providers):
            return Rejection("the provider is on the list of those that are not taken")
        return await super().score_offer(offer)


def _names(providers: Collection[str]) -> frozenset[str]:
    if isinstance(providers, str) or not all(isinstance(name, str) for name in providers):
        raise UsageError(
            f"providers must be ids or names, not {providers!r}", hint='a list: ["amber", "0x..."]'
        )
    return frozenset(name.lower() if name.startswith("0x") else name for name in providers)


def _is_in(offer: Proposal, names: frozenset[str]) -> bool:
    return offer.provider_id.lower() in names or offer.provider_name in names


class PriceCaps(WrappingMarketStrategy):
    """Takes no offer above a price.

    Args:
        base_strategy: Judges the others.
        per_hour: The most that an hour may cost with all processors at work, the start fee apart.
        start_fee: The most that a start may cost.

    Raises:
        UsageError: The base strategy is none.
        AmountError: A limit is negative or no number.
    """

    def __init__(
        self,
        base_strategy: MarketStrategy,
        *,
        per_hour: Decimal | float | str | None = None,
        start_fee: Decimal | float | str | None = None,
    ) -> None:
        super().__init__(base_strategy)
        self._per_hour = None if per_hour is None else to_amount(per_hour, name="per_hour")
        self._start_fee = None if start_fee is None else to_amount(start_fee, name="start_fee")

    async def score_offer(self, offer: Proposal) -> float | Rejection:
        """Return the base strategy's score for an offer that is cheap enough."""
        terms = Terms.from_properties(offer.properties)
        if terms is None:
            return Rejection("its cost is not bounded by time")
        hour, fee = terms.per_hour(), terms.pricing.fixed
        if self._per_hour is not None and hour > self._per_hour:
            return Rejection(f"an hour can cost {plain(hour)}, above {plain(self._per_hour)}")
        if self._start_fee is not None and fee > self._start_fee:
            return Rejection(f"start fee {plain(fee)} is above {plain(self._start_fee)}")
        return await super().score_offer(offer)


class DecreaseScoreForUnconfirmedAgreement(WrappingMarketStrategy):
    """Likes a provider less while the last agreement that was sent to it was not confirmed.

    Args:
        base_strategy: Judges the offers.
        factor: What the score is multiplied by, from 0 to 1.

    Raises:
        UsageError: The base strategy is none.
        AmountError: ``factor`` is not from 0 to 1.
    """

    def __init__(self, base_strategy: MarketStrategy, factor: float = 0.5) -> None:
        super().__init__(base_strategy)
        self._factor = _share(factor, "factor")
        self._unconfirmed: set[str] = set()

    def on_event(self, event: Event) -> bool:
        """Learn who confirms and who does not."""
        changed = super().on_event(event)
        if isinstance(event, AgreementRejected) and event.provider_id not in self._unconfirmed:
            if event.by == "network":
                return changed
            self._unconfirmed.add(event.provider_id)
            return True
        if isinstance(event, AgreementConfirmed) and event.provider_id in self._unconfirmed:
            self._unconfirmed.discard(event.provider_id)
            return True
        return changed

    async def score_offer(self, offer: Proposal) -> float | Rejection:
        """Return the base strategy's score, or less."""
        score = await super().score_offer(offer)
        if isinstance(score, Rejection) or offer.provider_id not in self._unconfirmed:
            return score
        return _less(score, self._factor)


class PenaliseFailures(WrappingMarketStrategy):
    """Likes a provider less with each failure in this run; failures fade.

    A failure: an agreement or activity that was refused, a provider that vanished or ended the
    agreement, a note or invoice that was too high. What the user's own code raises is none, nor
    what the network itself fails at.

    Args:
        base_strategy: Judges the offers.
        factor: What the score is multiplied by for one failure, from 0 to 1.
        half_life: After how long a failure counts half.
        ban_at: From how many failures on no offer of a provider is taken; ``None`` for never.

    Raises:
        UsageError: The base strategy is none.
        AmountError: ``factor`` is not from 0 to 1, or ``ban_at`` or ``half_life`` is not above
            zero.
    """

    def __init__(
        self,
        base_strategy: MarketStrategy,
        *,
        factor: float = 0.5,
        half_life: timedelta = HALF_LIFE,
        ban_at: float | None = None,
    ) -> None:
        super().__init__(base_strategy)
        self._factor = _share(factor, "factor")
        to_limit(ban_at, name="ban_at")
        self._ban_at = ban_at
        self._reputations = Reputations(half_life)

    def on_event(self, event: Event) -> bool:
        """Learn from failures."""
        changed = super().on_event(event)
        return self._reputations.learn(event) is not None or changed

    async def score_offer(self, offer: Proposal) -> float | Rejection:
        """Return the base strategy's score, less for failures."""
        failures = self._reputations.failures(offer.provider_id)
        if self._ban_at is not None and failures >= self._ban_at * _ALMOST:
            return Rejection(f"the provider failed too often: {failures:.1f} times of late")
        score = await super().score_offer(offer)
        return score if isinstance(score, Rejection) else _less(score, self._factor**failures)


class Reputation(WrappingMarketStrategy):
    """Multiplies a score by what this and earlier runs say about the provider, from 0 to 1.

    A provider that is not known has 0.5. Experiences fade.

    Args:
        base_strategy: Judges the offers.
        history: Returns the events of earlier runs, oldest first: ``RunStore().past_events`` for
            those of the user's store, or the ``read`` of a journal. Called once, at once.
        half_life: After how long an experience counts half.
        least: Offers of providers below this are not taken.

    Raises:
        UsageError: The base strategy is none, or ``history`` does not return events.
        AmountError: ``least`` is not from 0 to 1, or ``half_life`` is not above zero.
    """

    def __init__(
        self,
        base_strategy: MarketStrategy,
        history: Callable[[], Iterable[Event]] | None = None,
        *,
        half_life: timedelta = timedelta(days=7),
        least: float = 0.0,
    ) -> None:
        super().__init__(base_strategy)
        self._least = _share(least, "least")
        self._reputations = Reputations(half_life)
        if history is not None:
            if not callable(history):
                raise UsageError(
                    f"history must be a function that returns events, not {history!r}",
                    hint="e.g. history=RunStore().past_events",
                )
            self._reputations.learn_all(history())

    def on_event(self, event: Event) -> bool:
        """Learn from this run."""
        changed = super().on_event(event)
        return self._reputations.learn(event) is not None or changed

    async def score_offer(self, offer: Proposal) -> float | Rejection:
        """Return the base strategy's score times the provider's reputation."""
        reputation = self._reputations.reputation(offer.provider_id)
        if reputation < self._least:
            return Rejection(f"the provider's reputation of {reputation:.2f} is too low")
        score = await super().score_offer(offer)
        return score if isinstance(score, Rejection) else _less(score, reputation)


class ByScore(MarketStrategy):
    """Scores offers by a function.

    Args:
        function: Returns the score of an offer, the higher the better; negative or a ``Rejection``
            for never. A function or coroutine function.

    Raises:
        UsageError: That is no function.
    """

    def __init__(
        self,
        function: Callable[[Proposal], float | Rejection | Awaitable[float | Rejection]],
    ) -> None:
        if not callable(function):
            raise UsageError(f"ByScore takes a function of an offer, not {function!r}")
        self._function = function

    async def score_offer(self, offer: Proposal) -> float | Rejection:
        """Return what the function says."""
        found = self._function(offer)
        if isinstance(found, Awaitable):
            return await found
        return found


class Weighted(MarketStrategy):
    """The weighted mean of several strategies' scores; what one of them rejects is rejected.

    Args:
        parts: Strategies with their weights, e.g. ``(a, 2), (b, 1)``. Their scores should be of
            like size.

    Raises:
        UsageError: There are none, or one is no strategy with its weight.
        AmountError: A weight is negative, or all are zero.
    """

    def __init__(self, *parts: tuple[MarketStrategy, float]) -> None:
        if not parts:
            raise UsageError("Weighted takes strategies", hint="Weighted((a, 2), (b, 1))")
        for part in parts:
            if not isinstance(part, tuple) or len(part) != 2:
                raise UsageError(f"{part!r} is no strategy with its weight", hint="(strategy, 2)")
        self._parts = [
            (check_strategy(strategy), float(to_amount(weight, name="a weight")))
            for strategy, weight in parts
        ]
        self._sum = sum(weight for _, weight in self._parts)
        if not self._sum:
            raise AmountError("all weights are zero")

    async def score_offer(self, offer: Proposal) -> float | Rejection:
        """Return the weighted mean."""
        total = 0.0
        for strategy, weight in self._parts:
            score = await strategy.score_offer(offer)
            if isinstance(score, Rejection):
                return score
            if score < 0:
                return Rejection("its score is too low")
            total += weight * score
        return total / self._sum

    def on_event(self, event: Event) -> bool:
        """Let all strategies learn from an event."""
        changed = [strategy.on_event(event) for strategy, _ in self._parts]
        return any(changed)


def _share(value: float, name: str) -> float:
    share = float(to_amount(value, name=name))
    if share > 1:
        raise AmountError(f"{name} must be from 0 to 1, not {value!r}")
    return share


def _less(score: float, factor: float) -> float:
    """Make a score smaller; one that rejects stays so."""
    return score if score < 0 or math.isnan(score) else score * factor
