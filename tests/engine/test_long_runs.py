"""Runs that never end: what they keep in memory does not grow with what is over."""

import asyncio
import gc

import pytest
from support.services import Simple
from support.simulation import Simulation

from requestor_sdk import Compute
from requestor_sdk.engine import billing
from requestor_sdk.model import events
from requestor_sdk.model.market import Proposal
from requestor_sdk.testing import SimulatedNetwork


def proposals():
    gc.collect()
    return sum(type(found) is Proposal for found in gc.get_objects())


async def test_a_cluster_that_is_over_keeps_nothing_of_what_the_market_offered_it():
    sim = Simulation(8)
    before = proposals()
    async with sim.running(num=2) as cluster:
        await cluster.wait("running", count=2)
        await cluster.stop()
        await sim.compute.run_service(type(cluster.instances[0]))
        first, rest = proposals() - before, len(sim.network.books.book.steps)
        assert first <= rest + 8
    assert len(cluster.instances) == 2


async def test_of_agreements_that_are_paid_only_the_last_are_remembered(monkeypatch):
    monkeypatch.setattr(billing, "_SETTLED", 3)
    sim = Simulation(2)
    async with sim.running() as cluster:
        await cluster.wait("running")
        for _ in range(5):
            cluster.resize(0)
            await sim.until(events.InvoiceAccepted, len(sim.of(events.InvoiceAccepted)) + 1)
            await cluster.resize(1)
        settled = sim.compute._engine.core.billing._settled
        last = [event.agreement_id for event in sim.of(events.InvoiceAccepted)][-3:]
        assert list(settled) == last


async def test_an_invoice_whose_acceptance_is_not_heard_is_left_over_however_many_were_paid_since(
    monkeypatch,
):
    monkeypatch.setattr(billing, "_SETTLED", 1)
    sim = Simulation(2, faults="payments.accept_invoice~1=drop:never")
    async with sim.running() as cluster:
        await cluster.wait("running")
        for count in range(1, 4):
            cluster.resize(0)
            await sim.until(events.InvoiceAccepted, count)
            await cluster.resize(1)
    paid = {event.agreement_id for event in sim.of(events.InvoiceAccepted)}
    assert {event.agreement_id for event in sim.of(events.PaymentLeftOver)} == paid


@pytest.mark.parametrize("most", [1, 3])
async def test_a_market_in_this_process_forgets_what_is_paid_but_the_last(most):
    network, accepted = SimulatedNetwork(2), []
    books = network.books
    books._remembered = most

    def note(event):
        if isinstance(event, events.InvoiceAccepted):
            accepted.append(event.agreement_id)

    async with Compute(budget=100, network=network, event_consumer=note) as compute:
        cluster = await compute.run_service(Simple)
        await cluster.wait("running")
        for count in range(1, 6):
            cluster.resize(0)
            async with asyncio.timeout(60):
                while len(accepted) < count:
                    await asyncio.sleep(0.1)
            await cluster.resize(1)
        (living,) = [i.ctx.agreement_id for i in cluster.instances if i.state == "running"]
        assert set(books.agreements) == set(books.bank.accounts) == {living, *accepted[-most:]}
        assert len(books.activities) == most + 1
