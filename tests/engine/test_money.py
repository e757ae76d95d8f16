"""Rules 14 to 17: what is held, payable and spent."""

import asyncio
from datetime import timedelta
from decimal import Decimal

import pytest
from support.services import Simple
from support.world import World, one_provider

from requestor_sdk import RestartPolicy, Settings
from requestor_sdk.engine.contract import Use
from requestor_sdk.model import events
from requestor_sdk.model.errors import BudgetTooSmall, PaymentError
from requestor_sdk.model.market import DebitNote, Invoice
from requestor_sdk.model.money import TOLERANCE_SEC, LinearPricing, Terms


@pytest.fixture
def world():
    return World()


async def test_pending_holds_nothing_and_an_agreement_its_worst_case_to_expiry(world):
    async with world.compute(5) as compute:
        assert compute.budget.held == 0
        cluster = await compute.run_service(Simple, expiration=timedelta(minutes=30))
        await cluster.wait("running")
        (created,) = world.of(events.AgreementCreated)
        assert compute.budget.held == created.held > 0
        assert compute.budget.available == 5 - created.held
        assert compute.budget.total == 5
    world.check(compute)


async def test_hold_for_holds_less_and_ends_the_agreement_in_time(world):
    began = asyncio.get_running_loop().time()
    policy = RestartPolicy(when="always")
    async with world.running(
        expiration=timedelta(hours=10), hold_for=timedelta(minutes=10), restart=policy
    ) as cluster:
        first = world.of(events.AgreementCreated)[0]
        await cluster.wait("pending")
        assert asyncio.get_running_loop().time() - began == pytest.approx(530, abs=5)
        await cluster.wait("running")
        assert world.of(events.AgreementCreated)[1].held <= first.held * 3


async def test_what_was_used_is_paid_and_the_rest_let_go(world):
    async with world.compute(5) as compute:
        cluster = await compute.run_service(Simple)
        await cluster.wait("running")
        await asyncio.sleep(600)
        await cluster.stop()
        await asyncio.sleep(1)
        (invoice,) = world.of(events.InvoiceAccepted)
        assert compute.budget.spent == invoice.amount > 0
        assert compute.budget.held == compute.budget.payable == 0
    assert world.of(events.DebitNoteAccepted)
    assert world.of(events.ComputationFinished)[0].spent == invoice.amount
    world.check(compute)


async def test_debit_notes_are_accepted_while_it_runs_and_never_above_the_budget(world):
    async with world.compute(5) as compute:
        cluster = await compute.run_service(Simple, num_instances=4)
        await cluster.wait("running")
        await asyncio.sleep(900)
        totals = {}
        for note in world.of(events.DebitNoteAccepted):
            assert note.total >= totals.get(note.agreement_id, 0)
            totals[note.agreement_id] = note.total
        assert len(totals) == 4
        assert compute.budget.spent == sum(totals.values())
        ledger = compute._engine.core.ledger
        assert ledger.held + ledger.payable + ledger.spent <= ledger.budget
    world.check(compute)


async def test_an_instance_for_which_there_is_no_room_waits_until_there_is(world):
    world = World(providers=one_provider())
    probe = World(providers=one_provider())
    async with probe.running(expiration=timedelta(minutes=30)):
        worst = probe.of(events.AgreementCreated)[0].held
    async with world.compute(worst * Decimal("1.5")) as compute:
        cluster = await compute.run_service(
            Simple, num_instances=2, expiration=timedelta(minutes=30)
        )
        await cluster.wait("running", count=1)
        await asyncio.sleep(60)
        assert sorted(str(i.state) for i in cluster.instances) == ["pending", "running"]
        assert world.of(events.BudgetExhausted)
        (running,) = await cluster.wait("running", count=1)
        await cluster.stop_instance(running)
        await cluster.wait("running", count=1)
    world.check(compute)


async def test_a_budget_too_small_for_one_instance_is_refused_before_anything_is_signed(world):
    async with world.compute(Decimal("0.0000001")) as compute:
        with pytest.raises(BudgetTooSmall) as raised:
            await compute.run_service(Simple)
        assert "0.0000001" in str(raised.value)
        assert not compute.clusters
    assert not world.of(events.AgreementCreated)


async def test_a_debit_note_above_what_the_time_allows_is_rejected_with_the_reason(world):
    async with world.compute(5) as compute:
        cluster = await compute.run_service(Simple)
        await cluster.wait("running")
        await asyncio.sleep(60)
        (activity,) = world.of(events.ActivityCreated)
        note = DebitNote(
            id="forged",
            agreement_id=activity.agreement_id,
            activity_id=activity.activity_id,
            total=Decimal(1),
            usage=(Decimal(60), Decimal(10**6)),
            issued_at=compute.now(),
        )
        judged = compute._engine.core.billing._judge_note(note)
        assert "at most 130 s can have passed" in judged
        spent = compute.budget.spent
        assert compute.budget.spent == spent
    world.check(compute)


