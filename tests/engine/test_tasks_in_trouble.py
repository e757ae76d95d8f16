"""Batches of tasks whose workers fail, hang or are lost, whose input fails, whose reader leaves."""

import asyncio
from datetime import timedelta

import pytest
from support.services import Bare
from support.tasks import run
from support.world import World

from requestor_sdk import Task
from requestor_sdk.model import events
from requestor_sdk.model.errors import (
    CommandFailed,
    EngineFailed,
    JobTimeout,
    NotAvailable,
    ProviderLost,
    TaskFailed,
    TaskTimeout,
    WorkersExhausted,
)


@pytest.fixture
def world():
    return World()


async def napping(ctx, task):
    await ctx.run("sleep", str(task.data))
    return ctx.provider_name


def clock():
    return asyncio.get_running_loop().time()


def living(compute):
    return [i for c in compute.clusters for i in c.instances if i.state != "terminated"]


# Workers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("generator", [False, True])
async def test_a_worker_that_fails_has_its_task_tried_again_on_another_provider(world, generator):
    async def plain(ctx, task):
        where.append(ctx.provider_id)
        if len(where) < 3:
            await ctx.run("false")
        return "done"

    async def generating(ctx, tasks):
        async for task in tasks:
            where.append(ctx.provider_id)
            script = ctx.new_script()
            script.run("false" if len(where) < 3 else "true")
            yield script
            task.accept_result("done")

    where = []
    async with run(world) as compute:
        worker = generating if generator else plain
        results = compute.execute_tasks(worker, [1], Bare(), max_workers=1)
        (task,) = [task async for task in results]
        assert task.result == "done"
        assert [type(a.error) for a in task.attempts] == [CommandFailed, CommandFailed, type(None)]
    assert len(set(where)) == 3
    assert len(world.of(events.TaskAttemptFailed)) == 2


async def test_spent_retries_end_in_an_error_that_tells_each_attempt(world):
    async def worker(ctx, task):
        if task.data == "bad":
            raise ValueError(f"on {ctx.provider_name}")
        return "fine"

    async with run(world) as compute:
        results = compute.execute_tasks(worker, ["bad", "good"], Bare(), max_retries=2)
        found = {task.data: task async for task in results}
        assert found["good"].result == "fine"
        assert found["bad"].status == "failed"
        with pytest.raises(TaskFailed, match="tried 3 times") as raised:
            found["bad"].result  # noqa: B018
        assert isinstance(raised.value.__cause__, ValueError)
        assert len(raised.value.story) == 3
        names = {a.provider_name for a in found["bad"].attempts}
        assert len(names) == 3
        assert all(any(f"ValueError: on {n}" in line for line in raised.value.story) for n in names)


async def test_a_failure_is_raised_to_the_reader_where_that_is_asked_for(world):
    async def worker(ctx, task):
        if task.data == 3:
            raise ValueError("three")
        return task.data

    async with run(world) as compute:
        results = compute.execute_tasks(
            worker, range(1000), Bare(), max_retries=0, raise_on_failure=True, max_workers=1
        )
        seen = []
        with pytest.raises(TaskFailed, match="three"):
            async for task in results:
                seen.append(task.data)
        assert seen == [0, 1, 2]
        assert not living(compute)
        with pytest.raises(StopAsyncIteration):
            await anext(results)


async def test_a_lost_provider_has_its_task_done_by_another(world):
    async with run(world) as compute:
        results = compute.execute_tasks(napping, [30, 30], Bare(), max_workers=2)
        reading = asyncio.create_task(anext(results))
        await asyncio.sleep(10)
        first = compute.clusters[0].instances[0]
        world.kill(first)
        tasks = [await reading, await anext(results)]
        again = next(task for task in tasks if len(task.attempts) == 2)
        assert isinstance(again.attempts[0].error, ProviderLost)
        assert again.attempts[0].provider_id != again.attempts[1].provider_id
        await results.aclose()


async def test_a_task_that_hangs_holds_up_nobody_else(world):
    async def worker(ctx, task):
        await ctx.run("forever" if task.data == "hang" else "true")
        return "done"

    async with run(world) as compute:
        results = compute.execute_tasks(worker, ["hang", *range(30)], Bare(), max_workers=2)
        began = clock()
        assert [(await anext(results)).data for _ in range(30)] == list(range(30))
        assert clock() - began < 20
        states = [str(i.state) for i in compute.clusters[0].instances]
        await asyncio.sleep(30)
        states = sorted(str(i.state) for i in compute.clusters[0].instances)
        assert states == ["running", "terminated"]
        await results.aclose()


