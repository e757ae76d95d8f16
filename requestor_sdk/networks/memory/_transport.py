"""A provider's end of the in-process market; implements the port ``ProviderTransport``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from requestor_sdk.model.errors import NotAvailable
from requestor_sdk.model.market import ActivityState, EndReason, Offer
from requestor_sdk.model.money import ZERO
from requestor_sdk.networks.memory._channels import Channel, Closed
from requestor_sdk.networks.memory._end import ProviderEnd

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from decimal import Decimal

    from requestor_sdk.model.market import Properties
    from requestor_sdk.model.script import BatchEvent
    from requestor_sdk.networks.memory._market import MemoryMarket
    from requestor_sdk.ports.basics import Signer
    from requestor_sdk.ports.provider import ProviderEvent

PROVIDER_EVENTS: Final = 1024
"""Events that wait for a slow provider before they slow the requestor."""


class MemoryTransport:
    """One provider identity's way to the in-process market.

    Args:
        market: What it is an end of.
        signer: The provider's identity; it is in the market from now on.
    """

    def __init__(self, market: MemoryMarket, signer: Signer) -> None:
        self._market = market
        self._signer = signer
        self._events: Channel[ProviderEvent] = Channel(PROVIDER_EVENTS)
        self._end = ProviderEnd(market, signer, self._events)

    @property
    def identity(self) -> str:
        """The identity, ``0x`` and 40 hex digits."""
        return self._signer.identity

    @property
    def offer_properties(self) -> Properties:
        """Where to pay to."""
        return {
            "golem.com.payment.platform.local.address": self.identity,
            "golem.com.payment.protocol.version": 2,
        }

    @property
    def usage_interval_sec(self) -> float | None:
        """Nothing: notes tell of the usage."""
        return None

    @property
    def balance(self) -> Decimal:
        """What was paid to this identity."""
        return self._market.bank.balances.get(self.identity, ZERO)

    async def publish(self, offer: Offer) -> str:
        """Publish an offer; returns its id."""
        return self._end.publish(offer)

    async def withdraw(self, offer_id: str) -> None:
        """Withdraw an offer. Idempotent."""
        self._end.withdraw(offer_id)

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
        self._end.propose(proposal_id, offer)

    async def decline(self, proposal_id: str, reason: str) -> None:
        """Answer a demand: no."""
        self._end.decline(proposal_id, reason)

    async def approve(self, agreement_id: str) -> None:
        """Check the requestor's signature and sign an agreement.

        Raises:
            SignatureInvalid: The requestor's signature is not its own.
            AgreementRefused: The requestor cancelled it, or it expired.
        """
        self._end.approve(agreement_id)

    async def decline_agreement(self, agreement_id: str, reason: str) -> None:
        """Answer a signed agreement: no."""
        self._end.decline_agreement(agreement_id, reason)

    async def terminate(self, agreement_id: str, reason: EndReason) -> None:
        """End an agreement. Idempotent."""
        self._end.terminate(agreement_id, reason)

    async def set_state(
        self, activity_id: str, state: ActivityState, reason: str | None = None
    ) -> None:
        """Report the state of an activity."""
        self._end.set_state(activity_id, state, reason)

    async def report_usage(self, activity_id: str, usage: Sequence[Decimal]) -> None:
        """Do nothing: nobody asks for it."""

    async def refuse_activity(self, activity_id: str, reason: str) -> None:
        """Answer a wish for an activity: no."""
        self._end.refuse_activity(activity_id, reason)

    async def batch_event(self, activity_id: str, batch_id: str, event: BatchEvent) -> None:
        """Report an event of a batch; waits while the requestor is slow to read."""
        batch = self._end.batch(activity_id, batch_id)
        if batch is not None:
            await batch.put(event)

    async def batch_over(self, activity_id: str, batch_id: str) -> None:
        """Report that a batch is over."""
        batch = self._end.batch(activity_id, batch_id)
        if batch is not None:
            batch.close()

    async def send_debit_note(
        self, *, activity_id: str, total: Decimal, usage: Sequence[Decimal]
    ) -> str:
        """Send a debit note; returns its id."""
        return self._end.send_debit_note(activity_id=activity_id, total=total, usage=usage).id

    async def send_invoice(
        self, *, agreement_id: str, activity_ids: Sequence[str], amount: Decimal
    ) -> str:
        """Send an invoice; returns its id."""
        return self._end.send_invoice(
            agreement_id=agreement_id, activity_ids=activity_ids, amount=amount
        ).id

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
        self._end.leave()
