"""What is said on the market: demands with Golem's own properties, and proposals read.

Source: Golem's standards ``golem.com.payment``, ``golem.com.scheme.payu`` and ``golem.node``, and
what the daemon's ``demandDecorations`` says of an allocation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from requestor_sdk.golem._reading import Record, message_of, record, text_of
from requestor_sdk.model.market import Demand, EndReason, Proposal, ProposalState
from requestor_sdk.model.props import (
    DEBIT_NOTE_INTERVAL,
    MULTI_ACTIVITY,
    NODE_NAME,
    PAYMENT_PLATFORM,
    SUBNET,
    joined,
)

if TYPE_CHECKING:
    from requestor_sdk.golem import GolemConfig

PROTOCOL_VERSION: Final = "golem.com.payment.protocol.version"
ACCEPT_TIMEOUT: Final = "golem.com.payment.debit-notes.accept-timeout?"
PAYMENT_TIMEOUT: Final = "golem.com.scheme.payu.payment-timeout-sec?"

_OWN: Final[Mapping[str, object]] = {
    PROTOCOL_VERSION: "3",
    MULTI_ACTIVITY: True,
    DEBIT_NOTE_INTERVAL: 120,
    PAYMENT_TIMEOUT: 120,
    ACCEPT_TIMEOUT: 120,
}
_NEGOTIABLE: Final[Mapping[str, float]] = {
    DEBIT_NOTE_INTERVAL: 30.0,
    PAYMENT_TIMEOUT: 120.0,
    ACCEPT_TIMEOUT: 15.0,
}
"""What a provider may set otherwise, and the least that is taken, in seconds."""
_STATES: Final = {"Initial": ProposalState.initial, "Draft": ProposalState.draft}


class Speech:
    """How this requestor writes demands.

    Args:
        config: The subnet, and how is paid.
    """

    def __init__(self, config: GolemConfig) -> None:
        self._config = config
        self._of: Demand | None = None
        self._body: dict[str, Any] = {}

    def demand(self, demand: Demand, *, payer: str) -> dict[str, Any]:
        """Return a demand as it is published, with its payment platform and its subnet.

        Args:
            demand: As the engine wrote it.
            payer: The identity that pays.
        """
        if demand is not self._of:
            # Kept, as many answers in a row are made of the same demand.
            self._of, self._body = demand, self._written(demand, payer)
        return self._body

    def _written(self, demand: Demand, payer: str) -> dict[str, Any]:
        platform = self._config.platform
        address = f"golem.com.payment.platform.{platform}.address"
        properties: dict[str, object] = {**_OWN, SUBNET: self._config.subnet, **demand.properties}
        properties |= {PAYMENT_PLATFORM: platform, address: payer}
        filters = [demand.constraints, f"({address}=*)", f"({PROTOCOL_VERSION}>1)"]
        if SUBNET not in demand.properties:
            filters.append(f"({SUBNET}={self._config.subnet})")
        return {"properties": properties, "constraints": joined(*filters)}

    def answer(self, demand: Demand, offer: Mapping[str, object], *, payer: str) -> dict[str, Any]:
        """Return the demand as the answer to an offer: what it sets is taken where it may be set.

        Of what can be negotiated only what both sides name is agreed on; a provider that wants
        less than the least is answered with the least.
        """
        body = self.demand(demand, payer=payer)
        agreed = {
            key: max(seconds, least)
            for key, least in _NEGOTIABLE.items()
            if key not in demand.properties and (seconds := _seconds(offer.get(key))) is not None
        }
        changed = {k: v for k, v in agreed.items() if v != body["properties"].get(k)}
        if not changed:
            return body
        whole = {k: int(v) if v.is_integer() else v for k, v in changed.items()}
        return {**body, "properties": {**body["properties"], **whole}}


def _seconds(found: object) -> float | None:
    if not isinstance(found, int | float) or isinstance(found, bool) or not 0 <= found < 1e12:
        return None
    return float(found)


def proposal_of(found: Record, demand_id: str) -> Proposal | None:
    """Read a proposal; ``None`` for one in a state in which nothing can follow.

    Raises:
        BadAnswer: It is none.
    """
    what = "a proposal"
    state = _STATES.get(text_of(found, "state", what))
    properties = record(found.get("properties"), f"properties of {what}")
    if state is None:
        return None
    provider_id = text_of(found, "issuerId", what).lower()
    name = properties.get(NODE_NAME)
    constraints = found.get("constraints")
    previous = found.get("prevProposalId")
    return Proposal(
        id=text_of(found, "proposalId", what),
        demand_id=demand_id,
        provider_id=provider_id,
        provider_name=name if isinstance(name, str) and name else provider_id,
        state=state,
        properties=properties,
        constraints=constraints if isinstance(constraints, str) else "()",
        previous_id=previous if isinstance(previous, str) and previous else None,
    )


def reason_body(reason: EndReason) -> dict[str, str]:
    """Return a reason as it is told to a provider."""
    return {"message": reason.message, "golem.requestor.code": reason.code}


def reason_of(found: object) -> EndReason:
    """Read a provider's reason for an end; what is missing is said to be."""
    code = found.get("golem.provider.code") if isinstance(found, Mapping) else None
    return EndReason(
        message=message_of(found) or "no reason was given",
        code=code if isinstance(code, str) and code else "Unknown",
    )
