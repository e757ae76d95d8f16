"""The run's allocation at a network that answers badly: one is used, and none stays reserved."""

import asyncio
from datetime import timedelta

import pytest
from support.simulation import QUICK, Simulation

from requestor_sdk import Compute
from requestor_sdk.model import events
from requestor_sdk.model.errors import (
    NetworkError,
    NetworkUnreachable,
    NotSupported,
    PaymentError,
)
from requestor_sdk.model.history import RunHistory
from requestor_sdk.testing import crash


def reserved(sim):
    return sim.network.books.bank.allocations


async def lives(sim, **options):
    """Run one instance for a while."""
    async with sim.running(**options) as cluster:
        await cluster.wait("running")
        await asyncio.sleep(50)


def compute_of(sim):
    sim.compute = Compute(
        budget=10, network=sim.network, settings=QUICK, event_consumer=sim.events.append
    )
    return sim.compute


async def recovered(sim):
    run_id = sim.compute.run_id
    journal = sim.network.journals[run_id]  # what is kept of a dead one takes no more events
    async with Compute.recover(run_id, journal=journal, network=sim.network, settings=QUICK):
        pass
    return RunHistory.of(journal.read(), run_id)


# At the start -------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["error:refused", "error:500", "error:503", "crash_daemon:5"])
async def test_a_moment_in_which_nothing_is_reserved_does_not_fail_the_run(fault):
    sim = Simulation(faults=f"payments.allocate@1={fault}")
    await lives(sim)
    assert [e.loop for e in sim.of(events.LoopRetried)][:1] == ["payments"]
    assert len(sim.of(events.AllocationCreated)) == 1
    assert not reserved(sim)


@pytest.mark.parametrize(
    "fault", ["error:500:after", "error:refused:after", "crash_daemon:5:after"]
)
async def test_an_allocation_whose_answer_was_lost_is_found_by_its_mark_and_used(fault):
    sim = Simulation(faults=f"payments.allocate@1={fault}")
    async with compute_of(sim):
        (name,) = reserved(sim)
        assert [e.allocation_id for e in sim.of(events.AllocationCreated)] == [name]
    assert not reserved(sim)
    assert RunHistory.of(sim.events).state == "settled"


async def test_what_cannot_be_looked_up_at_once_is_not_asked_for_twice():
    sim = Simulation(
        faults="payments.allocate@1=error:500:after; payments.allocations@1=error:refused"
    )
    async with compute_of(sim):
        assert len(reserved(sim)) == 1
    assert not reserved(sim)


async def test_a_network_that_refuses_to_reserve_for_long_fails_the_run_and_nothing_is_left_open():
    sim = Simulation(faults="payments.allocate~1=error:refused")
    began = asyncio.get_running_loop().time()
    with pytest.raises(NetworkUnreachable):
        await compute_of(sim).start()
    took = asyncio.get_running_loop().time() - began
    assert QUICK.release_timeout / 2 < took <= QUICK.release_timeout
    assert len(sim.of(events.AllocationNotMade)) == 1
    assert RunHistory.of(sim.events).state == "settled"


async def test_of_a_network_that_fails_for_long_it_is_left_open_what_was_made():
    sim = Simulation(faults="payments.allocate~1=error:500:after; payments.allocations~1=error:500")
    with pytest.raises(NetworkError):
        await compute_of(sim).start()
    assert len(reserved(sim)) == 1
    assert RunHistory.of(sim.events).state == "left over"
    sim.network.calm()
    assert (await recovered(sim)).state == "settled"
    assert not reserved(sim)


@pytest.mark.parametrize("code", ["400", "401"])
async def test_a_daemon_that_says_no_is_not_asked_again(code):
    sim = Simulation(faults=f"payments.allocate@1=error:{code}")
    with pytest.raises(NetworkError):
        await compute_of(sim).start()
    assert not sim.of(events.LoopRetried)


async def test_missing_funds_are_not_asked_for_again():
    sim = Simulation()
    asked = []

    async def poor(amount):
        asked.append(amount)
        raise PaymentError("there are no such funds")

    compute = compute_of(sim)
    opened = sim.network.open

    async def open_poor(**about):
        await opened(**about)
        sim.network.payments.allocate = poor

    sim.network.open = open_poor
    with pytest.raises(PaymentError):
        await compute.start()
    assert len(asked) == 1


@pytest.mark.parametrize("fault", ["error:refused", "error:500", "error:408", "crash_daemon:5"])
async def test_a_moment_in_which_offers_cannot_be_asked_about_does_not_fail_a_cluster(
    fault,
):
    sim = Simulation(faults=f"market.match_report@1={fault}")
    await lives(sim)
    assert "market" in [e.loop for e in sim.of(events.LoopRetried)]


@pytest.mark.parametrize("fault", ["error:refused", "error:400"])
async def test_a_market_whose_offers_cannot_be_asked_about_at_all_fails_no_cluster(fault, caplog):
    """The report is advice, to refuse at once what nobody offers; its place is not the only one."""
    sim = Simulation(faults=f"market.match_report~1={fault}")
    await lives(sim)
    assert "cannot be asked about" in caplog.text


# At the end ---------------------------------------------------------------------------------------


async def test_a_double_of_the_allocation_is_released_at_the_end_and_no_others():
    sim = Simulation(faults="payments.allocate@1=duplicate")
    bank, now = sim.network.books.bank, sim.network.clock.now
    async with compute_of(sim):
        used, double = list(reserved(sim))
        mine = reserved(sim)[used]
        others = [
            bank.allocate(10, now()),
            bank.allocate(mine.amount, now() - timedelta(minutes=1)),
            bank.allocate(mine.amount, now() + timedelta(hours=1)),
        ]
        others.append(bank.allocate(mine.amount, now()))
        reserved(sim)[others[-1]].spent = 1
    assert list(reserved(sim)) == others
    assert {e.allocation_id for e in sim.of(events.AllocationReleased)} == {used, double}


@pytest.mark.parametrize("failing", ["payments.allocations", "payments.release_allocation"])
async def test_a_double_that_cannot_be_released_in_time_is_released_by_a_recovery(failing):
    sim = Simulation(faults=f"payments.allocate@1=duplicate; {failing}~1=error:500")
    async with compute_of(sim):
        pass
    assert RunHistory.of(sim.events).state == "left over"
    assert reserved(sim)
    sim.network.calm()
    assert (await recovered(sim)).state == "settled"
    assert not reserved(sim)


async def test_the_double_of_a_run_that_died_is_released_by_its_recovery():
    sim = Simulation(faults="payments.allocate@1=duplicate")
    compute = compute_of(sim)
    await compute.start()
    await crash(compute)
    assert len(reserved(sim)) == 2
    assert (await recovered(sim)).state == "settled"
    assert not reserved(sim)


async def test_a_network_that_lists_no_allocations_has_its_own_one_released():
    sim = Simulation()

    async def unlisted():
        raise NotSupported("this network lists none")

    async with compute_of(sim):
        sim.network.payments.allocations = unlisted
    assert not reserved(sim)
    assert RunHistory.of(sim.events).state == "settled"
