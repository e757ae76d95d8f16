"""A run as plain lines, one for each change that a person wants to know of.

For pipes, files and CI, where a table that redraws itself is of no use. ASCII only.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import singledispatchmethod
from textwrap import indent

from requestor_sdk.model import events as ev
from requestor_sdk.observe import text
from requestor_sdk.observe.view import no_offers


def failure(event: ev.ServiceFailed) -> str:
    """Return what to tell of a failed attempt: a line, and the traceback where it leads to code.

    A loss that happened outside of the user's code has no frames to show.
    """
    first, *more = event.error.splitlines() or [""]
    tries = "".join(f"\n{line}" for line in more if line.startswith("  try:"))
    line = f"{event.instance_id} failed in attempt {event.attempt}: {first}{tries}"
    if '  File "' not in event.traceback:
        return line
    return f"{line}\n{indent(event.traceback.rstrip(), '    ')}"


class PlainLines:
    """A sink that hands each line to ``write``; events that nobody waits for make none."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write
        self._names: dict[str, str] = {}

    def __call__(self, event: ev.Event, /) -> None:
        """Take one event."""
        line = self.line(event)
        if line:
            self._write(f"{event.at.astimezone():%H:%M:%S} {line}")

    def line(self, event: ev.Event) -> str:
        """Return the line of an event, without its time; empty where it makes none."""
        if isinstance(event, ev.AgreementCreated):
            self._names[event.provider_id] = event.provider_name
        return self._line(event)

    def name(self, provider_id: str | None, name: str | None = None) -> str:
        """Return how a provider is called, as far as an agreement has told; its id otherwise."""
        provider = provider_id or ""
        return name or self._names.get(provider) or provider

    @singledispatchmethod
    def _line(self, _: ev.Event) -> str:
        return ""

    @_line.register
    def _(self, event: ev.ComputationStarted) -> str:
        budget = text.amount(event.budget)
        return f"run {event.run_id} on network {event.network}, budget {budget}"

    @_line.register
    def _(self, event: ev.ComputationFinished) -> str:
        rest = f", {text.amount(event.left_over)} left over" if event.left_over else ""
        why = f": {event.error}" if event.error else ""
        return f"run {event.run_id} is over{why}; spent {text.amount(event.spent)}{rest}"

    @_line.register
    def _(self, event: ev.ComputeJobSubmitted) -> str:
        what = f" on {', '.join(event.datasets)}" if event.datasets else ""
        return f"job {event.job_id} is at {event.provider_name}: {event.algorithm}{what}"

    @_line.register
    def _(self, event: ev.ComputeJobStatusChanged) -> str:
        who = f" (worker {event.worker})" if event.worker else ""
        attempt = f", attempt {event.attempt}" if (event.attempt or 1) > 1 else ""
        return f"job {event.job_id}: {event.text.strip() or event.status}{attempt}{who}"

    @_line.register
    def _(self, event: ev.ComputeJobFinished) -> str:
        why = f": {event.error}" if event.error else ""
        return f"job {event.job_id} is over: {event.outcome.replace('_', ' ')}{why}"

    @_line.register
    def _(self, event: ev.ComputationSuspended) -> str:
        stays = ", ".join(event.instances)
        return (
            f"run {event.run_id} is left with {stays} suspended; spent {text.amount(event.spent)}"
        )

    @_line.register
    def _(self, event: ev.ComputationRecovered) -> str:
        return (
            f"going on with run {event.run_id} on network {event.network}, "
            f"{len(event.open_agreements)} agreements unsettled"
        )

    @_line.register
    def _(self, event: ev.ServiceTakenUp) -> str:
        return f"{event.instance_id} is taken up on agreement {event.agreement_id}"

    @_line.register
    def _(self, event: ev.PaymentWrittenOff) -> str:
        return f"nothing more is owed for {event.agreement_id}: {event.reason}"

    @_line.register
    def _(self, event: ev.ShutdownStarted) -> str:
        waiting = f", waiting for {', '.join(event.waiting_for)}" if event.waiting_for else ""
        return f"shutting down{waiting}"

    @_line.register
    def _(self, event: ev.ServiceStateChanged) -> str:
        name = self.name(event.provider_id, event.provider_name)
        where = f" on {name}" if name and event.new != "pending" else ""
        attempt = f", attempt {event.attempt}" if event.attempt > 1 else ""
        why = f" ({event.cause})" if event.cause else ""
        return f"{event.instance_id} {event.old} -> {event.new}{where}{attempt}{why}"

    @_line.register
    def _(self, event: ev.ServiceStopAsked) -> str:
        return f"{event.instance_id} is to stop, and is {event.state} for now"

    @_line.register
    def _(self, event: ev.ServiceFailed) -> str:
        return failure(event)

    @_line.register
    def _(self, event: ev.ServiceRestarting) -> str:
        pause = f" in {text.duration(event.after_sec)}" if event.after_sec else ""
        return f"{event.instance_id} is tried again{pause}, attempt {event.attempt}"

    @_line.register
    def _(self, event: ev.HandlerAbandoned) -> str:
        return f"{event.instance_id} {event.handler}() could not be closed and was abandoned"

    @_line.register
    def _(self, event: ev.CallbackAbandoned) -> str:
        return f"{event.instance_id} {event.what} could not be ended and was abandoned".lstrip()

    @_line.register
    def _(self, event: ev.NoOffersYet) -> str:
        return no_offers(event)

    @_line.register
    def _(self, event: ev.BudgetExhausted) -> str:
        needed, available = text.amount(event.needed), text.amount(event.available)
        return f"the budget has no room: an offer may cost {needed}, {available} is available"

    @_line.register
    def _(self, event: ev.AllocationAmended) -> str:
        return f"the budget is raised to {text.amount(event.amount)}"

    @_line.register
    def _(self, event: ev.AllocationAmendFailed) -> str:
        return f"the budget stays {text.amount(event.amount)}: {event.reason}"

    @_line.register
    def _(self, event: ev.AgreementRejected) -> str:
        return f"{event.instance_id} refused by {self.name(event.provider_id)}: {event.reason}"

    @_line.register
    def _(self, event: ev.ActivityCreateFailed) -> str:
        name = self.name(event.provider_id)
        return f"{event.instance_id} got no activity from {name}: {event.reason}"

    @_line.register
    def _(self, event: ev.CommandExecuted) -> str:
        if event.success:
            return ""
        why = f": {event.message}" if event.message else ""
        return f"{event.instance_id} command failed: {event.command}{why}"

    @_line.register
    def _(self, event: ev.InvoiceAccepted) -> str:
        return f"paid {text.amount(event.amount)} to {self.name(event.provider_id)}"

    @_line.register
    def _(self, event: ev.InvoiceRejected) -> str:
        amount = text.amount(event.amount)
        return f"rejected an invoice of {amount} for {event.agreement_id}: {event.reason}"

    @_line.register
    def _(self, event: ev.DebitNoteRejected) -> str:
        total = text.amount(event.total)
        return f"rejected a debit note of {total} for {event.agreement_id}: {event.reason}"

    @_line.register
    def _(self, event: ev.PaymentLeftOver) -> str:
        most, name = text.amount(event.at_most), self.name(event.provider_id)
        return f"no invoice came from {name}: at most {most} left over"

    @_line.register
    def _(self, event: ev.LoopRetried) -> str:
        pause = text.duration(event.after_sec)
        return f"{event.loop} met an error, trying again in {pause}: {event.error}"

    @_line.register
    def _(self, event: ev.CustomEvent) -> str:
        return f"{event.name}: {event.text}" if event.text else event.name
