"""Work by key: once at a time, again when asked meanwhile, tried again after a failure."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from requestor_sdk.c2d._pool import KeyedPool


@pytest.fixture
async def make_pool():
    pools = []

    def make(handle, size=2):
        pools.append(KeyedPool(handle, size=size, name="test"))
        return pools[-1]

    yield make
    for pool in pools:
        await pool.close()


async def test_a_key_that_is_asked_for_while_it_is_handled_is_handled_once_more(make_pool):
    handled, go = [], asyncio.Event()

    async def handle(key):
        handled.append(key)
        await go.wait()

    pool = make_pool(handle)
    for _ in range(5):
        pool.add("a")
        await asyncio.sleep(0)
    go.set()
    await asyncio.sleep(1)
    assert handled == ["a", "a"]


async def test_no_more_than_so_many_are_handled_at_one_time(make_pool):
    now, most = 0, 0

    async def handle(key):
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(1)
        now -= 1

    pool = make_pool(handle, size=3)
    for key in range(10):
        pool.add(str(key))
    await asyncio.sleep(20)
    assert (now, most) == (0, 3)


async def test_a_failure_is_logged_and_tried_again_later_and_later(make_pool, caplog):
    times = []

    async def handle(key):
        times.append(asyncio.get_running_loop().time())
        if len(times) < 4:
            raise RuntimeError("not yet")

    make_pool(handle).add("a")
    await asyncio.sleep(60)
    assert [b - a for a, b in pairwise(times)] == [0.5, 1.0, 2.0]
    assert "not yet" in caplog.text


async def test_what_is_dropped_is_handled_no_more(make_pool):
    ended = []

    async def handle(key):
        try:
            await asyncio.sleep(10)
        finally:
            ended.append(key)

    pool = make_pool(handle, size=1)
    pool.add("a")
    pool.add("b")
    await asyncio.sleep(1)
    await pool.drop("b")
    await pool.drop("a")
    await asyncio.sleep(60)
    assert ended == ["a"]


async def test_nothing_is_handled_after_the_close(make_pool):
    handled = []

    async def handle(key):
        handled.append(key)
        await asyncio.sleep(10)

    pool = make_pool(handle)
    pool.add("a")
    await asyncio.sleep(1)
    await pool.close()
    pool.add("b")
    await asyncio.sleep(60)
    assert handled == ["a"]


async def test_groups_take_turns(make_pool):
    handled = []

    async def handle(key):
        handled.append(key)
        await asyncio.sleep(1)

    pool = make_pool(handle, size=1)
    for number in range(4):
        pool.add(f"a{number}", group="a")
    pool.add("b0", group="b")
    pool.add("b1", group="b")
    pool.add("c0", group="c")
    pool.add("a0", group="a")
    await pool.drop("b1")
    await asyncio.sleep(20)
    assert handled == ["a0", "a1", "b0", "c0", "a2", "a3", "a0"]
    assert not pool._waiting
    assert not pool._group_of
