"""Strategies in a run: they learn from its events, and what is kept is judged again."""

import asyncio
from collections import Counter
from datetime import timedelta

import pytest
from support.services import Simple
from support.world import World

from requestor_sdk import RestartPolicy
from requestor_sdk.model import events
from requestor_sdk.model.errors import UsageError
from requestor_sdk.strategy import (
    BlockList,
    LeastExpensiveLinearPayuMS,
    MarketStrategy,
    PenaliseFailures,
)

ON_FAILURE = RestartPolicy(when="on-failure")


@pytest.fixture
def world():
    return World()


async def test_a_provider_that_fails_is_banned_while_the_run_goes_on(world):
    strategy = PenaliseFailures(LeastExpensiveLinearPayuMS(), ban_at=1)
    async with world.compute(strategy=strategy) as compute:
        cluster = await compute.run_service(Simple, restart=ON_FAILURE)
        await cluster.wait("running")
        (instance,) = cluster.instances
        bad = instance.provider_name
        world.kill(instance)
        await cluster.wait("pending")
        cluster.spawn_instances(3)  # these have no quarrel with it of their own
        await cluster.wait("running", count=4)
        assert bad not in [each.provider_name for each in cluster.instances]
        reasons = [e.reason for e in world.of(events.ProposalRejected)]
        assert any("failed too often" in reason for reason in reasons)
    world.check(compute)


async def test_a_provider_blocked_by_hand_is_taken_no_more_after_a_rescore(world):
    strategy = BlockList(LeastExpensiveLinearPayuMS())
    async with world.compute(strategy=strategy) as compute:
        cluster = await compute.run_service(Simple)
        await cluster.wait("running")
        taken = {cluster.instances[0].provider_name}
        names = {e.provider_name for e in world.of(events.ProposalReceived)}
        for name in sorted(names - taken)[1:]:
            strategy.block(name)
        await cluster.rescore()
        cluster.spawn_instances(1)
        await cluster.wait("running", count=2)
        assert cluster.instances[1].provider_name in taken | {min(names - taken)}
    world.check(compute)


class Noting(MarketStrategy):
    def __init__(self, error=None):
        self.seen = []
        self.error = error

    def on_event(self, event):
        self.seen.append(event)
        if self.error is not None:
            raise self.error
        return False


async def test_a_strategy_of_two_clusters_learns_of_each_event_once(world):
    strategy = Noting()
    async with world.compute(strategy=strategy) as compute:
        for _ in range(2):
            cluster = await compute.run_service(Simple)
            await cluster.wait("running")
    running = [
        e for e in strategy.seen if isinstance(e, events.ServiceStateChanged) and e.new == "running"
    ]
    assert len(running) == 2
    world.check(compute)


async def test_what_a_strategy_raises_while_it_learns_is_logged_and_ends_nothing(world, caplog):
    strategy = Noting(ValueError("mine"))
    async with world.compute(strategy=strategy) as compute:
        cluster = await compute.run_service(Simple)
        await asyncio.wait_for(cluster.wait("running"), 30)
    assert "on_event() of Noting failed" in caplog.text
    world.check(compute)


async def test_a_strategy_whose_scores_always_change_still_lets_instances_run(world):
    class Restless(MarketStrategy):
        def __init__(self):
            self.asked = Counter()

        async def score_offer(self, offer):
            self.asked[offer.id] += 1
            return float(self.asked.total())

        def on_event(self, event):
            return True

    strategy = Restless()
    async with world.compute(strategy=strategy) as compute:
        cluster = await compute.run_service(Simple, num_instances=2)
        assert len(await asyncio.wait_for(cluster.wait("running"), 60)) == 2
    assert max(strategy.asked.values()) > 2  # the same offer, again and again
    world.check(compute)


@pytest.mark.parametrize("strategy", [LeastExpensiveLinearPayuMS, 3, "cheap"])
async def test_what_is_no_strategy_is_refused_at_once(world, strategy):
    with pytest.raises(UsageError, match="strategy must be"):
        world.compute(strategy=strategy)
    async with world.compute() as compute:
        with pytest.raises(UsageError, match="strategy must be"):
            await compute.run_service(Simple, strategy=strategy)


async def test_offers_are_collected_for_as_long_as_the_cluster_says(world):
    async with world.compute() as compute:
        began = asyncio.get_running_loop().time()
        cluster = await compute.run_service(Simple, collect_offers=timedelta(seconds=20))
        await cluster.wait("running")
        assert asyncio.get_running_loop().time() - began >= 20
    world.check(compute)
