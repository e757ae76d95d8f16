"""A simulated market as a user has it, and witnesses of what happens there.

Every run is checked at its end by the invariants that are shipped: over its journal, over what the
market saw, over what the handlers saw, and over the budget after each event.
"""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta
from decimal import Decimal

from requestor_sdk import Compute, LinearPricing, Service, events
from requestor_sdk.model.market import EndReason
from requestor_sdk.payload import VmPayload
from requestor_sdk.testing import (
    HandlerLog,
    ProgramResult,
    SimulatedNetwork,
    SimulatedProvider,
    check_invariants,
)

HOUR = timedelta(hours=1)
CHEAP = LinearPricing(coeffs=(Decimal("0.001"), Decimal("0.001")))
DEAR = LinearPricing(coeffs=(Decimal("0.002"), Decimal("0.002")))


class Simple(Service):
    """What any user's service is: a payload, and the default handlers."""

    @staticmethod
    async def get_payload():
        return VmPayload(image_tag="any")


class Notes(Simple):
    """Notes what it sees, with the time."""

    seen = None

    def note(self, *what):
        self.seen.append((*what, round(seconds() - self.began, 3)))


def noting(base=Notes):
    """A class of its own, with nothing noted yet."""
    return type(base.__name__, (base,), {"seen": [], "began": seconds()})


def script_of(service, *argv, **options):
    """Return a script of one command, and that command."""
    script = service.ctx.new_script(**options)
    return script, script.run(*argv)


async def sleep_program(argv, files):
    await asyncio.sleep(float(argv[1]))


def echo_program(argv, files):
    return " ".join(argv[1:])


PROGRAMS = {
    "sleep": sleep_program,
    "echo": echo_program,
    "false": ProgramResult(stdout="out", stderr="err", return_code=1),
}


def provider(name="amber", *behaviour, **changes):
    """A provider; what it does beside being honest comes behind its name."""
    options = {"pricing": CHEAP, "debit_note_sec": 50.0, "programs": PROGRAMS} | changes
    return SimulatedProvider(name=name, behaviour=behaviour, **options)


def rogue_and_honest(*behaviour, **changes):
    """The cheaper one, which is taken first and misbehaves, and an honest one."""
    return [provider("rogue", *behaviour, **changes), provider("honest", pricing=DEAR)]


def seconds():
    return asyncio.get_running_loop().time()


class Stage:
    """A market and the runs on it.

    Args:
        providers: Those that there are; four honest ones where they are left out.
        network_options: For ``SimulatedNetwork``.
    """

    def __init__(self, providers=None, **network_options):
        made = providers or [provider(name) for name in ("amber", "birch", "cedar", "delta")]
        self.network = SimulatedNetwork(made, **network_options)
        self.log = HandlerLog()
        self.events = []
        self.handed = None
        self._unsound = []

    # What happened -------------------------------------------------------------------------------

    def of(self, kind, **fields):
        """The events of a kind that have these fields."""
        return [
            event
            for event in self.events
            if isinstance(event, kind)
            and all(getattr(event, name) == value for name, value in fields.items())
        ]

    def path(self, service):
        """The states that an instance went through."""
        changes = self.of(events.ServiceStateChanged, instance_id=service.id)
        return [str(changes[0].old), *(str(change.new) for change in changes)] if changes else []

    def at(self, event):
        """When it happened, in the seconds of the loop."""
        now = self.network.clock.now()
        return seconds() - (now - event.at).total_seconds()

    def moved(self, service, new):
        """When an instance last went to a state, in the seconds of the loop."""
        return self.at(self.of(events.ServiceStateChanged, instance_id=service.id, new=new)[-1])

    # What is done to it --------------------------------------------------------------------------

    def agent_of(self, service):
        (found,) = [a for a in self.network.providers if a.identity == service.provider_id]
        return found

    def end_activity(self, service, reason="killed"):
        """Let the provider lose what runs there, and tell it."""
        agent = self.agent_of(service)
        agent.deals[service.ctx.agreement_id].end_activity(service.ctx.activity_id, reason)

    def end_agreement(self, service, message="needed elsewhere"):
        reason = EndReason(message=message)
        self.agent_of(service).terminate(service.ctx.agreement_id, reason)

    # Runs ----------------------------------------------------------------------------------------

    def compute(self, budget=10_000, **options):
        compute = Compute(budget=budget, network=self.network, **options)
        for consumer in (self.events.append, self.log, lambda _: self._weigh(compute)):
            compute.add_event_consumer(consumer)
        return compute

    def _weigh(self, compute):
        """Held, payable and spent never exceed the budget, at no event."""
        budget = compute.budget
        if budget.held + budget.payable + budget.spent > budget.total:
            self._unsound.append(repr(budget))

    @contextlib.asynccontextmanager
    async def started(self, budget=10_000, **options):
        """A ``Compute`` that is started; all invariants are checked after it was left."""
        compute = self.handed = self.compute(budget, **options)
        try:
            async with compute:
                yield compute
        finally:
            self.check(compute)

    @contextlib.asynccontextmanager
    async def cluster(self, service=Simple, num=1, *, budget=10_000, settings=None, **options):
        """A cluster as ``run_service`` returns it."""
        options.setdefault("expiration", HOUR)
        async with self.started(budget, settings=settings) as compute:
            yield await compute.run_service(self.seen(service), num_instances=num, **options)

    @contextlib.asynccontextmanager
    async def running(self, service=Simple, num=1, **options):
        """A cluster whose members run."""
        async with self.cluster(service, num, **options) as cluster:
            await cluster.wait("running", count=num)
            yield cluster

    def seen(self, service):
        """The class with its handlers watched."""
        return self.log.watching(service)

    def check(self, compute, **options):
        check_invariants(compute, handlers=self.log, **options)
        assert not self._unsound
