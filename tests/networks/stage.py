"""A market with hand-played ends: the test is the requestor and the provider."""

from __future__ import annotations

import asyncio
import itertools
from datetime import timedelta

from requestor_sdk.model.market import ActivityState, Demand, Offer, ProposalState
from requestor_sdk.networks.memory import MemoryMarket, MemoryNetwork, MemoryTransport
from requestor_sdk.ports.provider import AgreementProposed, CreateActivity, DemandReceived
from requestor_sdk.signing import EthSigner

DEMAND = Demand(
    properties={"golem.node.debug.subnet": "local"}, constraints="(golem.inf.mem.gib>=1)"
)
OFFER = Offer(properties={"golem.inf.mem.gib": 2, "golem.node.id.name": "amber"})


def key(number: int) -> EthSigner:
    return EthSigner(number.to_bytes(32, "big"))


class Stage:
    def __init__(self, transport=MemoryTransport, requestor=None):
        numbers = itertools.count(1)
        self.market = MemoryMarket(ids=lambda: f"id-{next(numbers)}")
        self.network = MemoryNetwork(self.market, requestor or key(1))
        self.provider = transport(self.market, key(2))

    def another_provider(self, number=3):
        return MemoryTransport(self.market, key(number))

    @property
    def soon(self):
        return self.market.clock.now() + timedelta(seconds=60)

    async def event(self, kind, provider=None):
        found = await asyncio.wait_for((provider or self.provider).next_event(), 1)
        assert isinstance(found, kind), found
        return found

    async def draft(self, demand=DEMAND, offer=OFFER):
        """Negotiate up to a draft; returns the demand's id and the draft."""
        demand_id = await self.network.market.subscribe(demand)
        (initial,) = await self.network.market.collect(demand_id)
        await self.network.market.counter(initial, demand)
        asked = await self.event(DemandReceived)
        await self.provider.propose(asked.proposal_id, offer)
        (draft,) = await self.network.market.collect(demand_id)
        assert draft.state is ProposalState.draft
        return demand_id, draft

    async def pending(self):
        """Sign as the requestor; returns the agreement's id."""
        await self.provider.publish(OFFER)
        _, draft = await self.draft()
        agreement_id = await self.network.market.create_agreement(draft, valid_to=self.soon)
        await self.network.market.confirm(agreement_id)
        await self.event(AgreementProposed)
        return agreement_id

    async def approved(self):
        agreement_id = await self.pending()
        await self.provider.approve(agreement_id)
        answer = await self.network.market.wait_approval(agreement_id, timeout=1)
        assert answer.approved
        return agreement_id

    async def activity(self):
        """An activity that its provider has; returns the ids of agreement and activity."""
        agreement_id = await self.approved()
        creating = asyncio.create_task(self.network.activities.create(agreement_id))
        asked = await self.event(CreateActivity)
        await self.provider.set_state(asked.activity_id, ActivityState.initialized)
        assert await creating == asked.activity_id
        await self.network.activities.activity_events()
        return agreement_id, asked.activity_id

    async def settle(self):
        """Let everything happen that can happen now."""
        for _ in range(20):
            await asyncio.sleep(0)
