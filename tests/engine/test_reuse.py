"""One agreement for several attempts of an instance, where its provider allows that."""

import asyncio
import dataclasses
from datetime import timedelta
from decimal import Decimal

import pytest
from support.services import Simple
from support.world import World, one_provider

from requestor_sdk import LinearPricing, RestartPolicy, Settings
from requestor_sdk.model import events
from requestor_sdk.model.market import EndReason
from requestor_sdk.model.props import MULTI_ACTIVITY

HALF_HOUR = timedelta(minutes=30)
ALWAYS = RestartPolicy(when="always", backoff=timedelta(seconds=1))
LONG_PAUSE = RestartPolicy(
    when="always", backoff=timedelta(seconds=30), avoid_failed_provider=False
)


class Short(Simple):
    """Runs for a while, again and again."""

    async def run(self):
        script = self.ctx.new_script()
        script.run("sleep", "20")
        yield script


class FailingRun(Short):
    async def run(self):
        async for script in super().run():
            yield script
        raise ValueError("no good")


@pytest.fixture
def world():
    return World(providers=2)


async def test_an_instance_that_is_tried_again_has_its_next_activity_in_the_same_agreement(world):
    async with world.running(Short, restart=ALWAYS):
        await asyncio.sleep(100)
    assert len(world.of(events.AgreementConfirmed)) == 1
    assert len(world.of(events.AgreementTerminated)) == 1
    created = world.of(events.ActivityCreated)
    assert len(created) == 5
    assert len({e.activity_id for e in created}) == 5
    assert len({e.agreement_id for e in created}) == 1
    assert len(world.of(events.ActivityEnded)) == 5


async def test_all_activities_of_an_agreement_are_paid_by_its_one_invoice():
    pricing = LinearPricing(coeffs=(Decimal("0.001"), Decimal(0)), fixed=Decimal("0.5"))
    world = World(one_provider(pricing=pricing))
    async with world.compute(100) as compute:
        cluster = await compute.run_service(Short, restart=ALWAYS, expiration=HALF_HOUR)
        await asyncio.sleep(100)
        await cluster.stop()
        (invoice,) = [await _next(world, events.InvoiceAccepted)]
        # Five start fees, and the seconds of five activities.
        assert Decimal("2.5") + Decimal("0.09") < invoice.amount < Decimal("2.5") + Decimal("0.11")
        assert compute.budget.spent == invoice.amount
    assert world.of(events.InvoiceRejected) == []
    assert world.of(events.DebitNoteRejected) == []
    world.check(compute)


async def test_an_activity_that_is_over_costs_no_more_while_later_ones_of_its_agreement_go_on():
    pricing = LinearPricing(coeffs=(Decimal("0.001"), Decimal(0)), fixed=Decimal(0))
    world = World(one_provider(pricing=pricing))
    payable = []

    def watch(event):
        world.events.append(event)
        if isinstance(event, events.AgreementTerminated):
            payable.append(compute.budget.payable)

    async with world.compute(100, event_consumer=watch) as compute:
        cluster = await compute.run_service(Short, restart=ALWAYS, expiration=timedelta(minutes=30))
        await asyncio.sleep(100)
        await cluster.stop()
    assert len(world.of(events.ActivityCreated)) == 5
    # The seconds of each are noted at its end; what is left is by how much clocks may differ.
    assert Decimal(0) < payable[0] < Decimal("0.05")
    world.check(compute)


async def _next(world, kind):
    while not world.of(kind):
        await asyncio.sleep(0.1)
    return world.of(kind)[-1]


async def test_what_is_held_grows_with_each_activity_and_stays_within_the_budget():
    """d18: earlier work is paid also where a later activity of the agreement fails."""
    pricing = LinearPricing(coeffs=(Decimal("0.0001"), Decimal(0)), fixed=Decimal("0.5"))
    world = World(one_provider(pricing=pricing))
    async with world.compute("1.4") as compute:
        cluster = await compute.run_service(Short, restart=ALWAYS, expiration=HALF_HOUR)
        await asyncio.sleep(200)
        assert compute.budget.held + compute.budget.payable + compute.budget.spent <= Decimal("1.4")
        await cluster.stop()
    # Two start fees fit in; a third does not, and neither does another agreement.
    assert len(world.of(events.ActivityCreated)) == 2
    assert len(world.of(events.AgreementConfirmed)) == 1
    assert len(world.of(events.InvoiceAccepted)) == 1
    assert world.of(events.InvoiceAccepted)[0].amount > 1
    world.check(compute)


