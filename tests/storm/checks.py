"""What must hold after a storm, beside the invariants that requestor_sdk.testing ships."""

from __future__ import annotations

import asyncio
from decimal import Decimal

from support.tasks import broken_tasks

from requestor_sdk.model import events
from requestor_sdk.model.history import RunHistory
from requestor_sdk.model.market import ActivityState, AgreementState
from requestor_sdk.model.money import TOLERANCE_SEC
from requestor_sdk.testing import invariants


def of_program(program):
    """Nothing that the program waits for is pending for ever; what it saw on the way was right."""
    yield from program.broken
    for outcome in program.outcomes:
        if not outcome.done():
            yield f"what an act returned is not decided: {outcome!r}"
    for task in program.tasks:
        if not task.done():
            yield f"the program still waits: {task.get_coro()!r}"
        elif not task.cancelled() and isinstance(task.exception(), AssertionError):
            yield f"the program found {task.exception()!r}"


def of_living(books, clusters):
    """What the engine holds for running is running: it has noticed every loss by now."""
    for cluster in clusters:
        for instance in cluster.instances:
            if instance.state == "running":
                activity = books.activities[instance.ctx.activity_id]
                over = activity.state is ActivityState.terminated
                if over or activity.agreement.state is not AgreementState.approved:
                    yield f"{instance.id} is called running; {activity.id} has ended"


def of_honest(found, network, gone):
    """Where no call was hindered, everything that honest providers ask for is accepted.

    Args:
        found: The events of a run.
        network: Its network.
        gone: Providers that could not be reached for a while; their silence is not paid.
    """
    if network.disturbed:
        return
    honest = {a.identity for a in network.providers if not a.conduct.behaviours} - gone
    provider_of = {}
    for event in found:
        match event:
            case events.AgreementCreated():
                provider_of[event.agreement_id] = event.provider_id
            case events.DebitNoteRejected() | events.InvoiceRejected():
                asked = event.total if isinstance(event, events.DebitNoteRejected) else event.amount
                if asked and provider_of.get(event.agreement_id) in honest:
                    yield f"an honest provider is not paid: {event.line()}"


def of_charges(found):
    """Nothing is accepted above what was agreed, for what was used and the time that passed."""
    terms, began, usage = {}, {}, {}
    for event in found:
        match event:
            case events.AgreementCreated():
                terms[event.agreement_id] = event
            case events.ActivityRequested():
                began.setdefault(event.agreement_id, []).append(event.at)
            case events.DebitNoteReceived():
                usage[event.note_id] = event.usage
            case events.DebitNoteAccepted():
                agreed = terms[event.agreement_id]
                pairs = zip(agreed.coeffs, usage[event.note_id], strict=True)
                right = agreed.fixed + sum(price * amount for price, amount in pairs)
                if event.total > right + Decimal("1e-9"):
                    yield f"{event.total} was accepted for what costs {right}: {event.line()}"
            case events.InvoiceAccepted():
                begun = began.get(event.agreement_id, ())  # without an activity nothing is due
                most = _most(terms[event.agreement_id], begun, event.at) if begun else 0
                if event.amount > most:
                    yield f"{event.amount} was accepted, and at most {most} is right"


def _most(agreed, began, until):
    """Return the most that activities which began at these times can have cost until a time."""
    prices = dict(zip(agreed.counters, agreed.coeffs, strict=True))
    rate = sum(
        price * (agreed.threads if "cpu" in counter else 1) for counter, price in prices.items()
    )
    seconds = Decimal(str((until - began[0]).total_seconds())) + TOLERANCE_SEC * len(began)
    return agreed.fixed * len(began) + rate * seconds + Decimal("1e-9")


def of_run(compute, *, finished, recovered=False):
    """Rule 17 and the trace properties, over what happened in this process and before it."""
    found = list(compute.journal.read()) if compute._engine is not None else []
    yield from invariants.broken_of(compute, found, finished=finished)
    yield from broken_tasks(found, finished=finished and not recovered)


def of_network(network):
    """After the last recovery: what every run was due is paid, and nothing is left standing."""
    try:
        invariants.check_network(network)
    except invariants.InvariantBroken as also:
        yield from also.broken
    books = network.books
    for run_id, journal in network.journals.items():
        if not journal.begun:
            continue
        found = list(journal.read())
        yield from of_charges(found)
        yield from _of_history(RunHistory.of(found, run_id), books, found)
    journals = [list(journal.read()) for journal in network.journals.values()]
    if books.bank.allocations and not any(_left_in_doubt(found) for found in journals):
        yield f"allocations stay reserved: {', '.join(books.bank.allocations)}"
    spent = sum((a.paid for a in books.bank.accounts.values()), Decimal(0))
    if spent != sum(books.bank.balances.values(), Decimal(0)):
        yield "the balances of the providers are not what was paid"


def _left_in_doubt(found):
    """Whether one of two allocations was this run's, and it died before it heard which."""
    not_made = (event for event in found if isinstance(event, events.AllocationNotMade))
    return any("none was taken" in event.reason for event in not_made)


def _of_history(history, books, found):
    if history.state not in ("settled", "left over"):
        yield f"the run is {history.state} after its last recovery"
    binding = (AgreementState.pending, AgreementState.approved)
    for name in history.agreements:
        if books.agreements[name].state in binding:
            yield f"agreement {name} stands in the market after the last recovery"
    invoiced = {e.agreement_id: e.amount for e in found if isinstance(e, events.InvoiceAccepted)}
    for agreement in history.agreements.values():
        paid = books.bank.paid(agreement.id)
        # What is left over can still be asked for, and a later recovery would tell it again. A
        # note that was not heard counts no more once a lower invoice is accepted.
        due = invoiced.get(agreement.id, agreement.accepted)
        if paid > agreement.accepted or (agreement.settled and paid < due):
            yield f"{agreement.id}: {agreement.accepted} was accepted, {paid} was paid"


def of_loop(*, killed):
    """Nothing runs, waits or is half done on the loop any more.

    A process that was killed closes no generators: those of its user are excepted.
    """
    yield from invariants.left_tasks()
    yield from invariants.unfinished_futures()
    if not killed:
        yield from asyncio.get_running_loop().open_generators()
