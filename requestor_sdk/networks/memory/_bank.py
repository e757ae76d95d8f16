"""The bank of the in-process market: allocations, notes, invoices and the providers' balances.

The requestor's funds have no end here, but an acceptance never exceeds its allocation and an amount
is paid only once. No transport: methods act at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from requestor_sdk.model.errors import AmountError, PaymentError
from requestor_sdk.model.market import Allocation, DebitNote, Invoice
from requestor_sdk.model.money import ZERO, to_amount

if TYPE_CHECKING:
    from datetime import datetime


_REMEMBERED: Final = 256
"""Notes of one agreement that can still be judged; each later one holds what those before ask."""


@dataclass(slots=True, kw_only=True)
class _Allocation:
    amount: Decimal
    created_at: datetime
    spent: Decimal = ZERO


@dataclass(slots=True, kw_only=True)
class _Account:
    """What was accepted and paid of one agreement."""

    provider_id: str
    by_activity: dict[str, Decimal] = field(default_factory=dict)
    last_notes: dict[str, str] = field(default_factory=dict)
    issued: dict[str, bool] = field(default_factory=dict)
    """Its last notes and invoices, by their ids: whether each was accepted or rejected."""
    invoiced: Decimal = ZERO
    paid: Decimal = ZERO

    @property
    def due(self) -> Decimal:
        """What is accepted and not paid yet; debit notes count towards the invoice."""
        noted = ZERO
        for total in self.by_activity.values():
            noted += total
        return max(self.invoiced, noted) - self.paid


@dataclass(slots=True, kw_only=True)
class Bank:
    """Who has reserved, accepted and received how much."""

    ids: Callable[[], str]
    allocations: dict[str, _Allocation] = field(default_factory=dict)
    accounts: dict[str, _Account] = field(default_factory=dict)
    balances: dict[str, Decimal] = field(default_factory=dict)
    unsettled: dict[str, DebitNote | Invoice] = field(default_factory=dict)
    """What was neither accepted nor rejected, by its id, oldest first."""

    def open_account(self, agreement_id: str, provider_id: str) -> None:
        """Begin an account for an approved agreement."""
        self.accounts[agreement_id] = _Account(provider_id=provider_id)

    def issue(self, note: DebitNote | Invoice) -> None:
        """Note that a provider asks for money."""
        account = self.accounts.get(note.agreement_id)
        if account is None:
            raise PaymentError(
                "there is no approved agreement to bill", ids={"agreement": note.agreement_id}
            )
        account.issued[note.id] = False
        if len(account.issued) > _REMEMBERED:
            del account.issued[next(iter(account.issued))]
        if isinstance(note, DebitNote):
            self._supersede(account, (note.activity_id,))
            account.last_notes[note.activity_id] = note.id
        self.unsettled[note.id] = note

    def allocate(self, amount: Decimal, now: datetime) -> str:
        """Reserve an amount; returns the allocation's id."""
        allocation_id = self.ids()
        self.allocations[allocation_id] = _Allocation(amount=_positive(amount), created_at=now)
        return allocation_id

    def listed(self) -> Sequence[Allocation]:
        """Return the allocations that are not released, oldest first."""
        return tuple(
            Allocation(id=key, amount=a.amount, spent=a.spent, created_at=a.created_at)
            for key, a in self.allocations.items()
        )

    def amend(self, allocation_id: str, amount: Decimal) -> None:
        """Change what an allocation reserves."""
        allocation = self._allocation(allocation_id)
        if _positive(amount) < allocation.spent:
            raise PaymentError(
                f"{allocation.spent} of the allocation is spent: it cannot shrink to {amount}",
                ids={"allocation": allocation_id},
            )
        allocation.amount = amount

    def release(self, allocation_id: str) -> None:
        """Free an allocation. Idempotent."""
        self.allocations.pop(allocation_id, None)

    def accept_note(self, note: DebitNote, allocation_id: str) -> bool:
        """Pay what a debit note adds; ``False`` where it was judged before."""
        account = self._account_of(note)
        if account.issued[note.id]:
            return False
        before = account.by_activity.get(note.activity_id, ZERO)
        account.by_activity[note.activity_id] = max(before, note.total)
        try:
            self._pay(account, allocation_id)
        except PaymentError:
            account.by_activity[note.activity_id] = before
            raise
        self._judge(account, note)
        return True

    def accept_invoice(self, invoice: Invoice, allocation_id: str) -> bool:
        """Pay what an invoice adds to its debit notes; ``False`` where it was judged before."""
        account = self._account_of(invoice)
        if account.issued[invoice.id]:
            return False
        before = account.invoiced
        account.invoiced = max(before, invoice.amount)
        try:
            self._pay(account, allocation_id)
        except PaymentError:
            account.invoiced = before
            raise
        self._judge(account, invoice)
        self._supersede(account, tuple(account.last_notes))
        return True

    def reject(self, note: DebitNote | Invoice) -> bool:
        """Note that a note or invoice is not paid; ``False`` where it was judged before."""
        account = self._account_of(note)
        if account.issued[note.id]:
            return False
        self._judge(account, note)
        return True

    def provider_of(self, note: DebitNote | Invoice) -> str:
        """Return the identity of the provider that sent it."""
        return self._account_of(note).provider_id

    def forget(self, agreement_id: str) -> None:
        """Close the account of an agreement that is paid."""
        self.accounts.pop(agreement_id, None)

    def paid(self, agreement_id: str) -> Decimal:
        """Return what was paid for an agreement."""
        account = self.accounts.get(agreement_id)
        return account.paid if account else ZERO

    def _judge(self, account: _Account, note: DebitNote | Invoice) -> None:
        account.issued[note.id] = True
        self.unsettled.pop(note.id, None)

    def _supersede(self, account: _Account, activity_ids: Iterable[str]) -> None:
        """Forget unsettled debit notes whose amounts are in a later one, or in the invoice."""
        for activity_id in activity_ids:
            self.unsettled.pop(account.last_notes.pop(activity_id, ""), None)

    def _account_of(self, note: DebitNote | Invoice) -> _Account:
        account = self.accounts.get(note.agreement_id)
        if account is None or note.id not in account.issued:
            raise PaymentError(
                "no provider sent such a note",
                ids={"note": note.id, "agreement": note.agreement_id},
            )
        return account

    def _allocation(self, allocation_id: str) -> _Allocation:
        allocation = self.allocations.get(allocation_id)
        if allocation is None:
            raise PaymentError(
                "the allocation was released or never made", ids={"allocation": allocation_id}
            )
        return allocation

    def _pay(self, account: _Account, allocation_id: str) -> None:
        due = account.due
        if not due:
            return  # nothing is paid, so nothing need be reserved for it
        allocation = self._allocation(allocation_id)
        if allocation.spent + due > allocation.amount:
            raise PaymentError(
                f"{due} is above what is left of the allocation, "
                f"{allocation.amount - allocation.spent}",
                ids={"allocation": allocation_id},
                hint="raise the allocation, or reject the note",
            )
        allocation.spent += due
        account.paid += due
        self.balances[account.provider_id] = self.balances.get(account.provider_id, ZERO) + due


def _positive(amount: Decimal) -> Decimal:
    try:
        checked = to_amount(amount, name="an allocation")
    except AmountError as error:
        raise PaymentError(error.message) from error
    if checked == ZERO:
        raise PaymentError("an allocation must be above zero")
    return checked
