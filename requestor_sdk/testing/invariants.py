"""What must hold of every run, whatever happened in it: rule 17 of the lifecycle, as code.

It reads what is left of a run: its journal, its ledger, the tasks of the loop and, on the
simulated network, what really stands in the market and was really paid. Nothing here asks how the
engine came to it.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Final, TypeVar

from requestor_sdk.model import events
from requestor_sdk.model.lifecycle import TABLE, ServiceState, Stimulus, Target
from requestor_sdk.networks.simulated import SimulatedNetwork
from requestor_sdk.testing.acts import broken_acts, stopped_by
from requestor_sdk.testing.bound import broken_budget
from requestor_sdk.testing.story import lines_of, story_of

if TYPE_CHECKING:
    from requestor_sdk.client.compute import Compute
    from requestor_sdk.networks.memory import MemoryMarket
    from requestor_sdk.testing.handlers import HandlerLog

E = TypeVar("E", bound=events.Event)

_STANDING: Final = ("Pending", "Approved")


class InvariantBroken(AssertionError):
    """Something that must hold of every run did not; a defect of requestor_sdk.

    Attributes:
        broken: What did not hold, a sentence each.
        story: The last events of the run, a line each.
    """

    def __init__(self, broken: Sequence[str], story: Sequence[str], where: str = "") -> None:
        self.broken: tuple[str, ...] = tuple(broken)
        self.story: tuple[str, ...] = tuple(story)
        lines = [f"broken{where}:", *(f"  {text}" for text in broken)]
        super().__init__("\n".join([*lines, "the last events:", *(f"  {x}" for x in story)]))


def check_invariants(
    compute: Compute,
    *,
    found: Iterable[events.Event] | None = None,
    finished: bool = True,
    handlers: HandlerLog | None = None,
) -> None:
    """Check everything that must hold of a run.

    Args:
        compute: The run; left, unless it is not ``finished``.
        found: All its events; those of its journal by default.
        finished: Whether the run is over in good order; otherwise only what holds at every moment
            is checked.
        handlers: What was seen of the handlers, to be held against the lifecycle as well.

    Raises:
        InvariantBroken: It tells all that does not hold.
    """
    happened = list(compute.journal.read() if found is None else found)
    broken = list(broken_of(compute, happened, finished=finished))
    if handlers is not None:
        broken += handlers.broken(finished=finished)
    if not broken:
        return
    network = compute.network
    if isinstance(network, SimulatedNetwork):
        raise InvariantBroken(broken, story_of(network), f" (seed {network.seed})")
    raise InvariantBroken(broken, lines_of(happened))


def broken_of(
    compute: Compute, found: Sequence[events.Event], *, finished: bool = True
) -> Iterator[str]:
    """Return what does not hold of a run, a sentence each; see ``check_invariants``."""
    network = compute.network
    core = compute._engine.core if compute._engine else None  # noqa: SLF001 - a test's privilege
    finished = finished and core is not None and core.fatal is None
    yield from broken_run(found, finished=finished)
    if isinstance(network, SimulatedNetwork):
        yield from broken_books(found, network, finished=finished)
        journals = network.journals.values()
        if core is not None and any(core.journal is journal for journal in journals):
            yield from broken_acts(network, complete=finished and not network.disturbed)
    if core is None:
        return
    yield from core.ledger.check()
    if (spent := sum(accepted_of(found).values(), Decimal(0))) > core.ledger.budget:
        yield f"{spent} was accepted of a budget of {core.ledger.budget}"
    if finished:
        # What is left to a later process is held for it.
        staying = set(_suspended(found))
        if opened := [name for name in core.ledger.open_agreements() if name not in staying]:
            yield f"the ledger still holds money for {', '.join(opened)}"
        yield from left_tasks(core.abandoned)


def check_network(network: SimulatedNetwork) -> None:
    """Check every run of a simulated network by its journal and by the market's own books.

    Raises:
        InvariantBroken: It tells all that does not hold.
    """
    broken: list[str] = []
    everything: list[events.Event] = []
    for journal in network.journals.values():
        found = list(journal.read())
        everything += found
        finished = any(_of(found, events.ComputationFinished))
        broken += broken_run(found, finished=finished and not _failed(found))
        broken += broken_books(found, network, finished=finished)
    ended = everything and all(
        any(_of(list(journal.read()), events.ComputationFinished))
        for journal in network.journals.values()
        if journal.begun
    )
    broken += broken_acts(network, complete=bool(ended) and not network.disturbed)
    broken += unowned_agreements(network, everything)
    if broken:
        raise InvariantBroken(broken, story_of(network), f" (seed {network.seed})")


def broken_run(found: Sequence[events.Event], *, finished: bool) -> Iterator[str]:
    """Return what does not hold of a run by its journal alone."""
    yield from broken_paths(found)
    yield from broken_signing(found)
    yield from broken_money(found)
    yield from broken_budget(found)
    if finished:
        yield from _unfinished(found)


def _failed(found: Sequence[events.Event]) -> bool:
    return any(event.error for event in _of(found, events.ComputationFinished))


# Over the journal -------------------------------------------------------------------------------


def broken_paths(found: Sequence[events.Event]) -> Iterator[str]:
    """One state an instance, a legal path behind it, and the trace properties of the lifecycle."""
    by_instance: dict[str, list[events.ServiceStateChanged]] = {}
    stopped: set[str] = set()
    for event in found:
        if isinstance(event, events.ServiceStateChanged):
            who = event.instance_id
            by_instance.setdefault(who, []).append(event)
            if who in stopped and event.new in (ServiceState.pending, ServiceState.starting):
                yield f"{who} went to {event.new} after a stop"
        if (who_stopped := stopped_by(event)) is not None:
            stopped.add(who_stopped)
    for instance_id, changes in by_instance.items():
        if changes[0].old != ServiceState.pending:
            yield f"{instance_id} began as {changes[0].old}, not as pending"
        for before, after in itertools.pairwise(changes):
            if before.new != after.old:
                yield f"{instance_id} was {before.new} and then came from {after.old}"
        yield from (f"{instance_id} {text}" for change in changes for text in _illegal(change))
        for attempt in sorted({change.attempt for change in changes}):
            mine = [change for change in changes if change.attempt == attempt]
            yield from (f"{instance_id}, attempt {attempt}: {text}" for text in _attempt(mine))


def _illegal(change: events.ServiceStateChanged) -> Iterator[str]:
    old, new = ServiceState(change.old), ServiceState(change.new)
    targets: set[ServiceState] = set()
    for rule in TABLE[old].get(Stimulus(change.stimulus), ()):
        if rule.target is Target.END:
            targets |= {ServiceState.pending, ServiceState.terminated}
        elif rule.target is Target.BEHIND:
            targets |= {ServiceState.starting, ServiceState.running, ServiceState.stopping}
        elif isinstance(rule.target, ServiceState):
            targets.add(rule.target)
    if new not in targets:
        yield f"went from {old} to {new} by {change.stimulus!r}, which the table does not allow"


def _attempt(changes: Sequence[events.ServiceStateChanged]) -> Iterator[str]:
    silent = ServiceState.unresponsive
    stops = [c for c in changes if c.new == ServiceState.stopping and c.old != silent]
    if len(stops) > 1:
        yield "stopping was entered twice: shutdown() would run twice"
    runs = [c for c in changes if c.new == ServiceState.running]
    started = any(c.stimulus == Stimulus.start_done for c in changes)
    came_back = any(c.old in (silent, ServiceState.suspended) for c in runs)
    if runs and not started and not came_back:
        yield "it ran without a start that succeeded"


def broken_signing(found: Sequence[events.Event]) -> Iterator[str]:
    """Nothing is signed after a stop, and no agreement belongs to nobody."""
    stopped: set[str] = set()
    known: set[str] = set()
    for event in found:
        if (over := stopped_by(event)) is not None:
            stopped.add(over)
        match event:
            case events.AgreementCreated(instance_id=who, agreement_id=agreement):
                known.add(agreement)
                if who in stopped:
                    yield f"agreement {agreement} was signed for {who} after its stop"
            case events.AgreementConfirmed(agreement_id=agreement) if agreement not in known:
                yield f"agreement {agreement} was confirmed and never created"


def broken_money(found: Sequence[events.Event]) -> Iterator[str]:
    """No two invoices of an agreement are accepted, and none twice.

    A recovery writes down once more that one was accepted which the network had not heard of.
    """
    invoiced: dict[str, str] = {}
    told: set[str] = set()
    for event in found:
        match event:
            case events.ComputationRecovered():
                told.clear()
            case events.InvoiceAccepted(agreement_id=agreement, invoice_id=invoice):
                if invoiced.setdefault(agreement, invoice) != invoice or agreement in told:
                    yield f"two invoices of agreement {agreement} were accepted"
                told.add(agreement)


def accepted_of(found: Sequence[events.Event]) -> dict[str, Decimal]:
    """Return what was accepted for each agreement, its debit notes and invoice together."""
    activity_of = {e.note_id: e.activity_id for e in _of(found, events.DebitNoteReceived)}
    noted: dict[str, dict[str, Decimal]] = {}
    total: dict[str, Decimal] = {}
    for event in found:
        match event:
            case events.DebitNoteAccepted(agreement_id=agreement):
                mine = noted.setdefault(agreement, {})
                activity = activity_of.get(event.note_id, "")
                mine[activity] = max(event.total, mine.get(activity, Decimal(0)))
                rows = sum(mine.values(), Decimal(0))
                total[agreement] = max(rows, total.get(agreement, Decimal(0)))
            case events.InvoiceAccepted(agreement_id=agreement):
                total[agreement] = max(event.amount, total.get(agreement, Decimal(0)))
    return total


def _unfinished(found: Sequence[events.Event]) -> Iterator[str]:
    """Of a run that is over: everything is ended, released or recorded as left over."""
    last: dict[str, str] = {}
    for change in _of(found, events.ServiceStateChanged):
        last[change.instance_id] = change.new
    over = {ServiceState.terminated, ServiceState.suspended}
    for instance_id, state in last.items():
        if state not in over:
            yield f"{instance_id} ended as {state}"
    ended = {e.agreement_id for e in _of(found, events.AgreementTerminated)}
    settled = {e.agreement_id for e in _of(found, events.InvoiceAccepted)}
    settled |= {e.agreement_id for e in _of(found, events.PaymentLeftOver)}
    staying = set(_suspended(found))
    if any(_of(found, events.ComputationRecovered)):
        # A recovery that is not told how an agreement stands records it; the next one asks again.
        ended |= {e.agreement_id for e in _of(found, events.PaymentLeftOver)}
    for signed in _of(found, events.AgreementConfirmed):
        if signed.agreement_id not in ended | staying:
            yield f"agreement {signed.agreement_id} was confirmed and never ended"
    for active in _of(found, events.ActivityCreated):
        if active.agreement_id not in settled | staying:
            yield f"agreement {active.agreement_id} was neither paid nor recorded as left over"
    begun = any(_of(found, events.AllocationCreated))
    ends = events.ComputationFinished | events.ComputationSuspended
    if begun and not isinstance(found[-1], ends):
        yield "the journal has no end"


def _suspended(found: Sequence[events.Event]) -> Iterator[str]:
    """The agreements that instances have which were let go of on purpose."""
    agreement_of: dict[str, str] = {}
    state: dict[str, str] = {}
    for event in found:
        match event:
            case events.ActivityRequested(instance_id=who, agreement_id=agreement):
                agreement_of[who] = agreement
            case events.ServiceStateChanged(instance_id=who):
                state[who] = event.new
    for who, agreement in agreement_of.items():
        if state.get(who) == ServiceState.suspended:
            yield agreement


# Over the market and the bank ---------------------------------------------------------------------


def broken_books(
    found: Sequence[events.Event], network: SimulatedNetwork, *, finished: bool
) -> Iterator[str]:
    """What really stands in the market and was really paid is what the journal says.

    Where a call was hindered, its effect may be missing; there must never be too much of it.
    """
    books: MemoryMarket = network.books
    complete = finished and not network.disturbed
    accepted = accepted_of(found)
    mine = {e.agreement_id for e in _of(found, events.AgreementCreated)}
    for agreement_id, account in books.bank.accounts.items():
        if agreement_id not in mine:
            continue
        due = accepted.get(agreement_id, Decimal(0))
        if account.paid > due:
            yield f"{account.paid} was paid for agreement {agreement_id}, and {due} was accepted"
        elif complete and account.paid < due:
            yield f"{due} was accepted for agreement {agreement_id}, and {account.paid} was paid"
    if not complete:
        return
    ended = {e.agreement_id for e in _of(found, events.AgreementTerminated)}
    ended |= {e.agreement_id for e in _of(found, events.AgreementRejected)}
    for agreement_id in sorted(mine & ended):
        if (state := books.agreements[agreement_id].state) in _STANDING:
            yield f"agreement {agreement_id} is {state.lower()} after its end"
    yield from _standing_allocations(found, books)


def _standing_allocations(found: Sequence[events.Event], books: MemoryMarket) -> Iterator[str]:
    released = {e.allocation_id for e in _of(found, events.AllocationReleased)}
    for allocation_id in sorted(released & books.bank.allocations.keys()):
        yield f"allocation {allocation_id} was released and still stands"
    if not found or not isinstance(found[-1], events.ComputationFinished):
        return  # what is suspended keeps it
    made = {e.allocation_id for e in _of(found, events.AllocationCreated)}
    for allocation_id in sorted((made - released) & books.bank.allocations.keys()):
        yield f"allocation {allocation_id} was never released and still stands"


def unowned_agreements(network: SimulatedNetwork, found: Iterable[events.Event]) -> Iterator[str]:
    """Agreements that stand in the market and that no journal knows of."""
    known = {e.agreement_id for e in _of(list(found), events.AgreementCreated)}
    for agreement in network.books.agreements.values():
        if agreement.state in _STANDING and agreement.id not in known:
            yield f"agreement {agreement.id} stands in the market, and no journal knows of it"


def standing(network: SimulatedNetwork) -> Iterator[str]:
    """Agreements, activities and allocations that stand in the market, whoever made them."""
    books: MemoryMarket = network.books
    for agreement in books.agreements.values():
        if agreement.state in _STANDING:
            yield f"agreement {agreement.id} is {agreement.state.lower()} and nobody has it"
        for activity in agreement.activities:
            if agreement.state in _STANDING and not activity.ended:
                yield f"activity {activity.id} lives and nobody has it"
    for allocation_id in books.bank.allocations:
        yield f"allocation {allocation_id} stands and nobody has it"


# Over the loop ----------------------------------------------------------------------------------


def left_tasks(abandoned: Iterable[asyncio.Task[None]] = ()) -> Iterator[str]:
    """Tasks of this package that run on the loop and belong to nobody any more."""
    allowed = {*abandoned, asyncio.current_task()}
    for task in asyncio.all_tasks():
        if task not in allowed and _is_ours(task):
            yield f"the task {task.get_name()!r} is left: {task.get_coro()!r}"


def unfinished_futures() -> Iterator[str]:
    """Futures of this loop that are not done although a call back waits at them.

    Slow: it looks at every object there is. One at which nothing waits can never wake anybody.
    """
    loop = asyncio.get_running_loop()
    for found in gc.get_objects():
        if not isinstance(found, asyncio.Future) or isinstance(found, asyncio.Task):
            continue
        if found.get_loop() is loop and not found.done() and found._callbacks:  # noqa: SLF001
            yield f"a future is not done, and something waits for it: {found!r}"


def _is_ours(task: asyncio.Task[object]) -> bool:
    code = getattr(task.get_coro(), "cr_code", None)
    path = getattr(code, "co_filename", "").replace("\\", "/")
    return "/requestor_sdk/" in path and "/requestor_sdk/testing/" not in path


def _of(found: Sequence[events.Event], kind: type[E]) -> list[E]:
    return [event for event in found if isinstance(event, kind)]
