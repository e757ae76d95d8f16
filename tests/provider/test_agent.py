import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from networks.stage import key
from provider.fake_runtime import FakeRuntime
from provider.rental import DONE, PRICING, Rental

from requestor_sdk.model.errors import (
    ActivityRefused,
    EngineFailed,
    NotAvailable,
    ProviderLost,
    SandboxUnavailable,
)
from requestor_sdk.model.market import ActivityState, EndReason, ProposalState
from requestor_sdk.model.money import LinearPricing, Terms
from requestor_sdk.model.notes import Charged, check_debit_note, check_invoice
from requestor_sdk.model.props import (
    ACCEPT_TIMEOUT,
    DEBIT_NOTE_INTERVAL,
    EXPIRATION,
    INF_MEM,
    NODE_NAME,
    PAYMENT_TIMEOUT,
    SUBNET,
)
from requestor_sdk.networks.memory import MemoryTransport
from requestor_sdk.provider import ProviderAgent, ProviderConfig, default_providers
from requestor_sdk.provider._negotiation import judge

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def ms(when):
    return int(when.timestamp() * 1000)


@pytest.mark.parametrize(
    ("demand", "free", "reason"),
    [
        ({}, 0, "no capacity"),
        ({SUBNET: "other"}, 1, "unknown subnet"),
        ({EXPIRATION: ms(NOW)}, 1, "expired"),
        ({EXPIRATION: ms(NOW + timedelta(days=8))}, 1, "too long"),
        ({EXPIRATION: "soon"}, 1, "bad expiration"),
        ({DEBIT_NOTE_INTERVAL: 0}, 1, "bad debit-note interval"),
        ({DEBIT_NOTE_INTERVAL: 0.01}, 1, "bad debit-note interval"),
        ({DEBIT_NOTE_INTERVAL: "often"}, 1, "bad debit-note interval"),
        ({DEBIT_NOTE_INTERVAL: True}, 1, "bad debit-note interval"),
        ({DEBIT_NOTE_INTERVAL: float("nan")}, 1, "bad debit-note interval"),
    ],
)
def test_a_demand_that_cannot_be_met_is_declined_with_the_reason(demand, free, reason):
    found = judge(ProviderConfig(name="a"), demand, now=NOW, free=free)
    assert isinstance(found, str)
    assert found.startswith(reason) or reason in found


def test_a_demand_that_can_be_met_sets_the_terms():
    demand = {SUBNET: "local", EXPIRATION: ms(NOW + timedelta(hours=1)), DEBIT_NOTE_INTERVAL: 30}
    terms = judge(ProviderConfig(name="a"), demand, now=NOW, free=1)
    assert (terms.expires, terms.interval_sec) == (NOW + timedelta(hours=1), 30.0)


async def test_the_draft_carries_the_offer_and_the_agreed_interval(tmp_path):
    async with Rental(tmp_path, memory_gib=2, properties={"x": 1}).open() as rental:
        draft = await rental.answer(rental.demand(**{DEBIT_NOTE_INTERVAL: 30}))
        assert draft.state is ProposalState.draft
        assert draft.properties[DEBIT_NOTE_INTERVAL] == 30
        assert (draft.properties[INF_MEM], draft.properties["x"]) == (2, 1)
        assert draft.properties[NODE_NAME] == draft.provider_name == "amber"
        assert LinearPricing.from_properties(draft.properties) == PRICING


async def test_a_declined_demand_is_answered_with_the_reason(tmp_path):
    async with Rental(tmp_path).open() as rental:
        answer = await rental.answer(rental.demand(seconds=-1))
        assert answer.state is ProposalState.rejected
        assert "expired" in answer.reason


async def test_an_offer_is_published_again_after_each_agreement_while_there_is_capacity(tmp_path):
    async with Rental(tmp_path, max_activities=2, open_offers=3).open() as rental:
        book = rental.market.book
        assert len(book.offers) == 2
        first = await rental.agreement()
        await asyncio.sleep(1)
        assert len(book.offers) == 1
        await rental.agreement()
        await asyncio.sleep(1)
        assert not book.offers
        assert (await rental.network.market.match_report(rental.demand())).matching == 1
        await rental.network.market.terminate(first, DONE)
        await asyncio.sleep(1)
        assert len(book.offers) == 1