async def test_a_second_invoice_is_refused(world):
    async with world.compute(5) as compute:
        cluster = await compute.run_service(Simple)
        await cluster.wait("running")
        await cluster.stop()
        await asyncio.sleep(1)
        (accepted,) = world.of(events.InvoiceAccepted)
        invoice = Invoice(
            id="again",
            agreement_id=accepted.agreement_id,
            activity_ids=(),
            amount=accepted.amount,
            issued_at=compute.now(),
        )
        await compute._engine.core.billing.judge(invoice)
        (rejected,) = world.of(events.InvoiceRejected)
        assert rejected.invoice_id == "again"
        assert "was accepted before" in rejected.reason
    world.check(compute)


async def test_amounts_are_decimals_and_a_float_is_taken_by_its_repr(world):
    async with world.compute(0.1) as compute:
        assert compute.budget.total == Decimal("0.1")
    (started,) = world.of(events.ComputationStarted)
    assert started.budget == Decimal("0.1")


async def test_an_agreement_approved_after_a_stop_is_ended_at_once_and_recorded(world):
    async with world.compute() as compute:
        market = world.network.market
        approve = market.wait_approval

        async def slowly(agreement_id, *, timeout):
            await asyncio.sleep(5)
            return await approve(agreement_id, timeout=timeout)

        market.wait_approval = slowly
        cluster = await compute.run_service(Simple)
        await asyncio.sleep(3)
        assert world.of(events.AgreementCreated)
        assert not world.of(events.AgreementConfirmed)
        await cluster.stop()
        await asyncio.sleep(60)
        assert len(world.of(events.AgreementTerminated)) == 1
        assert not world.of(events.ActivityCreated)
        assert compute.budget.available == compute.budget.total
    world.check(compute)


async def test_an_agreement_without_an_invoice_is_left_over_after_its_deadline(world):
    settings = Settings(invoice_deadline=200)
    async with world.compute(settings=settings) as compute:
        payments = world.network.payments
        read = payments.payment_events

        async def without_invoices():
            while True:
                notes = [n for n in await read() if isinstance(n, DebitNote)]
                if notes:
                    return notes

        payments.payment_events = without_invoices
        cluster = await compute.run_service(Simple)
        await cluster.wait("running")
        await asyncio.sleep(100)
        await cluster.stop()
        await asyncio.sleep(100)
        assert compute.budget.held == 0
        assert compute.budget.payable > 0
        await asyncio.sleep(110)
        assert compute.budget.payable == 0
        (left,) = world.of(events.PaymentLeftOver)
        assert left.at_most > 0
    world.check(compute)


async def test_an_invoice_is_counted_as_spent_where_no_debit_note_came_before_it(world):
    async with world.compute() as compute:
        payments = world.network.payments
        read = payments.payment_events

        async def only_invoices():
            while True:
                found = [n for n in await read() if isinstance(n, Invoice)]
                if found:
                    return found

        cluster = await compute.run_service(Simple)
        await cluster.wait("running")
        await asyncio.sleep(130)
        seen = len(world.of(events.DebitNoteAccepted))
        payments.payment_events = only_invoices
        await asyncio.sleep(600)
        assert len(world.of(events.DebitNoteAccepted)) <= seen + 1
        await cluster.stop()
        await asyncio.sleep(1)
        (invoice,) = world.of(events.InvoiceAccepted)
        assert compute.budget.spent == invoice.amount
    world.check(compute)


async def test_loops_that_read_events_survive_errors_of_the_network(world):
    async with world.compute() as compute:
        for port, name in (
            (world.network.payments, "payment_events"),
            (world.network.market, "collect"),
            (world.network.market, "agreement_events"),
            (world.network.activities, "activity_events"),
        ):
            setattr(port, name, failing(getattr(port, name), 5))
        await asyncio.sleep(1)
        cluster = await compute.run_service(Simple)
        await cluster.wait("running")
        world.kill(cluster.instances[0])
        await cluster.wait("terminated")
    world.check(compute)
    loops = {e.loop for e in world.of(events.LoopRetried)}
    assert loops == {"payments", "market", "activities"}
    assert world.of(events.InvoiceAccepted)


def failing(real, times):
    left = [times]

    async def call(*args, **options):
        if left[0]:
            left[0] -= 1
            raise PaymentError("500")
        return await real(*args, **options)

    return call


def test_silent_time_is_not_charged_beyond_a_tolerance():
    terms = Terms(pricing=LinearPricing(coeffs=(Decimal(1), Decimal(0))))
    use = Use(began=100.0)
    assert use.elapsed(160.0) == 60
    use.silent(130.0)
    assert use.elapsed(1000.0) == 30
    assert terms.most(use.elapsed(1000.0)) == 30 + TOLERANCE_SEC
    use.answers(150.0)
    assert use.elapsed(160.0) == 40
    use.ended = 150.0
    assert use.elapsed(1000.0) == 30
