import asyncio
from datetime import timedelta

import pytest
from networks.stage import DEMAND, OFFER, Stage, key

from requestor_sdk.model.errors import (
    AgreementRefused,
    NotAvailable,
    PayloadError,
    SignatureInvalid,
)
from requestor_sdk.model.market import Demand, EndReason, Offer, ProposalState
from requestor_sdk.networks.memory import BY_OFFER, MemoryTransport
from requestor_sdk.ports.provider import AgreementTerminated, DemandReceived

DONE = EndReason(message="done")


async def test_an_offer_yields_one_initial_proposal_for_each_demand():
    stage = Stage()
    await stage.provider.publish(OFFER)
    first = await stage.network.market.subscribe(DEMAND)
    second = await stage.network.market.subscribe(DEMAND)
    (one,) = await stage.network.market.collect(first)
    (two,) = await stage.network.market.collect(second)
    assert one.state is two.state is ProposalState.initial
    assert one.provider_id == stage.provider.identity
    assert one.provider_name == "amber"
    assert one.id != two.id


async def test_a_new_offer_reaches_a_demand_that_stands_already():
    stage = Stage()
    demand_id = await stage.network.market.subscribe(DEMAND)
    waiting = asyncio.create_task(stage.network.market.collect(demand_id))
    await stage.settle()
    assert not waiting.done()
    await stage.provider.publish(OFFER)
    assert len(await waiting) == 1


@pytest.mark.parametrize(
    "offer",
    [
        Offer(properties={"golem.inf.mem.gib": 0.5}),
        Offer(properties={"golem.inf.mem.gib": 2}, constraints="(golem.node.debug.subnet=other)"),
    ],
)
async def test_both_sides_constraints_must_hold_for_a_match(offer):
    stage = Stage()
    demand_id = await stage.network.market.subscribe(DEMAND)
    await stage.provider.publish(offer)
    await stage.provider.publish(OFFER)
    (only,) = await stage.network.market.collect(demand_id)
    assert only.properties == OFFER.properties


async def test_a_cancelled_collect_loses_no_proposal():
    stage = Stage()
    demand_id = await stage.network.market.subscribe(DEMAND)
    waiting = asyncio.create_task(stage.network.market.collect(demand_id))
    await stage.settle()
    await stage.provider.publish(OFFER)
    waiting.cancel()
    await asyncio.wait({waiting})
    assert waiting.cancelled()
    assert len(await stage.network.market.collect(demand_id)) == 1


async def test_who_waits_for_proposals_of_a_withdrawn_demand_is_told():
    stage = Stage()
    demand_id = await stage.network.market.subscribe(DEMAND)
    waiting = asyncio.create_task(stage.network.market.collect(demand_id))
    await stage.settle()
    await stage.network.market.unsubscribe(demand_id)
    await stage.network.market.unsubscribe(demand_id)
    with pytest.raises(NotAvailable):
        await waiting


async def test_a_property_that_could_not_be_signed_is_refused_at_once():
    with pytest.raises(PayloadError):
        await Stage().network.market.subscribe(Demand(properties={"a": object()}))


async def test_a_proposal_is_answered_only_once():
    stage = Stage()
    await stage.provider.publish(OFFER)
    demand_id = await stage.network.market.subscribe(DEMAND)
    (initial,) = await stage.network.market.collect(demand_id)
    await stage.network.market.counter(initial, DEMAND)
    with pytest.raises(AgreementRefused):
        await stage.network.market.counter(initial, DEMAND)


async def test_a_declined_demand_comes_back_with_the_providers_reason():
    stage = Stage()
    await stage.provider.publish(OFFER)
    demand_id = await stage.network.market.subscribe(DEMAND)
    (initial,) = await stage.network.market.collect(demand_id)
    step = await stage.network.market.counter(initial, DEMAND)
    asked = await stage.event(DemandReceived)
    await stage.provider.decline(asked.proposal_id, "too long")
    (answer,) = await stage.network.market.collect(demand_id)
    assert (answer.state, answer.reason) == (ProposalState.rejected, "too long")
    assert answer.previous_id == step


async def test_both_sides_sign_the_same_body():
    stage = Stage()
    agreement_id = await stage.approved()
    agreement = stage.market.agreement(agreement_id)
    body = agreement.body.canonical()
    assert key(9).verify(key(1).identity, body, agreement.requestor_signature)
    assert key(9).verify(key(2).identity, body, agreement.provider_signature)


async def test_a_provider_that_signs_with_a_foreign_key_is_found_out():
    class Tampering(MemoryTransport):
        async def approve(self, agreement_id):
            agreement = self._market.agreement(agreement_id)
            agreement.approve(key(7).sign(agreement.body.canonical()), self._market.clock.now())

    stage = Stage(Tampering)
    agreement_id = await stage.pending()
    await stage.provider.approve(agreement_id)
    with pytest.raises(SignatureInvalid) as caught:
        await stage.network.market.wait_approval(agreement_id, timeout=1)
    assert caught.value.ids["agreement"] == agreement_id
    assert (await stage.event(AgreementTerminated)).agreement_id == agreement_id


async def test_a_requestor_that_signs_something_else_is_not_approved():
    class Tampering:
        identity = key(1).identity

        def sign(self, message):
            return key(1).sign(message + b" ")

    stage = Stage(requestor=Tampering())
    agreement_id = await stage.pending()
    with pytest.raises(SignatureInvalid):
        await stage.provider.approve(agreement_id)
    answer = await stage.network.market.wait_approval(agreement_id, timeout=1)
    assert not answer.approved
    assert "signature" in answer.reason


