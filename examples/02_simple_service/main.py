"""A service with a life: it starts a simulation, reports statistics while it runs, and stops it."""

from __future__ import annotations

import argparse
import asyncio
from datetime import datetime, timedelta, timezone
from pathlib import Path

from requestor_sdk import Compute, RestartPolicy, Service, vm
from requestor_sdk.sandbox import ImageStore

IMAGE_FOLDER = Path(__file__).parent / "image"
IMAGE_TAG = "simple-service"
INTERVAL_SEC = 1.0


class SimpleService(Service):
    @staticmethod
    async def get_payload():
        return await vm.repo(
            image_tag=IMAGE_TAG,
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
            await asyncio.sleep(INTERVAL_SEC)
            script = self._ctx.new_script()
            stats_result = script.run("/golem/run/simple_service.py", "--stats")  # idx 0
            yield script
            stats = (await stats_result).stdout.strip()
            print(stats)

    async def shutdown(self):
        script = self._ctx.new_script()
        script.run("/golem/run/simulate_observations_ctl.py", "--stop")
        yield script


async def main() -> None:
    args = parse_arguments()
    image = ImageStore().build(IMAGE_FOLDER, tag=IMAGE_TAG)  # stored once; the same hash each time
    print(f"image {image.tag}, {image.hash}")
    async with Compute(
        budget=args.budget,
        network=args.network,
        subnet_tag=args.subnet_tag,
        payment_driver=args.payment_driver,
        payment_network=args.payment_network,
    ) as compute:
        cluster = await compute.run_service(
            SimpleService,
            num_instances=args.num_instances,
            restart=RestartPolicy(when="on-failure", max_attempts=3),
            expiration=datetime.now(timezone.utc) + timedelta(minutes=15),  # noqa: UP017
        )
        for instance in await cluster.wait("running"):
            print(f"{instance.id} runs on {instance.provider_name}")
        await asyncio.sleep(args.seconds)
        await cluster.stop()
        for instance in cluster.instances:
            print(f"{instance.id} is {instance.state}, failure: {instance.failure}")
    print(f"spent {compute.budget.spent.normalize():f} of {compute.budget.total.normalize():f}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", default="local")
    parser.add_argument("--subnet-tag", default=None)
    parser.add_argument("--payment-driver", default=None)
    parser.add_argument("--payment-network", default=None)
    parser.add_argument("--budget", default="1", help="tokens that may be spent (default: 1)")
    parser.add_argument("--num-instances", type=int, default=2)
    parser.add_argument(
        "--seconds", type=float, default=3.5, help="how long they run (default: 3.5)"
    )
    return parser.parse_args()


if __name__ == "__main__":
    asyncio.run(main())
