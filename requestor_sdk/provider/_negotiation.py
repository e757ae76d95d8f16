"""Whether a provider takes a demand, and on what terms: pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from requestor_sdk.model.constraints import Clause, conjuncts, parse
from requestor_sdk.model.errors import RequestorError
from requestor_sdk.model.market import Offer, Properties
from requestor_sdk.model.props import (
    ACCEPT_TIMEOUT,
    DEBIT_NOTE_INTERVAL,
    EXPIRATION,
    PAYMENT_TIMEOUT,
    RUNTIME_CAPABILITIES,
    SUBNET,
    TASK_PACKAGE,
    image_hash_of,
)
from requestor_sdk.provider._config import ProviderConfig
from requestor_sdk.service.manifest import Manifest, signed_of

INET: Final = "inet"
"""The capability by which a payload asks for the network."""

LONGEST_SEC = 1e9
ECHOED = (ACCEPT_TIMEOUT, PAYMENT_TIMEOUT)
"""Numbers of seconds that a demand may name, and that the answer repeats: they are agreed then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What was agreed beyond the offer.

    Attributes:
        expires: When the agreement ends by itself; ``None`` where the demand names no time.
        interval_sec: Seconds between two debit notes.
        accept_sec: Seconds in which a debit note is accepted; ``None`` where none were agreed.
        manifest: What the payload may do; ``None`` where the demand carries none.
        echoed: What of the demand the answer repeats.
    """

    expires: datetime | None
    interval_sec: float
    accept_sec: float | None = None
    manifest: Manifest | None = None
    echoed: Properties = field(default_factory=dict)


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
    shortest = config.shortest_interval_sec
    if not _is_number(interval) or not float(str(interval)) >= shortest:
        return f"bad debit-note interval {interval!r}: at least {shortest:g} s"
    echoed = {name: demand[name] for name in ECHOED if name in demand}
    for name, value in echoed.items():
        if not _is_number(value) or not 0 < float(str(value)) < LONGEST_SEC:
            return f"bad {name} {value!r}: a number of seconds is wanted"
    expires = _expiration(demand.get(EXPIRATION))
    if isinstance(expires, str):
        return expires
    if expires is not None:
        seconds = (expires - now).total_seconds()
        if seconds <= 0:
            return f"the demand expired at {expires.isoformat()}"
        if seconds > config.max_duration_sec:
            return f"too long: {seconds:.0f} s, at most {config.max_duration_sec:.0f} s"
    manifest = _manifest(config, demand, now)
    if isinstance(manifest, str):
        return f"manifest refused: {manifest}"
    accept = echoed.get(ACCEPT_TIMEOUT)
    return Terms(
        expires=expires,
        interval_sec=float(str(interval)),
        accept_sec=None if accept is None else float(str(accept)),
        manifest=manifest,
        echoed=echoed,
    )


def answer(offer: Offer, terms: Terms) -> Offer:
    """Return the offer with the negotiated terms written into it."""
    return Offer(
        properties={**offer.properties, DEBIT_NOTE_INTERVAL: terms.interval_sec, **terms.echoed},
        constraints=offer.constraints,
    )


def asks_for(constraints: str, capability: str) -> bool:
    """Tell whether the constraints of a demand ask for a capability of the runtime."""
    wanted = Clause(RUNTIME_CAPABILITIES, "=", capability)
    return wanted in conjuncts(parse(constraints))


def may_connect(config: ProviderConfig, terms: Terms, *, asked: bool) -> bool:
    """Tell whether a payload gets the network.

    Args:
        config: What the provider lets.
        terms: What was agreed.
        asked: Whether the constraints of the demand ask for it.
    """
    if INET not in config.capabilities:
        return False
    if terms.manifest is not None:
        return terms.manifest.outbound is not None and terms.manifest.outbound.asked_for
    return asked and not config.trusted_certificates


def packed(demand: Properties, terms: Terms) -> Properties:
    """Return a demand with its task package, which may stand in its manifest alone."""
    if terms.manifest is None or TASK_PACKAGE in demand:
        return demand
    payload = terms.manifest.payload[0]
    return {**demand, TASK_PACKAGE: ":".join(("hash", payload.hash, *payload.urls[:1]))}


def _manifest(config: ProviderConfig, demand: Properties, now: datetime) -> Manifest | str | None:
    """Return the manifest that a demand carries; a text is the reason to refuse it."""
    try:
        signed = signed_of(demand)
        if signed is None:
            return None
        manifest = signed.check(trusted=config.trusted_certificates, at=now)
    except RequestorError as error:
        return error.message
    asks = manifest.outbound is not None and manifest.outbound.asked_for
    if asks and INET not in config.capabilities:
        return "it asks for the network, which this provider does not give"
    if image_hash_of(demand) not in (None, manifest.image_hash):
        return "the task package is not the payload of the manifest"
    return manifest


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
