"""Values of the market: demands, offers, proposals, agreements, notes and invoices.

Terms and sequence are those of Golem's market and payment API; times are aware datetimes in UTC,
amounts are ``Decimal``s.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Final

from requestor_sdk.model.props import Payload, joined

Properties = Mapping[str, object]
"""Flat properties: a dotted name to a string, number, bool or list of these."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What a requestor looks for."""

    properties: Properties
    constraints: str = "()"
    _text: str = field(default="", init=False, repr=False, compare=False)

    def canonical(self) -> str:
        """Return its properties as they are signed; made once, for all agreements on it."""
        return self._text or _keep_text(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What a provider has to let."""

    properties: Properties
    constraints: str = "()"
    _text: str = field(default="", init=False, repr=False, compare=False)

    def canonical(self) -> str:
        """Return its properties as they are signed; made once, for all agreements on it."""
        return self._text or _keep_text(self)


def _keep_text(side: Demand | Offer) -> str:
    text = _CANONICAL.encode(dict(side.properties))
    object.__setattr__(side, "_text", text)
    return text


def make_demand(payload: Payload, extra: Properties, *filters: str) -> Demand:
    """Return the demand of a payload with the engine's own properties and constraints."""
    return Demand(
        properties={**payload.properties(), **extra},
        constraints=joined(payload.constraints(), *filters),
    )


class ProposalState(StrEnum):
    """How far the negotiation of a proposal is."""

    initial = "Initial"
    """The market matched an offer with the demand; the provider has not spoken yet."""
    draft = "Draft"
    """The provider answered our counter-proposal; an agreement can be made of it."""
    rejected = "Rejected"
    """The provider declined; ``reason`` says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """One step of a negotiation, as the requestor sees it.

    Attributes:
        id: Of this step; each answer has one of its own.
        demand_id: Of the subscribed demand.
        provider_id: The identity of the provider, ``0x`` and 40 hex digits.
        provider_name: What it calls itself (``golem.node.id.name``).
        state: How far the negotiation is.
        properties: Of the offer.
        constraints: Of the offer.
        reason: Why it was rejected, where it was.
        previous_id: The step that this one answers; ``None`` for an initial proposal.
    """

    id: str
    demand_id: str
    provider_id: str
    provider_name: str
    state: ProposalState
    properties: Properties
    constraints: str = "()"
    reason: str | None = None
    previous_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AgreementBody:
    """What both sides sign.

    Attributes:
        id: Of the agreement.
        requestor_id: Identity of the requestor.
        provider_id: Identity of the provider.
        demand: The demand, as negotiated.
        offer: The offer, as negotiated.
        valid_to: Until when it can be approved.
    """

    id: str
    requestor_id: str
    provider_id: str
    demand: Demand
    offer: Offer
    valid_to: datetime
    _canonical: bytes = field(default=b"", init=False, repr=False, compare=False)

    def canonical(self) -> bytes:
        """Return the bytes that are signed: JSON with sorted keys and no blanks."""
        if not self._canonical:
            object.__setattr__(self, "_canonical", self._made())
        return self._canonical

    def _made(self) -> bytes:
        body = (
            ("demand", self.demand.canonical()),
            ("id", _quoted(self.id)),
            ("offer", self.offer.canonical()),
            ("provider", _quoted(self.provider_id)),
            ("requestor", _quoted(self.requestor_id)),
            ("validTo", _quoted(self.valid_to.isoformat())),
        )
        return ("{" + ",".join([f'"{key}":{text}' for key, text in body]) + "}").encode()


_CANONICAL: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"))
_quoted: Final = json.encoder.encode_basestring_ascii


@dataclass(frozen=True, slots=True, kw_only=True)
class EndReason:
    """Why an agreement or an activity was ended, as it is told to the other side.

    Attributes:
        message: One sentence.
        code: A short word, e.g. ``Success``, ``BudgetExceeded``, ``NoActivity``, ``Expired``.
    """

    message: str
    code: str = "Success"


class AgreementState(StrEnum):
    """How far an agreement is."""

    proposed = "Proposed"
    pending = "Pending"
    approved = "Approved"
    rejected = "Rejected"
    cancelled = "Cancelled"
    expired = "Expired"
    terminated = "Terminated"


@dataclass(frozen=True, slots=True, kw_only=True)
class AgreementStatus:
    """What the market says of an agreement; ``reason`` where it is over."""

    state: AgreementState
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """What a network says of an allocation of this identity.

    Attributes:
        id: Of the allocation.
        amount: What it reserves in all.
        spent: What of it was accepted.
        created_at: When it was made.
    """

    id: str
    amount: Decimal
    spent: Decimal
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class AgreementEnded:
    """The provider (or the market, at expiry) ended an agreement."""

    agreement_id: str
    reason: EndReason


class ActivityState(StrEnum):
    """The state of an activity, as the provider reports it."""

    new = "New"
    initialized = "Initialized"
    deployed = "Deployed"
    ready = "Ready"
    terminated = "Terminated"
    unresponsive = "Unresponsive"


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivityChanged:
    """The provider reports a new state of an activity; ``terminated`` means it is dead."""

    activity_id: str
    agreement_id: str
    state: ActivityState
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DebitNote:
    """What an activity has cost since its beginning.

    Attributes:
        id: Of the note.
        agreement_id: Whose activity it is.
        activity_id: The activity.
        total: The amount due since its beginning.
        usage: The usage vector, in the order of the agreement's counters.
        issued_at: When the provider wrote it.
    """

    id: str
    agreement_id: str
    activity_id: str
    total: Decimal
    usage: tuple[Decimal, ...]
    issued_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Invoice:
    """What an ended agreement costs in all.

    Attributes:
        id: Of the invoice.
        agreement_id: The agreement.
        activity_ids: Its activities.
        amount: The whole amount, debit notes included.
        issued_at: When the provider wrote it.
        paid: Whether what was accepted of its debit notes has paid it already, to the last unit: a
            network may then take it for settled before anybody judged it.
    """

    id: str
    agreement_id: str
    activity_ids: tuple[str, ...]
    amount: Decimal
    issued_at: datetime
    paid: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchReport:
    """How the offers of the market meet a demand.

    Attributes:
        offers: How many offers there are.
        matching: How many of them meet the demand's constraints, and the demand theirs.
        ruled_out: For each constraint how many offers it rules out, worst first.
        complete: Whether this is all the market there is; then waiting does not help.
        matching_offers: The properties of the offers that match, where they are known.
    """

    offers: int
    matching: int
    ruled_out: tuple[tuple[str, int], ...] = field(default=())
    complete: bool = False
    matching_offers: tuple[Properties, ...] = field(default=())
