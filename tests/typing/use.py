"""Right use of the public face, as the type checkers see it. Checked, never run."""

# pyright: strict, reportUnusedFunction=false

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, assert_type

from requestor_sdk import (
    DDO,
    AlgorithmSpec,
    AssetRef,
    AsyncOceanCompute,
    Budget,
    Cluster,
    CommandResult,
    Compute,
    ComputeInput,
    Golem,
    Job,
    JobOutcome,
    JobStatus,
    LinearPricing,
    LocalNetwork,
    OceanCompute,
    OceanConfig,
    Payload,
    ProviderConfig,
    RequestorError,
    RestartPolicy,
    Script,
    Service,
    ServiceState,
    Settings,
    Task,
    TaskAttempt,
    TaskResults,
    TaskStatus,
    WorkContext,
    constraint,
    errors,
    events,
    prop,
    vm,
)
from requestor_sdk.payload import VmPayload
from requestor_sdk.strategy import LeastExpensiveLinearPayuMS, MarketStrategy, Rejection


class Ticker(Service):
    def __init__(self, name: str = "x") -> None:
        self.name = name
        self.ticks = 0

    @staticmethod
    async def get_payload() -> Payload:
        return await vm.repo(image_tag="ticker", min_mem_gib=0.5, capabilities=["inet"])

    async def start(self) -> AsyncIterator[Script]:
        async for script in super().start():
            yield script
        script = self._ctx.new_script(timeout=timedelta(seconds=3))
        script.upload_file(Path("here"), "/tmp/there")
        script.upload_json({"name": self.name}, "/tmp/config")
        yield script

    async def run(self) -> AsyncIterator[Script]:
        script = self.ctx.new_script(timeout=2.5)
        result = script.run("/bin/date", env={"TZ": "UTC"})
        content = script.download_bytes("/tmp/a")
        path = script.download_file("/tmp/a", "b")
        nothing = script.upload_bytes(b"", "/tmp/c")
        yield script
        assert_type(await result, CommandResult)
        assert_type((await result).stdout, str)
        assert_type(await content, bytes)
        assert_type(await path, Path)
        assert_type(await nothing, None)
        self.ticks += 1

    def my_method(self) -> int:
        return self.ticks


async def direct(ctx: WorkContext) -> None:
    assert_type(await ctx.run("true", timeout=1), CommandResult)
    assert_type(await ctx.shell("true"), CommandResult)
    assert_type(await ctx.download_bytes("/tmp/a"), bytes)
    assert_type(await ctx.download_file("/tmp/a", Path("a")), Path)
    async for line in ctx.stream("true"):
        assert_type(line, str)


async def the_class_reaches_the_caller() -> None:
    async with Compute(budget=1) as compute:
        assert_type(compute, Compute)
        cluster = await compute.run_service(Ticker, num_instances=2)
        assert_type(cluster, Cluster[Ticker])
        assert_type(cluster.instances, list[Ticker])
        assert_type(cluster.instances[0].my_method(), int)
        assert_type(await cluster.wait("running"), list[Ticker])
        assert_type(await cluster.spawn_instances(1), list[Ticker])
        assert_type(cluster.service_class, type[Ticker])
        assert_type(cluster.instances[0].state, ServiceState)
        assert_type(cluster.instances[0].failure, BaseException | None)
        await cluster.stop_instance(cluster.instances[0])
        await cluster.suspend()
        await cluster.resume(cluster.instances[0])
        await cluster.resize(3)
        async with cluster as same:
            assert_type(same, Cluster[Ticker])
        assert_type(compute.budget, Budget)
        assert_type(compute.budget.spent, Decimal)
        assert_type(compute.now(), datetime)


async def one_task(ctx: WorkContext, task: Task[int, str]) -> str:
    assert_type(task.data, int)
    return (await ctx.run("echo", str(task.data))).stdout


async def many_tasks(
    ctx: WorkContext, tasks: AsyncIterator[Task[int, str]]
) -> AsyncIterator[Script]:
    async for task in tasks:
        script = ctx.new_script()
        result = script.run("echo", str(task.data))
        yield script
        task.accept_result((await result).stdout)
        task.reject_result("wrong", retry=False)


async def without_result(
    ctx: WorkContext, tasks: AsyncIterator[Task[int, None]]
) -> AsyncIterator[Script]:
    async for task in tasks:
        yield ctx.new_script()
        task.accept_result()


async def numbers() -> AsyncIterator[int]:
    yield 1


def made() -> Iterator[Task[int, str]]:
    yield Task(data=1)


