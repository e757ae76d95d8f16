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
from requestor_sdk.model.market import Invoice
from requestor_sdk.model.money import LinearPricing
from requestor_sdk.model.reputation import Reputations
from requestor_sdk.networks.simulated._deal import Deal
from requestor_sdk.testing import Overcharging, Refusing, SimulatedProvider, check_invariants, crash

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


# Late ---------------------------------------------------------------------------------------------

LATE = SimulatedProvider(name="amber", behaviour=Overcharging(how="late", after=400.0))
"""Its invoice comes later than ``invoice_deadline``."""


async def test_an_invoice_after_its_deadline_is_paid_where_the_budget_has_room():
    sim = Simulation([LATE])
    async with sim.running() as cluster:
        await cluster.wait("running")
        await asyncio.sleep(300)
        await cluster.stop()
        await sim.until(events.PaymentLeftOver)
        assert sim.compute.budget.payable == 0
        await sim.until(events.InvoiceReceived)
        (accepted,) = sim.of(events.InvoiceAccepted)
        assert sim.compute.budget.spent == accepted.amount > 0
    assert sim.paid == accepted.amount
    assert RunHistory.of(sim.events).state == "settled"


async def test_an_invoice_after_its_deadline_for_which_there_is_no_room_is_left_to_a_recovery(
    monkeypatch,
):
    monkeypatch.setattr(Deal, "_note", lambda *_: None)
    sim = Simulation([LATE])
    async with sim.running(budget=1) as cluster:
        await cluster.wait("running")
        await asyncio.sleep(300)
        await cluster.stop()
        await sim.until(events.PaymentLeftOver)
        compute = sim.compute
        assert compute._engine.core.ledger.hold("another", compute.budget.available)
        await asyncio.sleep(600)
        assert not sim.of(events.InvoiceReceived)
        compute._engine.core.ledger.settle("another")
    assert len(sim.network.books.bank.unsettled) == 1
    journal = sim.network.journals[compute.run_id]
    async with Compute.recover(
        compute.run_id, journal=journal, network=sim.network, event_consumer=sim.events.append
    ):
        pass
    (accepted,) = sim.of(events.InvoiceAccepted)
    assert sim.paid == accepted.amount > 0
    assert RunHistory.of(journal.read()).state == "settled"


async def test_a_wrong_invoice_after_its_deadline_is_rejected_with_the_reason(monkeypatch):
    invoice = Deal._invoice
    monkeypatch.setattr(Deal, "_invoice", lambda self, _, *rest: invoice(self, D(50), *rest))
    sim = Simulation([LATE])
    async with sim.running(budget=20) as cluster:
        await cluster.wait("running")
        await cluster.stop()
        await sim.until(events.InvoiceReceived)
    assert "the most that" in sim.of(events.InvoiceRejected)[0].reason
    assert not sim.of(events.InvoiceAccepted)


# For nothing --------------------------------------------------------------------------------------


async def test_an_invoice_of_nothing_for_an_agreement_without_an_activity_is_accepted():
    refusing = SimulatedProvider(name="amber", behaviour=Refusing(what="activity", times=1))
    sim = Simulation([refusing, SimulatedProvider(name="basil")])
    async with sim.running() as cluster:
        await cluster.wait("running")
        await sim.until(events.InvoiceReceived)
        (failed,) = sim.of(events.ActivityCreateFailed)
        (accepted,) = sim.of(events.InvoiceAccepted)
        assert (accepted.agreement_id, accepted.amount) == (failed.agreement_id, 0)
        again = Invoice(
            id="again",
            agreement_id=failed.agreement_id,
            activity_ids=(),
            amount=D(0),
            issued_at=sim.compute.now(),
        )
        await sim.compute._engine.core.billing.judge(again)
        assert "accepted before" in sim.of(events.InvoiceRejected)[0].reason
    known = Reputations(timedelta(days=1))
    known.learn_all(sim.events)
    assert known.failures(failed.provider_id) == pytest.approx(1, rel=0.01)


async def test_an_invoice_for_an_agreement_without_an_activity_is_rejected(monkeypatch):
    invoice = Deal._invoice
    monkeypatch.setattr(Deal, "_invoice", lambda self, _, *rest: invoice(self, D(1), *rest))
    refusing = SimulatedProvider(name="amber", behaviour=Refusing(what="activity", times=1))
    sim = Simulation([refusing])
    async with sim.running() as cluster:
        await sim.until(events.InvoiceReceived)
        (failed,) = sim.of(events.ActivityCreateFailed)
        assert failed.by == "provider"
        (rejected,) = sim.of(events.InvoiceRejected)
        assert rejected.reason == "there was no activity in this agreement"
        cluster.stop()
    assert sim.paid == 0


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        ("activities.create", events.ActivityCreateFailed),
        ("market.wait_approval", events.AgreementRejected),
    ],
)
async def test_what_our_daemon_fails_at_is_not_held_against_a_provider(call, kind):
    sim = Simulation(1, faults=f"{call}@1=error:500")
    async with sim.running() as cluster:
        await cluster.wait("running")
    (failed,) = sim.of(kind)
    assert failed.by == "network"
    known = Reputations(timedelta(days=1))
    known.learn_all(sim.events)
    assert known.failures(failed.provider_id) == 0


# Twice --------------------------------------------------------------------------------------------


async def test_what_is_remembered_of_the_notes_of_an_agreement_does_not_grow_and_answers_repeats():
    sim = Simulation([SimulatedProvider(name="amber", debit_note_sec=10)])
    seen = []
    async with sim.running(expiration=timedelta(hours=3)) as cluster:
        await cluster.wait("running")
        billing = sim.compute._engine.core.billing
        judge = billing.judge

        async def watched(item):
            seen.append(item)
            await judge(item)

        billing.judge = watched
        await asyncio.sleep(2 * 3600)
        (contract,) = billing._contracts.values()
        assert len(seen) > 600
        assert len(contract.judged) == 100
        await judge(seen[-50])
        await cluster.stop()
        await sim.until(events.InvoiceAccepted)
        (settled,) = billing._settled.values()
        assert len(settled.judged) == 9
        for item in seen[-3:]:
            await judge(item)
    assert not sim.of(events.DebitNoteRejected)
    assert not sim.of(events.InvoiceRejected)
    assert len(sim.of(events.InvoiceAccepted)) == 1
