"""What a run may spend and has accepted, event by event: what the view and the bill both count by.

Pure. A debit note has the total of its activity, and an agreement may have several activities one
after another; an invoice has the total of the agreement.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

from requestor_sdk.model import events as ev

_ZERO = Decimal(0)


@dataclass(slots=True)
class Budget:
    """The budget of the runs that follow one another in a process, added up.

    Attributes:
        total: The whole of it.
    """

    total: Decimal = _ZERO
    _run_id: str = ""
    _earlier: Decimal = _ZERO

    def apply(self, event: ev.Event) -> None:
        """Take one event."""
        match event:
            case ev.ComputationStarted():
                self._begin(event.run_id, event.budget)
            case ev.ComputationRecovered() if event.run_id != self._run_id:
                self._begin(event.run_id, event.budget)
            case ev.AllocationAmended() | ev.AllocationAmendFailed():
                self.total = self._earlier + event.amount
            case _:
                pass  # a recovery goes on with the same budget

    def _begin(self, run_id: str, budget: Decimal) -> None:
        self._run_id, self._earlier = run_id, self.total
        self.total += budget


@dataclass(slots=True)
class _Accepted:
    total: Decimal = _ZERO
    noted: dict[str, Decimal] = field(default_factory=dict)


@dataclass(slots=True)
class Acceptances:
    """What was accepted for each agreement: it never falls, and no note counts twice."""

    _agreements: dict[str, _Accepted] = field(default_factory=dict)
    _activity_of: dict[str, str] = field(default_factory=dict)

    def more(self, event: ev.Event) -> Decimal:
        """Take one event; return by how much it raises what was accepted for its agreement."""
        match event:
            case ev.DebitNoteReceived():
                self._activity_of[event.note_id] = event.activity_id
            case ev.DebitNoteRejected():
                self._activity_of.pop(event.note_id, None)
            case ev.DebitNoteAccepted():
                return self._note(event)
            case ev.InvoiceAccepted():
                return self._raise(self._of(event.agreement_id), event.amount)
            case _:
                pass
        return _ZERO

    def _note(self, event: ev.DebitNoteAccepted) -> Decimal:
        accepted = self._of(event.agreement_id)
        activity_id = self._activity_of.pop(event.note_id, None)
        if activity_id is None:
            # A recovery tells the network once more; or the note's coming cannot be read any more.
            return self._raise(accepted, event.total)
        accepted.noted[activity_id] = max(event.total, accepted.noted.get(activity_id, _ZERO))
        return self._raise(accepted, sum(accepted.noted.values(), _ZERO))

    def _of(self, agreement_id: str) -> _Accepted:
        return self._agreements.setdefault(agreement_id, _Accepted())

    def _raise(self, accepted: _Accepted, total: Decimal) -> Decimal:
        more = max(_ZERO, total - accepted.total)
        accepted.total += more
        return more