async def test_an_agreement_consumes_its_offer_and_who_waits_for_it_is_told():
    stage = Stage()
    await stage.provider.publish(OFFER)
    _, draft = await stage.draft()
    other, other_draft = await stage.draft()
    third = await stage.network.market.subscribe(DEMAND)
    (initial,) = await stage.network.market.collect(third)
    await stage.network.market.counter(initial, DEMAND)
    first = await stage.network.market.create_agreement(draft, valid_to=stage.soon)
    await stage.network.market.confirm(first)
    with pytest.raises(AgreementRefused):
        await stage.network.market.create_agreement(other_draft, valid_to=stage.soon)
    (gone,) = await stage.network.market.collect(third)
    assert gone.state is ProposalState.rejected
    fourth = await stage.network.market.subscribe(DEMAND)
    waiting = asyncio.create_task(stage.network.market.collect(fourth))
    await stage.settle()
    assert not waiting.done()
    await stage.network.market.unsubscribe(fourth)
    with pytest.raises(NotAvailable):
        await waiting
    await stage.network.market.unsubscribe(other)


async def test_of_two_agreements_from_one_offer_only_the_first_is_confirmed():
    stage = Stage()
    await stage.provider.publish(OFFER)
    drafts = [(await stage.draft())[1] for _ in range(2)]
    made = [await stage.network.market.create_agreement(d, valid_to=stage.soon) for d in drafts]
    await stage.network.market.confirm(made[1])
    with pytest.raises(AgreementRefused):
        await stage.network.market.confirm(made[0])


async def test_a_late_approval_of_a_cancelled_agreement_is_refused():
    stage = Stage()
    agreement_id = await stage.pending()
    await stage.network.market.terminate(agreement_id, EndReason(message="stopped"))
    await stage.network.market.terminate(agreement_id, EndReason(message="again"))
    with pytest.raises(AgreementRefused):
        await stage.provider.approve(agreement_id)
    told = await stage.event(AgreementTerminated)
    assert told.reason.message == "stopped"
    answer = await stage.network.market.wait_approval(agreement_id, timeout=1)
    assert not answer.approved


async def test_a_rejected_agreement_tells_why():
    stage = Stage()
    agreement_id = await stage.pending()
    await stage.provider.decline_agreement(agreement_id, "full")
    answer = await stage.network.market.wait_approval(agreement_id, timeout=1)
    assert (answer.approved, answer.reason) == (False, "full")


async def test_no_answer_in_time_is_no_approval_and_leaves_the_agreement_pending():
    stage = Stage()
    agreement_id = await stage.pending()
    answer = await stage.network.market.wait_approval(agreement_id, timeout=5)
    assert not answer.approved
    await stage.provider.approve(agreement_id)
    assert (await stage.network.market.wait_approval(agreement_id, timeout=5)).approved


async def test_an_agreement_expires_where_it_is_not_approved_until_valid_to():
    stage = Stage()
    agreement_id = await stage.pending()
    answer = await stage.network.market.wait_approval(agreement_id, timeout=3600)
    assert "in time" in answer.reason
    with pytest.raises(AgreementRefused):
        await stage.provider.approve(agreement_id)


async def test_an_end_by_the_provider_reaches_the_requestor_once():
    stage = Stage()
    agreement_id = await stage.approved()
    await stage.provider.terminate(agreement_id, EndReason(message="out", code="Expired"))
    await stage.provider.terminate(agreement_id, DONE)
    (ended,) = await stage.network.market.agreement_events()
    assert (ended.agreement_id, ended.reason.code) == (agreement_id, "Expired")
    await stage.network.market.terminate(agreement_id, DONE)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(stage.network.market.agreement_events(), 1)


async def test_a_provider_that_leaves_ends_what_it_had_and_rejects_what_it_was_asked():
    stage = Stage()
    approved = await stage.approved()
    pending = await stage.pending()
    await stage.provider.close()
    await stage.provider.close()
    (ended,) = await stage.network.market.agreement_events()
    assert ended.agreement_id == approved
    assert not (await stage.network.market.wait_approval(pending, timeout=1)).approved


async def test_a_provider_that_waits_for_events_is_told_when_its_end_is_closed():
    stage = Stage()
    waiting = asyncio.create_task(stage.provider.next_event())
    await stage.settle()
    await stage.provider.close()
    with pytest.raises(NotAvailable, match="left the market"):
        await asyncio.wait_for(waiting, 1)


async def test_an_agreement_is_no_business_of_another_provider():
    stage = Stage()
    agreement_id = await stage.pending()
    with pytest.raises(NotAvailable):
        await stage.another_provider().approve(agreement_id)


async def test_the_match_report_counts_each_providers_latest_offer_and_what_rules_it_out():
    stage = Stage()
    picky = stage.another_provider(3)
    small = stage.another_provider(4)
    await stage.provider.publish(Offer(properties={"golem.inf.mem.gib": 0.1}))
    withdrawn = await stage.provider.publish(OFFER)
    await stage.provider.withdraw(withdrawn)
    await picky.publish(Offer(properties=OFFER.properties, constraints="(project=x)"))
    await small.publish(Offer(properties={"golem.inf.mem.gib": 0.5}))
    report = await stage.network.market.match_report(DEMAND)
    assert (report.offers, report.matching, report.complete) == (3, 1, True)
    assert report.matching_offers == (OFFER.properties,)
    assert set(report.ruled_out) == {
        ("(golem.inf.mem.gib>=1)", 1),
        (f"{BY_OFFER}(project=x)", 1),
    }
    await small.close()
    assert (await stage.network.market.match_report(DEMAND)).offers == 2


async def test_time_of_the_market_goes_with_the_loop():
    clock = Stage().market.clock
    before = clock.now()
    await asyncio.sleep(3600)
    assert clock.now() - before == timedelta(hours=1)