@pytest.mark.parametrize("generator", [False, True])
async def test_a_task_that_hangs_is_tried_elsewhere_after_its_time(world, generator):
    async def plain(ctx, task):
        seen.append(ctx.provider_id)
        await ctx.run("forever" if len(seen) == 1 else "true")
        return "done"

    async def generating(ctx, tasks):
        async for task in tasks:
            seen.append(ctx.provider_id)
            script = ctx.new_script()
            script.run("forever" if len(seen) == 1 else "true")
            yield script
            task.accept_result("done")

    seen = []
    async with run(world) as compute:
        worker = generating if generator else plain
        results = compute.execute_tasks(
            worker, [1], Bare(), max_workers=2, task_timeout=timedelta(seconds=60)
        )
        began = clock()
        (task,) = [task async for task in results]
        assert task.result == "done"
        assert isinstance(task.attempts[0].error, TaskTimeout)
        assert "task_timeout=" in task.attempts[0].error.hint
        assert 60 < clock() - began < 120
    assert len(set(seen)) == 2


async def test_a_worker_that_is_late_for_its_next_task_is_told_which_time_to_raise(world):
    async def late(ctx, tasks):
        async for task in tasks:
            script = ctx.new_script()
            script.run("true")
            yield script
            task.accept_result(task.data)
            await asyncio.sleep(1000)

    async with run(world) as compute:
        results = compute.execute_tasks(late, [1, 2], Bare(), max_workers=1, task_timeout=20)
        assert [task.data async for task in results] == [1, 2]
    told = world.of(events.ServiceFailed)[0].error
    assert "did not ask for its next task within 20 s" in told
    assert "task_timeout=" in told


async def test_an_attempt_that_was_given_up_settles_nothing_any_more(world):
    """Its worker swallows the first cancellation and accepts a result that nobody waits for."""

    async def worker(ctx, task):
        attempts.append(task)
        if len(attempts) == 1:
            try:
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                task.accept_result("too late")
                await asyncio.sleep(30)
        await asyncio.sleep(15)
        return "in time"

    attempts = []
    async with run(world) as compute:
        results = compute.execute_tasks(worker, [1], Bare(), task_timeout=20)
        assert [task.result async for task in results] == ["in time"]
    assert len(attempts) == 2
    assert len(world.of(events.TaskAccepted)) == 1


async def test_a_worker_that_hangs_between_two_tasks_is_replaced(world):
    async def worker(ctx, tasks):
        async for task in tasks:
            task.accept_result(ctx.activity_id)
            if task.data == 1:
                await asyncio.sleep(100_000)
            yield ctx.new_script()

    async with run(world) as compute:
        results = compute.execute_tasks(worker, [1, 2], Bare(), max_workers=1, task_timeout=30)
        found = [task.result async for task in results]
        assert len(set(found)) == 2


async def test_a_worker_that_ends_after_each_task_is_followed_by_another(world):
    async def worker(ctx, tasks):
        async for task in tasks:
            task.accept_result(ctx.activity_id)
            yield ctx.new_script()
            return

    async with run(world) as compute:
        results = compute.execute_tasks(worker, range(6), Bare(), max_workers=2)
        assert len({task.result async for task in results}) == 6
        assert len(world.workers("cluster-1")) == 2


async def test_a_batch_that_fails_is_raised_at_the_yield_and_can_be_caught_there(world):
    async def worker(ctx, tasks):
        async for task in tasks:
            script = ctx.new_script()
            script.run("false" if task.data else "true")
            try:
                results = yield script
                task.accept_result(len(await results))
            except CommandFailed as error:
                task.reject_result(error.command, retry=False)

    async with run(world) as compute:
        results = compute.execute_tasks(worker, [0, 1, 0], Bare(), max_workers=1, ordered=True)
        found = [task async for task in results]
        assert [task.status for task in found] == ["accepted", "rejected", "accepted"]
        assert found[0].result == 1
        assert "run false" in str(found[1].error)
    assert len(world.of(events.ActivityCreated)) == 1


async def test_workers_that_find_no_place_are_let_go_once_there_is_no_work_for_them(world):
    async with run(world, budget=0.03) as compute:
        results = compute.execute_tasks(napping, [1, 1, 200], Bare(), max_workers=3)
        assert [(await anext(results)).data for _ in range(2)] == [1, 1]
        await asyncio.sleep(30)
        assert [str(i.state) for i in compute.clusters[0].instances].count("running") == 1
        assert len(living(compute)) == 1
        assert [task.data async for task in results] == [200]
    assert len(world.of(events.ActivityCreated)) == 1


