"""No handlers at all: the program talks to a running instance by plain awaits."""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from datetime import timedelta
from pathlib import Path

from requestor_sdk import Compute, Service
from requestor_sdk.errors import CommandFailed
from requestor_sdk.payload import VmPayload

COUNT_WORDS = """\
import collections, json, sys
words = open(sys.argv[1]).read().split()
json.dump(collections.Counter(words), open(sys.argv[2], "w"))
"""

TEXT = b"the offer meets the demand and the demand meets the offer"


class Machine(Service):
    """The default handlers: deploy and start, wait for ever, release."""

    @staticmethod
    async def get_payload():
        return VmPayload(min_mem_gib=0.25)


async def use(machine: Machine) -> None:
    ctx = machine.ctx

    result = await ctx.run("/bin/uname", "-sm")
    print(f"{machine.provider_name} runs {result.stdout.strip()}")

    result = await ctx.shell('echo "$GREETING, $(id -un)"', env={"GREETING": "hello"})
    print(f"its shell says: {result.stdout.strip()}")

    await ctx.upload_bytes(COUNT_WORDS.encode(), "/tmp/count.py")
    await ctx.upload_bytes(TEXT, "/tmp/text")
    await ctx.run("/usr/bin/env", "python3", "/tmp/count.py", "/tmp/text", "/tmp/counts")
    counts = await ctx.download_json("/tmp/counts")
    print(f"words counted there: {counts}")

    with tempfile.TemporaryDirectory() as folder:
        path = await ctx.download_file("/tmp/text", Path(folder) / "text")
        print(f"the text came back: {path.read_bytes() == TEXT}")

    async for line in ctx.stream("/bin/sh", "-c", "for n in 3 2 1; do echo $n; sleep 0.3; done"):
        print(f"as it comes: {line}")

    try:
        await ctx.run("/bin/sh", "-c", "echo no such luck >&2; exit 3")
    except CommandFailed as error:
        print(f"a failure: status {error.return_code}, stderr {error.stderr.strip()!r}")


async def main() -> None:
    args = parse_arguments()
    async with Compute(
        budget=args.budget, network=args.network, subnet_tag=args.subnet_tag
    ) as compute:
        cluster = await compute.run_service(
            Machine, num_instances=args.num_instances, expiration=timedelta(minutes=15)
        )
        for machine in await cluster.wait("running"):
            await use(machine)
    print(f"spent {compute.budget.spent.normalize():f} of {compute.budget.total.normalize():f}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", default="local")
    parser.add_argument("--subnet-tag", default=None)
    parser.add_argument("--budget", default="1", help="tokens that may be spent (default: 1)")
    parser.add_argument("--num-instances", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    asyncio.run(main())
