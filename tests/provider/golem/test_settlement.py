"""A provider is paid on the chain, and sees it."""

import asyncio
from decimal import Decimal

import pytest
from provider.golem.stage import START, eventually, rented, serving
from support.golem_requestor import PAYMENT, run

from requestor_sdk.model.props import ACCEPT_TIMEOUT, DEBIT_NOTE_INTERVAL, PAYMENT_TIMEOUT

pytestmark = [
    pytest.mark.chain,
    pytest.mark.devnet(providers=0, identities=3, chain=True),
    pytest.mark.timeout(200),
]


async def test_what_was_accepted_is_what_is_paid_and_seen_by_the_provider(devnet):
    before = await devnet.chain.units(identity(devnet))
    async with (
        serving(devnet, index=2) as agent,
        rented(devnet) as (renter, agreement_id, activity_id),
    ):
        await renter.run(activity_id, *START, run("echo", "work"))
        await renter.destroy(activity_id)
        await renter.terminate(agreement_id)
        invoice = await renter.invoice(agreement_id)
        await renter.accept_invoice(invoice)
        amount = Decimal(invoice["amount"])
        await eventually(lambda: agent.bill.paid == amount, seconds=100)
        assert any("payment of" in line for line in agent.told)
    moved = await devnet.chain.units(identity(devnet)) - before
    assert moved == amount * 10**18


async def test_debit_notes_are_paid_while_the_agreement_goes_on(devnet):
    terms = {PAYMENT_TIMEOUT: 10, DEBIT_NOTE_INTERVAL: 1, ACCEPT_TIMEOUT: 30}
    async with (
        serving(devnet, index=2) as agent,
        rented(devnet, **terms) as (renter, agreement_id, activity_id),
    ):
        await renter.run(activity_id, *START)
        note = await first_note(renter, activity_id)
        assert "paymentDueDate" in note
        body = {"totalAmountAccepted": note["totalAmountDue"], "allocationId": renter.allocation_id}
        await renter.call("POST", f"{PAYMENT}/debitNotes/{note['debitNoteId']}/accept", body)
        due = Decimal(note["totalAmountDue"])
        try:
            await eventually(lambda: agent.bill.paid == due, seconds=100)
        except TimeoutError:
            raise AssertionError((due, agent.bill, agent.told)) from None
        assert agent.agreements == (agreement_id,)


async def first_note(renter, activity_id):
    while True:
        for note in await renter.call("GET", f"{PAYMENT}/debitNotes"):
            if note["activityId"] == activity_id and note["status"] == "RECEIVED":
                return note
        await asyncio.sleep(0.1)


def identity(devnet):
    return devnet.state.identities[2].identity
