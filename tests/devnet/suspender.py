"""A program that starts two instances, suspends them and leaves. Argument: its journal's path.

Prints the run's id and the ids of the agreements that it leaves.
"""

from __future__ import annotations

import asyncio
import sys

from requestor_sdk import Compute, Service
from requestor_sdk.payload import VmPayload


class Keeper(Service):
    @staticmethod
    async def get_payload():
        return VmPayload(min_mem_gib=0.1, min_storage_gib=0.1)

    async def start(self):
        async for script in super().start():
            yield script
        script = self.ctx.new_script()
        script.shell("echo kept > /tmp/kept")
        yield script


async def main(journal: str) -> None:
    async with Compute(budget=1, network="golem", journal=journal) as compute:
        cluster = await compute.run_service(Keeper, num_instances=2)
        await cluster.wait("running")
        await cluster.suspend()
        print(compute.run_id, *compute.open_ids()["agreements"])


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
