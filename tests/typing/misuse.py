"""Wrong use that the type checkers must refuse. Checked, never run.

Each line that is wrong says so by `type: ignore`; both checkers complain of an ignore that nothing
needs, so that misuse which passes the checks fails the test.
"""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from collections.abc import AsyncIterator

from requestor_sdk import Cluster, Compute, RestartPolicy, Script, Service, vm


class Greeter(Service):
    name: str = "world"


class Other(Service):
    pass


class NotAService:
    pass


class NoGenerator(Service):
    async def run(self) -> None:  # type: ignore[override]
        return None


class YieldsText(Service):
    async def run(self) -> AsyncIterator[str]:  # type: ignore[override]
        yield "a script"


async def main() -> None:
    Compute()  # type: ignore[call-arg]
    Compute(budget=None)  # type: ignore[arg-type]
    Compute(1)  # type: ignore[call-arg]
    RestartPolicy(when="sometimes")  # type: ignore[arg-type]
    await vm.repo(image_hash=7)  # type: ignore[arg-type]
    await vm.repo("tag")  # type: ignore[call-arg]
    async with Compute(budget=1) as compute:
        await compute.run_service(NotAService)  # type: ignore[type-var]
        await compute.run_service(Greeter())  # type: ignore[arg-type]
        await compute.run_service(Greeter, num_instances="two")  # type: ignore[arg-type]
        await compute.run_service(Greeter, instances=2)  # type: ignore[call-arg]
        cluster = await compute.run_service(Greeter)
        other: Cluster[Other] = cluster  # type: ignore[assignment]
        cluster.stop_instance(Other())  # type: ignore[arg-type]
        cluster.instances[0].nmae  # type: ignore[attr-defined]  # noqa: B018
        script: Script = cluster.instances[0].ctx.new_script()
        script.run(7)  # type: ignore[arg-type]
        script.upload_bytes("text", "/a")  # type: ignore[arg-type]
        result = script.run("/bin/true")
        result.stdout  # type: ignore[attr-defined]  # noqa: B018
        await other.wait(7)  # type: ignore[arg-type]
