"""Requestor processes that die: on a simulated market that outlives them, with a journal that does.

A process is cut at one write of its journal: from that moment on it writes nothing, none of its
calls reaches the network, and its tasks are gone before time goes on.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from datetime import timedelta

from requestor_sdk import Compute
from requestor_sdk.client import ambient
from requestor_sdk.model import events
from requestor_sdk.model.errors import NetworkUnreachable
from requestor_sdk.model.events import from_record
from requestor_sdk.model.history import RunHistory
from requestor_sdk.model.market import AgreementState
from requestor_sdk.networks.memory import MemoryNetwork
from requestor_sdk.networks.simulated import SimulatedNetwork, SimulatedSigner
from requestor_sdk.ports.network import NetworkTraits, RunSetup
from requestor_sdk.ports.provider import CreateActivity
from requestor_sdk.testing import VirtualTimeLoop, simulated_providers

RUN = "r-1"


def run(story):
    """Run a coroutine on a loop of its own whose time jumps."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(story)


class Paper:
    """What is written down, as JSON, by any number of processes."""

    def __init__(self, lines=()):
        self.lines = list(lines)

    @property
    def events(self):
        return [from_record(json.loads(line)) for line in self.lines]

    @property
    def history(self):
        return RunHistory.of(self.events, RUN)

    def of(self, kind):
        return [event for event in self.events if isinstance(event, kind)]


class Market:
    """The market, and the paper, that outlive the processes."""

    def __init__(self, providers=4, *, latency=0.01, **options):
        options = {"debit_note_sec": 50.0, "open_offers": 3} | options
        made = simulated_providers(providers, **options)
        self.simulated = SimulatedNetwork(made, latency=latency)
        self.paper = Paper()
        self.processes = 0
        self.invoiced = {}
        self.forged = set()
        self._watch_invoices()

    def _watch_invoices(self):
        for agent in self.simulated.providers:
            agent.end.send_invoice = self._watched(agent.end.send_invoice)

    def _watched(self, send):
        def sent(*, agreement_id, amount, **more):
            self.invoiced[agreement_id] = amount
            return send(agreement_id=agreement_id, amount=amount, **more)

        return sent

    @property
    def books(self):
        return self.simulated.books

    @property
    def bank(self):
        return self.books.bank

    def living(self):
        """The agreements that bind somebody."""
        binding = (AgreementState.pending, AgreementState.approved)
        return {a.id for a in self.books.agreements.values() if a.state in binding}

    def provider_of(self, instance):
        (agent,) = [a for a in self.simulated.providers if a.identity == instance.provider_id]
        return agent

    def refuse_activities(self, *, every):
        """Let the first provider refuse one in so many of the activities that it is asked for."""
        agent = self.simulated.providers[0]
        create, asked = agent._acts[CreateActivity], itertools.count(1)

        def perhaps(event):
            if next(asked) % every == 0:
                agent.end.refuse_activity(event.activity_id, "no")
            else:
                create(event)

        agent._acts[CreateActivity] = perhaps

    def end_activity(self, activity_id, reason="killed"):
        for agent in self.simulated.providers:
            for deal in agent.deals.values():
                deal.end_activity(activity_id, reason)


class Clock:
    """The market's date, and seconds of its own."""

    def __init__(self, clock, offset):
        self._clock = clock
        self._offset = offset

    def now(self):
        return self._clock.now()

    def monotonic(self):
        return self._clock.monotonic() + self._offset


class _Pen:
    """The journal as one process has it."""

    def __init__(self, process, paper):
        self._process = process
        self._paper = paper

    def append(self, event):
        self._process.wrote(event)

    def read(self, *, ids=None):
        return iter([e for e in self._paper.events if e.concerns(ids or {})])

    def close(self):
        pass


class _Port:
    """Passes calls on while the process lives and the daemon is there."""

    def __init__(self, process, port):
        self._process = process
        self._port = port

    def __getattr__(self, name):
        found = getattr(self._port, name)
        process = self._process

        async def call(*args, **kwargs):
            if process.dead:
                await asyncio.get_running_loop().create_future()
            if process.down or name in process.failing:
                raise NetworkUnreachable(f"{name}: the daemon does not answer")
            process.calls.append(name)
            return await found(*args, **kwargs)

        return call


