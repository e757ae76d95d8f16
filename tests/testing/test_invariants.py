"""Each invariant, found broken in a journal or in a market's books that break it."""

import asyncio
from datetime import timedelta
from decimal import Decimal

import pytest
from networks.repeated_run import scenario
from support.services import Simple
from support.simulation import Simulation
from testing.histories import AT, confirmed, created, moves, paid

from requestor_sdk import Compute
from requestor_sdk.model import events
from requestor_sdk.testing import InvariantBroken, SimulatedNetwork, check_invariants, story_of
from requestor_sdk.testing.invariants import (
    accepted_of,
    broken_run,
    check_network,
    left_tasks,
    unfinished_futures,
)

UP = [
    ("pending", "starting", "ready"),
    ("starting", "running", "start done"),
]
DOWN = [("running", "stopping", "stop"), ("stopping", "terminated", "shutdown over")]
ALLOCATED = events.AllocationCreated(at=AT, allocation_id="n", amount=Decimal(1))
FINISHED = events.ComputationFinished(at=AT, run_id="r", spent=Decimal(0))


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (moves(UP[0], ("running", "stopping", "stop")), "was starting and then came from running"),
        (moves(UP[1], *DOWN), "i-1 began as starting, not as pending"),
        (moves(("pending", "running", "start done")), "which the table does not allow"),
        (moves(*UP, ("running", "pending", "stop")), "which the table does not allow"),
        (moves(("starting", "running", "ready")), "without a start that succeeded"),
        (
            moves(*UP, DOWN[0], ("stopping", "pending", "shutdown over")),
            "went to pending after a stop",
        ),
        (
            moves(*UP, ("running", "stopping", "run done"), ("running", "stopping", "stop")),
            "shutdown() would run twice",
        ),
        ([*moves(*UP, *DOWN), created()], "agreement a was signed for i-1 after its stop"),
        ([confirmed()], "agreement a was confirmed and never created"),
        ([paid(), paid(invoice="m")], "two invoices of agreement a were accepted"),
    ],
)
def test_what_breaks_a_run_at_any_moment_is_told(found, told):
    assert any(told in text for text in broken_run(found, finished=False))


@pytest.mark.parametrize(
    ("found", "told"),
    [
        ([created(), confirmed(), FINISHED], "agreement a was confirmed and never ended"),
        ([*moves(*UP), FINISHED], "i-1 ended as running"),
        ([ALLOCATED, created()], "the journal has no end"),
        (
            [
                events.ActivityCreated(
                    at=AT, instance_id="i-1", activity_id="x", agreement_id="a", provider_id="p"
                ),
                FINISHED,
            ],
            "neither paid nor recorded as left over",
        ),
    ],
)
def test_what_is_missing_at_the_end_of_a_run_is_told(found, told):
    assert any(told in text for text in broken_run(found, finished=True))
    assert list(broken_run(found, finished=False)) == []


def test_a_good_life_breaks_nothing():
    assert list(broken_run(moves(*UP, *DOWN), finished=False)) == []
    back = [("running", "unresponsive", "silent"), ("unresponsive", "running", "answers")]
    assert list(broken_run(moves(*UP, *back, *DOWN), finished=False)) == []
    again = [("running", "pending", "lost"), (*UP[0], 2), (*UP[1], 2)]
    assert list(broken_run(moves(*UP, *again), finished=False)) == []


def test_what_was_accepted_counts_each_activity_once_and_the_invoice_over_all():
    def noted(note, activity, total):
        about = {"at": AT, "note_id": note, "agreement_id": "a", "total": Decimal(total)}
        return [
            events.DebitNoteReceived(**about, activity_id=activity),
            events.DebitNoteAccepted(**about),
        ]

    found = [*noted("1", "x", 2), *noted("2", "x", 3), *noted("3", "y", 4)]
    assert accepted_of(found) == {"a": 7}
    assert accepted_of([*found, paid(amount=6)]) == {"a": 7}
    assert accepted_of([*found, paid(amount=8)]) == {"a": 8}


async def ended_run():
    sim = Simulation(2)
    async with sim.running(Simple) as cluster:
        await cluster.wait("running")
        await asyncio.sleep(60)
    return sim


