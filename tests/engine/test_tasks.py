"""Batches of tasks: how they are done, by whom, and how the reader gets them."""

import asyncio
import functools
from datetime import timedelta

import pytest
from support.services import Bare
from support.tasks import run
from support.world import World

from requestor_sdk import Settings, Task
from requestor_sdk.model import events
from requestor_sdk.model.errors import (
    AmountError,
    HandlerError,
    NoMatchingOffer,
    NotAvailable,
    PayloadError,
    ResultRejected,
    TaskFailed,
    UsageError,
)
from requestor_sdk.strategy import MarketStrategy


@pytest.fixture
def world():
    return World()


async def double(ctx, task):
    result = await ctx.run("echo", str(2 * task.data))
    return int(result.stdout)


async def doubles(ctx, tasks):
    async for task in tasks:
        script = ctx.new_script()
        number = script.run("echo", str(2 * task.data))
        yield script
        task.accept_result(int((await number).stdout))


async def napping(ctx, task):
    await ctx.run("sleep", str(task.data))
    return ctx.provider_name


@pytest.mark.parametrize("worker", [double, doubles], ids=["plain", "generator"])
async def test_each_task_is_done_once_and_its_result_reaches_the_reader(world, worker):
    async with run(world) as compute:
        tasks = [Task(data=n) for n in range(20)]
        found = [task async for task in compute.execute_tasks(worker, tasks, Bare())]
        assert {id(task) for task in found} == {id(task) for task in tasks}
        assert all(task.result == 2 * task.data for task in found)
        assert {task.status for task in found} == {"accepted"}
        assert {task.id for task in found} == {f"task-{n}" for n in range(1, 21)}
    (finished,) = world.of(events.JobFinished)
    assert (finished.accepted, finished.error) == (20, None)


async def test_plain_data_is_wrapped_and_async_input_is_read(world):
    async def numbers():
        for n in range(7):
            await asyncio.sleep(1)
            yield n

    async with run(world) as compute:
        found = [task async for task in compute.execute_tasks(double, numbers(), Bare())]
        assert sorted(task.result for task in found) == [0, 2, 4, 6, 8, 10, 12]


async def test_workers_start_side_by_side_and_are_no_more_than_tasks_or_max_workers(world):
    async with run(world) as compute:
        began = asyncio.get_running_loop().time()
        found = compute.execute_tasks(napping, [10] * 4, Bare(), max_workers=30)
        assert len([task async for task in found]) == 4
        assert asyncio.get_running_loop().time() - began < 12
        assert len(world.workers("cluster-1")) == 4
        found = compute.execute_tasks(napping, [1] * 20, Bare(), max_workers=3)
        assert len([task async for task in found]) == 20
        assert len(world.workers("cluster-2")) == 3


async def test_results_come_as_they_finish(world):
    async with run(world) as compute:
        found = compute.execute_tasks(napping, [9, 5, 1], Bare(), max_workers=3)
        assert [task.data async for task in found] == [1, 5, 9]


async def test_results_come_in_the_order_of_the_input_where_that_is_asked_for(world):
    async with run(world) as compute:
        data = [9, 5, 1, 3, 0, 8, 2]
        found = compute.execute_tasks(napping, data, Bare(), max_workers=3, ordered=True)
        assert [task.data async for task in found] == data


async def test_no_tasks_need_no_worker(world):
    async with run(world) as compute:
        assert [task async for task in compute.execute_tasks(double, [], Bare())] == []
    assert not world.of(events.SubscriptionCreated)


async def test_the_job_begins_with_the_first_reading(world):
    read = []

    def numbers():
        read.append(True)
        yield 1

    async with run(world) as compute:
        results = compute.execute_tasks(double, numbers(), Bare())
        await asyncio.sleep(100)
        assert not read
        assert (await anext(results)).result == 2
        with pytest.raises(StopAsyncIteration):
            await anext(results)
        with pytest.raises(StopAsyncIteration):
            await anext(results)
    assert len(world.of(events.JobStarted)) == 1


