"""A program that rents two computers, works a little and leaves; the tests kill it in between.

Arguments: the path of its journal, and for how many seconds it works.
"""

from __future__ import annotations

import asyncio
import sys

from requestor_sdk import Compute, Service
from requestor_sdk.payload import VmPayload


class Worker(Service):
    @staticmethod
    async def get_payload():
        return VmPayload(min_mem_gib=0.1, min_storage_gib=0.1)

    async def run(self):
        while True:
            script = self.ctx.new_script()
            script.run("/bin/echo", "work")
            yield script
            await asyncio.sleep(0.2)


async def main(journal: str, seconds: float) -> None:
    print("begun", flush=True)
    async with Compute(budget=1, network="golem", journal=journal) as compute:
        print("started", flush=True)
        cluster = await compute.run_service(Worker, num_instances=2)
        await cluster.wait("running")
        print("running", flush=True)
        await asyncio.sleep(seconds)
        print("leaving", flush=True)
    print("left", flush=True)


def run() -> None:
    """Do what the arguments say."""
    asyncio.run(main(sys.argv[1], float(sys.argv[2])))


if __name__ == "__main__":
    run()