async def test_workers_that_never_come_to_ask_for_a_task_end_the_job(world):
    async def worker(ctx, tasks):
        await ctx.run("false")
        async for task in tasks:
            task.accept_result()
            yield ctx.new_script()

    async with run(world) as compute:
        results = compute.execute_tasks(worker, range(100), Bare(), max_workers=2)
        with pytest.raises(WorkersExhausted, match="never came to ask") as raised:
            await anext(results)
        assert isinstance(raised.value.__cause__, CommandFailed)
        assert any("ServiceFailed" in line for line in raised.value.story)
        assert not living(compute)
    assert len(world.of(events.ActivityCreated)) <= 10


async def test_a_worker_that_returns_without_asking_ends_the_job_too(world):
    async def worker(ctx, tasks):
        return
        yield

    async with run(world) as compute:
        with pytest.raises(WorkersExhausted):
            await anext(compute.execute_tasks(worker, [1], Bare()))


async def test_a_cluster_that_is_stopped_from_outside_ends_the_job(world):
    async with run(world) as compute:
        results = compute.execute_tasks(napping, [100, 1], Bare())
        assert (await anext(results)).data == 1
        reading = asyncio.create_task(anext(results))
        await asyncio.sleep(5)
        await compute.clusters[0].stop()
        with pytest.raises(NotAvailable, match="stopped"):
            await reading
        await asyncio.sleep(1)


# The input ----------------------------------------------------------------------------------------


def sync_input(count):
    yield from range(count)
    raise ZeroDivisionError("the input's own")


async def async_input(count):
    for n in range(count):
        await asyncio.sleep(1)
        yield n
    raise ZeroDivisionError("the input's own")


@pytest.mark.parametrize("source", [sync_input, async_input])
@pytest.mark.parametrize("count", [0, 1, 9])
async def test_an_input_that_raises_is_told_after_what_it_gave_was_done(world, source, count):
    """yapapi waits for its time-out there (d33)."""
    async with run(world) as compute:
        began = clock()
        seen = []
        with pytest.raises(ZeroDivisionError, match="the input's own"):
            async for task in compute.execute_tasks(napping, source(count), Bare(), max_workers=3):
                seen.append(task.data)
        assert sorted(seen) == list(range(count))
        assert clock() - began < 60
        assert not living(compute)


async def test_an_input_that_cannot_be_begun_is_told(world):
    class Broken:
        def __iter__(self):
            raise OSError("no such list")

    async with run(world) as compute:
        with pytest.raises(OSError, match="no such list"):
            await anext(compute.execute_tasks(napping, Broken(), Bare()))


async def test_an_input_that_hangs_or_will_not_end_holds_up_no_end(world):
    closed = []

    async def hanging():
        try:
            yield 0
            await asyncio.Event().wait()
        finally:
            closed.append("hanging")

    async def stubborn():
        yield 0
        until = clock() + 100
        while clock() < until:
            try:
                await asyncio.sleep(until - clock())
            except asyncio.CancelledError:
                pass

    async def failing():
        try:
            yield 0
            yield await asyncio.sleep(1000)
        finally:
            raise ValueError("while it is closed")

    async with run(world) as compute:
        for source in (hanging, stubborn, failing):
            async with compute.execute_tasks(napping, source(), Bare()) as results:
                assert (await anext(results)).data == 0
                began = clock()
            assert clock() - began < 30
            assert not living(compute)
        assert closed == ["hanging"]
        await asyncio.sleep(200)


async def test_a_generator_that_is_not_read_to_its_end_is_closed(world):
    closed = []

    def numbers():
        try:
            while True:
                yield 0
        finally:
            closed.append(True)

    source = numbers()
    async with run(world) as compute:
        async with compute.execute_tasks(napping, source, Bare()) as results:
            await anext(results)
        assert closed


async def test_an_async_generator_that_is_not_read_to_its_end_is_closed(world):
    closed = []

    async def numbers():
        try:
            while True:
                yield 0
        finally:
            closed.append(True)

    source = numbers()
    async with run(world) as compute:
        async with compute.execute_tasks(napping, source, Bare()) as results:
            await anext(results)
        assert closed


# The reader ---------------------------------------------------------------------------------------


async def test_a_break_stops_the_workers_in_good_order(world):
    async with run(world) as compute:
        async for _ in compute.execute_tasks(napping, iter(int, 1), Bare(), max_workers=3):
            break
        assert living(compute)
        await asyncio.sleep(30)
        assert not living(compute)
        assert not compute._engine.jobs
    changes = world.of(events.ServiceStateChanged)
    assert {c.stimulus for c in changes if c.new == "terminated"} <= {"shutdown over", "stop"}