async def test_an_unbounded_input_is_read_only_as_far_as_workers_and_a_buffer_need(world):
    read = []

    def numbers():
        while True:
            read.append(len(read))
            yield 10

    async with run(world) as compute:
        results = compute.execute_tasks(napping, numbers(), Bare(), max_workers=3)
        for n in range(1, 10):
            await anext(results)
            assert len(read) <= 12 + n
        await results.aclose()


async def test_results_that_nobody_reads_slow_the_input(world):
    read = []

    async def numbers():
        while True:
            read.append(len(read))
            yield 0

    async with run(world) as compute:
        results = compute.execute_tasks(napping, numbers(), Bare(), max_workers=2)
        await anext(results)
        await asyncio.sleep(600)
        assert len(read) <= 10
        for _ in range(20):
            await anext(results)
        assert 20 < len(read) <= 30
        await results.aclose()


async def test_workers_stop_once_there_is_no_more_to_do_and_what_ends_last_is_read(world):
    async with run(world) as compute:
        results = compute.execute_tasks(napping, [1, 1, 100], Bare(), max_workers=3)
        assert [(await anext(results)).data for _ in range(2)] == [1, 1]
        await asyncio.sleep(20)
        states = sorted(str(i.state) for i in compute.clusters[0].instances)
        assert states == ["running", "terminated", "terminated"]
        assert [task.data async for task in results] == [100]


async def test_a_worker_that_deploys_by_itself_is_given_a_bare_activity(world):
    async def worker(ctx, tasks):
        script = ctx.new_script()
        script.deploy()
        script.start()
        script.run("echo", "ready")
        yield script
        async for task in tasks:
            yield ctx.new_script()
            task.accept_result("done")

    async with run(world) as compute:
        results = compute.execute_tasks(worker, [1], Bare(), implicit_init=False)
        assert [task.result async for task in results] == ["done"]
    commands = [e.command for e in world.of(events.CommandExecuted)]
    assert commands == ["deploy", "start", "run echo ready"]


async def test_what_a_worker_does_after_its_last_task_is_not_cut_off(world):
    said = []

    async def worker(ctx, tasks):
        async for task in tasks:
            task.accept_result()
        script = ctx.new_script()
        bye = script.run("echo", "bye")
        script.run("sleep", "5")
        yield script
        said.append((await bye).stdout)

    async with run(world) as compute:
        assert len([task async for task in compute.execute_tasks(worker, [1], Bare())]) == 1
    assert said == ["bye\n"]
    assert not world.of(events.ServiceFailed)


async def test_a_result_accepted_without_a_value_is_none(world):
    async def worker(ctx, tasks):
        async for task in tasks:
            task.accept_result()
            yield ctx.new_script()

    async with run(world) as compute:
        assert [t.result async for t in compute.execute_tasks(worker, [1], Bare())] == [None]


async def test_a_rejected_result_is_tried_again_on_another_provider(world):
    async def worker(ctx, tasks):
        async for task in tasks:
            where.append(ctx.provider_id)
            if len(where) == 1:
                task.reject_result("too small")
            else:
                task.accept_result(len(where))
            yield ctx.new_script()

    where = []
    async with run(world) as compute:
        results = compute.execute_tasks(worker, ["x"], Bare(), max_workers=1)
        (task,) = [task async for task in results]
        assert task.result == 2
        assert [a.provider_id for a in task.attempts] == where
        assert isinstance(task.attempts[0].error, ResultRejected)
        assert "too small" in str(task.attempts[0].error)
    assert len(set(where)) == 2
    (moved,) = world.of(events.ServiceFailed)
    assert "moves on" in moved.error
    (rejected,) = world.of(events.TaskRejected)
    assert (rejected.reason, rejected.retry) == ("too small", True)


async def test_a_sole_worker_takes_what_it_rejected_where_there_is_no_other_provider():
    """yapapi waits for its time-out there (d33)."""
    world = World(providers=1)

    async def worker(ctx, task):
        seen.append(ctx.activity_id)
        if len(seen) == 1:
            task.reject_result()
        return "done"

    seen = []
    async with run(world) as compute:
        began = asyncio.get_running_loop().time()
        results = compute.execute_tasks(worker, [1], Bare(), max_workers=1)
        assert [task.result async for task in results] == ["done"]
        assert asyncio.get_running_loop().time() - began < 30
    assert len(set(seen)) == 2


