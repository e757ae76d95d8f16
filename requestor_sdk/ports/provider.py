"""The other side of a market: how a provider agent reaches requestors.

One transport serves one identity. The agent takes events by ``next_event`` and answers by calls; a
transport of a real network does the same over its daemon. Signing and checking of agreements is the
transport's work, as on real networks.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

from requestor_sdk.model.market import ActivityState, EndReason, Offer, Properties
from requestor_sdk.model.script import BatchEvent, Command


@dataclass(frozen=True, slots=True, kw_only=True)
class DemandReceived:
    """A requestor answered an offer; the agent answers by ``propose`` or ``decline``."""

    proposal_id: str
    offer_id: str
    requestor_id: str
    properties: Properties
    constraints: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferGone:
    """The market holds an offer no more, e.g. because its time is over; nothing can come of it."""

    offer_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AgreementProposed:
    """A requestor signed an agreement; the agent answers by ``approve`` or ``decline_agreement``.

    ``demand`` and ``offer`` are the properties that both sides agreed on.
    """

    agreement_id: str
    offer_id: str
    requestor_id: str
    demand: Properties
    offer: Properties


@dataclass(frozen=True, slots=True, kw_only=True)
class AgreementTerminated:
    """The requestor ended an agreement."""

    agreement_id: str
    reason: EndReason


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateActivity:
    """The requestor wants an activity; answered by ``set_state`` or ``refuse_activity``."""

    activity_id: str
    agreement_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Execute:
    """The requestor sends a batch; answered by ``batch_event``s and one ``batch_over``."""

    activity_id: str
    batch_id: str
    commands: tuple[Command, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveUpBatch:
    """Nobody waits for a batch any more: its running program may be killed, its rest dropped."""

    activity_id: str
    batch_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DestroyActivity:
    """The requestor ends an activity."""

    activity_id: str
    agreement_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteJudged:
    """The requestor accepted or rejected a debit note or an invoice."""

    note_id: str
    accepted: bool
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentReceived:
    """A requestor paid; ``agreement_ids`` are those that it paid for."""

    payment_id: str
    amount: Decimal
    agreement_ids: tuple[str, ...] = ()


ProviderEvent = (
    DemandReceived
    | OfferGone
    | AgreementProposed
    | AgreementTerminated
    | CreateActivity
    | Execute
    | GiveUpBatch
    | DestroyActivity
    | NoteJudged
    | PaymentReceived
)
"""What an agent takes from its transport."""


class ProviderTransport(Protocol):
    """One provider identity's way to the market."""

    @property
    def identity(self) -> str:
        """The identity, ``0x`` and 40 hex digits."""
        ...

    @property
    def offer_properties(self) -> Properties:
        """What its network wants in each offer, e.g. where to pay to."""
        ...

    @property
    def usage_interval_sec(self) -> float | None:
        """Seconds in which the usage of each activity is to be told; ``None`` where it need not."""
        ...

    async def publish(self, offer: Offer) -> str:
        """Publish an offer; returns its id. One offer can become one agreement a demand."""
        ...

    async def withdraw(self, offer_id: str) -> None:
        """Withdraw an offer. Idempotent."""
        ...

    async def next_event(self) -> ProviderEvent:
        """Wait for the next event.

        Errors of the network do not come out of here: a transport waits until it is back.

        Raises:
            NotAvailable: It was closed; no event comes any more.
        """
        ...

    async def propose(self, proposal_id: str, offer: Offer) -> None:
        """Answer a demand: an agreement can be made of this."""
        ...

    async def decline(self, proposal_id: str, reason: str) -> None:
        """Answer a demand: no."""
        ...

    async def approve(self, agreement_id: str) -> None:
        """Sign an agreement.

        Raises:
            SignatureInvalid: The requestor's signature is not its own.
        """
        ...

    async def decline_agreement(self, agreement_id: str, reason: str) -> None:
        """Answer a signed agreement: no."""
        ...

    async def terminate(self, agreement_id: str, reason: EndReason) -> None:
        """End an agreement. Idempotent."""
        ...

    async def set_state(
        self, activity_id: str, state: ActivityState, reason: str | None = None
    ) -> None:
        """Report the state of an activity."""
        ...

    async def report_usage(self, activity_id: str, usage: Sequence[Decimal]) -> None:
        """Report what an activity has used so far, in the order of the agreement's counters."""
        ...

    async def refuse_activity(self, activity_id: str, reason: str) -> None:
        """Answer a wish for an activity: no."""
        ...

    async def batch_event(self, activity_id: str, batch_id: str, event: BatchEvent) -> None:
        """Report an event of a batch; waits while the requestor is slow to read."""
        ...

    async def batch_over(self, activity_id: str, batch_id: str) -> None:
        """Report that a batch is over."""
        ...

    async def send_debit_note(
        self, *, activity_id: str, total: Decimal, usage: Sequence[Decimal]
    ) -> str:
        """Send a debit note; returns its id."""
        ...

    async def send_invoice(
        self, *, agreement_id: str, activity_ids: Sequence[str], amount: Decimal
    ) -> str:
        """Send an invoice; returns its id."""
        ...

    def fetch(self, url: str) -> AsyncIterator[bytes]:
        """Read what the requestor published at a URL."""
        ...

    async def size_of(self, url: str) -> int | None:
        """Return how many bytes are published at a URL, where it is known."""
        ...

    async def deliver(self, url: str, chunks: AsyncIterator[bytes]) -> int:
        """Send a file to a URL of the requestor; returns the bytes sent."""
        ...

    async def close(self) -> None:
        """Withdraw all offers and let go. Idempotent."""
        ...
