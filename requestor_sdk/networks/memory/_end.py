"""What one provider identity can do in the in-process market: each act at once, none waits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from requestor_sdk.model.errors import NotAvailable, SignatureInvalid
from requestor_sdk.model.market import ActivityState, DebitNote, EndReason, Invoice, Offer, Proposal

if TYPE_CHECKING:
    from collections.abc import Sequence
    from decimal import Decimal

    from requestor_sdk.model.script import BatchEvent
    from requestor_sdk.networks.memory._agreements import Activity, Agreement
    from requestor_sdk.networks.memory._channels import Channel, Inbox
    from requestor_sdk.networks.memory._market import MemoryMarket
    from requestor_sdk.ports.basics import Signer
    from requestor_sdk.ports.provider import ProviderEvent


class ProviderEnd:
    """The acts of one provider.

    Args:
        market: What it is an end of.
        signer: The provider's identity; it is in the market from now on.
        inbox: Takes what requestors ask of it.
    """

    def __init__(self, market: MemoryMarket, signer: Signer, inbox: Inbox[ProviderEvent]) -> None:
        self.market = market
        self._signer = signer
        self.identity = signer.identity
        market.join(self.identity, inbox)

    def publish(self, offer: Offer) -> str:
        """Publish an offer; returns its id."""
        offer_id, proposals = self.market.book.add_offer(self.identity, offer)
        for proposal in proposals:
            self.market.offer_proposal(proposal)
        return offer_id

    def withdraw(self, offer_id: str) -> None:
        """Withdraw an offer. Idempotent."""
        self.market.forget(self.market.book.drop_offer(offer_id))

    def propose(self, proposal_id: str, offer: Offer) -> Proposal:
        """Answer a demand: an agreement can be made of this."""
        draft = self.market.book.propose(proposal_id, offer)
        self.market.offer_proposal(draft)
        return draft

    def decline(self, proposal_id: str, reason: str) -> None:
        """Answer a demand: no."""
        self.market.offer_proposal(self.market.book.decline(proposal_id, reason))

    def approve(self, agreement_id: str) -> None:
        """Check the requestor's signature and sign an agreement.

        Raises:
            SignatureInvalid: The requestor's signature is not its own.
            AgreementRefused: The requestor cancelled it, or it expired.
        """
        agreement = self.agreement(agreement_id)
        body = agreement.body
        message = body.canonical()
        if not self._signer.verify(body.requestor_id, message, agreement.requestor_signature):
            agreement.reject("the agreement does not carry its requestor's signature")
            raise SignatureInvalid(
                "the agreement does not carry its requestor's signature",
                ids={"agreement": agreement_id, "requestor": body.requestor_id},
            )
        agreement.approve(self._signer.sign(message), self.market.clock.now())
        self.market.bank.open_account(agreement_id, self.identity)

    def decline_agreement(self, agreement_id: str, reason: str) -> None:
        """Answer a signed agreement: no."""
        self.agreement(agreement_id).reject(reason)

    def terminate(self, agreement_id: str, reason: EndReason) -> None:
        """End an agreement. Idempotent."""
        self.market.end_by_provider(self.agreement(agreement_id), reason)

    def set_state(self, activity_id: str, state: ActivityState, reason: str | None = None) -> None:
        """Report the state of an activity."""
        self.market.report(self.activity(activity_id), state, reason)

    def refuse_activity(self, activity_id: str, reason: str) -> None:
        """Answer a wish for an activity: no."""
        self.activity(activity_id).refuse(reason)

    def batch(self, activity_id: str, batch_id: str) -> Channel[BatchEvent] | None:
        """Return where the events of a batch go; ``None`` where nobody listens any more."""
        activity = self.market.activity(activity_id)
        self._mine(activity.agreement)
        return activity.batches.get(batch_id)

    def send_debit_note(
        self, *, activity_id: str, total: Decimal, usage: Sequence[Decimal]
    ) -> DebitNote:
        """Send a debit note."""
        note = DebitNote(
            id=self.market.ids(),
            agreement_id=self.activity(activity_id).agreement.id,
            activity_id=activity_id,
            total=total,
            usage=tuple(usage),
            issued_at=self.market.clock.now(),
        )
        self.market.bank.issue(note)
        self.market.payment_news.put(activity_id, note)
        return note

    def send_invoice(
        self,
        *,
        agreement_id: str,
        activity_ids: Sequence[str],
        amount: Decimal,
        subject: str | None = None,
    ) -> Invoice:
        """Send an invoice; it replaces an unread one on the same subject, the agreement's."""
        invoice = Invoice(
            id=self.market.ids(),
            agreement_id=self.agreement(agreement_id).id,
            activity_ids=tuple(activity_ids),
            amount=amount,
            issued_at=self.market.clock.now(),
        )
        self.market.bank.issue(invoice)
        self.market.payment_news.put(subject or agreement_id, invoice)
        return invoice

    def leave(self) -> None:
        """Withdraw all offers and leave the market. Idempotent."""
        self.market.leave(self.identity)

    def agreement(self, agreement_id: str) -> Agreement:
        """Return an agreement of this provider.

        Raises:
            NotAvailable: There is none of that id, or it is another provider's.
        """
        return self._mine(self.market.agreement(agreement_id))

    def activity(self, activity_id: str) -> Activity:
        """Return an activity of this provider. Raises as ``agreement``."""
        activity = self.market.activity(activity_id)
        self._mine(activity.agreement)
        return activity

    def _mine(self, agreement: Agreement) -> Agreement:
        if agreement.body.provider_id != self.identity:
            raise NotAvailable(
                "the agreement is not this provider's",
                ids={"agreement": agreement.id, "provider": self.identity},
            )
        return agreement
