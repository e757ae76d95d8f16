"""A service that watches the load of its computers, and is tested without any: see test_load.py."""

from __future__ import annotations

import argparse
import asyncio
from datetime import timedelta

from requestor_sdk import Cluster, Compute, RestartPolicy, Service
from requestor_sdk.errors import CommandFailed
from requestor_sdk.payload import VmPayload


class LoadWatch(Service):
    """Reads the load once a minute; what was read survives the loss of a computer."""

    pause = 60.0

    def __init__(self) -> None:
        self.loads: list[float] = []
        self.unreadable = 0

    @staticmethod
    async def get_payload():
        return VmPayload(min_mem_gib=0.25)

    async def run(self):
        while True:
            script = self.ctx.new_script(timeout=30)
            said = script.run("/bin/cat", "/proc/loadavg")
            try:
                yield script
            except CommandFailed:
                self.unreadable += 1
            else:
                self.take((await said).stdout)
            await asyncio.sleep(self.pause)

    def take(self, text: str) -> None:
        try:
            self.loads.append(float(text.split(maxsplit=1)[0]))
        except (ValueError, IndexError):
            self.unreadable += 1


async def watched(compute: Compute, num_instances: int) -> Cluster[LoadWatch]:
    """Return a cluster that watches; an instance whose computer is lost goes on elsewhere."""
    cluster = await compute.run_service(
        LoadWatch,
        num_instances=num_instances,
        restart=RestartPolicy(when="on-failure"),
        expiration=timedelta(hours=12),
    )
    await cluster.wait("running", count=num_instances)
    return cluster


async def main(compute: Compute, num_instances: int = 2, seconds: float = 300) -> None:
    cluster = await watched(compute, num_instances)
    await asyncio.sleep(seconds)
    for watch in cluster.instances:
        print(f"{watch.id} on {watch.provider_name}: {len(watch.loads)} readings")


async def run() -> None:
    args = parse_arguments()
    LoadWatch.pause = args.pause
    async with Compute(
        budget=args.budget, network=args.network, subnet_tag=args.subnet_tag
    ) as compute:
        await main(compute, args.num_instances, args.seconds)
    print(f"spent {compute.budget.spent.normalize():f} of {compute.budget.total.normalize():f}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", default="local")
    parser.add_argument("--subnet-tag", default=None)
    parser.add_argument("--budget", default="5", help="tokens that may be spent (default: 5)")
    parser.add_argument("--num-instances", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=2, help="how long (default: 2)")
    parser.add_argument("--pause", type=float, default=0.5, help="seconds between two readings")
    return parser.parse_args()


if __name__ == "__main__":
    asyncio.run(run())
