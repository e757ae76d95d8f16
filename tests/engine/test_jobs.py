"""Jobs among others on one engine: whose workers are refused or stuck, and what stays of them."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from support.services import Bare, Simple
from support.tasks import broken_tasks

from requestor_sdk import Compute, Task
from requestor_sdk.model import events
from requestor_sdk.model.errors import (
    BudgetTooSmall,
    JobTimeout,
    NoMatchingOffer,
    UsageError,
    WorkersExhausted,
)
from requestor_sdk.testing import (
    Overcharging,
    ProgramResult,
    Refusing,
    SimulatedNetwork,
    SimulatedProvider,
    check_invariants,
)

PROGRAMS = {
    "work": ProgramResult(seconds=10),
    "long": ProgramResult(seconds=100),
    "longer": ProgramResult(seconds=200),
    "false": ProgramResult(return_code=1),
}
GOOD = SimulatedProvider(name="good", capacity=1, programs=PROGRAMS)
LATE = Overcharging(how="late", after=5)
REFUSING = [
    SimulatedProvider(name=f"bad{n}", behaviour=Refusing(what="activity")) for n in range(8)
]
PAIR = [SimulatedProvider(name=name, programs=PROGRAMS) for name in "pq"]


@contextlib.asynccontextmanager
async def run(providers, found=None, **options):
    """A run on a simulated market; at its end the invariants are checked."""
    told = [] if found is None else found
    network = SimulatedNetwork(providers)
    async with Compute(
        budget=100, network=network, event_consumer=told.append, **options
    ) as compute:
        yield compute
    check_invariants(compute, found=told)
    assert list(broken_tasks(told)) == []


async def one_by_one(ctx, task):
    await ctx.run(task.data)
    return ctx.provider_name


# Who is exhausted ---------------------------------------------------------------------------------


async def test_a_worker_that_has_a_task_is_somebody_else_to_one_who_is_always_refused():
    async with run([GOOD, *REFUSING]) as compute:
        results = compute.execute_tasks(one_by_one, ["long"] * 3, Bare(), max_workers=2)
        assert [task.result async for task in results] == ["good"] * 3


async def test_a_worker_that_is_still_starting_is_somebody_else_too():
    """Its first attempt is under way and has not failed: it may well be the one that works."""

    async def slow_to_begin(ctx, tasks):
        await ctx.run("long")
        async for task in tasks:
            task.accept_result(ctx.provider_name)
            yield ctx.new_script()

    async with run([GOOD, *REFUSING]) as compute:
        results = compute.execute_tasks(slow_to_begin, range(3), Bare(), max_workers=2)
        assert [task.result async for task in results] == ["good"] * 3


async def test_a_worker_that_finds_no_provider_is_nobody_else():
    async def worker(ctx, tasks):
        await ctx.run("false")
        async for task in tasks:
            task.accept_result()
            yield ctx.new_script()

    async with run([GOOD]) as compute:
        results = compute.execute_tasks(worker, range(3), Bare(), max_workers=2)
        began = asyncio.get_running_loop().time()
        with pytest.raises(WorkersExhausted):
            await anext(results)
        assert asyncio.get_running_loop().time() - began < 100


# Who is gone --------------------------------------------------------------------------------------


async def test_a_stuck_worker_that_is_stopped_from_outside_ends_its_task_and_nothing_else():
    freed = asyncio.Event()

    async def worker(ctx, task):
        if task.data == "stuck":
            while not freed.is_set():
                try:
                    await freed.wait()
                except asyncio.CancelledError:
                    pass
            return "freed"
        await ctx.run(task.data)
        return "done"

    found = []
    network = SimulatedNetwork(PAIR)
    async with Compute(budget=100, network=network, event_consumer=found.append) as compute:
        results = compute.execute_tasks(
            worker, ["stuck", "work", "longer"], Bare(), max_workers=3, max_retries=0
        )
        reading = asyncio.ensure_future(anext(results))
        await asyncio.sleep(15)
        cluster = compute.clusters[0]
        cluster.stop_instance(cluster.instances[0])
        assert (await reading).data == "work"
        rest = {task.data: str(task.status) async for task in results}
        assert rest == {"stuck": "failed", "longer": "accepted"}
        freed.set()
    check_invariants(compute, found=found)
    assert list(broken_tasks(found)) == []
    assert [e.handler for e in found if isinstance(e, events.HandlerAbandoned)] == ["i-1 run"]


# What stays ---------------------------------------------------------------------------------------


class Data:
    """What a weak reference can be had of."""

    def __init__(self, program):
        self.program = program


async def of_data(ctx, task):
    await ctx.run(task.data.program)
    return Data("result")


async def test_a_job_that_is_over_keeps_no_data_no_result_and_no_offer():
    """Neither where its results are still held, as a variable of the program does."""
    refs, found, held = [], [], []

    async def job(compute):
        tasks = [Task(Data("work")) for _ in range(6)]
        refs.extend(weakref.ref(task.data) for task in tasks)
        results = compute.execute_tasks(of_data, tasks, Bare(), max_workers=2)
        held.append(results)
        async for task in results:
            refs.append(weakref.ref(task.result))
            negotiators.add(compute.clusters[-1].negotiator)

    negotiators = weakref.WeakSet()
    async with run(PAIR, found) as compute:
        for _ in range(3):
            await job(compute)
        await asyncio.sleep(60)
        gc.collect()
        assert len(refs) == 36
        assert [ref for ref in refs if ref() is not None] == []
        assert len(negotiators) == 0
        assert compute.clusters == ()
        assert compute.open_ids()["instances"] == ()
        assert compute.budget.spent > 0
    assert len([e for e in found if isinstance(e, events.InvoiceAccepted)]) == 6


async def test_a_job_that_is_over_before_its_invoices_came_is_paid_all_the_same():
    found = []
    slow = [replace(provider, behaviour=LATE) for provider in PAIR]
    async with run(slow, found) as compute:
        results = compute.execute_tasks(one_by_one, ["work"] * 4, Bare(), max_workers=2)
        assert len([task async for task in results]) == 4
        assert compute.clusters == ()
        assert compute.budget.payable > 0
    assert len([e for e in found if isinstance(e, events.InvoiceAccepted)]) == 2
    assert compute.budget.payable == 0


async def test_leaving_waits_for_all_clusters_though_a_jobs_goes_meanwhile():
    ends, found = [], []

    class Slow(Simple):
        def __init__(self, seconds):
            self.seconds = seconds

        async def shutdown(self):
            await asyncio.sleep(self.seconds)
            ends.append(self.id)
            yield self.ctx.new_script()

    async with run(PAIR, found) as compute:
        results = compute.execute_tasks(one_by_one, ["work", "long"], Bare(), max_workers=2)
        await anext(results)
        for seconds in (30, 55):
            params = [{"seconds": seconds}]
            await (await compute.run_service(Slow, instance_params=params)).wait("running")
    assert len(ends) == 2
    assert [e for e in found if isinstance(e, events.PaymentLeftOver)] == []


# What it may cost, and its name -------------------------------------------------------------------


async def test_a_job_has_a_budget_of_its_own_within_the_whole():
    async with run(PAIR) as compute:
        results = compute.execute_tasks(one_by_one, ["work"], Bare(), budget="0.000001")
        with pytest.raises(BudgetTooSmall, match=r"0\.000001"):
            await anext(results)
        results = compute.execute_tasks(
            one_by_one, ["work"] * 4, Bare(), budget=0.05, max_workers=4
        )
        async with results:
            assert (await anext(results)).result in {"p", "q"}
            (cluster,) = compute.clusters
            assert cluster.spending.total == Decimal("0.05")
            assert [task.status async for task in results] == ["accepted"] * 3


async def test_a_job_has_a_limit_of_its_own_to_what_an_hour_costs():
    async with run([GOOD]) as compute:
        results = compute.execute_tasks(one_by_one, ["work"], Bare(), max_price_per_hour="0.0001")
        with pytest.raises(NoMatchingOffer, match=r"max_price_per_hour=0\.0001"):
            await anext(results)


async def test_a_job_collects_offers_for_as_long_as_it_says():
    async with run([GOOD]) as compute:
        began = asyncio.get_running_loop().time()
        results = compute.execute_tasks(
            one_by_one, ["work"], Bare(), collect_offers=timedelta(seconds=30)
        )
        assert [task.result async for task in results] == ["good"]
        assert asyncio.get_running_loop().time() - began >= 40


async def test_two_jobs_that_run_are_not_of_one_name():
    found = []
    async with run(PAIR, found) as compute:
        first, second = (
            compute.execute_tasks(one_by_one, ["work"], Bare(), job_id="job-1") for _ in range(2)
        )
        reading = asyncio.ensure_future(anext(first))
        await asyncio.sleep(1)
        with pytest.raises(UsageError, match="job-1 runs already") as refused:
            await anext(second)
        assert refused.value.ids == {"job": "job-1"}
        unnamed = compute.execute_tasks(one_by_one, ["work"], Bare())
        assert [task.result async for task in unnamed]
        assert (await reading).data == "work"
        await first.aclose()
        assert [task.data async for task in second] == ["work"]
    assert [e.job_id for e in found if isinstance(e, events.JobStarted)] == [
        "job-1",
        "job-2",
        "job-1",
    ]


async def test_what_a_job_cancelled_is_not_handed_out_and_says_so_itself():
    tasks = [Task("long"), Task("work")]
    async with run([GOOD]) as compute:
        results = compute.execute_tasks(one_by_one, tasks, Bare(), max_workers=1, timeout=60)
        with pytest.raises(JobTimeout):
            await anext(results)
        assert [task.status for task in tasks] == ["cancelled", "cancelled"]
        assert isinstance(tasks[0].error, JobTimeout)
