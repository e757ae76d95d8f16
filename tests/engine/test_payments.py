"""Debit notes and invoices that are not as usual: rounded, late, of others, for nothing."""

import asyncio
from datetime import timedelta
from decimal import Decimal

import pytest
from support.services import Simple
from support.simulation import QUICK, Simulation

from requestor_sdk import Compute
from requestor_sdk.model import events
from requestor_sdk.model.history import RunHistory
from requestor_sdk.model.money import LinearPricing
from requestor_sdk.networks.simulated._deal import Deal
from requestor_sdk.testing import SimulatedProvider, check_invariants, crash

D = Decimal
FEE = D("0.1")
ROUNDED_UP = D("0.100000000000000006")
"""What 0.1 is in the floats of a provider."""


@pytest.fixture
def rounds_up(monkeypatch):
    """Providers that ask for their start fee as floats have it."""
    note, invoice = Deal._note, Deal._invoice
    monkeypatch.setattr(
        Deal, "_note", lambda self, activity, _, usage: note(self, activity, ROUNDED_UP, usage)
    )
    monkeypatch.setattr(Deal, "_invoice", lambda self, _, *rest: invoice(self, ROUNDED_UP, *rest))


@pytest.mark.usefixtures("rounds_up")
async def test_what_the_other_side_rounds_up_is_accepted_counted_and_never_above_the_budget():
    fee_only = LinearPricing(coeffs=(D(0), D(0)), fixed=FEE)
    sim = Simulation([SimulatedProvider(name="amber", pricing=fee_only, multi_activity=False)])
    async with Compute(
        budget="0.35", network=sim.network, settings=QUICK, event_consumer=sim.events.append
    ) as compute:
        for count in range(1, 4):
            async with await compute.run_service(Simple) as cluster:
                await cluster.wait("running")
            await sim.until(events.InvoiceAccepted, count)
            assert compute.budget.spent == count * ROUNDED_UP
        assert not sim.of(events.DebitNoteRejected)
        cluster = await compute.run_service(Simple, expiration=timedelta(minutes=30))
        await sim.until(events.BudgetExhausted, 1)
        cluster.stop()
    check_invariants(compute)


@pytest.mark.usefixtures("rounds_up")
async def test_an_invoice_that_rounding_takes_above_the_whole_budget_is_rejected_and_not_counted():
    fee_only = LinearPricing(coeffs=(D(0), D(0)), fixed=FEE)
    sim = Simulation([SimulatedProvider(name="amber", pricing=fee_only)])
    async with Compute(
        budget=FEE, network=sim.network, settings=QUICK, event_consumer=sim.events.append
    ) as compute:
        async with await compute.run_service(Simple) as cluster:
            await cluster.wait("running")
        await sim.until(events.InvoiceRejected, 1)
        assert compute.budget.spent == 0
    assert "which is held for this agreement" in sim.of(events.InvoiceRejected)[0].reason
    assert not sim.of(events.InvoiceAccepted)
    check_invariants(compute)


# Another run's ------------------------------------------------------------------------------------


async def test_what_belongs_to_another_run_of_the_identity_is_left_to_that_run():
    sim = Simulation([SimulatedProvider(name="amber", debit_note_sec=60)])
    first = Compute(budget=10, network=sim.network, settings=QUICK)
    await first.start()
    cluster = await first.run_service(Simple, expiration=timedelta(minutes=30))
    await cluster.wait("running")
    await asyncio.sleep(50)
    journal = first.journal
    await crash(first)
    other = Compute(budget=10, network=sim.network, event_consumer=sim.events.append)
    async with other:
        await asyncio.sleep(3600)  # the first one's agreement expires meanwhile
    judged = (events.DebitNoteReceived, events.InvoiceReceived)
    judged += (events.DebitNoteRejected, events.InvoiceRejected)
    assert not [event for event in sim.events if isinstance(event, judged)]
    check_invariants(other)
    recovery = Compute.recover(
        first.run_id, journal=journal, network=sim.network, event_consumer=sim.events.append
    )
    async with recovery:
        pass
    (accepted,) = sim.of(events.InvoiceAccepted)
    assert sim.paid == accepted.amount > 0
    assert RunHistory.of(sim.network.journals[first.run_id].read()).state == "settled"
    check_invariants(recovery)
