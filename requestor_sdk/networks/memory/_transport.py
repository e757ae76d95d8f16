"""A provider's end of the in-process market; implements the port ``ProviderTransport``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from requestor_sdk.model.errors import NotAvailable, SignatureInvalid
from requestor_sdk.model.market import ActivityState, DebitNote, EndReason, Invoice, Offer
from requestor_sdk.model.money import ZERO
from requestor_sdk.networks.memory._channels import Channel, Closed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from decimal import Decimal

    from requestor_sdk.model.script import BatchEvent
    from requestor_sdk.networks.memory._agreements import Activity, Agreement
    from requestor_sdk.networks.memory._market import MemoryMarket
    from requestor_sdk.ports.basics import Signer
    from requestor_sdk.ports.provider import ProviderEvent


class MemoryTransport:
    """One provider identity's way to the in-process market.

    Args:
        market: What it is an end of.
        signer: The provider's identity; it is in the market from now on.
    """

    def __init__(self, market: MemoryMarket, signer: Signer) -> None:
        self._market = market
        self._signer = signer
        self._events: Channel[ProviderEvent] = market.join(signer.identity)

    @property
    def identity(self) -> str:
        """The identity, ``0x`` and 40 hex digits."""
        return self._signer.identity

    @property
    def balance(self) -> Decimal:
        """What was paid to this identity."""
        return self._market.bank.balances.get(self.identity, ZERO)

    async def publish(self, offer: Offer) -> str:
        """Publish an offer; returns its id."""
        offer_id, proposals = self._market.book.add_offer(self.identity, offer)
        for proposal in proposals:
            self._market.offer_proposal(proposal)
        return offer_id

    async def withdraw(self, offer_id: str) -> None:
        """Withdraw an offer. Idempotent."""
        self._market.forget(self._market.book.drop_offer(offer_id))

    async def next_event(self) -> ProviderEvent:
        """Wait for the next event.

        Raises:
            NotAvailable: The market was closed, or this end of it.
        """
        try:
            return await self._events.get()
        except Closed as closed:
            raise NotAvailable(closed.reason, ids={"provider": self.identity}) from None

    async def propose(self, proposal_id: str, offer: Offer) -> None:
        """Answer a demand: an agreement can be made of this."""
        self._market.offer_proposal(self._market.book.propose(proposal_id, offer))

    async def decline(self, proposal_id: str, reason: str) -> None:
        """Answer a demand: no."""
        self._market.offer_proposal(self._market.book.decline(proposal_id, reason))

    async def approve(self, agreement_id: str) -> None:
        """Check the requestor's signature and sign an agreement.

        Raises:
            SignatureInvalid: The requestor's signature is not its own.
            AgreementRefused: The requestor cancelled it, or it expired.
        """
        agreement = self._mine(agreement_id)
        body = agreement.body
        message = body.canonical()
        if not self._signer.verify(body.requestor_id, message, agreement.requestor_signature):
            agreement.reject("the agreement does not carry its requestor's signature")
            raise SignatureInvalid(
                "the agreement does not carry its requestor's signature",
                ids={"agreement": agreement_id, "requestor": body.requestor_id},
            )
        agreement.approve(self._signer.sign(message), self._market.clock.now())
        self._market.bank.open_account(agreement_id, self.identity)

    async def decline_agreement(self, agreement_id: str, reason: str) -> None:
        """Answer a signed agreement: no."""
        self._mine(agreement_id).reject(reason)

    async def terminate(self, agreement_id: str, reason: EndReason) -> None:
        """End an agreement. Idempotent."""
        self._market.end_by_provider(self._mine(agreement_id), reason)

    async def set_state(
        self, activity_id: str, state: ActivityState, reason: str | None = None
    ) -> None:
        """Report the state of an activity."""
        self._market.report(self._activity(activity_id), state, reason)

    async def refuse_activity(self, activity_id: str, reason: str) -> None:
        """Answer a wish for an activity: no."""
        self._activity(activity_id).refuse(reason)

    async def batch_event(self, activity_id: str, batch_id: str, event: BatchEvent) -> None:
        """Report an event of a batch; waits while the requestor is slow to read."""
        batch = self._activity(activity_id).batches.get(batch_id)
        if batch is not None:
            await batch.put(event)

    async def batch_over(self, activity_id: str, batch_id: str) -> None:
        """Report that a batch is over."""
        batch = self._activity(activity_id).batches.get(batch_id)
        if batch is not None:
            batch.close()

    async def send_debit_note(
        self, *, activity_id: str, total: Decimal, usage: Sequence[Decimal]
    ) -> str:
        """Send a debit note; returns its id."""
        note = DebitNote(
            id=self._market.ids(),
            agreement_id=self._activity(activity_id).agreement.id,
            activity_id=activity_id,
            total=total,
            usage=tuple(usage),
            issued_at=self._market.clock.now(),
        )
        self._market.bank.issue(note)
        self._market.payment_news.put(activity_id, note)
        return note.id

    async def send_invoice(
        self, *, agreement_id: str, activity_ids: Sequence[str], amount: Decimal
    ) -> str:
        """Send an invoice; returns its id."""
        invoice = Invoice(
            id=self._market.ids(),
            agreement_id=self._mine(agreement_id).id,
            activity_ids=tuple(activity_ids),
            amount=amount,
            issued_at=self._market.clock.now(),
        )
        self._market.bank.issue(invoice)
        self._market.payment_news.put(agreement_id, invoice)
        return invoice.id

    def fetch(self, url: str) -> AsyncIterator[bytes]:
        """Read what the requestor published at a URL."""
        return self._market.files.fetch(url)

    async def size_of(self, url: str) -> int | None:
        """Return how many bytes are published at a URL, where it is known."""
        return await self._market.files.size_of(url)

    async def deliver(self, url: str, chunks: AsyncIterator[bytes]) -> int:
        """Send a file to a URL of the requestor; returns the bytes sent."""
        return await self._market.files.deliver(url, chunks)

    async def close(self) -> None:
        """Withdraw all offers and let go. Idempotent."""
        self._market.leave(self.identity)

    def _mine(self, agreement_id: str) -> Agreement:
        agreement = self._market.agreement(agreement_id)
        if agreement.body.provider_id != self.identity:
            raise NotAvailable(
                "the agreement is not this provider's",
                ids={"agreement": agreement_id, "provider": self.identity},
            )
        return agreement

    def _activity(self, activity_id: str) -> Activity:
        activity = self._market.activity(activity_id)
        self._mine(activity.agreement.id)
        return activity