async def test_an_exception_of_the_body_leaves_as_it_is_and_stops_the_workers(world):
    async with run(world) as compute:
        with pytest.raises(ZeroDivisionError):
            async for _ in compute.execute_tasks(napping, [0] * 50, Bare()):
                raise ZeroDivisionError
        await asyncio.sleep(30)
        assert not living(compute)


async def test_aclose_and_the_context_manager_wait_for_the_workers_end(world):
    async with run(world) as compute:
        results = compute.execute_tasks(napping, iter(int, 1), Bare())
        await anext(results)
        await results.aclose()
        assert not living(compute)
        await results.aclose()
        async with compute.execute_tasks(napping, iter(int, 1), Bare()) as results:
            await anext(results)
        assert not living(compute)
        async with compute.execute_tasks(napping, [1], Bare()):
            pass
    assert len(world.of(events.JobStarted)) == 2


async def test_a_cancelled_reader_stops_the_workers(world):
    async def read(compute):
        async for _ in compute.execute_tasks(napping, [1, 500], Bare()):
            pass

    async with run(world) as compute:
        reading = asyncio.create_task(read(compute))
        await asyncio.sleep(20)
        assert living(compute)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        del reading
        await asyncio.sleep(30)
        assert not living(compute)


async def test_a_job_that_is_left_before_its_cluster_is_there_makes_none(world):
    async with run(world) as compute:
        results = compute.execute_tasks(napping, [1], Bare())
        reading = asyncio.create_task(anext(results))
        await asyncio.sleep(0)
        reading.cancel()
        await results.aclose()
        assert not living(compute)
    assert not world.of(events.AgreementConfirmed)


async def test_the_end_of_the_run_ends_its_jobs_and_tells_those_who_read(world):
    async def read():
        async for task in compute.execute_tasks(napping, [1, 500], Bare()):
            seen.append(task.data)

    seen = []
    async with run(world) as compute:
        reading = asyncio.create_task(read())
        await asyncio.sleep(20)
    with pytest.raises(NotAvailable, match="the run ends"):
        await reading
    assert seen == [1]


async def test_a_second_cancel_of_the_run_ends_a_job_at_once(world):
    async def body():
        async with world.compute() as compute:
            async for _ in compute.execute_tasks(napping, [5000], Bare(), timeout=10_000):
                pass

    task = asyncio.create_task(body())
    await asyncio.sleep(60)
    task.cancel()
    await asyncio.sleep(1)
    task.cancel()
    began = clock()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert clock() - began < 1  # the first would have let the batch go on for stop_grace


async def test_the_time_of_the_whole_ends_it_in_good_order_and_names_what_was_done(world):
    async with run(world) as compute:
        data = [Task(data=seconds) for seconds in (1, 500, 2, 500, 500)]
        results = compute.execute_tasks(napping, data, Bare(), max_workers=2, timeout=60)
        seen = []
        began = clock()
        with pytest.raises(JobTimeout) as raised:
            async for task in results:
                seen.append(task.data)
        assert 60 <= clock() - began < 100
        assert seen == [1, 2]
        assert raised.value.done == 2
        assert raised.value.unfinished == ("task-2", "task-4", "task-5")
        assert "task-2 (running)" in raised.value.message
        assert isinstance(raised.value, TimeoutError)
        assert [t.status for t in data] == ["accepted", "cancelled"] * 2 + ["cancelled"]
        assert data[1].error is raised.value
        assert not living(compute)
    (finished,) = world.of(events.JobFinished)
    assert (finished.accepted, finished.cancelled) == (2, 3)


async def test_what_was_done_is_handed_out_before_a_time_out_also_in_order(world):
    async with run(world) as compute:
        results = compute.execute_tasks(
            napping, [500, 1, 2], Bare(), max_workers=2, timeout=60, ordered=True
        )
        seen = []
        with pytest.raises(JobTimeout):
            async for task in results:
                seen.append(task.data)
        assert seen == [1, 2]


async def test_a_fatal_engine_error_reaches_the_reader(world):
    with pytest.raises(EngineFailed):
        async with world.compute() as compute:
            results = compute.execute_tasks(napping, [500], Bare())
            reading = asyncio.create_task(anext(results))
            await asyncio.sleep(20)

            async def defect():
                raise RuntimeError("a defect")

            compute._engine.core.spawn(defect(), "defect")
            with pytest.raises(EngineFailed):
                await reading
    (finished,) = world.of(events.JobFinished)
    assert finished.cancelled == 1
