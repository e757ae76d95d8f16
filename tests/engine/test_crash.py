"""A run is crashed after and before each of its journal writes, and recovered from the journal."""

import asyncio

import pytest
from support.crash import HOUR, Market, Process, check, run, settle_by_recovery
from support.services import Simple

from requestor_sdk import RestartPolicy
from requestor_sdk.model import events

# A process that dies leaves coroutines behind that never began.
pytestmark = pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")


async def scenario(market, compute):
    """Three instances: one is lost and restarts, one is stopped, one is suspended."""
    async with compute:
        restart = RestartPolicy(when="on-failure")
        cluster = await compute.run_service(
            Simple, num_instances=3, expiration=HOUR, restart=restart
        )
        await cluster.wait("running", count=3)
        lost, stopped, suspended = cluster.instances
        await asyncio.sleep(70)
        market.end_activity(lost.ctx.activity_id)
        await cluster.wait("pending", count=1)
        await cluster.wait("running", count=3)
        await cluster.stop_instance(stopped)
        await asyncio.sleep(30)
        await cluster.suspend(suspended)
        await asyncio.sleep(60)


async def rough(market, compute):
    """Instances that are stopped on the way to agreements and activities; a provider refuses."""
    market.refuse_activities(every=2)
    async with compute:
        for tenths in range(5, 40, 3):
            cluster = await compute.run_service(Simple, expiration=HOUR)
            await asyncio.sleep(tenths / 10)
            cluster.stop()
        cluster = await compute.run_service(Simple, expiration=HOUR)
        await cluster.wait("running")
        await asyncio.sleep(70)


STORIES = {"smooth": (scenario, {}), "rough": (rough, {"providers": 2, "latency": 0.5})}


async def crashed(dies_at, unwritten, story="smooth"):
    told, options = STORIES[story]
    market = Market(**options)
    process = Process(market, dies_at=dies_at, unwritten=unwritten)
    died = await process.live(told(market, process.compute()))
    return market, process, died


async def crash_and_recover(dies_at, unwritten, story="smooth"):
    market, _, died = await crashed(dies_at, unwritten, story)
    assert died
    await asyncio.sleep(40)
    await settle_by_recovery(market)
    check(market)
    before = list(market.paper.lines)
    await settle_by_recovery(market)
    check(market)
    if market.paper.history.state == "settled":
        assert market.paper.lines == before


MARKET, LIVED, DIED = run(crashed(None, unwritten=False))
ROUGH_MARKET, ROUGH, _ = run(crashed(None, unwritten=False, story="rough"))
"""The scenarios without a crash: they say how many writes there are to crash at."""


def test_the_scenario_has_all_that_can_be_lost():
    assert not DIED
    check(MARKET)
    kinds = {type(event).__name__ for event in MARKET.paper.events}
    assert kinds >= {
        *("AllocationRequested", "AgreementCreated", "AgreementConfirmed", "ActivityRequested"),
        *("DebitNoteAccepted", "InvoiceAccepted", "ServiceRestarting", "ComputationSuspended"),
    }
    assert MARKET.paper.history.spent > 0


@pytest.mark.parametrize("dies_at", range(1, LIVED.writes + 1))
def test_a_crash_after_any_write_is_recovered_with_nothing_lost_and_nothing_paid_twice(dies_at):
    run(crash_and_recover(dies_at, unwritten=False))


@pytest.mark.parametrize("dies_at", range(2, ROUGH.writes + 1))
def test_a_crash_amid_refusals_and_withdrawals_is_recovered_as_well(dies_at):
    run(crash_and_recover(dies_at, unwritten=bool(dies_at % 2), story="rough"))


def test_the_rough_scenario_has_refusals_and_withdrawals():
    check(ROUGH_MARKET)
    history = ROUGH_MARKET.paper.history
    assert len(history.agreements) > 8
    assert [a for a in history.agreements.values() if not a.confirmed]
    assert [a for a in history.agreements.values() if a.confirmed and not a.uses]
    assert ROUGH_MARKET.paper.of(events.ActivityCreateFailed)


@pytest.mark.parametrize("dies_at", range(2, LIVED.writes + 1))
def test_a_crash_that_loses_the_write_after_the_act_is_recovered_as_well(dies_at):
    run(crash_and_recover(dies_at, unwritten=True))


async def crash_twice(dies_at):
    """Crash, then crash the recovery at each of its writes in turn, on the same paper."""
    nested = 0
    while True:
        nested += 1
        market, _, _ = await crashed(dies_at, unwritten=False)
        await asyncio.sleep(40)
        second = await settle_by_recovery(market, dies_at=nested, unwritten=bool(nested % 2))
        await asyncio.sleep(5)
        await settle_by_recovery(market)
        check(market)
        if not second.dead:
            return nested


@pytest.mark.parametrize("dies_at", range(3, LIVED.writes, 13))
def test_a_crash_of_the_recovery_itself_is_recovered_too(dies_at):
    assert run(crash_twice(dies_at)) > 1


async def crash_over_and_over(dies_at, every):
    """Each recovery dies too, a write later than the one before, until one comes through."""
    market, _, _ = await crashed(dies_at, unwritten=False)
    for number in range(1, 60):
        await asyncio.sleep(3)
        process = await settle_by_recovery(market, dies_at=number * every)
        if not process.dead:
            break
    assert not process.dead
    check(market)


@pytest.mark.parametrize("dies_at", range(5, LIVED.writes, 17))
def test_recoveries_that_die_one_after_another_come_to_an_end(dies_at):
    run(crash_over_and_over(dies_at, every=1))
