"""The deadlines of a simulated provider's agreements, and the order in which it acts."""

import asyncio
from datetime import timedelta

import pytest

from requestor_sdk.model.market import ActivityState, Demand, EndReason
from requestor_sdk.model.props import EXPIRATION
from requestor_sdk.networks.simulated import SimulatedNetwork, SimulatedProvider
from requestor_sdk.networks.simulated._deadlines import Deadlines


def seconds():
    return asyncio.get_running_loop().time()


class Market:
    """A simulated market with one provider, and the requestor's way to an agreement."""

    def __init__(self, **config):
        self.network = SimulatedNetwork(
            [SimulatedProvider(name="amber", debit_note_sec=10.0, idle_sec=60.0, **config)], seed=1
        )

    async def __aenter__(self):
        await self.network.open()
        return self

    async def __aexit__(self, *_):
        await self.network.end()

    async def agreement(self, lifetime=3600.0):
        """Make an agreement; its expiry counts from now."""
        port, now = self.network.market, self.network.clock.now()
        until = now + timedelta(seconds=lifetime)
        demand = Demand(properties={EXPIRATION: int(until.timestamp() * 1000)})
        demand_id = await port.subscribe(demand)
        offers = await port.collect(demand_id)
        await port.counter(offers[0], demand)
        draft = (await port.collect(demand_id))[-1]
        agreement_id = await port.create_agreement(draft, valid_to=now + timedelta(seconds=10))
        await port.confirm(agreement_id)
        approval = await port.wait_approval(agreement_id, timeout=5)
        assert approval.approved, approval.reason
        return agreement_id

    async def end(self):
        """Wait until the provider ends an agreement; returns the code of its reason."""
        (ended,) = await self.network.market.agreement_events()
        return ended.reason.code


async def test_an_agreement_without_activity_ends_when_it_was_idle_for_too_long():
    async with Market() as market:
        began = seconds()
        await market.agreement()
        assert await market.end() == "NoActivity"
        assert seconds() - began == pytest.approx(60)


async def test_idle_time_counts_from_the_end_of_the_last_activity():
    async with Market() as market:
        began = seconds()
        activity_id = await market.network.activities.create(await market.agreement())
        await asyncio.sleep(100)
        await market.network.activities.destroy(activity_id)
        assert await market.end() == "NoActivity"
        assert seconds() - began == pytest.approx(160)


async def test_an_agreement_expires_with_its_activity_at_the_time_that_the_demand_named():
    async with Market() as market:
        began = seconds()
        activity_id = await market.network.activities.create(await market.agreement(lifetime=35))
        assert await market.end() == "Expired"
        assert seconds() - began == pytest.approx(35)
        assert await market.network.activities.state(activity_id) is ActivityState.terminated


async def test_a_debit_note_comes_each_interval_and_one_at_the_end():
    async with Market() as market:
        agreement_id = await market.agreement()
        began = seconds()
        activity_id = await market.network.activities.create(agreement_id)
        came = []

        async def read():
            while True:
                for note in await market.network.payments.payment_events():
                    came.append((round(seconds() - began, 3), note.activity_id))

        reader = asyncio.ensure_future(read())
        await asyncio.sleep(25)
        await market.network.activities.destroy(activity_id)
        await asyncio.sleep(30)
        reader.cancel()
        assert came == [(at, activity_id) for at in (10, 20, 25)]


async def test_an_agreement_that_ended_early_leaves_the_others_deadlines_alone():
    async with Market() as market:
        began = seconds()
        first = await market.agreement()
        await asyncio.sleep(20)
        await market.agreement()
        await market.network.market.terminate(first, EndReason(message="enough"))
        assert await market.end() == "NoActivity"
        assert seconds() - began == pytest.approx(80)


@pytest.mark.parametrize("latency", [0.0, 0.5, (0.0, 3.0)])
async def test_what_is_asked_is_acted_on_in_order_whatever_the_latency(latency):
    async with Market(latency=latency) as market:
        network = market.network
        activity_id = await network.activities.create(await market.agreement())
        seen = []

        async def batch(number):
            async def on_event(event):
                seen.append(number)

            await network.activities.execute(activity_id, (), on_event)
            seen.append(number)

        async with asyncio.TaskGroup() as group:
            for number in range(20):
                group.create_task(batch(number))
        assert seen == list(range(20))


async def test_each_thing_that_is_asked_takes_the_latency():
    async with Market(latency=0.5) as market:
        began = seconds()
        await market.network.activities.create(await market.agreement())
        assert seconds() - began == pytest.approx(1.5)  # the demand, the agreement, the activity


async def test_deadlines_are_called_in_the_order_in_which_they_are_due():
    calls, began = [], seconds()
    deadlines = Deadlines(lambda name, now: calls.append((name, now - began)))
    for due, name in ((30, "c"), (10, "a"), (20, "b"), (20, "a")):
        deadlines.set(began + due, name)
    await asyncio.sleep(25)
    assert calls == [("a", 10), ("a", 20), ("b", 20)]
    deadlines.clear()
    await asyncio.sleep(25)
    assert len(calls) == 3


async def test_a_deadline_can_be_set_while_another_is_called():
    calls = []

    def ring(name, now):
        calls.append(name)
        if name == "first":
            deadlines.set(now + 5, "second")

    deadlines = Deadlines(ring)
    deadlines.set(seconds() + 5, "first")
    await asyncio.sleep(11)
    assert calls == ["first", "second"]