async def test_a_rejection_for_good_is_handed_out_as_such(world):
    async def worker(ctx, task):
        task.reject_result("never", retry=False)

    async with run(world) as compute:
        (task,) = [task async for task in compute.execute_tasks(worker, [1], Bare())]
        assert task.status == "rejected"
        assert isinstance(task.error, ResultRejected)
        with pytest.raises(ResultRejected, match="never"):
            task.result  # noqa: B018
    assert len(world.of(events.TaskStarted)) == 1


async def test_other_tasks_come_before_the_one_that_failed_here(world):
    """The one that failed is kept for another provider, which is busy for a moment."""

    async def worker(ctx, task):
        order.append((ctx.provider_name, task.data))
        if task.data == "bad" and len([o for o in order if o[1] == "bad"]) == 1:
            task.reject_result()
        else:
            await ctx.run("sleep", "4")
        return ctx.provider_name

    order = []
    async with run(world) as compute:
        results = compute.execute_tasks(worker, ["bad", "a", "b"], Bare(), max_workers=2)
        found = {task.data: task.result async for task in results}
        bad = [name for name, data in order if data == "bad"]
        assert bad[0] != bad[1] == found["bad"]
        assert len(world.workers("cluster-1")) == 2
    assert len(world.of(events.ActivityCreated)) == 2


# Misuse -------------------------------------------------------------------------------------------


async def test_what_is_no_worker_is_refused_at_the_call(world):
    def plain(ctx, task):
        return 1

    def generator(ctx, tasks):
        yield 1

    async def one_argument(ctx):
        return 1

    async def three(ctx, tasks, more):
        yield 1

    class Called:
        async def __call__(self, ctx, task):
            return self, task.data

    async with run(world) as compute:
        for wrong in (plain, generator, one_argument, three, 7, None, Called, "name"):
            with pytest.raises(HandlerError) as raised:
                compute.execute_tasks(wrong, [1], Bare())
            assert raised.value.hint
        called = Called()
        for right in (called, called.__call__, functools.partial(three, more=1)):
            compute.execute_tasks(right, [1], Bare())
        results = compute.execute_tasks(called, [1], Bare())
        assert [task.result async for task in results] == [(called, 1)]


async def test_what_makes_no_sense_is_refused_at_the_call(world):
    async with run(world) as compute:
        for error, options in (
            (AmountError, {"max_workers": 0}),
            (AmountError, {"max_workers": True}),
            (AmountError, {"timeout": 0}),
            (AmountError, {"timeout": timedelta(seconds=-1)}),
            (AmountError, {"timeout": float("inf")}),
            (AmountError, {"task_timeout": float("nan")}),
            (AmountError, {"max_retries": -1}),
            (UsageError, {"job_id": ""}),
            (UsageError, {"data": 7}),
            (UsageError, {"data": "abc"}),
            (UsageError, {"data": b"abc"}),
            (UsageError, {"strategy": MarketStrategy}),
            (AmountError, {"budget": 0}),
            (AmountError, {"max_price_per_hour": "much"}),
            (AmountError, {"collect_offers": -1}),
            (PayloadError, {"payload": None}),
        ):
            arguments = {"data": [1], "payload": Bare(), **options}
            with pytest.raises(error):
                compute.execute_tasks(double, **arguments)
    with pytest.raises(NotAvailable):
        world.compute().execute_tasks(double, [1], Bare())


async def test_a_payload_that_nobody_offers_is_told_at_the_first_reading(world):
    async with run(world) as compute:
        with pytest.raises(NoMatchingOffer):
            await anext(compute.execute_tasks(double, [1], Bare(runtime="abacus")))


async def test_a_task_that_is_handed_over_twice_is_refused(world):
    async with run(world) as compute:
        task = Task(data=1)
        results = compute.execute_tasks(double, [task, task], Bare())
        assert (await anext(results)).result == 2
        with pytest.raises(NotAvailable, match="handed over before"):
            await anext(results)