async def test_a_stop_just_before_the_next_activity_is_asked_for_ends_the_agreement(world):
    loop = asyncio.get_running_loop()

    class Stopped(Short):
        async def reset(self):
            (restart,) = world.of(events.ServiceRestarting)
            stop = self.cluster.stop
            # In the turn of the loop in which the pause is over, and after what follows it.
            loop.call_soon(loop.call_later, restart.after_sec, loop.call_soon, stop)

    async with world.running(Stopped, restart=ALWAYS) as cluster:
        await cluster.wait("terminated")
        await asyncio.sleep(10)
        assert len(world.of(events.ActivityRequested)) == 1
        assert len(world.of(events.AgreementTerminated)) == 1


async def test_a_provider_that_allows_one_activity_only_is_asked_for_another_agreement():
    world = World(one_provider(properties={MULTI_ACTIVITY: False}))
    async with world.running(Short, restart=ALWAYS):
        await asyncio.sleep(50)
    assert len(world.of(events.AgreementConfirmed)) == len(world.of(events.ActivityCreated)) == 3


async def test_an_attempt_that_failed_has_its_next_one_elsewhere(world):
    async with world.running(FailingRun, restart=ALWAYS):
        await asyncio.sleep(30)
    confirmed = world.of(events.AgreementConfirmed)
    assert len(confirmed) == 2
    assert len({e.provider_id for e in confirmed}) == 2


async def test_a_lost_activity_is_not_followed_by_another_one_there(world):
    async with world.running(Short, restart=ALWAYS) as cluster:
        world.kill(cluster.instances[0])
        await asyncio.sleep(5)
    assert len(world.of(events.AgreementConfirmed)) == 2


async def test_failures_that_are_not_avoided_may_have_the_same_agreement_again(world):
    policy = dataclasses.replace(ALWAYS, avoid_failed_provider=False)
    async with world.running(FailingRun, restart=policy):
        await asyncio.sleep(30)
    assert len(world.of(events.AgreementConfirmed)) == 1
    assert len(world.of(events.ActivityCreated)) == 2


async def test_a_stop_in_the_pause_between_two_activities_ends_the_agreement(world):
    class Failing(Short):
        async def start(self):
            async for script in super().start():
                yield script
            raise ValueError("no good")

    async with world.compute() as compute:
        cluster = await compute.run_service(Failing, restart=LONG_PAUSE, expiration=HALF_HOUR)
        await asyncio.sleep(10)
        assert cluster.instances[0].state == "pending"
        assert world.of(events.AgreementTerminated) == []
        await cluster.stop()
        assert len(world.of(events.AgreementTerminated)) == 1
    world.check(compute)


async def test_an_agreement_that_its_provider_ends_in_the_pause_is_replaced(world):
    class Failing(Short):
        async def start(self):
            async for script in super().start():
                yield script
            if len(world.of(events.ActivityCreated)) == 1:
                raise ValueError("no good")

    async with world.compute() as compute:
        cluster = await compute.run_service(Failing, restart=LONG_PAUSE, expiration=HALF_HOUR)
        await asyncio.sleep(10)
        (agent,) = [agent for agent in world.network.agents if agent.agreements]
        await agent._transport.terminate(agent.agreements[0], EndReason(message="enough"))
        await cluster.wait("running")
        assert len(world.of(events.AgreementConfirmed)) == 2
    world.check(compute)


async def test_an_agreement_near_its_end_gets_no_further_activity(world):
    settings = Settings(shutdown_timeout=10, stop_grace=5)
    async with world.running(
        Short, restart=ALWAYS, hold_for=timedelta(seconds=70), settings=settings
    ):
        await asyncio.sleep(200)
    by_agreement = {}
    for created in world.of(events.ActivityCreated):
        by_agreement.setdefault(created.agreement_id, []).append(created)
    assert len(by_agreement) > 2
    assert max(len(found) for found in by_agreement.values()) == 2
