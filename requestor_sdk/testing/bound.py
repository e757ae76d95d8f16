"""What a run had bound of its budget at each moment, by what it wrote down and by nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Final

from requestor_sdk.model import events

_NOTHING: Final = Decimal(0)


def broken_budget(found: Sequence[events.Event]) -> Iterator[str]:
    """Return the moments at which living agreements and what was accepted exceed the budget.

    It is less than the ledger counts: what ended agreements can still ask for is not written down.
    """
    bound = _Bound()
    for event in found:
        bound.take(event)
        if (total := bound.total) > bound.budget:
            yield f"{total} was held and accepted of a budget of {bound.budget} at {event.line()}"
            return


class _Bound:
    """Keeps the sum up to date, event by event.

    Attributes:
        budget: What may be spent now.
        total: What is held for living agreements, and was accepted of those that are over.
    """

    def __init__(self) -> None:
        self.budget = Decimal("Infinity")
        self.total = _NOTHING
        self._held: dict[str, Decimal] = {}
        self._accepted: dict[str, Decimal] = {}
        self._noted: dict[str, dict[str, Decimal]] = {}
        self._activity_of: dict[str, str] = {}

    def take(self, event: events.Event) -> None:
        """Take the next event."""
        match event:
            case events.ComputationStarted():
                self.budget = event.budget
            case events.AllocationAmended() | events.AllocationAmendFailed():
                self.budget = event.amount
            case events.ComputationRecovered():
                for agreement in list(self._held):
                    self._set(agreement, held=_NOTHING)
            case events.AgreementCreated(agreement_id=agreement, held=held):
                self._set(agreement, held=held)
            case events.ActivityRequested(agreement_id=agreement, held=held):
                self._set(agreement, held=max(held, self._held.get(agreement, _NOTHING)))
            case events.AgreementTerminated(agreement_id=agreement):
                self._set(agreement, held=_NOTHING)
            case _:
                self._judged(event)

    def _judged(self, event: events.Event) -> None:
        match event:
            case events.DebitNoteReceived():
                self._activity_of[event.note_id] = event.activity_id
            case events.DebitNoteAccepted(agreement_id=agreement):
                mine = self._noted.setdefault(agreement, {})
                activity = self._activity_of.get(event.note_id, "")
                mine[activity] = max(event.total, mine.get(activity, _NOTHING))
                self._accept(agreement, sum(mine.values(), _NOTHING))
            case events.InvoiceAccepted(agreement_id=agreement):
                # Nothing more can be asked for, whether we have ended it already or not.
                self._accept(agreement, event.amount)
                self._set(agreement, held=_NOTHING)
            case events.PaymentLeftOver(agreement_id=agreement):
                self._set(agreement, held=_NOTHING)

    def _accept(self, agreement: str, amount: Decimal) -> None:
        accepted = self._accepted.get(agreement, _NOTHING)
        self._set(agreement, accepted=max(amount, accepted))

    def _set(
        self, agreement: str, *, held: Decimal | None = None, accepted: Decimal | None = None
    ) -> None:
        self.total -= self._of(agreement)
        if held is not None:
            self._held[agreement] = held
        if accepted is not None:
            self._accepted[agreement] = accepted
        self.total += self._of(agreement)

    def _of(self, agreement: str) -> Decimal:
        held = self._held.get(agreement, _NOTHING)
        return max(held, self._accepted.get(agreement, _NOTHING))
