"""The engine's small tools over asyncio."""

import asyncio

import pytest

from requestor_sdk.engine.aio import Limit


async def test_what_is_done_in_time_gives_its_value(now):
    limit = Limit(5.0)

    async def work():
        await asyncio.sleep(4.9)
        return 7

    assert await limit.keep(work()) == 7
    limit.close()


async def test_each_has_the_same_time_from_its_own_beginning(now):
    limit, ended = Limit(5.0), []

    async def hang(begins):
        await asyncio.sleep(begins)
        with pytest.raises(TimeoutError):
            await limit.keep(asyncio.sleep(1000))
        ended.append(round(now(), 3))

    now()
    await asyncio.gather(*(hang(begins) for begins in (0, 1, 2.5, 20)))
    assert ended == [5, 6, 7.5, 25]
    limit.close()


async def test_a_cancellation_from_outside_stays_one(now):
    limit = Limit(5.0)
    task = asyncio.create_task(limit.keep(asyncio.sleep(1000)))
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    limit.close()


async def test_an_error_of_the_work_is_raised_as_it_is():
    limit = Limit(5.0)

    async def fail():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await limit.keep(fail())
    limit.close()