async def the_types_of_tasks_reach_the_caller(compute: Compute, payload: Payload) -> None:
    tasks: list[Task[int, str]] = [Task(data=1)]
    assert_type(compute.execute_tasks(one_task, tasks, payload), TaskResults[int, str])
    assert_type(compute.execute_tasks(many_tasks, tasks, payload), TaskResults[int, str])
    assert_type(compute.execute_tasks(many_tasks, made(), payload, 5), TaskResults[int, str])
    assert_type(compute.execute_tasks(one_task, range(3), payload), TaskResults[int, str])
    assert_type(compute.execute_tasks(many_tasks, numbers(), payload), TaskResults[int, str])
    assert_type(compute.execute_tasks(without_result, [1], payload), TaskResults[int, None])
    results = compute.execute_tasks(
        one_task,
        tasks,
        payload,
        max_workers=3,
        timeout=timedelta(minutes=15),
        job_id="mine",
        implicit_init=True,
        task_timeout=60,
        budget="0.5",
        max_price_per_hour=Decimal("0.1"),
        collect_offers=timedelta(seconds=2),
        max_retries=None,
        ordered=True,
        raise_on_failure=True,
    )
    async with results as same:
        async for task in same:
            assert_type(task, Task[int, str])
            assert_type(task.result, str)
            assert_type(task.error, BaseException | None)
            assert_type(task.status, TaskStatus)
            assert_type(task.attempts, tuple[TaskAttempt, ...])
    await results.aclose()


async def all_arguments() -> None:
    def watch(event: events.Event) -> None:
        if isinstance(event, events.ServiceStateChanged):
            assert_type(event.instance_id, str)

    compute = Golem(
        budget="0.5",
        network=LocalNetwork(providers=[ProviderConfig(name="one", pricing=LinearPricing())]),
        subnet_tag="public",
        payment_driver="erc20",
        payment_network="hoodi",
        strategy=LeastExpensiveLinearPayuMS(max_fixed_price=Decimal(1)),
        event_consumer=watch,
        journal=Path("run.jsonl"),
        settings=Settings(start_timeout=10),
    )
    await compute.start()
    await compute.run_service(
        Ticker,
        instance_params=[{"name": "a"}, {"name": "b"}],
        payload=VmPayload(),
        expiration=timedelta(minutes=5),
        restart=RestartPolicy(when="on-failure", window=timedelta(hours=1)),
        hold_for=timedelta(minutes=2),
    )
    await compute.stop()


@dataclass(kw_only=True)
class Own(Payload):
    kind: str = constraint("example.kind", "=", default="a")
    label: str = prop("example.label", default="b")


class Cheapest(MarketStrategy):
    async def score_offer(self, offer: Any) -> float | Rejection:
        return Rejection("too dear") if offer.provider_name == "x" else 1.0


def errors_have_what_they_promise(error: errors.CommandFailed) -> None:
    whole: RequestorError = error
    assert_type(whole.code, str)
    assert_type(whole.ids, dict[str, str])
    assert_type(whole.story, tuple[str, ...])
    assert_type(error.return_code, int | None)


def journals_give_events(compute: Compute) -> Sequence[events.Event]:
    return list(compute.journal.read(ids={"instance": "i-1"}))


async def have_jobs_done() -> None:
    async with Compute(ocean=OceanConfig(url="http://127.0.0.1:8030")) as compute:
        job = await compute.submit_job("did:op:1", Path("count.py"), environment="e")
        assert_type(job, Job)
        assert_type(job.outcome, JobOutcome | None)
        async for update in job:
            assert_type(update, JobStatus)
        async for line in job.logs():
            assert_type(line, str)
        assert_type(await job.wait(timeout=5), JobStatus)
        assert_type(await job.download("results"), list[Path])
        assert_type(await job.read(), bytes)
        assert_type(await compute.jobs(), list[Job])
        spec = AlgorithmSpec(rawcode="print(1)")
        await compute.submit_job([AssetRef(did="did:op:1"), "did:op:2"], spec)


async def as_ocean_has_it(ddo: DDO) -> None:
    dataset = ComputeInput(ddo, ddo.services[0])
    config = OceanConfig()
    async with AsyncOceanCompute({"METADATA_CACHE_URI": "http://127.0.0.1:5000"}) as compute:
        job_id = await compute.start(config.signer(), dataset, "e", dataset)
        assert_type(job_id, str)
    with OceanCompute() as blocking:
        assert_type(blocking.result(ddo, ddo.services[0], job_id, 0, config.signer()), bytes)