@pytest.mark.parametrize("change", [Decimal("0.1"), Decimal("-0.00001")])
async def test_a_bank_that_paid_something_else_than_was_accepted_is_found_out(change):
    sim = await ended_run()
    (account,) = sim.network.books.bank.accounts.values()
    account.paid += change
    with pytest.raises(InvariantBroken, match=r"\(seed 0\)") as raised:
        check_invariants(sim.compute)
    assert "was paid" in raised.value.broken[0]
    assert raised.value.story == tuple(story_of(sim.network))


def test_proposals_do_not_crowd_out_the_rest_of_a_story():
    network = SimulatedNetwork(1)
    journal = network.new_run().journal
    for event in moves(*UP):
        journal.append(event)
    for number in range(50):
        journal.append(
            events.ProposalReceived(
                at=AT,
                proposal_id=f"o-{number}",
                provider_id="p",
                provider_name="amber",
                cluster_id="c",
            )
        )
    story = story_of(network)
    assert len(story) == 30
    assert sum("ServiceStateChanged" in line for line in story) == 2


async def test_an_agreement_that_stands_after_its_end_or_without_a_journal_is_found_out():
    sim = await ended_run()
    (agreement,) = sim.network.books.agreements.values()
    agreement.state = type(agreement.state)("Approved")
    with pytest.raises(InvariantBroken, match="is approved after its end"):
        check_invariants(sim.compute)
    sim.network.journals[sim.compute.run_id]._events.clear()
    with pytest.raises(InvariantBroken, match="no journal knows of it"):
        check_network(sim.network)


async def test_an_allocation_that_is_never_released_and_never_said_to_be_is_found_out():
    sim = await ended_run()
    journal = sim.network.journals[sim.compute.run_id]
    allocated = next(e for e in journal.read() if isinstance(e, events.AllocationCreated))
    journal._events = [e for e in journal.read() if not isinstance(e, events.AllocationReleased)]
    check_invariants(sim.compute)
    sim.network.books.bank.allocations[allocated.allocation_id] = Decimal(1)
    with pytest.raises(InvariantBroken, match="was never released and still stands"):
        check_invariants(sim.compute)
    with pytest.raises(InvariantBroken, match="was never released and still stands"):
        check_network(sim.network)


async def test_a_ledger_above_its_budget_is_found_out():
    sim = await ended_run()
    sim.compute._engine.core.ledger._whole.held += 1000
    with pytest.raises(InvariantBroken, match="above the budget"):
        check_invariants(sim.compute)


async def test_a_task_of_the_package_that_nobody_owns_is_found_out():
    compute = Compute(budget=1, network=SimulatedNetwork(1))
    await compute.start()
    names = {text.split("'")[1] for text in left_tasks()}
    assert {"payments", "health"} <= names
    with pytest.raises(InvariantBroken, match="is left"):
        check_invariants(compute)
    await compute.stop()
    check_invariants(compute)


async def test_a_run_that_goes_on_is_checked_for_what_holds_at_every_moment():
    sim = Simulation(2)
    async with sim.running(Simple, expiration=timedelta(hours=1)) as cluster:
        await cluster.wait("running")
        check_invariants(sim.compute, finished=False)
        check_network(sim.network)
        with pytest.raises(InvariantBroken, match="still holds money"):
            check_invariants(sim.compute)
        sim.compute._engine.core.ledger._whole.held += 1000
        with pytest.raises(InvariantBroken, match="above the budget"):
            check_invariants(sim.compute, finished=False)
        sim.compute._engine.core.ledger._whole.held -= 1000


async def test_a_future_that_something_waits_for_is_found_out():
    future = asyncio.get_running_loop().create_future()
    assert list(unfinished_futures()) == []
    waiting = asyncio.create_task(asyncio.wait_for(future, 60))
    await asyncio.sleep(0)
    assert any("something waits for it" in text for text in unfinished_futures())
    future.set_result(None)
    await waiting


@pytest.mark.parametrize("seed", range(3))
async def test_a_run_under_storm_leaves_no_future_that_something_waits_for(seed):
    await scenario(seed, "storm", run=200)
    assert list(unfinished_futures()) == []
    assert list(left_tasks()) == []
