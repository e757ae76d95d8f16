"""Market and payments of the port on the real daemon; the provider's side is played by hand."""

from __future__ import annotations

import asyncio
import dataclasses
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from devnet.deals import MARKET, first, offer_of, opened, send_invoice

from requestor_sdk.model.errors import NotAvailable, PaymentError
from requestor_sdk.model.market import AgreementState, Demand, EndReason, ProposalState
from requestor_sdk.networks.golem import GolemNetwork

pytestmark = pytest.mark.devnet(providers=0, identities=3)

DONE = EndReason(message="done", code="Success")


class Deal:
    """A requestor's network, and a provider played by hand."""

    def __init__(self, network, provider, tag):
        self.network, self.provider, self.tag = network, provider, tag
        self.market, self.payments = network.market, network.payments
        self.drafts = 0

    async def allocations(self):
        """Return the requestor's allocations as the daemon has them, those of nothing as well."""
        return await self.payments._daemon.call("GET", "/payment-api/v1/allocations")

    async def draft(self):
        """Negotiate until there is a draft; return it."""
        self.drafts += 1
        tag = f"{self.tag}-{self.drafts}"
        expiration = int(datetime.now().timestamp() + 900) * 1000
        self.demand = Demand(
            properties={"golem.srv.comp.expiration": expiration},
            constraints=f"(golem.runtime.name={tag})",
        )
        offer = offer_of(self.provider, tag)
        self.offer_id = await self.provider.call("POST", f"{MARKET}/offers", body=offer)
        self.demand_id = await self.market.subscribe(self.demand)
        (seen,) = await self.market.collect(self.demand_id)
        assert seen.state is ProposalState.initial
        step = await self.market.counter(seen, self.demand)
        offers = f"{MARKET}/offers/{self.offer_id}"
        heard = await first(self.provider, f"{offers}/events", "ProposalEvent")
        self.asked = heard["proposal"]["properties"]
        path = f"{offers}/proposals/{heard['proposal']['proposalId']}"
        await self.provider.call("POST", path, body=offer)
        (draft,) = await self.market.collect(self.demand_id)
        assert (draft.state, draft.previous_id) == (ProposalState.draft, step)
        return draft

    async def confirmed(self):
        """Return the id of an agreement that the provider has to answer."""
        until = datetime.now(UTC) + timedelta(minutes=10)
        made = await self.market.create_agreement(await self.draft(), valid_to=until)
        assert (await self.market.agreement_state(made)).state is AgreementState.proposed
        await self.market.confirm(made)
        await first(self.provider, f"{MARKET}/offers/{self.offer_id}/events", "AgreementEvent")
        return made

    async def agreement(self):
        """Return the id of an agreement that both have approved."""
        made = await self.confirmed()
        told, _ = await asyncio.gather(
            self.market.wait_approval(made, timeout=10), self.answer(made, "approve")
        )
        assert told.approved
        return made

    async def answer(self, agreement_id, what, body=None):
        path = f"{MARKET}/agreements/{agreement_id}/{what}"
        await self.provider.call("POST", path, params={"timeout": 10}, body=body)


@asynccontextmanager
async def dealing(devnet, run_id, *, who=0):
    network = GolemNetwork(devnet.config)
    await network.open(run_id=run_id)
    try:
        async with opened(devnet.provider_configs[who]) as provider:
            yield Deal(network, provider, f"for-{run_id}")
    finally:
        await network.close()


# Market -----------------------------------------------------------------------------------------


async def test_an_offer_becomes_an_agreement_and_the_agreement_ends(devnet):
    async with dealing(devnet, "market-1") as deal:
        agreement = await deal.agreement()
        assert deal.asked["golem.com.payment.chosen-platform"] == devnet.config.platform
        assert (await deal.market.agreement_state(agreement)).state is AgreementState.approved
        await deal.market.terminate(agreement, DONE)
        await deal.market.terminate(agreement, DONE)
        status = await deal.market.agreement_state(agreement)
        assert (status.state, status.reason) == (AgreementState.terminated, "done")
        with pytest.raises(TimeoutError):  # nobody else ended it
            await asyncio.wait_for(deal.market.agreement_events(), 1)
        await deal.market.unsubscribe(deal.demand_id)
        await deal.market.unsubscribe(deal.demand_id)
        with pytest.raises(NotAvailable):
            await deal.market.collect(deal.demand_id)


