"""The market: demands, proposals and agreements."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import ClassVar

from requestor_sdk.model.event import Event


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionCreated(Event):
    """A demand was published for a cluster."""

    cluster_id: str
    demand_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposalReceived(Event):
    """The market has a proposal for a demand."""

    cluster_id: str
    proposal_id: str
    provider_id: str
    provider_name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposalScored(Event):
    """The strategy gave a score to a proposal; it will be negotiated."""

    cluster_id: str
    proposal_id: str
    provider_id: str
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposalRejected(Event):
    """A proposal was declined, by us or by the provider."""

    cluster_id: str
    proposal_id: str
    provider_id: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposalConfirmed(Event):
    """The provider answered: an agreement can be made of this proposal."""

    cluster_id: str
    proposal_id: str
    provider_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NoOffersYet(Event):
    """Instances wait and no offer has come for a while."""

    cluster_id: str
    offers: int
    ruled_out: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetExhausted(Event):
    """An offer could not be taken: the budget has no room for its worst case."""

    cluster_id: str
    needed: Decimal
    available: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class AgreementCreated(Event):
    """An agreement is about to be confirmed; from now on its worst case is held.

    Attributes:
        instance_id: For whom it is.
        agreement_id: The agreement.
        provider_id: The provider's identity.
        provider_name: What it calls itself.
        held: Its worst case.
        cluster_id: The cluster of the instance.
        until: When it ends at the latest.
        counters: The usage counters that are charged for, in the order of the usage vector.
        coeffs: The agreed price of one unit of each.
        fixed: The agreed start fee.
        threads: Processors that can be charged for at one time.
    """

    durable: ClassVar[bool] = True

    instance_id: str
    agreement_id: str
    provider_id: str
    provider_name: str
    held: Decimal
    cluster_id: str = ""
    until: datetime | None = None
    counters: tuple[str, ...] = ()
    coeffs: tuple[Decimal, ...] = ()
    fixed: Decimal = Decimal(0)
    threads: Decimal = Decimal(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class AgreementConfirmed(Event):
    """Both sides have signed.

    What is done next, ``ActivityRequested``, brings it to the disk as well; where a power cut is
    faster, recovery asks the market.
    """

    instance_id: str
    agreement_id: str
    provider_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AgreementRejected(Event):
    """The provider did not approve; nothing is held any more.

    ``by`` is ``provider``, or ``network`` where that failed, and not the provider.
    """

    durable: ClassVar[bool] = True

    instance_id: str
    agreement_id: str
    provider_id: str
    reason: str
    by: str = "provider"


@dataclass(frozen=True, slots=True, kw_only=True)
class AgreementTerminated(Event):
    """An agreement is over; ``by`` is ``requestor``, ``provider`` or ``network``."""

    durable: ClassVar[bool] = True

    agreement_id: str
    provider_id: str
    by: str
    reason: str
    code: str = ""
