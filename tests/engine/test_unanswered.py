"""Calls of the network that never come back: none of them holds up anything else for ever."""

import asyncio
from datetime import timedelta

import pytest
from support.simulation import Simulation

from requestor_sdk import Settings
from requestor_sdk.model import events
from requestor_sdk.model.market import AgreementState
from requestor_sdk.testing import SimulatedProvider

OURS = Settings(invoice_timeout=40)


def three(**options):
    return [SimulatedProvider(name=name, **options) for name in ("amber", "birch", "cedar")]


NEVER = ("drop:never", "delay:5000:after")
"""The call reaches nobody, or has its effect; in neither case is there an answer."""


# The market ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", NEVER)
@pytest.mark.parametrize("call", ["subscribe", "counter", "create_agreement", "confirm"])
async def test_a_call_of_the_market_without_an_answer_holds_nobody_up_for_ever(call, fault, now):
    sim = Simulation(three(), faults=f"market.{call}@1={fault}")
    async with sim.running(num=3, settings=OURS, expiration=timedelta(hours=1)) as cluster:
        async with asyncio.timeout(200):
            await cluster.wait("running", count=3)
        begun = now()
    assert now() - begun < 30
    assert sim.of(events.AllocationReleased)


async def test_an_approval_that_never_comes_is_waited_for_no_longer_than_that():
    sim = Simulation(three(), faults="market.wait_approval@1=drop:never")
    async with sim.running(num=3, settings=OURS) as cluster:
        async with asyncio.timeout(200):
            await cluster.wait("running", count=3)


@pytest.mark.parametrize("call", ["confirm", "wait_approval"])
async def test_an_agreement_that_may_have_been_approved_is_ended_while_the_run_goes_on(call):
    sim = Simulation(three(), faults=f"market.{call}@1=delay:5000:after")
    async with sim.running(settings=OURS) as cluster:
        (instance,) = await cluster.wait("running")
        await asyncio.sleep(60)
        assert len(sim.of(events.AgreementRejected)) == 1
        states = [one.state for one in sim.network.books.agreements.values()]
        assert states.count(AgreementState.approved) == 1
        assert instance.state == "running"


async def test_a_counter_that_takes_long_does_not_hold_up_the_end(now):
    sim = Simulation(three(), faults="market.counter@1=drop:300")
    async with sim.running(num=2, settings=Settings(approval_timeout=300)) as cluster:
        await cluster.wait("running", count=1)
        await asyncio.sleep(20)
        begun = now()
    assert now() - begun < 15
    assert sim.of(events.AllocationReleased)


# The start ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", NEVER)
async def test_an_allocation_whose_answer_never_comes_is_looked_for_and_there_is_one(fault):
    sim = Simulation(three(), faults=f"payments.allocate@1={fault}")
    async with sim.running() as cluster:
        await cluster.wait("running")
        assert len(sim.network.books.bank.allocations) == 1
    assert not sim.network.books.bank.allocations


@pytest.mark.parametrize("fault", NEVER)
async def test_a_report_of_matches_that_never_comes_is_asked_for_once_more(fault):
    sim = Simulation(three(), faults=f"market.match_report@1={fault}")
    async with asyncio.timeout(200), sim.running() as cluster:
        await cluster.wait("running")
