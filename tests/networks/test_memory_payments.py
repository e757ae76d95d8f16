import asyncio
from dataclasses import replace
from decimal import Decimal

import pytest
from networks.stage import Stage

from requestor_sdk.model.errors import PaymentError
from requestor_sdk.model.market import DebitNote, Invoice
from requestor_sdk.ports.provider import NoteJudged


async def noted(stage, activity_id, total):
    await stage.provider.send_debit_note(
        activity_id=activity_id, total=Decimal(total), usage=(Decimal(1),)
    )
    (note,) = await stage.network.payments.payment_events()
    assert isinstance(note, DebitNote)
    return note


async def invoiced(stage, agreement_id, activity_id, amount):
    await stage.provider.send_invoice(
        agreement_id=agreement_id, activity_ids=[activity_id], amount=Decimal(amount)
    )
    (invoice,) = await stage.network.payments.payment_events()
    assert isinstance(invoice, Invoice)
    return invoice


async def test_debit_notes_count_towards_the_invoice_and_each_amount_is_paid_once():
    stage = Stage()
    agreement_id, activity_id = await stage.activity()
    payments = stage.network.payments
    allocation = await payments.allocate(Decimal(10))
    first = await noted(stage, activity_id, "1")
    await payments.accept_debit_note(first, allocation)
    await payments.accept_debit_note(first, allocation)
    assert stage.provider.balance == 1
    await payments.accept_debit_note(await noted(stage, activity_id, "2.5"), allocation)
    assert stage.provider.balance == Decimal("2.5")
    invoice = await invoiced(stage, agreement_id, activity_id, "3")
    await payments.accept_invoice(invoice, allocation)
    await payments.accept_invoice(invoice, allocation)
    assert stage.provider.balance == stage.market.bank.paid(agreement_id) == 3


async def test_an_acceptance_above_the_allocation_is_refused_and_moves_nothing():
    stage = Stage()
    agreement_id, activity_id = await stage.activity()
    payments = stage.network.payments
    allocation = await payments.allocate(Decimal(2))
    note = await noted(stage, activity_id, "3")
    with pytest.raises(PaymentError):
        await payments.accept_debit_note(note, allocation)
    invoice = await invoiced(stage, agreement_id, activity_id, "4")
    with pytest.raises(PaymentError):
        await payments.accept_invoice(invoice, allocation)
    assert stage.provider.balance == 0
    await payments.amend_allocation(allocation, Decimal(3))
    await payments.accept_debit_note(note, allocation)
    assert stage.provider.balance == 3
    with pytest.raises(PaymentError):
        await payments.amend_allocation(allocation, Decimal(1))


async def test_a_released_allocation_pays_nothing():
    stage = Stage()
    _, activity_id = await stage.activity()
    allocation = await stage.network.payments.allocate(Decimal(2))
    note = await noted(stage, activity_id, "1")
    await stage.network.payments.release_allocation(allocation)
    await stage.network.payments.release_allocation(allocation)
    with pytest.raises(PaymentError):
        await stage.network.payments.accept_debit_note(note, allocation)


async def test_an_invoice_that_adds_nothing_needs_no_allocation():
    stage = Stage()
    agreement_id, activity_id = await stage.activity()
    payments = stage.network.payments
    allocation = await payments.allocate(Decimal(10))
    await payments.release_allocation(allocation)
    await payments.accept_invoice(await invoiced(stage, agreement_id, activity_id, "0"), allocation)
    assert not await payments.unsettled()
    assert stage.provider.balance == 0


@pytest.mark.parametrize("amount", ["0", "-1", "NaN", "Infinity"])
async def test_an_allocation_must_be_above_zero(amount):
    with pytest.raises(PaymentError):
        await Stage().network.payments.allocate(Decimal(amount))


async def test_the_provider_is_told_how_its_notes_were_judged():
    stage = Stage()
    agreement_id, activity_id = await stage.activity()
    allocation = await stage.network.payments.allocate(Decimal(2))
    note = await noted(stage, activity_id, "1")
    await stage.network.payments.reject_debit_note(note, "too much")
    judged = await stage.event(NoteJudged)
    assert judged == NoteJudged(note_id=note.id, accepted=False, reason="too much")
    await stage.network.payments.accept_debit_note(note, allocation)
    assert stage.provider.balance == 0
    invoice = await invoiced(stage, agreement_id, activity_id, "1")
    await stage.network.payments.accept_invoice(invoice, allocation)
    assert (await stage.event(NoteJudged)).note_id == invoice.id


async def test_a_note_that_no_provider_sent_is_not_paid():
    stage = Stage()
    _agreement_id, activity_id = await stage.activity()
    allocation = await stage.network.payments.allocate(Decimal(2))
    note = await noted(stage, activity_id, "1")
    for forged in (replace(note, id="other"), replace(note, agreement_id="other")):
        with pytest.raises(PaymentError):
            await stage.network.payments.accept_debit_note(forged, allocation)


async def test_nobody_bills_an_agreement_that_was_not_approved():
    stage = Stage()
    agreement_id = await stage.pending()
    with pytest.raises(PaymentError):
        await stage.provider.send_invoice(
            agreement_id=agreement_id, activity_ids=[], amount=Decimal(1)
        )


async def test_of_unread_debit_notes_of_an_activity_only_the_last_is_told():
    stage = Stage()
    agreement_id, activity_id = await stage.activity()
    for total in (1, 2, 3):
        await stage.provider.send_debit_note(
            activity_id=activity_id, total=Decimal(total), usage=()
        )
    await stage.provider.send_invoice(
        agreement_id=agreement_id, activity_ids=[activity_id], amount=Decimal(3)
    )
    note, invoice = await stage.network.payments.payment_events()
    assert (note.total, invoice.amount) == (3, 3)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(stage.network.payments.payment_events(), 1)