async def test_a_cancelled_agreement_is_dropped_and_its_place_is_free_again(tmp_path):
    rental = Rental(tmp_path, max_activities=1)
    approving = asyncio.Event()

    class Slow(MemoryTransport):
        async def approve(self, agreement_id):
            await approving.wait()
            await super().approve(agreement_id)

    rental.transport._market.leave(rental.transport.identity)
    rental.agent._transport = Slow(rental.market, key(2))
    async with rental.open():
        renting = asyncio.create_task(rental.agreement())
        await asyncio.sleep(0.1)
        (agreement,) = rental.agent.agreements
        await rental.network.market.terminate(agreement, EndReason(message="stopped"))
        approving.set()
        with pytest.raises(AssertionError, match="stopped"):
            await renting
        await asyncio.sleep(1)
        assert rental.agent.agreements == ()
        await rental.agreement()


async def test_agreements_are_approved_side_by_side(tmp_path):
    class Slow(MemoryTransport):
        async def approve(self, agreement_id):
            await asyncio.sleep(0.5)
            await super().approve(agreement_id)

    rental = Rental(tmp_path, open_offers=1)
    rental.transport._market.leave(rental.transport.identity)
    rental.agent._transport = Slow(rental.market, key(2))
    async with rental.open():
        before = asyncio.get_running_loop().time()
        await asyncio.gather(rental.agreement(), _later(0.1, rental), _later(0.2, rental))
        assert 0.7 <= asyncio.get_running_loop().time() - before < 1


async def _later(seconds, rental):
    await asyncio.sleep(seconds)
    await rental.agreement()


async def test_an_agreement_has_one_living_activity_at_a_time(tmp_path):
    async with Rental(tmp_path).open() as rental:
        agreement, activity = await rental.activity()
        with pytest.raises(ActivityRefused, match="living activity"):
            await rental.network.activities.create(agreement)
        await rental.network.activities.destroy(activity)
        await rental.network.activities.create(agreement)


async def test_debit_notes_come_at_the_interval_and_the_invoice_is_their_last_total(tmp_path):
    async with Rental(tmp_path).open() as rental:
        agreement, activity = await rental.activity(rental.demand(**{DEBIT_NOTE_INTERVAL: 100}))
        rental.sandbox.cpu_sec = 7.25
        allocation = await rental.network.payments.allocate(Decimal(100))
        debit, invoices = await rental.notes(350)
        assert [note.usage for note in debit] == [
            (Decimal(seconds), Decimal("7.25")) for seconds in (100, 200, 300)
        ]
        assert [note.total for note in debit] == [
            Decimal("0.5725") + Decimal("0.001") * s for s in (100, 200, 300)
        ]
        assert not invoices
        for note in debit:
            await rental.network.payments.accept_debit_note(note, allocation)
        await rental.network.market.terminate(agreement, DONE)
        (last,), (invoice,) = await rental.notes(10)
        assert last.usage[0] == 350
        assert invoice.amount == last.total
        assert invoice.activity_ids == (activity,)
        await rental.network.payments.accept_invoice(invoice, allocation)
        await asyncio.sleep(1)
        bill = rental.agent.bill
        assert bill.invoiced == bill.accepted == rental.agent.balance == invoice.amount
        assert rental.agent._transport.balance == invoice.amount


async def test_what_is_billed_passes_the_requestors_own_checks(tmp_path):
    async with Rental(tmp_path).open() as rental:
        agreement, _ = await rental.activity(rental.demand(**{DEBIT_NOTE_INTERVAL: 10}))
        offer = rental.market.agreement(agreement).body.offer.properties
        terms = Terms(pricing=LinearPricing.from_properties(offer))
        debit, _ = await rental.notes(35)
        before = ()
        for place, note in enumerate(debit):
            assert None is check_debit_note(
                terms,
                total=note.total,
                usage=note.usage,
                elapsed_sec=Decimal(10 * (place + 1)),
                accepted=Decimal(0),
                previous_usage=before,
            )
            before = note.usage
        await rental.network.market.terminate(agreement, DONE)
        (last,), (invoice,) = await rental.notes(10)
        assert None is check_invoice(
            terms,
            amount=invoice.amount,
            activities=(Charged(noted=last.total, elapsed_sec=Decimal(35)),),
            payable=Decimal(10),
        )


