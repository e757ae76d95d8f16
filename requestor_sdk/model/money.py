"""Amounts, prices and what an offer can cost, as pure functions.

All amounts are ``Decimal``s in the network's token. Durations are seconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Context, Decimal, InvalidOperation
from functools import lru_cache
from typing import Final

from requestor_sdk.model.errors import AmountError
from requestor_sdk.model.props import INF_THREADS

ZERO: Final = Decimal(0)

DURATION: Final = "golem.usage.duration_sec"
"""Usage counter: seconds that the activity exists."""
CPU: Final = "golem.usage.cpu_sec"
"""Usage counter: processor seconds that the activity used."""

HOUR_SEC: Final = Decimal(3600)

ROUNDING: Final = Decimal("1e-12")
"""What the two sides' sums may differ by."""
TOLERANCE_SEC: Final = Decimal(5)
"""How far the two sides' clocks may differ over the life of an activity."""


def to_amount(
    value: Decimal | float | str, *, name: str = "amount", least: Decimal = ZERO
) -> Decimal:
    """Convert to a finite ``Decimal``; a float by its repr, so that ``0.1`` stays 0.1.

    Raises:
        AmountError: It is no number, not finite, or below ``least``.
    """
    if isinstance(value, bool):
        raise AmountError(f"{name} must be a number, not {value!r}")
    try:
        amount = value if isinstance(value, Decimal) else Decimal(str(value))
    except (InvalidOperation, ValueError):
        raise AmountError(f"{name} must be a number, not {value!r}") from None
    if not amount.is_finite():
        raise AmountError(f"{name} must be finite, not {value!r}")
    if amount < least:
        raise AmountError(f"{name} must be at least {least}, not {value!r}")
    try:
        return amount.quantize(_UNIT)
    except InvalidOperation:
        raise AmountError(f"{name} is too large: {value!r}") from None


def to_positive(value: Decimal | float | str, *, name: str = "amount") -> Decimal:
    """Convert to a finite ``Decimal`` above zero, as ``to_amount`` does.

    Raises:
        AmountError: It is no finite number, or not above zero.
    """
    amount = to_amount(value, name=name)
    if amount <= ZERO:
        raise AmountError(f"{name} must be above zero, not {value!r}")
    return amount


def to_limit(value: Decimal | float | str | None, *, name: str) -> Decimal | None:
    """Convert a limit as ``to_positive`` does; ``None`` is none."""
    return None if value is None else to_positive(value, name=name)


def plain(amount: Decimal) -> str:
    """Return an amount as people write it: no exponent, no zeros at the end."""
    return f"{amount.normalize():f}"


def quantized(amount: Decimal) -> Decimal:
    """Round to the token's smallest unit, 1e-18, so that sums of amounts stay exact."""
    return amount.quantize(_UNIT, context=_WIDE)


