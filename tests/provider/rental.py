"""One real agent on a market in memory, and a hand-played requestor."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta
from decimal import Decimal

from networks.stage import key
from provider.fake_runtime import FakeRuntime

from requestor_sdk.model.errors import ImageNotFound
from requestor_sdk.model.market import DebitNote, Demand, EndReason, Invoice, ProposalState
from requestor_sdk.model.money import LinearPricing
from requestor_sdk.model.props import EXPIRATION, SUBNET
from requestor_sdk.model.script import CommandResult, Deploy, Start
from requestor_sdk.networks.memory import MemoryMarket, MemoryNetwork, MemoryTransport
from requestor_sdk.ports.runtime import ImageRef
from requestor_sdk.provider import ProviderAgent, ProviderConfig

HASH = "ab" * 28
PRICING = LinearPricing(coeffs=(Decimal("0.001"), Decimal("0.01")), fixed=Decimal("0.5"))
DONE = EndReason(message="done")


class FakeImages:
    def __init__(self, path):
        self.path = path

    def resolve(self, *, image_hash=None, tag=None):
        if image_hash != HASH:
            raise ImageNotFound("no such image", hint="requestor-sdk image import FILE")
        return ImageRef(hash=HASH, path=self.path, kind="layer")


class Rental:
    def __init__(self, tmp_path, *, runtime=None, **config):
        config = {"name": "amber", "pricing": PRICING, **config}
        self.config = ProviderConfig(**config)
        self.market = MemoryMarket()
        self.network = MemoryNetwork(self.market, key(1))
        self.runtime = runtime or FakeRuntime()
        self.transport = MemoryTransport(self.market, key(2))
        self.agent = ProviderAgent(
            self.config,
            self.transport,
            self.runtime,
            FakeImages(tmp_path),
            clock=self.market.clock,
        )

    @contextlib.asynccontextmanager
    async def open(self):
        await self.agent.open()
        try:
            yield self
        finally:
            await self.agent.close()
            await self.network.close()
            assert all(sandbox.closed for sandbox in self.runtime.made)

    def demand(self, *, seconds=3600, constraints="()", **properties):
        end = self.market.clock.now() + timedelta(seconds=seconds)
        base = {SUBNET: "local", EXPIRATION: int(end.timestamp() * 1000)}
        return Demand(properties={**base, **properties}, constraints=constraints)

    async def answer(self, demand=None):
        """Negotiate; returns the agent's answer."""
        demand = demand or self.demand()
        demand_id = await self.network.market.subscribe(demand)
        initial, *_ = await asyncio.wait_for(self.network.market.collect(demand_id), 1)
        await self.network.market.counter(initial, demand)
        found, *_ = await asyncio.wait_for(self.network.market.collect(demand_id), 1)
        await self.network.market.unsubscribe(demand_id)
        return found

    async def agreement(self, demand=None):
        demand = demand or self.demand()
        demand_id = await self.network.market.subscribe(demand)
        initial, *_ = await asyncio.wait_for(self.network.market.collect(demand_id), 1)
        await self.network.market.counter(initial, demand)
        draft, *_ = await asyncio.wait_for(self.network.market.collect(demand_id), 1)
        assert draft.state is ProposalState.draft, draft.reason
        until = self.market.clock.now() + timedelta(seconds=60)
        agreement_id = await self.network.market.create_agreement(draft, valid_to=until)
        await self.network.market.unsubscribe(demand_id)
        await self.network.market.confirm(agreement_id)
        answer = await self.network.market.wait_approval(agreement_id, timeout=1)
        assert answer.approved, answer.reason
        return agreement_id

    async def activity(self, demand=None, *, started=True):
        """Rent, deploy and start; returns the ids of agreement and activity."""
        agreement_id = await self.agreement(demand)
        activity_id = await self.network.activities.create(agreement_id)
        if started:
            results = await self.run(activity_id, Deploy(), Start())
            assert all(result.success for result in results), results
        return agreement_id, activity_id

    async def batch(self, activity_id, *commands):
        """Run a batch; returns all its events."""
        seen = []

        async def take(event):
            seen.append(event)

        await self.network.activities.execute(activity_id, commands, take)
        return seen

    async def run(self, activity_id, *commands):
        """Run a batch; returns its results."""
        events = await self.batch(activity_id, *commands)
        return [event for event in events if isinstance(event, CommandResult)]

    async def notes(self, seconds):
        """Read what comes within some seconds: debit notes and invoices."""
        found = []
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while True:
                    found += await self.network.payments.payment_events()
        debit = [note for note in found if isinstance(note, DebitNote)]
        return debit, [note for note in found if isinstance(note, Invoice)]

    @property
    def sandbox(self):
        return self.runtime.made[-1]
