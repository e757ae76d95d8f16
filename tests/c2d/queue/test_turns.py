"""Owners take turns: who has many runs in the line holds up nobody who has few."""

from __future__ import annotations

import pytest
from support.queues import DONE, SMALL, SPEC, Worker

from requestor_sdk.c2d._queue import DurableQueue
from requestor_sdk.model.errors import WorkerRefused


async def submit(queue, owner, *names, **more):
    for name in names:
        await queue.submit(f"{owner}-{name}", SPEC, SMALL, owner=owner, **more)


async def claimed(worker, count, *, end=True):
    found = []
    for _ in range(count):
        claim = await worker.claim()
        found.append(claim.lease.run_id)
        if end:
            await worker.queue.complete(claim.lease, DONE)
    return found


async def test_the_first_run_of_another_comes_before_the_second_of_who_was_first(queue, worker):
    await worker.come()
    await submit(queue, "a", 1, 2, 3, 4)
    await submit(queue, "b", 1, 2)
    await submit(queue, "c", 1)
    assert await claimed(worker, 7) == ["a-1", "b-1", "c-1", "a-2", "b-2", "a-3", "a-4"]


async def test_who_comes_late_is_not_before_its_turn_and_not_after_those_who_have_many(
    queue, worker
):
    await worker.come()
    await submit(queue, "a", *range(6))
    assert await claimed(worker, 3) == ["a-0", "a-1", "a-2"]
    await submit(queue, "b", *range(3))
    assert await claimed(worker, 6) == ["a-3", "b-0", "a-4", "b-1", "a-5", "b-2"]


async def test_what_an_owner_ran_alone_before_is_not_held_against_it(queue, worker):
    await worker.come()
    await submit(queue, "a", *range(3))
    assert await claimed(worker, 3, end=False) == ["a-0", "a-1", "a-2"]
    await submit(queue, "b", *range(2))
    await submit(queue, "a", 3)
    big = await Worker(queue, id="w2").come()
    first, *others = await claimed(big, 3)
    assert (first, set(others)) == ("b-0", {"a-3", "b-1"})


async def test_a_higher_priority_comes_before_any_turn(queue, worker):
    await worker.come()
    await submit(queue, "a", 1, 2)
    await submit(queue, "a", "urgent", priority=9)
    await submit(queue, "b", 1)
    assert await claimed(worker, 4) == ["a-urgent", "a-1", "b-1", "a-2"]


async def test_a_former_session_is_refused_by_a_server_that_never_saw_it(store, tmp_path, clock):
    first = DurableQueue(store, tmp_path / "runs", clock=clock)
    await Worker(first, session="s1").come()
    await Worker(first, session="s2").come()
    second = DurableQueue(store, tmp_path / "runs", clock=clock)
    with pytest.raises(WorkerRefused, match="another process"):
        await Worker(second, session="s1").come()
    await Worker(second, session="s2").come()
