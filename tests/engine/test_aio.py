"""The engine's small tools over asyncio."""

import asyncio

import pytest

from requestor_sdk.engine.aio import Alarms, Limit


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


async def test_what_never_waits_gives_its_value_at_once_and_starts_no_timer():
    limit = Limit(5.0)

    async def work():
        return 7

    assert await limit.keep(work()) == 7
    assert limit._alarms._timer is None


async def test_work_that_waits_again_and_again_sees_what_it_waited_for_and_its_errors():
    limit, loop = Limit(5.0), asyncio.get_running_loop()

    async def work():
        broken = loop.create_future()
        loop.call_later(1, broken.set_exception, ZeroDivisionError())
        try:
            await broken
        except ZeroDivisionError:
            good = loop.create_future()
            loop.call_later(1, good.set_result, "good")
            return await good

    assert await limit.keep(work()) == "good"
    limit.close()


async def test_work_that_is_late_can_clear_up_and_its_own_time_outs_stay_its_own(now):
    limit, seen = Limit(5.0), []

    async def work():
        try:
            async with asyncio.timeout(1):
                await asyncio.sleep(1000)
        except TimeoutError:
            seen.append("own")
        try:
            await asyncio.sleep(1000)
        finally:
            await asyncio.sleep(0.1)
            seen.append("cleared up")

    now()
    with pytest.raises(TimeoutError):
        await limit.keep(work())
    assert seen == ["own", "cleared up"]
    assert round(now(), 3) == 5.1
    limit.close()


async def test_alarms_ring_for_each_in_its_time_but_not_for_those_cancelled(now):
    rung = []
    alarms = Alarms(5.0, lambda whom: rung.append((whom, round(now(), 3))))
    now()
    for whom in ("a", "b", "c"):
        alarms.set(whom)
        await asyncio.sleep(1)
    alarms.cancel("b")
    alarms.cancel("nobody")
    await asyncio.sleep(10)
    assert rung == [("a", 5), ("c", 7)]


async def test_alarms_that_are_closed_do_not_ring(now):
    rung = []
    alarms = Alarms(5.0, rung.append)
    alarms.set("a")
    alarms.close()
    await asyncio.sleep(10)
    assert rung == []