@pytest.mark.parametrize("last", [False, True])
async def test_going_on_from_a_task_that_is_not_settled_is_told_to_the_worker(world, last):
    async def worker(ctx, tasks):
        async for _ in tasks:
            yield ctx.new_script()
            if last:
                return

    async with run(world) as compute:
        results = compute.execute_tasks(worker, [1, 2], Bare(), max_workers=1, max_retries=0)
        found = [task async for task in results]
        assert [task.status for task in found] == ["failed", "failed"]
        assert isinstance(found[0].error, TaskFailed)
        assert isinstance(found[0].error.__cause__, HandlerError)
        assert "neither accepted nor rejected" in found[0].error.__cause__.message


async def test_settling_twice_or_without_a_worker_is_refused(world):
    hints = []

    async def worker(ctx, task):
        task.accept_result(1)
        for settle in (task.accept_result, task.reject_result):
            with pytest.raises(NotAvailable, match="settled before") as raised:
                settle()
            hints.append(raised.value.hint)
        return 2

    task = Task(data=1)
    assert task.id is None
    assert task.running_time is None
    with pytest.raises(NotAvailable, match="with no worker"):
        task.accept_result(1)
    with pytest.raises(NotAvailable, match="no result yet"):
        task.result  # noqa: B018
    async with run(world) as compute:
        assert [t.result async for t in compute.execute_tasks(worker, [task], Bare())] == [1]
    assert len(hints) == 2
    assert all("once for each task" in hint for hint in hints)
    with pytest.raises(NotAvailable, match="with no worker"):
        task.reject_result()


async def test_a_tasks_data_is_in_no_event_and_no_repr(world):
    secret = "hunter2"

    async def worker(ctx, task):
        assert secret not in repr(task)
        await asyncio.sleep(3)
        assert task.running_time == timedelta(seconds=3)
        return task.data

    async with run(world) as compute:
        (task,) = [task async for task in compute.execute_tasks(worker, [secret], Bare())]
        assert task.result == secret
        assert task.running_time == timedelta(seconds=3)
    assert not [e for e in world.events if secret in str(e.to_record())]
    assert secret not in repr(task)


async def test_jobs_run_side_by_side_and_name_their_tasks(world):
    async def all_of(job_id):
        results = compute.execute_tasks(double, [1, 2], Bare(), job_id=job_id)
        return [task.result async for task in results]

    async with run(world) as compute:
        found = await asyncio.gather(all_of("first"), all_of(None))
        assert [sorted(results) for results in found] == [[2, 4], [2, 4]]
    assert {e.job_id for e in world.of(events.TaskAccepted)} == {"first", "job-1"}


async def test_the_settings_of_the_run_hold_for_workers(world):
    async def worker(ctx, tasks):
        await asyncio.sleep(1000)
        async for task in tasks:
            task.accept_result()
            yield ctx.new_script()

    settings = Settings(start_timeout=20)
    async with run(world, settings=settings) as compute:
        results = compute.execute_tasks(worker, [1], Bare(), timeout=100)
        with pytest.raises(Exception, match="100 s"):
            await anext(results)
    told = world.of(events.ServiceFailed)[0].error
    assert "did not ask for a task within 20 s" in told
    assert "Settings(start_timeout=" in told


async def test_of_readings_that_were_given_up_nothing_is_kept(world):
    async with run(world) as compute:
        results = compute.execute_tasks(napping, [Task(data=60)], Bare())
        for _ in range(5):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(results), 1)
        (job,) = compute._engine.jobs
        assert not job._readers
        assert [task.status async for task in results] == ["accepted"]


async def test_a_task_that_its_job_ended_without_says_what_to_do(world):
    async with run(world) as compute:
        left = Task(data=500)
        results = compute.execute_tasks(napping, [Task(data=1), left], Bare(), max_workers=1)
        await anext(results)
        await results.aclose()
    assert left.status == "cancelled"
    assert "to its end" in left.error.hint
