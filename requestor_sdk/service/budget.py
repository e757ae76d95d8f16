"""What a user sees of a budget: where its money is."""

from __future__ import annotations

from decimal import Decimal

from requestor_sdk.model.ledger import Account, Ledger
from requestor_sdk.model.money import plain


class Spending:
    """What of an amount is where; amounts are of type ``Decimal``, in the network's token.

    Of a cluster it is ``cluster.spending``, of the whole run ``compute.budget``.
    """

    def __init__(self, ledger: Ledger, part: str | None = None) -> None:
        self._ledger = ledger
        self._part = part

    @property
    def _account(self) -> Account | Ledger:
        return self._ledger if self._part is None else self._ledger.part(self._part)

    @property
    def total(self) -> Decimal:
        """All that may be spent; of a cluster its own limit, or the whole where that is less."""
        return self._ledger.budget if self._part is None else self._ledger.limit_of(self._part)

    @property
    def spent(self) -> Decimal:
        """What was accepted in debit notes and invoices."""
        return self._account.spent

    @property
    def held(self) -> Decimal:
        """What living agreements can still cost."""
        return self._account.held

    @property
    def payable(self) -> Decimal:
        """What ended agreements can still ask for."""
        return self._account.payable

    @property
    def available(self) -> Decimal:
        """What new agreements can use now."""
        return self._ledger.available if self._part is None else self._ledger.room(self._part)

    def __repr__(self) -> str:
        names = ("spent", "held", "payable", "available")
        parts = ", ".join(f"{name} {plain(getattr(self, name))}" for name in names)
        return f"<{type(self).__name__} {plain(self.total)}: {parts}>"
