"""A simulated market for tests: a run on it, its events, and the invariants at its end."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta

from support.services import Simple

from requestor_sdk import Compute, Settings
from requestor_sdk.testing import SimulatedNetwork, invariants

QUICK = Settings(unresponsive_deadline=20, approval_timeout=5, invoice_deadline=120)


class Simulation:
    """A simulated network and what happens in its runs."""

    def __init__(self, providers=4, **options):
        self.network = SimulatedNetwork(providers, **options)
        self.events = []
        self.compute = None

    def of(self, kind):
        return [event for event in self.events if isinstance(event, kind)]

    async def until(self, kind, count=1, seconds=600):
        """Wait until there are so many events of a kind; time is virtual, and looked at by it."""
        async with asyncio.timeout(seconds):
            while len(self.of(kind)) < count:
                await asyncio.sleep(0.1)

    @property
    def agents(self):
        return {agent.name: agent for agent in self.network.providers}

    @property
    def paid(self):
        return sum(self.network.books.bank.balances.values())

    @contextlib.asynccontextmanager
    async def running(self, service=Simple, num=1, *, budget=100, settings=QUICK, **options):
        """A cluster, whatever state its members are in; the invariants are checked at the end."""
        options.setdefault("expiration", timedelta(minutes=30))
        self.compute = Compute(
            budget=budget,
            network=self.network,
            settings=settings,
            event_consumer=self.events.append,
        )
        async with self.compute as compute:
            yield await compute.run_service(service, num_instances=num, **options)
        invariants.check_invariants(self.compute)