async def test_an_agreement_that_the_provider_ends_is_told_of_once(devnet):
    async with dealing(devnet, "market-2") as deal:
        agreement = await deal.agreement()
        reason = {"message": "tired", "golem.provider.code": "Shutdown"}
        waiting = asyncio.create_task(deal.market.agreement_events())
        await deal.answer(agreement, "terminate", reason)
        (ended,) = await asyncio.wait_for(waiting, 5)
        assert ended.agreement_id == agreement
        assert ended.reason == EndReason(message="tired", code="Shutdown")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(deal.market.agreement_events(), 1)


async def test_an_agreement_that_the_provider_rejects_has_the_reason(devnet):
    async with dealing(devnet, "market-3") as deal:
        agreement = await deal.confirmed()
        waiting = asyncio.create_task(deal.market.wait_approval(agreement, timeout=10))
        await deal.answer(agreement, "reject", {"message": "no room"})
        told = await waiting
        assert (told.approved, told.reason) == (False, "no room")


async def test_an_agreement_that_nobody_answers_is_found_and_cancelled(devnet):
    async with dealing(devnet, "market-4") as deal:
        agreement = await deal.confirmed()
        told = await deal.market.wait_approval(agreement, timeout=0.5)
        assert (told.approved, told.reason) == (False, "no answer within 0.5 s")
    # Another process, e.g. a recovery of the run.
    async with dealing(devnet, "market-4") as deal:
        assert (await deal.market.agreement_state(agreement)).state is AgreementState.pending
        await deal.market.terminate(agreement, DONE)
        assert (await deal.market.agreement_state(agreement)).state is AgreementState.cancelled


async def test_news_of_one_run_do_not_reach_another(devnet):
    async with (
        dealing(devnet, "market-5") as deal,
        dealing(devnet, "market-6") as other,
        dealing(devnet, "market-5") as recovery,
    ):
        agreement = await deal.agreement()
        await deal.answer(agreement, "terminate", {"message": "tired"})
        (ended,) = await asyncio.wait_for(recovery.market.agreement_events(), 5)
        assert ended.agreement_id == agreement
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(other.market.agreement_events(), 1)


async def test_an_agreement_that_never_was_is_not_there(devnet):
    async with dealing(devnet, "market-7") as deal:
        assert await deal.market.agreement_state("0" * 64) is None
        await deal.market.terminate("0" * 64, DONE)


async def test_the_daemon_dies_and_nothing_but_the_demand_is_lost(devnet):
    async with dealing(devnet, "market-8") as deal:
        agreement = await deal.agreement()
        ended = await deal.agreement()
        await deal.answer(ended, "terminate", {"message": "tired"})
        (first_news,) = await deal.market.agreement_events()
        assert first_news.agreement_id == ended
        await devnet.daemon.kill()
        await devnet.daemon.start()
        with pytest.raises(NotAvailable):
            await deal.market.collect(deal.demand_id)
        assert (await deal.market.agreement_state(agreement)).state is AgreementState.approved
        await deal.answer(agreement, "terminate", {"message": "tired, too"})
        (news,) = await asyncio.wait_for(deal.market.agreement_events(), 5)
        assert news.agreement_id == agreement
        again = await deal.market.subscribe(deal.demand)
        await deal.market.unsubscribe(again)


# Payments ---------------------------------------------------------------------------------------


async def test_an_allocation_is_made_amended_listed_and_released(devnet):
    async with dealing(devnet, "money-1") as deal:
        amount = Decimal("1.000000000000012345")
        made = await deal.payments.allocate(amount)
        found = {one.id: one for one in await deal.payments.allocations()}[made]
        assert (found.amount, found.spent) == (amount, 0)
        assert abs((found.created_at - datetime.now(UTC)).total_seconds()) < 30
        await deal.payments.amend_allocation(made, 2 * amount)
        found = {one.id: one for one in await deal.payments.allocations()}[made]
        assert found.amount == 2 * amount
        for _ in range(2):
            await deal.payments.release_allocation(made)
        assert made not in {one.id for one in await deal.payments.allocations()}
        with pytest.raises(PaymentError):
            await deal.payments.amend_allocation(made, amount)


