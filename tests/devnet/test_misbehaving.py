"""Providers on the real daemon that charge too much, end early, answer slowly, or never."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from datetime import timedelta
from decimal import Decimal

import pytest
from support.books import books

from requestor_sdk import (
    Compute,
    GolemNetwork,
    LinearPricing,
    ProviderConfig,
    RestartPolicy,
    Service,
    Settings,
)
from requestor_sdk import events as ev
from requestor_sdk.clock import LoopClock
from requestor_sdk.model.market import EndReason
from requestor_sdk.payload import VmPayload
from requestor_sdk.provider import ProviderAgent
from requestor_sdk.provider.golem import GolemTransport
from requestor_sdk.sandbox import ImageStore, open_runtime

pytestmark = [
    pytest.mark.devnet(providers=0, identities=3),
    pytest.mark.sandbox,
    pytest.mark.timeout(60),
]


SOON = timedelta(minutes=5)


class Brief(Service):
    @staticmethod
    async def get_payload():
        return VmPayload(min_mem_gib=0.1, min_storage_gib=0.1)

    async def run(self):
        script = self.ctx.new_script()
        script.run("/bin/sleep", "1.5")
        yield script


class Honest(GolemTransport):
    """As ours are."""


class Greedy(GolemTransport):
    """Asks for twenty times what is due."""

    async def send_debit_note(self, *, activity_id, total, usage):
        return await super().send_debit_note(activity_id=activity_id, total=20 * total, usage=usage)

    async def send_invoice(self, *, agreement_id, activity_ids, amount):
        return await super().send_invoice(
            agreement_id=agreement_id, activity_ids=activity_ids, amount=20 * amount
        )


class Slow(GolemTransport):
    """Thinks before it answers."""

    async def propose(self, proposal_id, offer):
        await asyncio.sleep(1.0)
        await super().propose(proposal_id, offer)

    async def approve(self, agreement_id):
        await asyncio.sleep(2.0)
        await super().approve(agreement_id)


class Mute(GolemTransport):
    """Never approves what was signed."""

    async def approve(self, agreement_id):
        await asyncio.Event().wait()


@asynccontextmanager
async def serving(config, transport_class, name, *, per_sec="0.0001", close_timeout=10.0):
    """Serve as one provider in this process."""
    transport = transport_class(config)
    await transport.open()
    runtime = await open_runtime()
    agent = ProviderAgent(
        ProviderConfig(
            name=name,
            memory_gib=0.5,
            subnet=config.subnet,
            pricing=LinearPricing(coeffs=(Decimal(per_sec), Decimal(per_sec))),
        ),
        transport,
        runtime,
        ImageStore(),
        clock=LoopClock(),
        close_timeout=close_timeout,
    )
    await agent.open()
    try:
        yield agent
    finally:
        await agent.close()
        await runtime.close()


@pytest.fixture
async def seen():
    return []


async def test_what_is_charged_above_the_usage_is_rejected_and_not_paid(devnet, seen):
    config = devnet.provider_configs[0]
    async with (
        serving(config, Greedy, "greedy") as agent,
        Compute(
            budget=1,
            network=GolemNetwork(devnet.config),
            event_consumer=seen.append,
            # For a better invoice than the one that was rejected nobody waits here.
            settings=Settings(invoice_timeout=0.1),
        ) as compute,
    ):
        cluster = await compute.run_service(Brief, num_instances=1, expiration=SOON)
        await cluster.wait("terminated")
        async with asyncio.timeout(30):
            while not any(isinstance(event, ev.InvoiceRejected) for event in seen):
                await asyncio.sleep(0.05)
    rejected = [event for event in seen if isinstance(event, ev.DebitNoteRejected)]
    assert rejected
    assert "above" in rejected[0].reason
    assert compute.budget.spent < agent.bill.invoiced
    async with books(devnet.config) as ours:
        page = await ours.page()
    assert page.living == {}
    assert page.allocations == ()


async def test_a_provider_that_answers_slowly_is_waited_for(devnet, seen):
    async with (
        serving(devnet.provider_configs[0], Slow, "slow"),
        Compute(
            budget=1, network=GolemNetwork(devnet.config), event_consumer=seen.append
        ) as compute,
    ):
        cluster = await compute.run_service(Brief, num_instances=2, expiration=SOON)
        await cluster.wait("terminated")
        assert all(one.failure is None for one in cluster.instances)
    assert compute.budget.spent > 0


async def test_the_end_of_an_agreement_by_its_provider_ends_the_instance_at_once(devnet, seen):
    class Idle(Brief):
        async def run(self):
            await asyncio.Event().wait()
            yield self.ctx.new_script()

    async with (
        serving(devnet.provider_configs[0], Honest, "tired") as agent,
        Compute(
            budget=1, network=GolemNetwork(devnet.config), event_consumer=seen.append
        ) as compute,
    ):
        cluster = await compute.run_service(
            Idle, num_instances=1, expiration=SOON, restart=RestartPolicy(when="never")
        )
        await cluster.wait("running")
        (deal,) = agent._deals.values()
        deal.end(EndReason(message="the power is out", code="Shutdown"))
        async with asyncio.timeout(20):
            await cluster.wait("terminated")
    (ended,) = (event for event in seen if isinstance(event, ev.AgreementTerminated))
    assert ended.by == "provider"
    assert "the power is out" in ended.reason


async def test_a_budget_that_is_raised_is_reserved_and_released_as_one(devnet):
    async with books(devnet.config) as ours:
        async with Compute(budget=1, network=GolemNetwork(devnet.config)) as compute:
            (before,) = await compute.network.payments.allocations()
            await compute.budget.add(Decimal("0.5"))
            (after,) = await compute.network.payments.allocations()
            assert (after.id, after.amount) == (before.id, Decimal("1.5"))
            assert compute.budget.total == Decimal("1.5")
        assert (await ours.page()).allocations == ()


async def test_one_that_never_approves_is_left_for_another(devnet, seen):
    mute, honest = devnet.provider_configs[:2]
    async with (
        # What it never answers it would wait for at its end, too.
        serving(mute, Mute, "mute", per_sec="0.00001", close_timeout=0.5),
        Compute(
            budget=1,
            network=GolemNetwork(devnet.config),
            event_consumer=seen.append,
            settings=Settings(approval_timeout=2.0),
        ) as compute,
    ):
        cluster = await compute.run_service(Brief, num_instances=1, expiration=SOON)
        async with asyncio.timeout(30):
            while not any(isinstance(event, ev.AgreementRejected) for event in seen):
                await asyncio.sleep(0.05)
        async with serving(honest, Honest, "honest"):
            await cluster.wait("terminated")
            assert cluster.instances[0].provider_name == "honest"
            await cluster.stop()
    async with books(devnet.config) as ours:
        page = await ours.page()
    assert page.living == {}
    assert page.allocations == ()
