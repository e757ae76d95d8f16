"""Jobs among others on one engine: whose workers are refused or stuck, and what stays of them."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from support.services import Bare
from support.tasks import broken_tasks

from requestor_sdk import Compute
from requestor_sdk.model import events
from requestor_sdk.model.errors import WorkersExhausted
from requestor_sdk.testing import (
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
