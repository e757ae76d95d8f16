"""Right use of the public face, as the type checkers see it. Checked, never run."""

# pyright: strict, reportUnusedFunction=false

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from decimal import Decimal
from typing import assert_type

from requestor_sdk import (
    Cluster,
    CommandResult,
    Compute,
    Payload,
    RestartPolicy,
    Script,
    Service,
    ServiceState,
    vm,
)


class Greeter(Service):
    name: str = "world"

    @staticmethod
    async def get_payload() -> Payload:
        return await vm.repo(image_tag="greeter", min_mem_gib=0.5)

    async def start(self) -> AsyncIterator[Script]:
        async for script in super().start():
            yield script

    async def run(self) -> AsyncIterator[Script]:
        script = self.ctx.new_script(timeout=timedelta(seconds=5))
        said = script.run("/bin/echo", self.name, env={"A": "b"})
        read = script.download_bytes("/golem/out")
        yield script
        assert_type(await said, CommandResult)
        assert_type(await read, bytes)
        assert_type((await said).stdout, str | None)


async def main() -> None:
    async with Compute(budget=0.5) as compute:
        cluster = await compute.run_service(
            Greeter, num_instances=2, restart=RestartPolicy(when="on-failure")
        )
        assert_type(cluster, Cluster[Greeter])
        assert_type(cluster.instances, list[Greeter])
        assert_type(cluster.instances[0].name, str)
        assert_type(cluster.instances[0].state, ServiceState)
        assert_type(await cluster.wait("running", count=1), list[Greeter])
        assert_type(await cluster.instances[0].ctx.run("/bin/true"), CommandResult)
        assert_type(compute.budget.spent, Decimal)
        await cluster.stop()
