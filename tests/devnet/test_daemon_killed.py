"""The daemon dies by SIGKILL under ten instances and comes back: the run goes on, and pays once."""

from __future__ import annotations

import asyncio

import pytest
from support.books import books

from requestor_sdk import Compute, GolemNetwork, Service, events
from requestor_sdk.payload import VmPayload

MANY = 10


class Counter(Service):
    """Counts the commands that came back."""

    beats = 0

    @staticmethod
    async def get_payload():
        return VmPayload(min_mem_gib=0.1, min_storage_gib=0.1)

    async def run(self):
        while True:
            script = self.ctx.new_script()
            done = script.run("/bin/echo", "beat")
            yield script
            await done
            self.beats += 1
            await asyncio.sleep(0.2)


async def _until(holds, seconds: float = 40.0) -> None:
    async with asyncio.timeout(seconds):
        while not holds():
            await asyncio.sleep(0.1)


@pytest.mark.devnet(providers=4)
@pytest.mark.timeout(180)
async def test_a_run_of_ten_instances_outlives_the_death_of_the_daemon(devnet):
    seen: list[events.Event] = []
    network = GolemNetwork(devnet.config)
    async with (
        books(devnet.config) as before,
        Compute(budget=10, network=network, event_consumer=seen.append) as compute,
    ):
        paid_before = (await before.page()).total
        cluster = await compute.run_service(Counter, num_instances=MANY)
        await cluster.wait("running", count=MANY)
        await _until(lambda: all(s.beats > 0 for s in cluster.instances))

        await devnet.daemon.kill()
        await asyncio.sleep(1.0)
        await devnet.daemon.start()

        counted = {s.id: s.beats for s in cluster.instances}
        await _until(
            lambda: (
                sum(
                    s.state == "running" and s.beats > counted.get(s.id, 0)
                    for s in cluster.instances
                )
                >= MANY
            )
        )
        await cluster.stop()
    spent = compute.budget.spent
    assert spent > 0
    async with books(devnet.config) as after:
        page = await after.page()
    assert page.living == {}
    assert page.allocations == ()
    assert page.unanswered == ()
    assert all(count == 1 for count in page.invoices.values())
    assert page.total - paid_before == spent