_UNIT: Final = Decimal("1e-18")
_WIDE: Final = Context(prec=120)
"""Room for products of amounts, e.g. of a provider's price and a usage that make no sense."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearPricing:
    """The linear price model: a start fee and a price a unit of each usage counter.

    Attributes:
        counters: The names of the usage counters, in the order of the offer's usage vector.
        coeffs: The price of one unit of each.
        fixed: The start fee of an activity.
    """

    counters: tuple[str, ...] = (DURATION, CPU)
    coeffs: tuple[Decimal, ...] = (ZERO, ZERO)
    fixed: Decimal = ZERO

    def price(self, counter: str) -> Decimal:
        """Return the price of one unit of a counter; zero for one that is not charged.

        Of a counter that is named twice it is the sum, as it is charged.
        """
        pairs = zip(self.counters, self.coeffs, strict=True)
        return sum((coeff for name, coeff in pairs if name == counter), ZERO)

    def cost(self, usage: Sequence[Decimal]) -> Decimal:
        """Return what this usage vector costs, start fee included."""
        total = self.fixed
        for coeff, amount in zip(self.coeffs, usage, strict=True):
            total += coeff * amount
        return quantized(total)

    def worst_case(self, seconds: Decimal, threads: Decimal) -> Decimal | None:
        """Return the most that an activity of this duration can cost.

        ``None`` where a counter is charged for whose growth time does not bound.
        """
        total = self.fixed
        for name, coeff in zip(self.counters, self.coeffs, strict=True):
            if name == DURATION:
                total += coeff * seconds
            elif name == CPU:
                total += coeff * seconds * threads
            elif coeff:
                return None
        return quantized(total)

    @classmethod
    def from_properties(cls, properties: Mapping[str, object]) -> LinearPricing | None:
        """Read the price model of an offer; ``None`` where it is missing or no linear one."""
        coeffs = properties.get("golem.com.pricing.model.linear.coeffs")
        counters = properties.get("golem.com.usage.vector")
        if not isinstance(coeffs, list | tuple) or not isinstance(counters, list | tuple):
            return None
        if len(coeffs) != len(counters) + 1:
            return None
        try:
            return _linear(tuple(counters), *coeffs)
        except (AmountError, TypeError):
            return None

    def to_properties(self) -> dict[str, object]:
        """Write the price model as properties of an offer."""
        return {
            "golem.com.scheme": "payu",
            "golem.com.pricing.model": "linear",
            "golem.com.pricing.model.linear.coeffs": [float(c) for c in (*self.coeffs, self.fixed)],
            "golem.com.usage.vector": list(self.counters),
        }


@lru_cache(maxsize=1024, typed=True)
def _linear(counters: tuple[object, ...], *coeffs: object) -> LinearPricing:
    """Return a price model; offers of one provider have the same, however many there are."""
    amounts = [to_amount(value, name="price") for value in coeffs]  # type: ignore[arg-type]
    names = tuple(str(name) for name in counters)
    return LinearPricing(counters=names, coeffs=tuple(amounts[:-1]), fixed=amounts[-1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What an agreement says about money.

    Attributes:
        pricing: The agreed prices.
        threads: Processors that can be charged for at one time.
        rate: The most that a second can cost; ``None`` where time does not bound the cost.
    """

    pricing: LinearPricing
    threads: Decimal = Decimal(1)
    rate: Decimal | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Work out the rate once: it is asked for at every step of an agreement."""
        second = self.pricing.worst_case(Decimal(1), self.threads)
        rate = None if second is None else second - self.pricing.fixed
        object.__setattr__(self, "rate", rate)

    @classmethod
    def from_properties(cls, properties: Mapping[str, object]) -> Terms | None:
        """Read what an offer says about money; ``None`` where its cost cannot be bounded."""
        pricing = LinearPricing.from_properties(properties)
        if pricing is None:
            return None
        try:
            terms = _terms(pricing, str(properties.get(INF_THREADS, 1)))
        except AmountError:
            return None
        return None if terms.rate is None else terms

    def most(self, seconds: Decimal | float) -> Decimal:
        """Return the most that this many seconds can cost, both sides' clocks allowed for."""
        if self.rate is None:
            return ZERO
        exact = seconds if isinstance(seconds, Decimal) else to_seconds(seconds)
        bounded = exact + TOLERANCE_SEC if exact > ZERO else TOLERANCE_SEC
        return quantized(self.pricing.fixed + self.rate * bounded)

    def per_hour(self) -> Decimal:
        """Return the most that an hour can cost with all threads at work; no start fee.

        Rounded to 12 places: prices are floats in an offer, and 2 an hour is 2.
        """
        return ((self.rate or ZERO) * HOUR_SEC).quantize(ROUNDING, context=_WIDE)


@lru_cache(maxsize=1024)
def _terms(pricing: LinearPricing, threads: str) -> Terms:
    counted = to_amount(threads, name=INF_THREADS)
    return Terms(pricing=pricing, threads=max(counted, Decimal(1)))


_MICROSECOND: Final = Decimal("0.000001")


def to_seconds(seconds: float) -> Decimal:
    """Convert a duration to the microsecond, which is as exact as clocks are."""
    return round(seconds * 1_000_000) * _MICROSECOND


def check_offer(
    terms: Terms | None,
    *,
    seconds: Decimal | float,
    budget: Decimal,
    max_price_per_hour: Decimal | None = None,
) -> str | None:
    """Judge an offer by what it can cost; return the reason to decline it, or ``None``.

    Args:
        terms: What it says about money; ``None`` where its cost cannot be bounded.
        seconds: Until the agreement would expire.
        budget: All that may ever be spent on it, whatever is bound now.
        max_price_per_hour: The most that an hour may cost, the start fee apart.
    """
    if terms is None:
        return "its price model is not linear, or charges for what time does not bound"
    if max_price_per_hour is not None and terms.per_hour() > max_price_per_hour:
        return (
            f"an hour can cost {plain(terms.per_hour())}, above the limit of "
            f"{plain(max_price_per_hour)}"
        )
    worst = terms.most(seconds)
    if worst > budget:
        return f"its worst case of {plain(worst)} is above the whole budget of {plain(budget)}"
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """Whether a budget has room for one more instance.

    Attributes:
        needed: The worst case of the instance.
        available: What can be held for it.
        after_sec: After how many seconds there is room, where nothing else changes: the expiry
            comes nearer. ``None`` where time alone does not make it, or there is room.
    """

    needed: Decimal
    available: Decimal
    after_sec: float | None = None

    @property
    def enough(self) -> bool:
        """Whether there is."""
        return self.needed <= self.available


def room_for(terms: Terms, *, seconds: Decimal | float, available: Decimal) -> Room:
    """Tell whether one more instance fits into what is available.

    Args:
        terms: Of the agreement that would be made.
        seconds: Until it would expire.
        available: What can be held.
    """
    needed = terms.most(seconds)
    missing = needed - available
    if missing <= 0 or terms.most(0) > available:
        return Room(needed=needed, available=available)
    rate = terms.per_hour() / HOUR_SEC
    return Room(needed=needed, available=available, after_sec=float(missing / rate))
