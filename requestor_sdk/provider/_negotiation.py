"""Whether a provider takes a demand, and on what terms: pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from requestor_sdk.model.constraints import Clause, conjuncts, parse
from requestor_sdk.model.market import Offer
from requestor_sdk.model.props import (
    DEBIT_NOTE_INTERVAL,
    EXPIRATION,
    RUNTIME_CAPABILITIES,
    SUBNET,
)
from requestor_sdk.provider._config import ProviderConfig

SHORTEST_INTERVAL_SEC = 0.1
"""Debit notes that are asked for more often than this would be a flood."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What was agreed beyond the offer.

    Attributes:
        expires: When the agreement ends by itself; ``None`` where the demand names no time.
        interval_sec: Seconds between two debit notes.
    """

    expires: datetime | None
    interval_sec: float


def judge(
    config: ProviderConfig,
    demand: Mapping[str, object],
    *,
    now: datetime,
    free: int,
    requestor: str = "",
) -> Terms | str:
    """Return the terms on which a demand is taken, or the reason to decline it.

    Args:
        config: What the provider lets.
        demand: The properties of the demand.
        now: The time.
        free: How many more agreements the provider can have.
        requestor: Whose demand it is.
    """
    if config.requestors and requestor not in config.requestors:
        return "this provider serves only requestors of its own"
    if free <= 0:
        return f"no capacity: {config.max_activities} agreements are open"
    subnet = demand.get(SUBNET)
    if subnet is not None and subnet != config.subnet:
        return f"unknown subnet {subnet!r}: this is {config.subnet!r}"
    interval = demand.get(DEBIT_NOTE_INTERVAL, config.debit_note_interval_sec)
    if not _is_number(interval) or not float(str(interval)) >= SHORTEST_INTERVAL_SEC:
        return f"bad debit-note interval {interval!r}: at least {SHORTEST_INTERVAL_SEC} s"
    expires = _expiration(demand.get(EXPIRATION))
    if isinstance(expires, str):
        return expires
    if expires is not None:
        seconds = (expires - now).total_seconds()
        if seconds <= 0:
            return f"the demand expired at {expires.isoformat()}"
        if seconds > config.max_duration_sec:
            return f"too long: {seconds:.0f} s, at most {config.max_duration_sec:.0f} s"
    return Terms(expires=expires, interval_sec=float(str(interval)))


def answer(offer: Offer, terms: Terms) -> Offer:
    """Return the offer with the negotiated terms written into it."""
    return Offer(
        properties={**offer.properties, DEBIT_NOTE_INTERVAL: terms.interval_sec},
        constraints=offer.constraints,
    )


def asks_for(constraints: str, capability: str) -> bool:
    """Tell whether the constraints of a demand ask for a capability of the runtime."""
    wanted = Clause(RUNTIME_CAPABILITIES, "=", capability)
    return wanted in conjuncts(parse(constraints))


def _expiration(value: object) -> datetime | str | None:
    """Read milliseconds since 1970; a text is the reason why it cannot be read."""
    if value is None:
        return None
    try:
        return datetime.fromtimestamp(float(str(value)) / 1000, tz=UTC)
    except (ValueError, OverflowError, OSError):
        return f"bad expiration {value!r}: milliseconds since 1970 are wanted"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
