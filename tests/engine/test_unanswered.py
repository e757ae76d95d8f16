"""Calls of the network that never come back: none of them holds up anything else for ever."""

import asyncio
from datetime import timedelta

import pytest
from support.simulation import Simulation

from requestor_sdk import Compute, Settings
from requestor_sdk.model import events
from requestor_sdk.model.errors import NetworkTimeout
from requestor_sdk.model.market import AgreementState
from requestor_sdk.service.strategy import MarketStrategy, Rejection
from requestor_sdk.testing import SimulatedNetwork, SimulatedProvider

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


class Patient(MarketStrategy):
    """Never comes to a score of one provider's offers."""

    async def score_offer(self, offer):
        if offer.provider_name == "amber":
            await asyncio.sleep(1e9)
        return 1.0


async def test_a_score_that_never_comes_rules_out_its_offer_and_no_other():
    sim = Simulation(three(open_offers=1))
    async with sim.running(num=2, strategy=Patient()) as cluster:
        async with asyncio.timeout(200):
            found = await cluster.wait("running", count=2)
        assert {instance.provider_name for instance in found} == {"birch", "cedar"}
    (declined, *_) = sim.of(events.ProposalRejected)
    assert declined.reason == "the strategy gave no score within 10 s"


class Choosy(MarketStrategy):
    """Takes one provider only."""

    async def score_offer(self, offer):
        return 1.0 if offer.provider_name == "cedar" else Rejection("not this one")


async def test_a_refusal_that_is_never_heard_holds_up_no_other():
    sim = Simulation(three(open_offers=1), faults="market.reject@1=drop:never")
    async with sim.running(strategy=Choosy()) as cluster:
        await cluster.wait("running")
        standing = len(sim.network.books.book.steps)
        await asyncio.sleep(60)
        assert len(sim.network.books.book.steps) < standing


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


async def hangs(**_):
    await asyncio.sleep(1e9)


async def test_a_network_that_does_not_open_is_an_error_in_time():
    network = SimulatedNetwork(three())
    network.open = hangs
    async with asyncio.timeout(100):
        with pytest.raises(NetworkTimeout, match="open"):
            await Compute(budget=1, network=network).start()


async def test_a_network_that_does_not_close_holds_up_the_end_no_longer_than_a_release(now):
    sim = Simulation(three())
    async with sim.running() as cluster:
        await cluster.wait("running")
        sim.network.close = hangs
        begun = now()
    assert now() - begun < 30
    assert isinstance(sim.events[-1], events.ComputationFinished)


# Payments -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", NEVER)
async def test_one_note_that_is_never_heard_holds_up_no_other(fault):
    sim = Simulation(three(debit_note_sec=60), faults=f"payments.accept_debit_note@1={fault}")
    async with sim.running(num=3, expiration=timedelta(hours=3)) as cluster:
        await cluster.wait("running", count=3)
        await asyncio.sleep(3600)
        assert len(sim.of(events.DebitNoteAccepted)) > 170
    assert not sim.of(events.PaymentLeftOver)


@pytest.mark.parametrize("fault", NEVER)
async def test_one_invoice_that_is_never_heard_is_told_again_and_holds_up_no_other(fault):
    sim = Simulation(three(debit_note_sec=60), faults=f"payments.accept_invoice@1={fault}")
    async with sim.running(num=3, settings=OURS) as cluster:
        await cluster.wait("running", count=3)
        await asyncio.sleep(300)
    assert len(sim.of(events.InvoiceAccepted)) == 3
    assert not sim.of(events.PaymentLeftOver)


@pytest.mark.parametrize("fault", NEVER)
async def test_an_invoice_that_is_not_heard_while_the_run_ends_is_told_again_in_time(fault):
    sim = Simulation(three(), faults=f"payments.accept_invoice@1={fault}")
    async with sim.running() as cluster:
        await cluster.wait("running")
    assert len(sim.of(events.InvoiceAccepted)) == 1
    assert not sim.of(events.PaymentLeftOver)
    assert not sim.network.books.bank.unsettled


async def test_a_second_call_that_hangs_holds_up_nothing_once_the_first_was_heard(now):
    faults = "payments.accept_invoice@1=delay:7; payments.accept_invoice@2=drop:never"
    sim = Simulation(three(), faults=faults)
    async with sim.running() as cluster:
        await cluster.wait("running")
        begun = now()
    assert now() - begun < 12
    assert not sim.of(events.PaymentLeftOver)


async def test_no_note_waits_until_a_slow_call_about_another_agreement_is_over():
    sim = Simulation(three(debit_note_sec=60), faults="payments.accept_debit_note@1=delay:10")
    async with sim.running(num=3) as cluster:
        await cluster.wait("running", count=3)
        await asyncio.sleep(65)
        assert len(sim.of(events.DebitNoteAccepted)) == 3


async def test_judgements_of_one_agreement_are_told_in_order_also_where_a_call_is_slow():
    heard = []
    sim = Simulation([SimulatedProvider(name="amber", debit_note_sec=2)])
    async with sim.running() as cluster:
        payments = sim.network.payments
        accept = payments.accept_debit_note

        async def slow(note, allocation_id):
            await asyncio.sleep(10 if not heard else 0)
            heard.append(note.total)
            await accept(note, allocation_id)

        payments.accept_debit_note = slow
        await cluster.wait("running")
        await asyncio.sleep(60)
    assert len(heard) > 20
    assert heard == sorted(heard)
