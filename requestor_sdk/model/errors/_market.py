"""Agreements and their money: RSK-2xx on the market, RSK-5xx on notes, invoices, allocations."""

from __future__ import annotations

from requestor_sdk.model.errors._base import RequestorError


class MarketError(RequestorError):
    """No agreement could be had."""

    code = "RSK-200"


class NoMatchingOffer(MarketError):
    """The constraints of the payload rule out every offer that the market has."""

    code = "RSK-201"


class BudgetTooSmall(MarketError):
    """The budget does not carry a single instance to its worst-case cost at expiry."""

    code = "RSK-202"


class AgreementRefused(MarketError):
    """The provider rejected the agreement, or did not answer in time."""

    code = "RSK-203"


class SignatureInvalid(MarketError):
    """A signature does not recover to the identity that is said to have made it."""

    code = "RSK-204"


class PaymentError(RequestorError):
    """Something went wrong with an allocation, a debit note or an invoice."""

    code = "RSK-500"


class NoteRejected(PaymentError):
    """A debit note or an invoice is not right; the message is the reason that was sent back."""

    code = "RSK-501"
