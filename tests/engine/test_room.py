"""Who waits for room in the budget, and for what."""

import asyncio
from datetime import timedelta
from decimal import Decimal

import pytest
from support.simulation import Simulation

from requestor_sdk.engine.room import RoomLines
from requestor_sdk.model import events
from requestor_sdk.model.ledger import Ledger
from requestor_sdk.model.market import Proposal, ProposalState
from requestor_sdk.model.money import LinearPricing, Terms
from requestor_sdk.testing import SimulatedProvider

D = Decimal
HOURS = timedelta(hours=3)


def fee(amount):
    return Terms(pricing=LinearPricing(fixed=D(amount)))


def offer(amount, provider="0xother"):
    return Proposal(
        id="p",
        demand_id="d",
        provider_id=provider,
        provider_name=provider,
        properties=LinearPricing(fixed=D(amount)).to_properties(),
        state=ProposalState.initial,
    )


class Lines:
    """Lines for a budget of 10, of which 8 are held."""

    def __init__(self):
        self.ledger = Ledger(D(10))
        self.ledger.hold("old", D(8))
        self.room = RoomLines(self.ledger)
        self.looked = []

    def wait(self, amount, *, finds=None, avoid=()):
        def look(own):
            self.looked.append(amount)
            return own if finds is None else fee(finds)

        waiting = self.room.wait("c", fee(amount), lambda: 60.0, look=look, avoid=frozenset(avoid))
        return asyncio.create_task(waiting)


@pytest.fixture
async def lines():
    made = Lines()
    yield made
    assert len(made.room) == 0


async def moment():
    await asyncio.sleep(0.01)


async def gone(*waiting):
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)


async def test_who_is_first_looks_once_for_what_is_cheaper_and_the_others_do_not(lines):
    first, second = lines.wait(5), lines.wait(6)
    await moment()
    lines.room.made()
    lines.room.made()
    assert lines.looked == [5]
    assert not first.done()
    await gone(first)
    lines.room.made()
    assert lines.looked == [5, 6]
    await gone(second)


async def test_what_is_cheaper_and_fits_wakes_the_first_at_once(lines):
    first = lines.wait(5, finds=2)
    await moment()
    assert first.done()


async def test_who_looked_waits_for_as_little_as_it_found(lines):
    first = lines.wait(5, finds=3)
    await moment()
    assert not first.done()
    lines.ledger.end("old", D(7))
    lines.room.made()
    await moment()
    assert first.done()


async def test_an_offer_that_comes_later_and_fits_wakes_the_first_only_if_it_takes_it(lines):
    first = lines.wait(5, avoid=["0xbad"])
    second = lines.wait(6)
    await moment()
    lines.room.offered("c", offer(1, "0xbad"))
    lines.room.offered("c", offer(4))
    lines.room.offered("another", offer(1))
    await moment()
    assert not first.done()
    lines.room.offered("c", offer(2))
    await moment()
    assert (first.done(), second.done()) == (True, False)
    await gone(second)


async def test_who_comes_to_the_front_because_another_left_looks_a_moment_later(lines):
    first, second = lines.wait(5), lines.wait(6, finds=1)
    await moment()
    await gone(first)
    await asyncio.wait_for(second, 11)


async def test_room_that_nobody_took_who_was_woken_for_it_goes_to_the_next(lines):
    first, second = lines.wait(5, finds=2), lines.wait(6)
    third = lines.wait(2)
    await moment()
    assert first.done()  # and holds nothing
    await gone(second)
    await asyncio.wait_for(third, 11)


# In a run -----------------------------------------------------------------------------------------


def provider(name, by_second, start_fee=0, **options):
    pricing = LinearPricing(coeffs=(D(by_second), D(0)), fixed=D(start_fee))
    return SimulatedProvider(name=name, pricing=pricing, **options)


@pytest.mark.parametrize("kept", [1, 3])
async def test_who_has_no_room_for_the_best_draft_takes_a_cheaper_one_that_fits(kept, now):
    # Over three hours "fee" costs less; for the hour that the strategy expects it is dearer.
    sim = Simulation([provider("rate", "0.0003"), provider("fee", "0.00001", "0.5")])
    budget = D("3.25") + D("0.62") * kept
    async with sim.running(num=2 + kept, budget=budget, expiration=HOURS) as cluster:
        now()
        await cluster.wait("running", count=1 + kept)
        assert now() < 30
        names = [e.provider_name for e in sim.of(events.AgreementCreated)]
        assert sorted(names) == [*["fee"] * kept, "rate"]
        await asyncio.sleep(600)
        assert len([i for i in cluster.instances if i.state == "pending"]) == 1
        assert len(sim.of(events.BudgetExhausted)) <= 3 * (1 + kept)
        cluster.stop()


@pytest.mark.parametrize("stopped_after", [None, 3])
async def test_a_cheaper_draft_that_comes_slowly_is_taken_unless_who_waits_is_stopped(
    stopped_after, now
):
    slow = provider("fee", "0.00001", "0.5", latency=5.0)
    sim = Simulation([provider("rate", "0.0003"), slow])
    async with sim.running(num=2, budget=4, expiration=HOURS) as cluster:
        now()
        await cluster.wait("running", count=1)
        (waiting,) = (i for i in cluster.instances if i.state == "pending")
        if stopped_after is None:
            await cluster.wait("running", count=2)
            assert now() < 30
        else:
            await asyncio.sleep(stopped_after)
            assert {e.provider_name for e in sim.of(events.ProposalReceived)} == {"rate", "fee"}
            await cluster.stop_instance(waiting)
            await asyncio.sleep(60)
            assert len(sim.of(events.AgreementCreated)) == 1
        cluster.stop()
