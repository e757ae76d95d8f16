"""The smallest service: each instance runs one command, says what it printed, and is done."""

from __future__ import annotations

import argparse
import asyncio
from datetime import timedelta

from requestor_sdk import Compute, Service
from requestor_sdk.payload import VmPayload


class Hello(Service):
    @staticmethod
    async def get_payload():
        return VmPayload(min_mem_gib=0.25)  # no image: the bare base, /usr and Python

    async def run(self):
        script = self.ctx.new_script()
        greeting = script.shell('echo "hello from $(hostname), $(uname -s) on $(nproc) processors"')
        yield script
        print(f"{self.id} on {self.provider_name}: {(await greeting).stdout.strip()}")


async def main() -> None:
    args = parse_arguments()
    async with Compute(
        budget=args.budget, network=args.network, subnet_tag=args.subnet_tag
    ) as compute:
        cluster = await compute.run_service(
            Hello, num_instances=args.num_instances, expiration=timedelta(minutes=15)
        )
        await cluster.wait("terminated")
    print(f"spent {compute.budget.spent.normalize():f} of {compute.budget.total.normalize():f}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", default="local")
    parser.add_argument("--subnet-tag", default=None)
    parser.add_argument("--budget", default="1", help="tokens that may be spent (default: 1)")
    parser.add_argument("--num-instances", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    asyncio.run(main())
