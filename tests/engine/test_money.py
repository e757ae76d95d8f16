"""Rules 14 to 17: what is held, payable and spent."""

import asyncio
from datetime import timedelta
from decimal import Decimal

import pytest
from support.world import Simple, World, one_provider

from requestor_sdk import RestartPolicy
from requestor_sdk.model import events
from requestor_sdk.model.errors import BudgetTooSmall
from requestor_sdk.model.market import DebitNote, Invoice


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
        assert "the most that 60 s can have cost" in judged
        spent = compute.budget.spent
        assert compute.budget.spent == spent
    world.check(compute)


async def test_a_second_invoice_and_one_of_an_unknown_agreement_are_refused(world):
    async with world.compute(5) as compute:
        cluster = await compute.run_service(Simple)
        await cluster.wait("running")
        await cluster.stop()
        await asyncio.sleep(1)
        (accepted,) = world.of(events.InvoiceAccepted)
        for agreement_id, reason in (
            (accepted.agreement_id, "was accepted before"),
            ("unknown", "no such agreement"),
        ):
            invoice = Invoice(
                id="again",
                agreement_id=agreement_id,
                activity_ids=(),
                amount=accepted.amount,
                issued_at=compute.now(),
            )
            billing = compute._engine.core.billing
            judged = billing._judge_invoice(invoice, billing._contracts.get(agreement_id))
            assert reason in judged
    world.check(compute)


async def test_amounts_are_decimals_and_a_float_is_taken_by_its_repr(world):
    async with world.compute(0.1) as compute:
        assert compute.budget.total == Decimal("0.1")
    (started,) = world.of(events.ComputationStarted)
    assert started.budget == Decimal("0.1")
