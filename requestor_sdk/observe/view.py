"""A run as rows and a footer: a fold of its events that every display reads.

Pure: it takes events, knows no clock and writes nothing. What an event does not tell, it leaves as
it was.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from functools import singledispatchmethod
from typing import Final, TypeAlias

from requestor_sdk.model import events as ev
from requestor_sdk.model.jobs import stage
from requestor_sdk.observe._job_facts import JobEvent, JobFacts
from requestor_sdk.observe._money import Acceptances, Budget
from requestor_sdk.observe._rows import TERMINATED, Funnel, Row

_ZERO: Final = Decimal(0)

_Judged: TypeAlias = (
    ev.DebitNoteReceived | ev.DebitNoteRejected | ev.DebitNoteAccepted | ev.InvoiceAccepted
)


@dataclass(slots=True, kw_only=True)
class _Agreement:
    instance_id: str
    held: Decimal
    accepted: Decimal = Decimal(0)
    ended: bool = False

    @property
    def rest(self) -> Decimal:
        """What it can still cost."""
        return max(_ZERO, self.held - self.accepted) if not self.ended else _ZERO


@dataclass(slots=True)
class RunView:
    """The fold. Hand it each event in order; read its fields at any time.

    Runs that follow one another in a process are shown as one: their budgets add up.

    Attributes:
        run_id: The run, the last one of several; empty before it began.
        network: What network it runs on.
        spent: What was accepted.
        offers: The way of the offers.
        rows: The instances and jobs, in the order they were first heard of.
        waiting_for: Once leaving began, the instances that it waits for.
        notice: Why nothing moves, where that is known; empty while all goes well.
        finished: Whether the run is over, or left to a later process.
        staying: The instances that it was left with, suspended.
    """

    run_id: str = ""
    network: str = ""
    spent: Decimal = Decimal(0)
    offers: Funnel = field(default_factory=Funnel)
    rows: dict[str, Row] = field(default_factory=dict)
    waiting_for: tuple[str, ...] = ()
    notice: str = ""
    finished: bool = False
    staying: tuple[str, ...] = ()
    _agreements: dict[str, _Agreement] = field(default_factory=dict)
    _held: Decimal = _ZERO
    _scripts: dict[str, tuple[str, ...]] = field(default_factory=dict)
    _activities: dict[str, str] = field(default_factory=dict)
    _allocations: dict[str, Decimal] = field(default_factory=dict)
    _left_over: dict[str, Decimal] = field(default_factory=dict)
    _budget: Budget = field(default_factory=Budget)
    _acceptances: Acceptances = field(default_factory=Acceptances)

    @property
    def budget(self) -> Decimal:
        """The whole budget, of all runs, as it is now."""
        return self._budget.total

    @property
    def held(self) -> Decimal:
        """What the living agreements can still cost."""
        # Kept up to date: a sum over all that there ever were would be made with each event.
        return self._held

    @property
    def left_over(self) -> Decimal:
        """What can still be asked for after the end."""
        return sum(self._left_over.values(), Decimal(0))

    @property
    def instances(self) -> list[Row]:
        """The rows of instances."""
        return [row for row in self.rows.values() if not row.is_job]

    @property
    def jobs(self) -> list[Row]:
        """The rows of compute-to-data jobs."""
        return [row for row in self.rows.values() if row.is_job]

    def open_ids(self) -> dict[str, tuple[str, ...]]:
        """Return what is still open: instances, activities, agreements, allocations."""
        agreements = [name for name, made in self._agreements.items() if not made.ended]
        living = {*agreements, *(a for a in self._activities.values() if a not in self._agreements)}
        return {
            "instances": tuple(row.instance_id for row in self.instances if not row.finished),
            "activities": tuple(name for name, of in self._activities.items() if of in living),
            "agreements": tuple(agreements),
            "allocations": tuple(self._allocations),
        }

    def apply(self, event: ev.Event) -> None:
        """Take one event."""
        self._budget.apply(event)
        self._take(event)

    @singledispatchmethod
    def _take(self, event: ev.Event) -> None:
        """Take an event that changes nothing here."""

    @_take.register
    def _(self, event: ev.ComputationStarted) -> None:
        self.run_id, self.network = event.run_id, event.network
        self.finished = False

    @_take.register
    def _(self, event: ev.ComputationRecovered) -> None:
        self.run_id, self.network = event.run_id, event.network
        self.finished, self.notice, self.staying = False, "", ()

    @_take.register(ev.ComputationFinished)
    @_take.register(ev.ComputationSuspended)
    def _(self, event: ev.ComputationFinished | ev.ComputationSuspended) -> None:
        self.finished, self.waiting_for, self.notice = True, (), event.error or ""
        self.staying = event.instances if isinstance(event, ev.ComputationSuspended) else ()

    @_take.register
    def _(self, event: ev.ShutdownStarted) -> None:
        self.waiting_for = event.waiting_for

    # Jobs -----------------------------------------------------------------------------------------

    @_take.register
    def _(self, event: ev.ComputeJobSubmitted) -> None:
        row = self._job(event)
        row.provider_name = event.provider_name.partition("://")[2] or event.provider_name

    @_take.register
    def _(self, event: ev.ComputeJobStatusChanged) -> None:
        row = self._job(event)
        if row.state != stage(event.status):
            row.state, row.since = stage(event.status), event.at
        row.attempt = event.attempt or row.attempt
        row.command = ", ".join(filter(None, (event.text.strip(), event.worker)))

    @_take.register
    def _(self, event: ev.ComputeJobFinished) -> None:
        row = self._job(event)
        row.state, row.since = TERMINATED, event.at
        row.attempt = event.attempt or row.attempt
        row.failed = event.outcome == "failed"
        row.cause = row.job.why if row.job is not None else ""
        row.command = row.cause or event.outcome

    def _job(self, event: JobEvent) -> Row:
        row = self._row(event.job_id, event.at)
        row.job = row.job or JobFacts(began=event.at)
        row.job.apply(event)
        return row

    # The market -----------------------------------------------------------------------------------

    @_take.register
    def _(self, _: ev.ProposalReceived) -> None:
        self.offers.seen += 1

    @_take.register
    def _(self, _: ev.ProposalScored) -> None:
        self.offers.scored += 1

    @_take.register
    def _(self, _: ev.ProposalConfirmed) -> None:
        self.offers.negotiated += 1

    @_take.register
    def _(self, event: ev.NoOffersYet) -> None:
        self.notice = no_offers(event)

    @_take.register
    def _(self, event: ev.BudgetExhausted) -> None:
        self.notice = (
            f"the budget has no room: an offer may cost {event.needed}, "
            f"{event.available} is available"
        )

    @_take.register
    def _(self, event: ev.LoopRetried) -> None:
        self.notice = f"{event.loop}: {event.error}; trying again in {event.after_sec:.0f} s"

    @_take.register
    def _(self, event: ev.AgreementCreated) -> None:
        row = self._row(event.instance_id, event.at)
        row.provider_id, row.provider_name = event.provider_id, event.provider_name
        made = _Agreement(instance_id=event.instance_id, held=event.held)
        before = self._agreements.get(event.agreement_id)
        self._held += made.rest - (before.rest if before is not None else _ZERO)
        self._agreements[event.agreement_id] = made

    @_take.register
    def _(self, _: ev.AgreementConfirmed) -> None:
        self.offers.agreed += 1
        self.notice = ""

    @_take.register(ev.AgreementRejected)
    @_take.register(ev.AgreementTerminated)
    def _(self, event: ev.AgreementRejected | ev.AgreementTerminated) -> None:
        agreement = self._agreements.get(event.agreement_id)
        if agreement is not None:
            self._held -= agreement.rest
            agreement.ended = True

    @_take.register
    def _(self, event: ev.ActivityRequested) -> None:
        agreement = self._agreements.get(event.agreement_id)
        if agreement is not None:
            # Each activity of an agreement can cost once more what one can.
            self._change(agreement, held=max(agreement.held, event.held))

    @_take.register
    def _(self, event: ev.ActivityCreated) -> None:
        self._activities[event.activity_id] = event.agreement_id

    @_take.register
    def _(self, event: ev.ActivityEnded) -> None:
        self._activities.pop(event.activity_id, None)

    # Instances and batches ------------------------------------------------------------------------

    @_take.register
    def _(self, event: ev.ServiceStateChanged) -> None:
        row = self._row(event.instance_id, event.at)
        row.state, row.since, row.attempt = event.new, event.at, event.attempt
        row.cause = "" if event.new == "running" else event.cause or row.cause
        if event.new == "pending":
            # The event still names the provider that was lost.
            row.provider_id = row.provider_name = row.command = row.progress = ""
        elif event.provider_id:
            row.provider_id, row.provider_name = event.provider_id, event.provider_name or ""
        if row.finished:
            self.waiting_for = tuple(i for i in self.waiting_for if i != row.instance_id)

    @_take.register
    def _(self, event: ev.ServiceFailed) -> None:
        self._row(event.instance_id, event.at).cause = event.error.partition("\n")[0]

    @_take.register
    def _(self, event: ev.ScriptSent) -> None:
        self._scripts[event.script_id] = event.commands
        self._show(event, 0)

    @_take.register
    def _(self, event: ev.CommandExecuted) -> None:
        row = self._row(event.instance_id, event.at)
        row.command, row.progress, row.failed = event.command, "", not event.success
        if event.success:
            self._show(event, event.index + 1)

    @_take.register
    def _(self, event: ev.TransferProgress) -> None:
        if event.total:
            percent = min(100, event.done * 100 // event.total)
            self._row(event.instance_id, event.at).progress = f"{percent} %"

    @_take.register
    def _(self, event: ev.ScriptFinished) -> None:
        self._scripts.pop(event.script_id, None)

    def _show(self, event: ev.ScriptSent | ev.CommandExecuted, index: int) -> None:
        """Show the command of that place in the batch, if there is one."""
        commands = self._scripts.get(event.script_id, ())
        if index < len(commands):
            row = self._row(event.instance_id, event.at)
            row.command, row.progress, row.failed = commands[index], "", False

    # Money ----------------------------------------------------------------------------------------

    @_take.register
    def _(self, event: ev.AllocationCreated) -> None:
        self._allocations[event.allocation_id] = event.amount

    @_take.register
    def _(self, event: ev.AllocationReleased) -> None:
        self._allocations.pop(event.allocation_id, None)

    @_take.register(ev.DebitNoteReceived)
    @_take.register(ev.DebitNoteRejected)
    @_take.register(ev.DebitNoteAccepted)
    def _(self, event: _Judged) -> None:
        self._accept(event)

    @_take.register
    def _(self, event: ev.InvoiceAccepted) -> None:
        agreement = self._accept(event)
        if agreement is not None:
            self._change(agreement, held=agreement.accepted)  # nothing more can be asked for
        self._left_over.pop(event.agreement_id, None)

    @_take.register
    def _(self, event: ev.PaymentLeftOver) -> None:
        self._left_over[event.agreement_id] = event.at_most

    @_take.register
    def _(self, event: ev.PaymentWrittenOff) -> None:
        self._left_over.pop(event.agreement_id, None)

    def _accept(self, event: _Judged) -> _Agreement | None:
        """Count what the event accepts; return its agreement, where that is known."""
        more = self._acceptances.more(event)
        agreement = self._agreements.get(event.agreement_id)
        if agreement is not None:
            self._change(agreement, accepted=agreement.accepted + more)
            self.spent += more
            row = self.rows.get(agreement.instance_id)
            if row is not None:
                row.cost += more
        return agreement

    def _change(
        self, agreement: _Agreement, *, held: Decimal | None = None, accepted: Decimal | None = None
    ) -> None:
        self._held -= agreement.rest
        if held is not None:
            agreement.held = held
        if accepted is not None:
            agreement.accepted = accepted
        self._held += agreement.rest

    def _row(self, instance_id: str, at: datetime) -> Row:
        row = self.rows.get(instance_id)
        if row is None:
            row = self.rows[instance_id] = Row(instance_id=instance_id, since=at)
        return row


def no_offers(event: ev.NoOffersYet) -> str:
    """Return why no offer was taken yet, as one line."""
    if not event.offers:
        return "the market has no offers yet"
    why = f": {event.ruled_out}" if event.ruled_out else ""
    return f"none of {event.offers} offers fits{why}"
