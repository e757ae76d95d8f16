"""Amounts, prices and the decisions about them, as pure functions; and the ledger of a budget.

All amounts are ``Decimal``s in the network's token. Durations are seconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal, InvalidOperation
from typing import Final

from requestor_sdk.model.errors import AmountError

ZERO: Final = Decimal(0)

DURATION: Final = "golem.usage.duration_sec"
"""Usage counter: seconds that the activity exists."""
CPU: Final = "golem.usage.cpu_sec"
"""Usage counter: processor seconds that the activity used."""

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


def quantized(amount: Decimal) -> Decimal:
    """Round to the token's smallest unit, 1e-18, so that sums of amounts stay exact."""
    return amount.quantize(_UNIT, context=_WIDE)


_UNIT: Final = Decimal("1e-18")
_WIDE: Final = Context(prec=120)
"""Room for products of amounts, e.g. of a provider's price and a usage that make no sense."""
_ABSURD: Final = Decimal("1e30")


def _odd(amounts: Sequence[Decimal]) -> bool:
    """Tell whether there is an amount that cannot be reckoned with."""
    return any(not amount.is_finite() or abs(amount) > _ABSURD for amount in amounts)


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
        """Return the price of one unit of a counter; zero for one that is not charged."""
        for name, coeff in zip(self.counters, self.coeffs, strict=True):
            if name == counter:
                return coeff
        return ZERO

    def cost(self, usage: Sequence[Decimal]) -> Decimal:
        """Return what this usage vector costs, start fee included."""
        priced = (coeff * amount for coeff, amount in zip(self.coeffs, usage, strict=True))
        return quantized(self.fixed + sum(priced, ZERO))

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
            amounts = [to_amount(value, name="price") for value in coeffs]
        except AmountError:
            return None
        return cls(
            counters=tuple(str(name) for name in counters),
            coeffs=tuple(amounts[:-1]),
            fixed=amounts[-1],
        )

    def to_properties(self) -> dict[str, object]:
        """Write the price model as properties of an offer."""
        return {
            "golem.com.scheme": "payu",
            "golem.com.pricing.model": "linear",
            "golem.com.pricing.model.linear.coeffs": [float(c) for c in (*self.coeffs, self.fixed)],
            "golem.com.usage.vector": list(self.counters),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What an agreement says about money.

    Attributes:
        pricing: The agreed prices.
        threads: Processors that can be charged for at one time.
    """

    pricing: LinearPricing
    threads: Decimal = Decimal(1)

    def most(self, seconds: Decimal | float) -> Decimal:
        """Return the most that this many seconds can cost, both sides' clocks allowed for."""
        bounded = max(ZERO, to_amount(seconds)) + TOLERANCE_SEC
        return self.pricing.worst_case(bounded, self.threads) or ZERO


def check_debit_note(
    terms: Terms,
    *,
    total: Decimal,
    usage: Sequence[Decimal],
    elapsed_sec: Decimal,
    accepted: Decimal,
    previous_usage: Sequence[Decimal] = (),
) -> str | None:
    """Judge a debit note; return the reason to reject it, or ``None`` where it is right.

    Args:
        terms: What was agreed.
        total: The amount due for the activity since its beginning, as the note says.
        usage: The usage vector of the note.
        elapsed_sec: Seconds since the activity was created, less the time of silence.
        accepted: What was accepted for this activity before.
        previous_usage: The usage vector of the note before, if there was one.
    """
    if len(usage) != len(terms.pricing.counters):
        return (
            f"the usage vector has {len(usage)} counters, the agreement "
            f"{len(terms.pricing.counters)}"
        )
    if _odd((total, *usage)) or total != quantized(total):
        return "an amount is no finite number of the token's smallest units"
    if any(amount < 0 for amount in usage):
        return "a usage counter is negative"
    if any(now < before for now, before in zip(usage, previous_usage, strict=False)):
        return "a usage counter fell"
    due = terms.pricing.cost(usage)
    if total > due + _ROUNDING:
        return f"{total} is above usage x agreed price, {due}"
    if total < accepted - _ROUNDING:
        return f"the total fell from {accepted} to {total}"
    most = terms.most(elapsed_sec)
    if total > most + _ROUNDING:
        return f"{total} is above {most}, the most that {elapsed_sec:.0f} s can have cost"
    return None


_ROUNDING: Final = Decimal("1e-12")


@dataclass(frozen=True, slots=True, kw_only=True)
class Charged:
    """One activity, as far as an invoice is judged by it.

    Attributes:
        elapsed_sec: Seconds that it can be charged for.
        noted: The total of its last debit note, if any came.
        noted_at_sec: How many of the elapsed seconds had passed when that came.
    """

    elapsed_sec: Decimal
    noted: Decimal | None = None
    noted_at_sec: Decimal = ZERO


def check_invoice(
    terms: Terms, *, amount: Decimal, activities: Sequence[Charged], payable: Decimal
) -> str | None:
    """Judge an invoice; return the reason to reject it, or ``None`` where it is right.

    A debit note can be lost on its way, so an invoice may be above the last ones that came; but not
    by more than the time since then can have cost.

    Args:
        terms: What was agreed.
        amount: The amount of the invoice.
        activities: The activities of the agreement.
        payable: What is still held for this agreement, accepted amounts included.
    """
    if _odd((amount,)) or amount != quantized(amount):
        return "the amount is no finite number of the token's smallest units"
    if amount < 0:
        return "the amount is negative"
    elapsed = sum((each.elapsed_sec for each in activities), ZERO)
    most = sum((terms.most(each.elapsed_sec) for each in activities), ZERO)
    if amount > most + _ROUNDING:
        return f"{amount} is above {most}, the most that {elapsed:.0f} s can have cost"
    most = sum((_most_after_note(terms, each) for each in activities), ZERO)
    if amount > most + _ROUNDING:
        noted = sum((each.noted or ZERO for each in activities), ZERO)
        return (
            f"{amount} is above the last debit notes, {noted}, by more than the time since then "
            f"can have cost"
        )
    if amount > payable + _ROUNDING:
        return f"{amount} is above {payable}, which is held for this agreement"
    return None


def _most_after_note(terms: Terms, activity: Charged) -> Decimal:
    if activity.noted is None:
        return terms.most(activity.elapsed_sec)
    since = terms.most(activity.elapsed_sec - activity.noted_at_sec)
    return activity.noted + since - terms.pricing.fixed


@dataclass(slots=True, kw_only=True)
class _Entry:
    cap: Decimal
    accepted: Decimal = ZERO
    ended: bool = False


class Ledger:
    """What of a budget is held, payable and spent, an entry an agreement.

    ``held``: the worst case of living agreements beyond what was accepted of them; ``payable``: the
    same of ended ones whose invoice is awaited; ``spent``: what was accepted. Their sum never
    exceeds the budget.
    """

    __slots__ = ("_budget", "_entries", "_held", "_payable", "_spent")

    def __init__(self, budget: Decimal) -> None:
        self._budget = budget
        self._held = self._payable = self._spent = ZERO
        self._entries: dict[str, _Entry] = {}

    @property
    def budget(self) -> Decimal:
        """The whole of it."""
        return self._budget

    @property
    def held(self) -> Decimal:
        """What living agreements can still cost."""
        return self._held

    @property
    def payable(self) -> Decimal:
        """What ended agreements can still ask for."""
        return self._payable

    @property
    def spent(self) -> Decimal:
        """What was accepted."""
        return self._spent

    @property
    def available(self) -> Decimal:
        """What can be held for new agreements."""
        return self._budget - self._held - self._payable - self._spent

    def add(self, amount: Decimal) -> None:
        """Raise the budget."""
        self._budget += amount

    def hold(self, agreement: str, amount: Decimal) -> bool:
        """Hold the worst case of a new agreement; ``False`` where there is no room for it."""
        if agreement in self._entries or amount < 0 or amount > self.available:
            return False
        self._entries[agreement] = _Entry(cap=amount)
        self._held += amount
        return True

    def extend(self, agreement: str, amount: Decimal) -> bool:
        """Hold more for a living agreement, in all; ``False`` where there is no room for it."""
        entry = self._entries.get(agreement)
        if entry is None or entry.ended or amount - entry.cap > self.available:
            return False
        more = max(ZERO, amount - entry.cap)
        entry.cap += more
        self._held += more
        return True

    def accept(self, agreement: str, total: Decimal) -> bool:
        """Count ``total`` as accepted for this agreement; ``False`` above what is held for it."""
        entry = self._entries.get(agreement)
        if entry is None or total > entry.cap:
            return False
        more = max(ZERO, total - entry.accepted)
        entry.accepted += more
        self._spent += more
        self._shift(entry, -more)
        return True

    def accepted(self, agreement: str) -> Decimal:
        """Return what was accepted for a living or payable agreement."""
        entry = self._entries.get(agreement)
        return entry.accepted if entry else ZERO

    def payable_for(self, agreement: str) -> Decimal:
        """Return the most that can be accepted for this agreement in all."""
        entry = self._entries.get(agreement)
        return entry.cap if entry else ZERO

    def end(self, agreement: str, most: Decimal) -> None:
        """The agreement is over: shrink what is held to what its time can have cost."""
        entry = self._entries.get(agreement)
        if entry is None or entry.ended:
            return
        rest = entry.cap - entry.accepted
        entry.cap = max(entry.accepted, min(entry.cap, most))
        entry.ended = True
        self._held -= rest
        self._payable += entry.cap - entry.accepted

    def settle(self, agreement: str) -> Decimal:
        """Close the entry, by invoice or by deadline; return what was left unpaid of its cap."""
        entry = self._entries.pop(agreement, None)
        if entry is None:
            return ZERO
        rest = entry.cap - entry.accepted
        self._shift(entry, -rest)
        return rest

    def open_agreements(self) -> tuple[str, ...]:
        """Return the agreements that are held or payable."""
        return tuple(self._entries)

    def _shift(self, entry: _Entry, change: Decimal) -> None:
        if entry.ended:
            self._payable += change
        else:
            self._held += change

    def check(self) -> tuple[str, ...]:
        """Return the invariants that do not hold; empty where all do."""
        broken = []
        held = sum((e.cap - e.accepted for e in self._entries.values() if not e.ended), ZERO)
        payable = sum((e.cap - e.accepted for e in self._entries.values() if e.ended), ZERO)
        if held != self._held or payable != self._payable:
            broken.append("the totals of the ledger differ from its entries")
        if self._held + self._payable + self._spent > self._budget:
            broken.append("held + payable + spent is above the budget")
        if min(self._held, self._payable, self._spent) < 0:
            broken.append("a total of the ledger is negative")
        return tuple(broken)