async def test_the_start_fee_is_due_once_for_each_activity(tmp_path):
    rental = Rental(tmp_path, pricing=LinearPricing(fixed=Decimal(2)))
    async with rental.open():
        agreement, activity = await rental.activity()
        await rental.network.activities.destroy(activity)
        await rental.network.activities.create(agreement)
        await asyncio.sleep(25)
        await rental.network.market.terminate(agreement, DONE)
        _, (invoice,) = await rental.notes(10)
        assert invoice.amount == 4
        assert len(invoice.activity_ids) == 2


async def test_an_activity_that_died_is_billed_until_its_death(tmp_path):
    async with Rental(tmp_path).open() as rental:
        agreement, _ = await rental.activity()
        await asyncio.sleep(5)
        rental.sandbox.die("killed")
        (note,), _ = await rental.notes(60)
        assert note.usage[0] == 5
        await rental.network.market.terminate(agreement, DONE)
        _, (invoice,) = await rental.notes(10)
        assert invoice.amount == note.total


async def test_the_time_that_a_sandbox_takes_to_close_is_not_billed(tmp_path):
    async with Rental(tmp_path).open() as rental:
        _, activity = await rental.activity()
        close = rental.sandbox.close

        async def slowly():
            await asyncio.sleep(3)
            await close()

        rental.sandbox.close = slowly
        await asyncio.sleep(5)
        await rental.network.activities.destroy(activity)
        (note,), _ = await rental.notes(1)
        assert note.usage[0] == 5


async def test_a_rejected_note_is_counted_and_pays_nothing(tmp_path):
    async with Rental(tmp_path).open() as rental:
        agreement, _ = await rental.activity()
        await rental.network.market.terminate(agreement, DONE)
        (note,), (invoice,) = await rental.notes(10)
        await rental.network.payments.reject_debit_note(note, "no")
        await rental.network.payments.reject_invoice(invoice, "no")
        await asyncio.sleep(1)
        assert (rental.agent.bill.rejected, rental.agent.balance) == (2, 0)


async def test_the_agent_ends_an_agreement_at_its_expiration(tmp_path):
    async with Rental(tmp_path).open() as rental:
        agreement, activity = await rental.activity(rental.demand(seconds=600))
        (ended,) = await rental.network.market.agreement_events()
        assert (ended.agreement_id, ended.reason.code) == (agreement, "Expired")
        debit, (invoice,) = await rental.notes(10)
        assert Decimal(599) <= debit[-1].usage[0] <= Decimal(601)
        assert invoice.amount == debit[-1].total
        assert rental.sandbox.closed
        state = await rental.network.activities.state(activity)
        assert state is ActivityState.terminated


async def test_the_agent_ends_an_agreement_that_has_no_activity_for_long(tmp_path):
    async with Rental(tmp_path, idle_timeout_sec=50).open() as rental:
        agreement, activity = await rental.activity()
        await asyncio.sleep(500)
        assert rental.agent.agreements == (agreement,)
        before = asyncio.get_running_loop().time()
        await rental.network.activities.destroy(activity)
        (ended,) = await rental.network.market.agreement_events()
        assert ended.reason.code == "NoActivity"
        assert 49 <= asyncio.get_running_loop().time() - before <= 51


async def test_closing_ends_agreements_in_good_order_and_withdraws_all_offers(tmp_path):
    rental = Rental(tmp_path)
    async with rental.open():
        agreement, _activity = await rental.activity()
        await rental.network.activities.activity_events()
        await rental.agent.close()
        (ended,) = await rental.network.market.agreement_events()
        assert (ended.agreement_id, ended.reason.code) == (agreement, "Shutdown")
        assert rental.sandbox.closed
        assert not rental.market.book.offers
        (note,), (invoice,) = await rental.notes(1)
        assert invoice.amount == note.total
        with pytest.raises(NotAvailable):
            await rental.agent.open()


async def test_closing_is_bounded_where_a_sandbox_does_not_close(tmp_path):
    rental = Rental(tmp_path)
    async with rental.open():
        await rental.activity()
        hanging = asyncio.Event()
        close = rental.sandbox.close
        rental.sandbox.close = hanging.wait
        before = asyncio.get_running_loop().time()
        await rental.agent.close()
        assert 1 < asyncio.get_running_loop().time() - before <= 11
        assert not rental.market.book.offers
        await close()


