"""A whole market in memory for the engine's tests: real agents, a runtime without processes."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta

from provider.fake_runtime import FakeRuntime
from support.services import Simple

from requestor_sdk import Compute, LocalNetwork, MemoryJournal
from requestor_sdk.model import events
from requestor_sdk.ports.runtime import ProcessExit
from requestor_sdk.provider import default_providers
from requestor_sdk.testing import invariants


async def _sleep(sandbox, process, output):
    await asyncio.sleep(float(process.argv[1]))
    return ProcessExit(return_code=0)


class World:
    """A network, what its runtime made, and the events of its runs."""

    def __init__(self, providers=4, **options):
        self.runtime = FakeRuntime()
        self.runtime.programs["sleep"] = _sleep
        self.network = LocalNetwork(providers=providers, runtime=self.runtime, **options)
        self.events = []

    def compute(self, budget=10, **options):
        options.setdefault("event_consumer", self.events.append)
        options.setdefault("journal", MemoryJournal())
        return Compute(budget=budget, network=self.network, **options)

    def of(self, kind):
        return [event for event in self.events if type(event).__name__ == kind.__name__]

    def workers(self, cluster_id):
        """The ids of all that a cluster ever had; a job's is not listed once it is over."""
        changes = self.of(events.ServiceStateChanged)
        return {e.instance_id for e in changes if e.cluster_id == cluster_id}

    def path(self, instance):
        """The states that an instance went through."""
        changes = [e for e in self.of(events.ServiceStateChanged) if e.instance_id == instance.id]
        return [changes[0].old, *(e.new for e in changes)] if changes else []

    def sandbox_of(self, instance):
        return next(s for s in self.runtime.made if s.name == instance.ctx.activity_id)

    def kill(self, instance, cause="killed"):
        self.sandbox_of(instance).die(cause)

    @contextlib.asynccontextmanager
    async def running(self, service=Simple, num=1, *, budget=10, settings=None, **options):
        """A cluster whose first members run; the invariants are checked at the end."""
        options.setdefault("expiration", timedelta(minutes=30))
        async with self.compute(budget, settings=settings) as compute:
            cluster = await compute.run_service(service, num_instances=num, **options)
            await cluster.wait("running", count=num)
            yield cluster
        self.check(compute)

    def check(self, compute):
        """The invariants of lifecycle.md, rule 17, and that nothing of this world is left over."""
        invariants.check_invariants(compute, found=self.events)
        assert all(s.closed for s in self.runtime.made)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        assert not [t for t in others if "abandoned" not in t.get_name() and not _fixture(t)]


def _fixture(task):
    return "pytest" in repr(task) or "fixture" in repr(task)


def one_provider(**changes):
    import dataclasses

    return [dataclasses.replace(default_providers(1)[0], **changes)]
