"""The requestor's port of payments on the in-process market."""

from __future__ import annotations

from typing import TYPE_CHECKING

from requestor_sdk.model.market import DebitNote, Invoice
from requestor_sdk.networks.memory._channels import taken
from requestor_sdk.ports.provider import NoteJudged

if TYPE_CHECKING:
    from collections.abc import Sequence
    from decimal import Decimal

    from requestor_sdk.model.market import Allocation
    from requestor_sdk.networks.memory._market import MemoryMarket


class MemoryPayments:
    """Allocations, debit notes and invoices of the requestor."""

    def __init__(self, market: MemoryMarket) -> None:
        self._market = market
        self._bank = market.bank

    async def allocate(self, amount: Decimal) -> str:
        """Reserve an amount; returns the allocation's id."""
        return self._bank.allocate(amount, self._market.clock.now())

    async def amend_allocation(self, allocation_id: str, amount: Decimal) -> None:
        """Change the amount that an allocation reserves."""
        self._bank.amend(allocation_id, amount)

    async def release_allocation(self, allocation_id: str) -> None:
        """Free what is left of an allocation. Idempotent."""
        self._bank.release(allocation_id)

    async def allocations(self) -> Sequence[Allocation]:
        """Return the allocations that are not released, oldest first."""
        return self._bank.listed()

    async def unsettled(self) -> Sequence[DebitNote | Invoice]:
        """Return what was neither accepted nor rejected, oldest first."""
        return tuple(self._bank.unsettled.values())

    async def payment_events(self) -> Sequence[DebitNote | Invoice]:
        """Wait for debit notes and invoices and return at least one.

        Of several debit notes of an activity that were not read, only the last is returned: each
        holds the whole total.
        """
        return await taken(self._market.payment_news)

    async def accept_debit_note(self, note: DebitNote, allocation_id: str) -> None:
        """Accept the total of a debit note, and pay what it adds."""
        if self._bank.accept_note(note, allocation_id):
            await self._tell(note, accepted=True)

    async def reject_debit_note(self, note: DebitNote, reason: str) -> None:
        """Reject a debit note, telling why."""
        if self._bank.reject(note):
            await self._tell(note, accepted=False, reason=reason)

    async def accept_invoice(self, invoice: Invoice, allocation_id: str) -> None:
        """Accept an invoice, and pay what its debit notes have not paid yet."""
        if self._bank.accept_invoice(invoice, allocation_id):
            await self._tell(invoice, accepted=True)
            self._market.paid(invoice.agreement_id)

    async def reject_invoice(self, invoice: Invoice, reason: str) -> None:
        """Reject an invoice, telling why."""
        if self._bank.reject(invoice):
            await self._tell(invoice, accepted=False, reason=reason)

    async def _tell(
        self, note: DebitNote | Invoice, *, accepted: bool, reason: str | None = None
    ) -> None:
        event = NoteJudged(note_id=note.id, accepted=accepted, reason=reason)
        self._market.tell_now(self._bank.provider_of(note), event)
