"""Whether a debit note or an invoice is right, as pure functions.

Judged by what was agreed and by our own clock; whatever a provider says is taken for a claim.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from requestor_sdk.model.money import CPU, DURATION, ROUNDING, TOLERANCE_SEC, ZERO, Terms, quantized

_ABSURD: Final = Decimal("1e30")


def _odd(amounts: Sequence[Decimal]) -> bool:
    """Tell whether there is an amount that cannot be reckoned with."""
    return any(not amount.is_finite() or abs(amount) > _ABSURD for amount in amounts)


def check_debit_note(
    terms: Terms,
    *,
    total: Decimal,
    usage: Sequence[Decimal],
    elapsed_sec: Decimal,
    accepted: Decimal,
    previous_usage: Sequence[Decimal] = (),
    lasted_sec: Decimal | None = None,
) -> str | None:
    """Judge a debit note; return the reason to reject it, or ``None`` where it is right.

    Args:
        terms: What was agreed.
        total: The amount due for the activity since its beginning, as the note says.
        usage: The usage vector of the note.
        elapsed_sec: Seconds since the activity was created, less the time of silence.
        accepted: What was accepted for this activity before.
        previous_usage: The usage vector of the note before, if there was one.
        lasted_sec: Seconds since the activity was created, silence included: no counter of time
            can be above them. The same as ``elapsed_sec`` where it is left out.
    """
    if _odd((total,)) or total != quantized(total):
        return "an amount is no finite number of the token's smallest units"
    lasted = elapsed_sec if lasted_sec is None else lasted_sec
    wrong = _usage_wrong(terms, usage=usage, previous_usage=previous_usage, lasted_sec=lasted)
    if wrong is not None:
        return wrong
    due = terms.pricing.cost(usage)
    if total > due + ROUNDING:
        return f"{total} is above usage x agreed price, {due}"
    if total < accepted - ROUNDING:
        return f"the total fell from {accepted} to {total}"
    most = terms.most(elapsed_sec)
    if total > most + ROUNDING:
        return f"{total} is above {most}, the most that {elapsed_sec:.0f} s can have cost"
    return None


def due_by_usage(
    terms: Terms,
    *,
    usage: Sequence[Decimal],
    lasted_sec: Decimal,
    previous_usage: Sequence[Decimal] = (),
) -> Decimal | None:
    """Return what a usage vector comes to; ``None`` where it cannot be right.

    Args:
        terms: What was agreed.
        usage: The usage vector of a debit note.
        lasted_sec: Seconds since the activity was created, silence included.
        previous_usage: The usage vector of the note before, if there was one.
    """
    wrong = _usage_wrong(terms, usage=usage, previous_usage=previous_usage, lasted_sec=lasted_sec)
    return terms.pricing.cost(usage) if wrong is None else None


def _usage_wrong(
    terms: Terms,
    *,
    usage: Sequence[Decimal],
    previous_usage: Sequence[Decimal],
    lasted_sec: Decimal,
) -> str | None:
    if len(usage) != len(terms.pricing.counters):
        return (
            f"the usage vector has {len(usage)} counters, the agreement "
            f"{len(terms.pricing.counters)}"
        )
    if _odd(usage):
        return "an amount is no finite number of the token's smallest units"
    if min(usage, default=ZERO) < 0:
        return "a usage counter is negative"
    if previous_usage and any(
        now < before for now, before in zip(usage, previous_usage, strict=False)
    ):
        return "a usage counter fell"
    return _impossible(terms, usage, lasted_sec)


def _impossible(terms: Terms, usage: Sequence[Decimal], lasted_sec: Decimal) -> str | None:
    """Tell which counter of time is above what can have passed."""
    most = {DURATION: lasted_sec + TOLERANCE_SEC}
    most[CPU] = most[DURATION] * terms.threads
    for name, used in zip(terms.pricing.counters, usage, strict=True):
        if name in most and used > most[name]:
            return f"{name} says {used:.0f} s, and at most {most[name]:.0f} s can have passed"
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Charged:
    """One activity, as far as an invoice is judged by it.

    Attributes:
        elapsed_sec: Seconds that it can be charged for.
        noted: The total of its last debit note, if any came; of one that asked for more than its
            usage comes to, what that is.
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
    most = sum((terms.most(each.elapsed_sec) for each in activities), ZERO)
    if amount > most + ROUNDING:
        elapsed = sum((each.elapsed_sec for each in activities), ZERO)
        return f"{amount} is above {most}, the most that {elapsed:.0f} s can have cost"
    most = sum((_most_after_note(terms, each) for each in activities), ZERO)
    if amount > most + ROUNDING:
        noted = sum((each.noted or ZERO for each in activities), ZERO)
        return (
            f"{amount} is above the last debit notes, {noted}, by more than the time since then "
            f"can have cost"
        )
    if amount > payable + ROUNDING:
        return f"{amount} is above {payable}, which is held for this agreement"
    return None


def _most_after_note(terms: Terms, activity: Charged) -> Decimal:
    if activity.noted is None:
        return terms.most(activity.elapsed_sec)
    since = terms.most(activity.elapsed_sec - activity.noted_at_sec)
    return activity.noted + since - terms.pricing.fixed
