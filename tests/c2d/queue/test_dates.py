"""A date that jumps ends no lease, and what it says is over is left for a while."""

from __future__ import annotations

import asyncio

import pytest
from support.queues import DONE, SMALL, SPEC, Worker

from requestor_sdk.c2d._clock import DateClock, jumps_of
from requestor_sdk.c2d._queue import DurableQueue
from requestor_sdk.clock import LoopClock
from requestor_sdk.ports.worker import RunState


@pytest.fixture
def quick(store):
    """Pass over a store whose server goes by real time."""
    if type(store).__name__ == "PostgresStore":
        pytest.skip("minutes of it would be minutes")
    return store


class Date:
    """The date of a machine, which somebody may set."""

    def __init__(self):
        self.ahead = 1_700_000_000.0

    def __call__(self):
        return asyncio.get_running_loop().time() + self.ahead


async def test_the_date_is_the_machines_also_after_it_was_set():
    date = Date()
    clock = DateClock(date)
    before = clock.now().timestamp()
    await asyncio.sleep(100)
    assert clock.now().timestamp() == pytest.approx(before + 100)
    date.ahead += 0.5
    assert clock.now().timestamp() == pytest.approx(before + 100)
    assert clock.jumps == 0
    for jump in (3600, -7200):
        date.ahead += jump
        assert clock.now().timestamp() == pytest.approx(date(), abs=1)
    assert jumps_of(clock) == 2
    assert jumps_of(LoopClock()) == 0


@pytest.mark.parametrize("jump", [3600.0, 10 * 365 * 86_400.0, -3600.0])
async def test_a_worker_that_renews_keeps_its_run_over_a_jump_of_the_date(quick, tmp_path, jump):
    date = Date()
    queue = DurableQueue(quick, tmp_path / "runs", clock=DateClock(date))
    await queue.open()
    worker = await Worker(queue).come()
    await queue.submit("r1", SPEC, SMALL)
    claim = await worker.claim()
    date.ahead += jump
    for _ in range(6):
        await asyncio.sleep(10)
        await queue.renew("w1", [(claim.lease, None)])
    await queue.complete(claim.lease, DONE)
    assert await queue.run_state("r1") is RunState.completed
    # And who is silent after it is noticed as ever.
    await queue.submit("r2", SPEC, SMALL)
    await worker.claim()
    await asyncio.sleep(60)
    assert await queue.run_state("r2") is RunState.pending
    await queue.close()


async def test_a_host_whose_clock_is_wrong_takes_no_run_from_anybody(quick, tmp_path, caplog):
    queue = DurableQueue(quick, tmp_path / "runs")
    await queue.open()
    worker = await Worker(queue).come()
    await queue.submit("r1", SPEC, SMALL)
    await worker.claim()

    async def wrong():
        return 3600.0

    quick.skew = wrong
    await asyncio.sleep(120)
    assert await queue.run_state("r1") is RunState.assigned
    assert "clock is +3600 s off" in caplog.text
    await queue.close()


async def test_the_clocks_of_a_host_and_of_its_store_are_compared(store):
    assert abs(await store.skew()) < 5
