"""Providers of ours in this process, on a devnet's daemon; what they run is made up."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from decimal import Decimal

from provider.fake_runtime import FakeRuntime

from requestor_sdk.clock import LoopClock
from requestor_sdk.model.money import LinearPricing
from requestor_sdk.ports.provider import DemandReceived
from requestor_sdk.provider import ProviderAgent, ProviderConfig
from requestor_sdk.provider.golem import GolemTransport

PRICING = LinearPricing(coeffs=(Decimal("0.000001"), Decimal("0.000001")))


class Letting:
    """One provider: its agent, its runtime, and the demands that it heard."""

    def __init__(self, config, name, images=None, **settings):
        self.config = ProviderConfig(name=name, pricing=PRICING, subnet=config.subnet, **settings)
        self.demands = []
        self.runtime = FakeRuntime()
        self.transport = GolemTransport(config)
        self._images = images

    @asynccontextmanager
    async def open(self):
        await self.transport.open()
        hear = self.transport.next_event

        async def heard():
            event = await hear()
            if isinstance(event, DemandReceived):
                self.demands.append(event)
            return event

        self.transport.next_event = heard
        self.agent = ProviderAgent(
            self.config, self.transport, self.runtime, self._images, clock=LoopClock()
        )
        await self.agent.open()
        try:
            yield self
        finally:
            await self.agent.close()


async def until(told, seconds=15):
    """Wait until something is so that nobody tells of."""
    async with asyncio.timeout(seconds):
        while not told():
            await asyncio.sleep(0.02)