async def test_a_provider_that_serves_others_refuses_a_runtime_that_does_not_isolate(tmp_path):
    rental = Rental(tmp_path, runtime=FakeRuntime(isolates=False), serves_others=True)
    with pytest.raises(SandboxUnavailable, match="serves others"):
        await rental.agent.open()
    await rental.agent.close()
    own = Rental(tmp_path, runtime=FakeRuntime(isolates=False))
    async with own.open():
        await own.activity()


async def test_a_defect_of_the_agent_is_not_hidden_and_the_requestor_loses_the_provider(tmp_path):
    class Broken(FakeRuntime):
        async def create(self, spec):
            raise ZeroDivisionError

    rental = Rental(tmp_path, runtime=Broken())
    await rental.agent.open()
    agreement = await rental.agreement()
    with pytest.raises(ProviderLost, match="left the market"):
        await rental.activity()
    ended = await rental.network.market.agreement_events()
    assert agreement in [event.agreement_id for event in ended]
    with pytest.raises(EngineFailed) as caught:
        await rental.agent.close()
    assert isinstance(caught.value.__cause__, ExceptionGroup)


def test_the_default_providers_differ_and_a_quarter_of_an_hour_costs_about_two_cents():
    providers = default_providers()
    assert len(providers) == 4
    assert len({p.name for p in providers}) == 4
    assert len({(p.memory_gib, p.storage_gib) for p in providers}) > 1
    assert len({p.pricing for p in providers}) == 4
    for provider in providers:
        cost = provider.pricing.worst_case(Decimal(900), Decimal(2))
        assert Decimal("0.01") < cost < Decimal("0.03")
    assert len({p.name for p in default_providers(20)}) == 20


async def test_agents_that_share_a_market_each_have_their_own_offers(tmp_path):
    rental = Rental(tmp_path)
    other = ProviderAgent(
        ProviderConfig(name="birch"),
        MemoryTransport(rental.market, key(3)),
        rental.runtime,
        clock=rental.market.clock,
    )
    async with rental.open():
        await other.open()
        report = await rental.network.market.match_report(rental.demand())
        assert report.matching == 2
        await other.close()
        report = await rental.network.market.match_report(rental.demand())
        assert report.offers == 1


async def test_what_is_agreed_about_payments_is_echoed_and_rubbish_is_declined(tmp_path):
    async with Rental(tmp_path).open() as rental:
        draft = await rental.answer(rental.demand(**{ACCEPT_TIMEOUT: 60, PAYMENT_TIMEOUT: 120.5}))
        assert (draft.properties[ACCEPT_TIMEOUT], draft.properties[PAYMENT_TIMEOUT]) == (60, 120.5)
        plain = await rental.answer()
        assert ACCEPT_TIMEOUT not in plain.properties
        for wrong in ("soon", 0, True, float("inf")):
            declined = await rental.answer(rental.demand(**{ACCEPT_TIMEOUT: wrong}))
            assert declined.state is ProposalState.rejected
            assert ACCEPT_TIMEOUT in declined.reason


async def test_an_agreement_ends_when_its_debit_notes_are_not_accepted_in_the_agreed_time(tmp_path):
    terms = {ACCEPT_TIMEOUT: 30, DEBIT_NOTE_INTERVAL: 10}
    async with Rental(tmp_path).open() as rental:
        _, activity_id = await rental.activity(rental.demand(**terms))
        allocation = await rental.network.payments.allocate(Decimal(10))
        began = rental.market.clock.monotonic()
        # One that is accepted stands for those before it.
        notes, _ = await rental.notes(25)
        await rental.network.payments.accept_debit_note(notes[-1], allocation)
        (ended,) = await rental.network.market.agreement_events()
        assert ended.reason.code == "DebitNotesDeadline"
        assert 60 <= rental.market.clock.monotonic() - began < 62
        states = []
        while ActivityState.terminated not in states:
            changes = await rental.network.activities.activity_events()
            states += [change.state for change in changes if change.activity_id == activity_id]


async def test_without_an_agreed_time_debit_notes_may_wait(tmp_path):
    async with Rental(tmp_path).open() as rental:
        await rental.activity(rental.demand(**{DEBIT_NOTE_INTERVAL: 10}))
        await rental.notes(1000)
        assert rental.agent.agreements
