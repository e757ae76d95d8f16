"""Mistakes that the type checkers must refuse.

Each carries a `type: ignore` with its code. One that is not needed is an error, so a mistake that
passes unnoticed fails the check. Never run.
"""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import requestor_sdk
import requestor_sdk.testing
from requestor_sdk import (
    Cluster,
    Compute,
    OceanConfig,
    Payload,
    ProviderConfig,
    RestartPolicy,
    Script,
    Service,
    Settings,
    Task,
    TaskResults,
    WorkContext,
    vm,
)
from requestor_sdk import constraint as _constraint


class Good(Service):
    def my_method(self) -> int:
        return 1


class Other(Service):
    pass


class RunIsACoroutine(Service):
    async def run(self) -> None:  # type: ignore[override]
        await self.ctx.run("true")


class YieldsNoScript(Service):
    async def run(self) -> AsyncIterator[str]:  # type: ignore[override]
        yield "true"


class StartYieldsACommand(Service):
    async def start(self) -> AsyncIterator[Script]:
        yield self.ctx.new_script().run("true")  # type: ignore[misc]


class PayloadIsAString(Service):
    @staticmethod
    async def get_payload() -> str:  # type: ignore[override]
        return "image"


class Handlers(Service):
    async def run(self) -> AsyncIterator[Script]:
        script = self.ctx.new_script(timeout="1 s")  # type: ignore[arg-type]
        script.run("sleep", 1)  # type: ignore[arg-type]
        script.run(["sleep", "1"])  # type: ignore[arg-type]
        script.upload_bytes("text", "/tmp/a")  # type: ignore[arg-type]
        script.download_json()  # type: ignore[call-arg]
        number: int = await script.download_bytes("/tmp/a")  # type: ignore[assignment]
        await script  # type: ignore[misc]
        script.run("true").stdout  # type: ignore[attr-defined]  # noqa: B018
        yield script
        script.run("true", stdout="all")  # type: ignore[arg-type]
        del number


async def clusters(compute: Compute, cluster: Cluster[Good], other: Other) -> None:
    await compute.run_service(Good())  # type: ignore[arg-type]
    await compute.run_service(int)  # type: ignore[type-var]
    await compute.run_service(Good, 3)  # type: ignore[call-arg]
    await compute.run_service(Good, num_instances="3")  # type: ignore[arg-type]
    await compute.run_service(Good, instance_params={"a": 1})  # type: ignore[dict-item]
    await compute.run_service(Good, expiration=15)  # type: ignore[arg-type]
    await compute.run_service(Good, restart="always")  # type: ignore[arg-type]
    wrong: Cluster[Other] = await compute.run_service(Good)  # type: ignore[arg-type]
    cluster.instances[0].no_such_method()  # type: ignore[attr-defined]
    cluster.stop_instance(other)  # type: ignore[arg-type]
    cluster.instances[0].state = "running"  # type: ignore[assignment,misc]
    await compute.run_service(Good, instances=2)  # type: ignore[call-arg]
    await cluster.wait(7)  # type: ignore[arg-type]
    await cluster.wait()  # type: ignore[call-arg]
    cluster.instances = []  # type: ignore[misc]
    del wrong


async def one_task(ctx: WorkContext, task: Task[int, str]) -> str:
    return str(task.data)


def no_coroutine(ctx: WorkContext, task: Task[int, str]) -> str:
    return str(task.data)


async def no_script(ctx: WorkContext, tasks: AsyncIterator[Task[int, str]]) -> AsyncIterator[str]:
    async for task in tasks:
        task.accept_result(1)  # type: ignore[arg-type]
        task.accept_result()  # type: ignore[call-arg]
        yield "true"


async def jobs(compute: Compute) -> None:
    await compute.submit_job(3, "print(1)")  # type: ignore[arg-type]
    await compute.submit_job("did:op:1", 3)  # type: ignore[arg-type]
    await compute.submit_job("did:op:1", "print(1)", enviroment="x")  # type: ignore[call-arg]


async def tasks(compute: Compute, payload: Payload) -> None:
    compute.execute_tasks(one_task, [1])  # type: ignore[call-overload]
    compute.execute_tasks(one_task, 1, payload)  # type: ignore[call-overload]
    compute.execute_tasks(one_task, ["a"], payload)  # type: ignore[list-item]
    compute.execute_tasks(no_coroutine, [1], payload)  # type: ignore[arg-type]
    compute.execute_tasks(no_script, [1], payload)  # type: ignore[arg-type]
    compute.execute_tasks(one_task, [1], payload, max_workers="3")  # type: ignore[call-overload]
    compute.execute_tasks(one_task, [1], payload, workers=3)  # type: ignore[call-overload]
    await compute.execute_tasks(one_task, [1], payload)  # type: ignore[misc]
    wrong: TaskResults[int, int] = compute.execute_tasks(one_task, [1], payload)  # type: ignore[arg-type,list-item]
    Task(1, 2)  # type: ignore[call-arg]
    del wrong


def values() -> None:
    Compute(ocean="http://127.0.0.1:8030")  # type: ignore[arg-type]
    OceanConfig("http://127.0.0.1:8030")  # type: ignore[call-arg]
    Compute(network=None, ocean=3)  # type: ignore[arg-type]
    Compute(1.0)  # type: ignore[call-arg]
    Compute(budget=None)  # type: ignore[arg-type]
    Compute(budget=1, event_consumer=lambda: None)  # type: ignore[arg-type,misc]
    Compute(budget=1, no_such_option=1)  # type: ignore[call-arg]
    RestartPolicy(when="sometimes")  # type: ignore[arg-type]
    RestartPolicy("always")  # type: ignore[call-arg]
    RestartPolicy(backoff=1.0)  # type: ignore[arg-type]
    Settings(start_timeout=timedelta(seconds=1))  # type: ignore[arg-type]
    Settings().start_timeout = 3  # type: ignore[misc]
    ProviderConfig()  # type: ignore[call-arg]
    _constraint("a", "~")  # type: ignore[arg-type]


async def payloads() -> None:
    await vm.repo(image_hash=7)  # type: ignore[arg-type]
    await vm.repo("some-tag")  # type: ignore[call-arg]
    await vm.repo(image_tag="a", min_mem_gib="1")  # type: ignore[arg-type]
    await vm.repo(image_tag="a", capabilities=3)  # type: ignore[arg-type]


def names_are_misspelt() -> list[object]:
    return [
        requestor_sdk.Computer,  # type: ignore[attr-defined]
        requestor_sdk.handlers.exposed,  # type: ignore[attr-defined]
        requestor_sdk.testing.Vanished,  # type: ignore[attr-defined]
    ]