async def test_an_invoice_is_heard_of_accepted_and_paid_once(devnet):
    async with dealing(devnet, "money-2") as deal:
        agreement = await deal.agreement()
        allocation = await deal.payments.allocate(Decimal(1))
        await deal.market.terminate(agreement, DONE)
        waiting = asyncio.create_task(deal.payments.payment_events())
        sent = await send_invoice(deal.provider, agreement, "0.125")
        (invoice,) = await asyncio.wait_for(waiting, 10)
        assert (invoice.id, invoice.agreement_id, invoice.amount) == (
            sent,
            agreement,
            Decimal("0.125"),
        )
        assert sent in {one.id for one in await deal.payments.unsettled()}
        for _ in range(2):
            await deal.payments.accept_invoice(invoice, allocation)
        (left,) = [one for one in await deal.payments.allocations() if one.id == allocation]
        assert left.spent == Decimal("0.125")
        assert sent not in {one.id for one in await deal.payments.unsettled()}
        await deal.payments.release_allocation(allocation)
        await deal.payments.accept_invoice(invoice, allocation)  # told once more, and not paid
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(deal.payments.payment_events(), 1.5)


async def test_an_invoice_of_nothing_is_accepted_without_an_allocation(devnet):
    async with dealing(devnet, "money-3") as deal:
        agreement = await deal.agreement()
        await deal.market.terminate(agreement, DONE)
        await send_invoice(deal.provider, agreement, "0")
        (invoice,) = await asyncio.wait_for(deal.payments.payment_events(), 10)
        before = {one.id for one in await deal.payments.allocations()}
        await deal.payments.accept_invoice(invoice, "")
        (told,) = [one for one in await deal.payments.unsettled() if one.id == invoice.id]
        assert told.paid
        assert {one["allocationId"] for one in await deal.allocations()} == before


async def test_an_invoice_of_something_is_not_accepted_without_an_allocation(devnet):
    async with dealing(devnet, "money-4") as deal:
        agreement = await deal.agreement()
        await deal.market.terminate(agreement, DONE)
        await send_invoice(deal.provider, agreement, "0.5")
        (invoice,) = await asyncio.wait_for(deal.payments.payment_events(), 10)
        before = {one.id for one in await deal.payments.allocations()}
        small = await deal.payments.allocate(Decimal("0.25"))
        for allocation in ("", "no-such-allocation", small):
            with pytest.raises(PaymentError, match="Not enough funds"):
                await deal.payments.accept_invoice(invoice, allocation)
        await deal.payments.release_allocation(small)
        with pytest.raises(PaymentError, match="Not enough funds"):
            await deal.payments.accept_invoice(invoice, small)
        assert {one.id for one in await deal.payments.allocations()} == before


async def test_an_invoice_is_rejected_and_the_provider_hears_why(devnet):
    async with dealing(devnet, "money-5") as deal:
        agreement = await deal.agreement()
        await deal.market.terminate(agreement, DONE)
        sent = await send_invoice(deal.provider, agreement, "9")
        (invoice,) = await asyncio.wait_for(deal.payments.payment_events(), 10)
        for _ in range(2):
            await deal.payments.reject_invoice(invoice, "9 is above 5")
        seen = await deal.provider.call("GET", f"/payment-api/v1/invoices/{sent}")
        assert seen["status"] == "REJECTED"
        assert invoice.id not in {one.id for one in await deal.payments.unsettled()}
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(deal.payments.payment_events(), 1.5)


@pytest.mark.parametrize(("driver", "chain"), [("erc20", "nonet"), ("foo", "hoodi")])
async def test_a_platform_that_the_daemon_cannot_pay_on_is_named(devnet, driver, chain):
    odd = dataclasses.replace(devnet.config, payment_driver=driver, payment_network=chain)
    network = GolemNetwork(odd)
    await network.open(run_id="money-6")
    try:
        with pytest.raises(PaymentError, match=f"on {driver}-{chain}-tglm: .*Invalid") as caught:
            await network.payments.allocate(Decimal(1))
        assert "--payment-network" in caught.value.hint
    finally:
        await network.close()
