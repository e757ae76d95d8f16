"""What a run did, from its journal alone: the fold of its events that recovery begins with.

Pure: it takes events and knows no clock and no network. What it says is what was written; what of
it the network knows is for the recovery to ask.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from functools import singledispatchmethod
from typing import Final

from requestor_sdk.model import events as ev
from requestor_sdk.model.lifecycle import ServiceState
from requestor_sdk.model.money import ZERO, LinearPricing, Terms
from requestor_sdk.model.past import PastAgreement, PastCluster, PastInstance, PastNote, PastUse

_MARKS: Final = 999_983
_UNIT: Final = Decimal("1e-18")


def marked(amount: Decimal, run_id: str) -> Decimal:
    """Return the amount with the run's mark in its last digits, less than 1e-12 above it.

    A run whose process died between asking for an allocation and hearing its id finds it again by
    this. An allocation without the mark is nobody's to release but its owner's.
    """
    digest = int.from_bytes(hashlib.sha256(run_id.encode()).digest()[:8], "big")
    return amount + (digest % _MARKS + 1) * _UNIT


@dataclass(slots=True)
class RunHistory:
    """The fold. Hand it each event in order, or all of them to ``RunHistory.of``.

    Attributes:
        run_id: The run.
        network: The name of the network that it ran on.
        budget: The whole budget.
        requested: An allocation that was asked for and whose id is not known: amount and time.
        asked: What was asked for and became allocations, released or not: amount and time.
        allocations: Allocations that are not released: id to amount.
        agreements: All agreements, by id.
        instances: All instances that did anything, by id.
        clusters: All clusters, by id.
        demands: Demands that a process that died may have left in the market.
        ended: How the last process ended: ``finished``, ``suspended``, or ``""`` where it died.
        error: What that process failed of, if it did.
    """

    run_id: str = ""
    network: str = ""
    budget: Decimal = ZERO
    requested: tuple[Decimal, datetime] | None = None
    asked: list[tuple[Decimal, datetime]] = field(default_factory=list)
    allocations: dict[str, Decimal] = field(default_factory=dict)
    agreements: dict[str, PastAgreement] = field(default_factory=dict)
    instances: dict[str, PastInstance] = field(default_factory=dict)
    clusters: dict[str, PastCluster] = field(default_factory=dict)
    demands: set[str] = field(default_factory=set)
    ended: str = ""
    error: str = ""
    _notes: dict[str, PastNote] = field(default_factory=dict)

    @classmethod
    def of(cls, events: Iterable[ev.Event], run_id: str | None = None) -> RunHistory:
        """Fold all events; with a run's id, of a journal of runs one after another, that one's."""
        history = cls()
        current = run_id
        for event in events:
            if isinstance(event, ev.ComputationStarted | ev.ComputationRecovered):
                current = event.run_id
            if run_id in (None, current):
                history.apply(event)
        return history

    @property
    def open_agreements(self) -> tuple[PastAgreement, ...]:
        """The agreements that are not over, or can still be asked money for."""
        return tuple(a for a in self.agreements.values() if not a.settled)

    @property
    def spent(self) -> Decimal:
        """What was accepted in all."""
        return sum((a.accepted for a in self.agreements.values()), ZERO)

    @property
    def suspended(self) -> tuple[PastInstance, ...]:
        """The instances that were let go of on purpose and wait to be resumed."""
        found = self.instances.values()
        return tuple(i for i in found if i.state is ServiceState.suspended)

    @property
    def state(self) -> str:
        """What is left of the run.

        ``crashed``: its process died, or still lives; ``suspended``: instances wait to be resumed;
        ``left over``: something can still be asked for, or reserved money is not free; ``settled``:
        nothing.
        """
        if not self.ended:
            return "crashed"
        if self.ended == "suspended" and self.suspended:
            return "suspended"
        open_ones = self.open_agreements or self.allocations or self.requested
        return "left over" if open_ones else "settled"

    def count(self, kind: str) -> int:
        """Return the highest number among this run's own ids of a kind, e.g. 3 for ``i-3``."""
        of_agreements = (agreement.instance_id for agreement in self.agreements.values())
        known = [*self.instances, *self.clusters, *of_agreements]
        numbers = (name.partition("-") for name in known)
        return max((int(n) for name, _, n in numbers if name == kind and n.isdigit()), default=0)

    def apply(self, event: ev.Event) -> None:
        """Take one event."""
        self._take(event)

    @singledispatchmethod
    def _take(self, event: ev.Event) -> None:
        """Take an event that changes nothing here."""

    # The run --------------------------------------------------------------------------------------

    @_take.register
    def _(self, event: ev.ComputationStarted) -> None:
        self.run_id, self.network, self.budget = event.run_id, event.network, event.budget

    @_take.register
    def _(self, event: ev.ComputationRecovered) -> None:
        self.run_id, self.network, self.ended = event.run_id, event.network, ""
        for agreement in self.agreements.values():
            if not agreement.uses:
                # It is looked at now; where its end is not heard again, that is written down again.
                agreement.left_over = None

    @_take.register
    def _(self, event: ev.ComputationFinished) -> None:
        self._over("finished", event.error)

    @_take.register
    def _(self, event: ev.ComputationSuspended) -> None:
        self._over("suspended", event.error)

    def _over(self, how: str, error: str | None) -> None:
        self.ended, self.error = how, error or ""
        self.demands.clear()

    @_take.register
    def _(self, event: ev.SubscriptionCreated) -> None:
        self.demands.add(event.demand_id)

    @_take.register
    def _(self, event: ev.ClusterStarted) -> None:
        self.clusters[event.cluster_id] = PastCluster(
            id=event.cluster_id,
            service=event.service,
            expiration=event.expiration,
            budget=event.budget,
            max_price_per_hour=event.max_price_per_hour,
        )

    # Agreements and activities --------------------------------------------------------------------

    @_take.register
    def _(self, event: ev.AgreementCreated) -> None:
        pricing = LinearPricing(counters=event.counters, coeffs=event.coeffs, fixed=event.fixed)
        self.agreements[event.agreement_id] = PastAgreement(
            id=event.agreement_id,
            created_at=event.at,
            instance_id=event.instance_id,
            cluster_id=event.cluster_id,
            provider_id=event.provider_id,
            provider_name=event.provider_name,
            terms=Terms(pricing=pricing, threads=event.threads),
            held=event.held,
            until=event.until,
        )

    @_take.register
    def _(self, event: ev.AgreementConfirmed) -> None:
        if agreement := self.agreements.get(event.agreement_id):
            agreement.confirmed = True

    @_take.register
    def _(self, event: ev.AgreementRejected) -> None:
        if agreement := self.agreements.get(event.agreement_id):
            agreement.refused = True

    @_take.register
    def _(self, event: ev.AgreementTerminated) -> None:
        agreement = self.agreements.get(event.agreement_id)
        if agreement is not None and agreement.ended is None:
            agreement.ended, agreement.ended_by = event.at, event.by

    @_take.register
    def _(self, event: ev.ActivityRequested) -> None:
        if agreement := self.agreements.get(event.agreement_id):
            agreement.uses.append(PastUse(began=event.at))
            agreement.held = max(agreement.held, event.held)
            self._instance(event.instance_id).agreement_id = agreement.id

    @_take.register
    def _(self, event: ev.ActivityCreated) -> None:
        agreement = self.agreements.get(event.agreement_id)
        if agreement is not None and agreement.use_of(event.activity_id) is None:
            agreement.uses.append(PastUse(began=event.at, activity_id=event.activity_id))
            self._instance(event.instance_id).agreement_id = agreement.id

    @_take.register
    def _(self, event: ev.ActivityCreateFailed) -> None:
        agreement = self.agreements.get(event.agreement_id)
        if agreement is None or not agreement.uses or agreement.uses[-1].activity_id is not None:
            return  # a note of it came meanwhile: it is there all the same
        agreement.uses.pop()
        if not agreement.uses:
            agreement.left_over = None

    @_take.register
    def _(self, event: ev.ActivityEnded) -> None:
        agreement = self.agreements.get(event.agreement_id)
        use = None if agreement is None else agreement.use_of(event.activity_id)
        if use is not None:
            use.ended = use.ended or event.at

    @_take.register
    def _(self, event: ev.ScriptSent) -> None:
        if use := self._use_of(event.instance_id):
            use.scripts += 1

    # Instances ------------------------------------------------------------------------------------

    @_take.register
    def _(self, event: ev.ServiceStateChanged) -> None:
        instance = self._instance(event.instance_id)
        old, new = ServiceState(event.old), ServiceState(event.new)
        instance.cluster_id, instance.state = event.cluster_id, new
        use = self._use_of(instance.id)
        if new is ServiceState.unresponsive:
            instance.behind = old
            if use is not None:
                use.silent_since = event.at
            return
        instance.behind = None
        # A provider that is lost, or suspended while it is silent, is silent to the end.
        if use is not None and event.stimulus in ("answers", "resume"):
            use.heard(event.at)
        again = new is ServiceState.pending
        instance.attempt = event.attempt + 1 if again else event.attempt
        if again:
            instance.agreement_id = None

    @_take.register
    def _(self, event: ev.ServiceStopAsked) -> None:
        self._instance(event.instance_id).stop_asked = True

    @_take.register
    def _(self, event: ev.ServiceBehindChanged) -> None:
        self._instance(event.instance_id).behind = ServiceState(event.behind)

    def _instance(self, instance_id: str) -> PastInstance:
        return self.instances.setdefault(instance_id, PastInstance(id=instance_id))

    def _use_of(self, instance_id: str) -> PastUse | None:
        agreement = self.agreements.get(self._instance(instance_id).agreement_id or "")
        return None if agreement is None else agreement.use

    # Money ----------------------------------------------------------------------------------------

    @_take.register
    def _(self, event: ev.AllocationRequested) -> None:
        self.requested = event.amount, event.at

    @_take.register
    def _(self, event: ev.AllocationCreated) -> None:
        if self.requested is not None:
            self.asked.append(self.requested)
        self.requested = None
        self.allocations[event.allocation_id] = event.amount

    @_take.register
    def _(self, _: ev.AllocationNotMade) -> None:
        self.requested = None

    @_take.register
    def _(self, event: ev.AllocationReleased) -> None:
        self.allocations.pop(event.allocation_id, None)

    @_take.register(ev.AllocationAmended)
    @_take.register(ev.AllocationAmendFailed)
    def _(self, event: ev.AllocationAmended | ev.AllocationAmendFailed) -> None:
        self.budget = event.amount

    @_take.register
    def _(self, event: ev.DebitNoteReceived) -> None:
        self._notes[event.note_id] = PastNote(event.activity_id, event.usage)

    @_take.register
    def _(self, event: ev.DebitNoteAccepted) -> None:
        note = self._notes.pop(event.note_id, PastNote())
        if agreement := self.agreements.get(event.agreement_id):
            agreement.judged[event.note_id] = None
            agreement.note(event.total, note, event.at)

    @_take.register
    def _(self, event: ev.DebitNoteRejected) -> None:
        note = self._notes.pop(event.note_id, None)
        if agreement := self.agreements.get(event.agreement_id):
            agreement.judged[event.note_id] = event.reason
            if note is not None and event.due is not None:
                agreement.overcharged(event.due, note, event.at)

    @_take.register
    def _(self, event: ev.InvoiceAccepted) -> None:
        if agreement := self.agreements.get(event.agreement_id):
            agreement.judged[event.invoice_id] = None
            agreement.invoice_id, agreement.left_over = event.invoice_id, None
            agreement.accepted = max(agreement.accepted, event.amount)

    @_take.register
    def _(self, event: ev.InvoiceRejected) -> None:
        if agreement := self.agreements.get(event.agreement_id):
            agreement.judged[event.invoice_id] = event.reason

    @_take.register
    def _(self, event: ev.PaymentLeftOver) -> None:
        if agreement := self.agreements.get(event.agreement_id):
            agreement.left_over = event.at_most

    @_take.register
    def _(self, event: ev.PaymentWrittenOff) -> None:
        if agreement := self.agreements.get(event.agreement_id):
            agreement.written_off, agreement.left_over = True, None
