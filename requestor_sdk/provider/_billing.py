"""What a provider asked for and what was accepted of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

from requestor_sdk.model.money import ZERO, plain
from requestor_sdk.ports.provider import NoteJudged


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """What a provider asked for and what was accepted of it, in tokens.

    Attributes:
        invoiced: The sum of its invoices.
        accepted: The sum of what requestors accepted, debit notes included.
        rejected: How many notes and invoices were rejected.
        paid: The sum of the payments that were seen.
    """

    invoiced: Decimal
    accepted: Decimal
    rejected: int
    paid: Decimal = ZERO


def short(name: str) -> str:
    """Return the part of an id that people tell it by."""
    return name[:8]


@dataclass(slots=True)
class _Account:
    by_activity: dict[str, Decimal] = field(default_factory=dict)
    invoice: Decimal = ZERO
    notes: list[str] = field(default_factory=list)

    @property
    def accepted(self) -> Decimal:
        return max(self.invoice, sum(self.by_activity.values(), ZERO))


@dataclass(slots=True)
class Billing:
    """Follows the notes of each agreement until its invoice is accepted."""

    _open: dict[str, _Account] = field(default_factory=dict)
    _notes: dict[str, tuple[str, str | None, Decimal]] = field(default_factory=dict)
    _invoiced: Decimal = ZERO
    _settled: Decimal = ZERO
    _rejected: int = 0
    _paid: Decimal = ZERO

    def debit_note(self, note_id: str, agreement_id: str, activity_id: str, total: Decimal) -> None:
        """Note that a debit note was sent."""
        self._sent(note_id, agreement_id, activity_id, total)

    def invoice(self, note_id: str, agreement_id: str, amount: Decimal) -> None:
        """Note that an invoice was sent."""
        self._invoiced += amount
        self._sent(note_id, agreement_id, None, amount)

    def judged(self, event: NoteJudged) -> str | None:
        """Take the requestor's judgement; returns what it is of, for people."""
        found = self._notes.pop(event.note_id, None)
        if found is None:
            return None
        agreement_id, activity_id, amount = found
        account = self._open[agreement_id]
        if not event.accepted:
            self._rejected += 1
        elif activity_id is not None:
            before = account.by_activity.get(activity_id, ZERO)
            account.by_activity[activity_id] = max(before, amount)
        else:
            account.invoice = amount
            self._settled += account.accepted
            self._close(agreement_id)
        kind = "debit note" if activity_id is not None else "invoice"
        return f"{kind} of {plain(amount)} for agreement {short(agreement_id)}"

    def paid(self, amount: Decimal) -> None:
        """Note that a payment came."""
        self._paid += amount

    @property
    def bill(self) -> Bill:
        """The sums so far."""
        accepted = self._settled + sum((a.accepted for a in self._open.values()), ZERO)
        return Bill(
            invoiced=self._invoiced,
            accepted=accepted,
            rejected=self._rejected,
            paid=self._paid,
        )

    def _sent(
        self, note_id: str, agreement_id: str, activity_id: str | None, amount: Decimal
    ) -> None:
        self._open.setdefault(agreement_id, _Account()).notes.append(note_id)
        self._notes[note_id] = (agreement_id, activity_id, amount)

    def _close(self, agreement_id: str) -> None:
        # An invoice ends the story of its agreement: notes that nobody judged are forgotten.
        for note_id in self._open.pop(agreement_id).notes:
            self._notes.pop(note_id, None)
