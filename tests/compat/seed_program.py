"""The simple service as Golem's handbook writes it; only the imports and the engine are ours."""

# ruff: noqa: UP017
from __future__ import annotations

import asyncio
from datetime import datetime, timedelta, timezone

from requestor_sdk import Compute, Service, vm

NUM_INSTANCES = 2

subnet_tag = None
payment_driver = None
payment_network = None


class SimpleService(Service):
    @staticmethod
    async def get_payload():
        return await vm.repo(
            image_hash="8b11df59f84358d47fc6776d0bb7290b0054c15ded2d6f54cf634488",
            min_mem_gib=0.5,
            min_storage_gib=2.0,
        )

    async def start(self):
        # perform the initialization of the Service
        async for script in super().start():
            yield script
        script = self._ctx.new_script()
        script.run("/golem/run/simulate_observations_ctl.py", "--start")
        yield script

    async def run(self):
        while True:
            await asyncio.sleep(10)
            script = self._ctx.new_script()
            stats_result = script.run("/golem/run/simple_service.py", "--stats")  # idx 0
            yield script
            stats = (await stats_result).stdout.strip()
            print(stats)

    async def shutdown(self):
        script = self._ctx.new_script()
        script.run("/golem/run/simulate_observations_ctl.py", "--stop")
        yield script


async def main(during):
    async with Compute(
        budget=1.0,
        subnet_tag=subnet_tag,
        payment_driver=payment_driver,
        payment_network=payment_network,
    ) as golem:
        cluster = await golem.run_service(
            SimpleService,
            num_instances=NUM_INSTANCES,
            expiration=datetime.now(timezone.utc) + timedelta(minutes=15),
        )
        await during(golem, cluster)
