"""Money: allocations, debit notes and invoices."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import ClassVar

from requestor_sdk.model.event import Event


@dataclass(frozen=True, slots=True, kw_only=True)
class AllocationRequested(Event):
    """An amount is about to be reserved; its last digits are the mark of this run."""

    durable: ClassVar[bool] = True

    amount: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class AllocationCreated(Event):
    """An amount was reserved."""

    durable: ClassVar[bool] = True

    allocation_id: str
    amount: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class AllocationNotMade(Event):
    """An amount that was asked for was not reserved, or what was made of it cannot be told."""

    durable: ClassVar[bool] = True

    amount: Decimal
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AllocationAmended(Event):
    """What is reserved is about to become this amount; the budget follows."""

    allocation_id: str
    amount: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class AllocationAmendFailed(Event):
    """The network would not reserve more: it is still this amount."""

    allocation_id: str
    amount: Decimal
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AllocationReleased(Event):
    """What was left of an allocation is free again."""

    durable: ClassVar[bool] = True

    allocation_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DebitNoteReceived(Event):
    """A debit note came."""

    note_id: str
    agreement_id: str
    activity_id: str
    total: Decimal
    usage: tuple[Decimal, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DebitNoteAccepted(Event):
    """A debit note was accepted."""

    durable: ClassVar[bool] = True

    note_id: str
    agreement_id: str
    total: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class DebitNoteRejected(Event):
    """A debit note was rejected.

    ``due`` is what its usage comes to at the agreed prices, where the usage can be right.
    """

    durable: ClassVar[bool] = True

    note_id: str
    agreement_id: str
    total: Decimal
    reason: str
    due: Decimal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InvoiceReceived(Event):
    """An invoice came."""

    invoice_id: str
    agreement_id: str
    amount: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class InvoiceAccepted(Event):
    """An invoice was accepted: it is paid."""

    durable: ClassVar[bool] = True

    invoice_id: str
    agreement_id: str
    provider_id: str
    amount: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class InvoiceRejected(Event):
    """An invoice was rejected."""

    durable: ClassVar[bool] = True

    invoice_id: str
    agreement_id: str
    amount: Decimal
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentLeftOver(Event):
    """No invoice came in time; ``at_most`` may still be asked for and is settled by recovery.

    Of nothing where an agreement was not used and the network did not hear of its end.
    """

    durable: ClassVar[bool] = True

    agreement_id: str
    provider_id: str
    at_most: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentWrittenOff(Event):
    """Nothing will be asked for any more: the network that could have asked is gone."""

    durable: ClassVar[bool] = True

    agreement_id: str
    provider_id: str
    at_most: Decimal
    reason: str