class Process:
    """One process of the requestor; its network and journal.

    Args:
        market: What outlives it.
        dies_at: The number of the journal write at which it dies, of its own writes.
        unwritten: Whether that write is lost.
    """

    def __init__(self, market, *, dies_at=None, unwritten=False):
        market.processes += 1
        self._market = market
        self._paper = market.paper
        self._dies_at = dies_at
        self._unwritten = unwritten
        self._before = asyncio.all_tasks()
        self._died = asyncio.Event()
        self._memory = MemoryNetwork(market.books, SimulatedSigner("requestor"))
        self.journal = _Pen(self, market.paper)
        self.writes = 0
        self.dead = self.down = False
        self.failing = set()
        self.calls = []
        self.traits = NetworkTraits(
            name="simulated", outlives_process=True, collect_offers_sec=0.02
        )
        self.market = _Port(self, self._memory.market)
        self.activities = _Port(self, self._memory.activities)
        self.payments = _Port(self, self._memory.payments)
        self.transfers = self._memory.transfers

    # Its network ---------------------------------------------------------------------------------

    def new_run(self):
        offset = -900.0 * (self._market.processes - 1)
        clock = Clock(self._market.simulated.clock, offset)
        return RunSetup(run_id=RUN, clock=clock, journal=self.journal)

    async def open(self, *, run_id=""):
        if self.down:
            raise NetworkUnreachable("open: the daemon does not answer")
        for agent in self._market.simulated.providers:
            agent.arrive()

    async def resolve(self, payload):
        return payload

    async def close(self):
        pass

    def wrote(self, event):
        """The process writes to its journal."""
        if self.dead:
            return
        self.writes += 1
        dies = self.writes == self._dies_at
        if not (dies and self._unwritten):
            self._paper.lines.append(json.dumps(event.to_record()))
        if dies:
            self.dead = True
            self._died.set()

    # Its life ------------------------------------------------------------------------------------

    def compute(self, **options):
        return Compute(budget=1, network=self, **options)

    def recover(self, **options):
        return Compute.recover(RUN, network=self, journal=self.journal, **options)

    async def live(self, story):
        """Run a coroutine in it; returns whether the process died meanwhile."""
        life = asyncio.ensure_future(story)
        death = asyncio.ensure_future(self._died.wait())
        await asyncio.wait({life, death}, return_when=asyncio.FIRST_COMPLETED)
        if not self.dead:
            death.cancel()
            await life
            return False
        await self.kill()
        return True

    async def kill(self):
        """Let it be dead: no time passes until none of its tasks is left."""
        self.dead = True
        mine = asyncio.current_task()
        for _ in range(100):
            left = {t for t in asyncio.all_tasks() - self._before if t is not mine}
            if not left:
                # A process that died holds none of its own either.
                for compute in [c for c in ambient.active if c.network is self]:
                    ambient.active.discard(compute)
                return
            for task in left:
                task.cancel()
            await asyncio.sleep(0)
        raise AssertionError(f"a process would not die: {left}")


async def settle_by_recovery(market, **how):
    """Recover without taking anything up; returns the process."""
    process = Process(market, **how)

    async def story():
        async with process.recover():
            pass

    await process.live(story())
    return process


def check(market):
    """What has to be true once a run was recovered to its end."""
    history = market.paper.history
    kept = {i.agreement_id for i in history.suspended}
    assert history.state == ("suspended" if kept else "settled")
    known = set(history.agreements)
    assert market.living() & known == kept
    assert not market.living() - known
    for agreement in history.agreements.values():
        assert market.bank.paid(agreement.id) == agreement.accepted, agreement
        if agreement.id not in kept:
            assert agreement.settled, agreement
            # All providers are honest here: what was worked is paid.
            assert market.invoiced.get(agreement.id, 0) == agreement.accepted, agreement
    assert sum(market.bank.balances.values()) == history.spent
    assert sum(a.paid for a in market.bank.accounts.values()) == history.spent
    if not kept:
        assert not market.bank.allocations
        assert not [n for n in market.bank.unsettled.values() if n.agreement_id not in kept]
    else:
        assert list(market.bank.allocations) == list(history.allocations)
    # One whose id was never written down stands until it expires, and binds nobody.
    written = {e.demand_id for e in market.paper.of(events.SubscriptionCreated)}
    assert not written & set(market.books.book.demands)
    check_paper(market)


def check_paper(market):
    """Each invoice accepted once, each agreement ended once, instances on a legal path."""
    invoices = [e.agreement_id for e in market.paper.of(events.InvoiceAccepted)]
    assert len(invoices) == len(set(invoices))
    # All providers are honest here; one that was never used says so by an invoice of nothing.
    assert not any(e.amount for e in market.paper.of(events.InvoiceRejected))
    rejected = {e.note_id: e.reason for e in market.paper.of(events.DebitNoteRejected)}
    assert set(rejected) <= market.forged, rejected
    ended = [e.agreement_id for e in market.paper.of(events.AgreementTerminated)]
    assert len(ended) == len(set(ended))
    states = {}
    for change in market.paper.of(events.ServiceStateChanged):
        assert states.get(change.instance_id, "pending") == change.old, change
        states[change.instance_id] = change.new
    assert set(states.values()) <= {"terminated", "suspended"}


HOUR = timedelta(hours=1)
