"""A week of a cluster of a hundred instances, in virtual time."""

import asyncio
from datetime import timedelta

from support.services import Simple
from support.simulation import Simulation

from requestor_sdk import RestartPolicy, Settings
from requestor_sdk.model import events
from requestor_sdk.networks.simulated import simulated_providers


async def test_a_week_of_a_hundred_instances_ends_in_order_and_every_hour_is_paid():
    sim = Simulation(simulated_providers(20, debit_note_sec=3600), latency=(0.02, 0.5))
    week = timedelta(days=7)
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with sim.running(
        num=100,
        budget=1_000_000,
        settings=Settings(),
        expiration=week + timedelta(hours=1),
        restart=RestartPolicy(when="always"),
    ) as cluster:
        await cluster.wait("running", count=100)
        for day in range(7):
            sim.network.crash_provider(sim.network.providers[day].name, back_after=60)
            await asyncio.sleep(24 * 3600)
            await cluster.wait("running", count=100)
        busy = len(asyncio.all_tasks())
    assert 0 <= loop.time() - began - week.total_seconds() < 60
    # Of 100 instances each has a note an hour, for 168 hours.
    notes = len(sim.of(events.DebitNoteAccepted))
    assert 16_500 <= notes <= 17_200
    assert not sim.of(events.DebitNoteRejected)
    assert 17_000 * 2 < len(sim.events) < 60_000
    assert sim.paid == sim.compute.budget.spent
    # What runs at the end is what ran at the beginning: an instance is a handler and a search.
    assert busy < 250


async def test_nothing_grows_with_the_time_that_a_cluster_runs():
    class Restless(Simple):
        async def run(self):
            while True:
                script = self.ctx.new_script()
                script.run("tick")
                yield script
                await asyncio.sleep(60)

    def held(sim):
        market = sim.network.books
        core = sim.compute._engine.core
        return {
            "tasks": len(asyncio.all_tasks()),
            "offers": len(market.book.offers),
            "steps": len(market.book.steps),
            "deals": sum(len(agent.deals) for agent in sim.network.providers),
            "batches": sum(len(a.batches) for a in market.activities.values()),
            "timers": len(asyncio.get_running_loop()._scheduled) // 50,
            "held": len(core.ledger.open_agreements()),
        }

    sim = Simulation(4)
    options = {"num": 10, "budget": 10_000, "expiration": timedelta(days=3)}
    async with sim.running(Restless, **options) as cluster:
        await cluster.wait("running", count=10)
        await asyncio.sleep(3600)
        before = held(sim)
        await asyncio.sleep(24 * 3600)
        assert held(sim) == before
