"""A program for the older SDK, yapapi 0.13, that prints how long many idle instances take.

From nothing to the last one running, in seconds. Runs in yapapi's own environment.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from datetime import UTC, datetime, timedelta

from yapapi import Golem
from yapapi.payload import vm
from yapapi.services import Service, ServiceState

PATIENCE_SEC = 180


class Idle(Service):
    """Deploys, starts, and waits."""

    @staticmethod
    async def get_payload():
        return await vm.repo(
            image_hash=os.environ["PEERS_IMAGE_HASH"],
            image_url=os.environ["PEERS_IMAGE_URL"],
            min_mem_gib=0.05,
            min_storage_gib=0.05,
        )

    async def run(self):
        await asyncio.get_running_loop().create_future()
        yield


async def main(count):
    began = time.perf_counter()
    async with Golem(
        budget=10.0,
        subnet_tag=os.environ["YAGNA_SUBNET"],
        payment_driver=os.environ["YAGNA_PAYMENT_DRIVER"],
        payment_network=os.environ["YAGNA_PAYMENT_NETWORK"],
    ) as golem:
        expiration = datetime.now(UTC) + timedelta(minutes=20)
        cluster = await golem.run_service(Idle, num_instances=count, expiration=expiration)

        async def running():
            while sum(one.state == ServiceState.running for one in cluster.instances) < count:
                await asyncio.sleep(0.01)

        await asyncio.wait_for(running(), PATIENCE_SEC)
        print(f"SECONDS {time.perf_counter() - began:.3f}", flush=True)
        cluster.stop()
        while any(one.is_available for one in cluster.instances):
            await asyncio.sleep(0.1)


asyncio.run(main(int(sys.argv[1])))
