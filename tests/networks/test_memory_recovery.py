"""What a requestor that comes back asks the market: agreements, allocations, unsettled notes."""

from datetime import timedelta
from decimal import Decimal

import pytest
from networks.stage import OFFER, Stage

from requestor_sdk.model.market import AgreementState, EndReason
from requestor_sdk.ports.provider import AgreementTerminated


@pytest.fixture
def stage():
    return Stage()


async def note(stage, activity_id, total):
    return await stage.provider.send_debit_note(
        activity_id=activity_id, total=Decimal(total), usage=(Decimal(1),)
    )


async def invoice(stage, agreement_id, activity_id, amount):
    return await stage.provider.send_invoice(
        agreement_id=agreement_id, activity_ids=[activity_id], amount=Decimal(amount)
    )


async def unsettled(stage):
    return [found.id for found in await stage.network.payments.unsettled()]


async def test_the_state_of_an_agreement_is_told_from_its_making_to_its_end(stage):
    market = stage.network.market
    await stage.provider.publish(OFFER)
    _, draft = await stage.draft()
    agreement_id = await market.create_agreement(draft, valid_to=stage.soon)
    assert (await market.agreement_state(agreement_id)).state is AgreementState.proposed
    await market.confirm(agreement_id)
    assert (await market.agreement_state(agreement_id)).state is AgreementState.pending
    await stage.provider.approve(agreement_id)
    assert (await market.agreement_state(agreement_id)).state is AgreementState.approved
    await stage.provider.terminate(agreement_id, EndReason(message="enough"))
    status = await market.agreement_state(agreement_id)
    assert (status.state, status.reason) == (AgreementState.terminated, "enough")


async def test_an_agreement_that_nobody_approved_in_time_is_told_as_expired(stage):
    agreement_id = await stage.pending()
    later = stage.soon + timedelta(seconds=1)

    class Later:
        def now(self):
            return later

    stage.market.clock = Later()
    status = await stage.network.market.agreement_state(agreement_id)
    assert status.state is AgreementState.expired


async def test_an_agreement_that_never_was_is_told_so(stage):
    assert await stage.network.market.agreement_state("nothing") is None


async def test_allocations_are_listed_with_what_they_reserve_and_have_spent(stage):
    payments = stage.network.payments
    first = await payments.allocate(Decimal(3))
    second = await payments.allocate(Decimal(4))
    agreement_id, activity_id = await stage.activity()
    await invoice(stage, agreement_id, activity_id, "0.5")
    (asked,) = await payments.payment_events()
    await payments.accept_invoice(asked, second)
    listed = await payments.allocations()
    assert [(a.id, a.amount, a.spent) for a in listed] == [
        (first, Decimal(3), Decimal(0)),
        (second, Decimal(4), Decimal("0.5")),
    ]
    assert all(a.created_at.tzinfo is not None for a in listed)
    await payments.release_allocation(first)
    assert [a.id for a in await payments.allocations()] == [second]


async def test_what_a_reader_took_and_did_not_judge_is_still_unsettled(stage):
    payments = stage.network.payments
    allocation = await payments.allocate(Decimal(3))
    agreement_id, activity_id = await stage.activity()
    noted = await note(stage, activity_id, "0.1")
    asked = await invoice(stage, agreement_id, activity_id, "0.2")
    taken = await payments.payment_events()
    assert [found.id for found in taken] == [noted, asked] == await unsettled(stage)
    await payments.reject_debit_note(taken[0], "no")
    assert await unsettled(stage) == [asked]
    await payments.accept_invoice(taken[1], allocation)
    await payments.accept_invoice(taken[1], allocation)
    assert await unsettled(stage) == []
    assert stage.provider.balance == Decimal("0.2")


async def test_of_unsettled_debit_notes_of_one_activity_the_last_is_kept_and_none_after_its_invoice(
    stage,
):
    payments = stage.network.payments
    allocation = await payments.allocate(Decimal(3))
    agreement_id, activity_id = await stage.activity()
    await note(stage, activity_id, "0.1")
    (read,) = await payments.payment_events()
    last = await note(stage, activity_id, "0.2")
    assert await unsettled(stage) == [last]
    # One that was superseded while its reader held it can still be judged.
    await payments.accept_debit_note(read, allocation)
    assert await unsettled(stage) == [last]
    await invoice(stage, agreement_id, activity_id, "0.3")
    _, asked = await payments.payment_events()
    await payments.accept_invoice(asked, allocation)
    assert await unsettled(stage) == []


async def test_ending_an_agreement_twice_tells_its_provider_once(stage):
    agreement_id = await stage.approved()
    for _ in range(2):
        await stage.network.market.terminate(agreement_id, EndReason(message="over"))
    await stage.event(AgreementTerminated)
    await stage.settle()
    assert not stage.provider._events
