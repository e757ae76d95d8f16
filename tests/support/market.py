"""A market for tests of the negotiation alone: what it is told is written down, nothing is sent."""

from __future__ import annotations

import asyncio
import itertools
import random
from dataclasses import replace
from decimal import Decimal
from types import SimpleNamespace

from requestor_sdk import Settings
from requestor_sdk.engine.aio import Limit, own_code
from requestor_sdk.engine.negotiation import Negotiator
from requestor_sdk.engine.room import RoomLines
from requestor_sdk.model.errors import AgreementRefused, NotAvailable
from requestor_sdk.model.ledger import Ledger
from requestor_sdk.model.market import Demand, Proposal, ProposalState
from requestor_sdk.service.strategy import MarketStrategy

DEMAND = Demand(properties={})


class FakeMarket:
    """Answers nothing by itself; ``answering`` makes providers answer each counter at once."""

    def __init__(self, *, answering=False):
        self.news = []
        self.there = asyncio.Event()
        self.countered = []
        self.rejected = []
        self.refusing = set()
        self.answering = answering
        self.ids = itertools.count(1)
        self.standing = {}
        self.subscriptions = 0
        self.forgotten = False

    def stand(self, *providers):
        """Offers that each new subscription is told of."""
        for provider in providers:
            self.standing[provider] = self.offer(provider)

    def tell(self, *proposals):
        self.news.extend(proposals)
        self.there.set()

    def offer(self, provider, **properties):
        return Proposal(
            id=f"offer-{next(self.ids)}",
            demand_id="demand",
            provider_id=provider,
            provider_name=provider,
            state=ProposalState.initial,
            properties=properties,
        )

    def reply(self, to, answer_id, state=ProposalState.draft, reason=None):
        return Proposal(
            id=f"reply-{next(self.ids)}",
            demand_id="demand",
            provider_id=to.provider_id,
            provider_name=to.provider_name,
            state=state,
            properties=to.properties,
            reason=reason,
            previous_id=answer_id,
        )

    async def subscribe(self, demand):
        self.subscriptions += 1
        self.forgotten = False
        self.news = []
        self.tell(*(replace(o, id=f"offer-{next(self.ids)}") for o in self.standing.values()))
        return "demand"

    async def unsubscribe(self, demand_id):
        pass

    async def collect(self, demand_id):
        while not self.news:
            self.there.clear()
            await self.there.wait()
            if self.forgotten:
                raise NotAvailable("no such demand stands")
        found, self.news = self.news, []
        return found

    async def counter(self, proposal, demand):
        if proposal.id in self.refusing:
            raise AgreementRefused("the offer is gone")
        answer_id = f"answer-{next(self.ids)}"
        self.countered.append((proposal, answer_id))
        if self.answering:
            self.tell(self.reply(proposal, answer_id))
        return answer_id

    async def reject(self, proposal, reason):
        self.rejected.append((proposal, reason.message))


async def drafted(negotiator, avoid=frozenset()):
    """Wait in line for a draft, as an instance does, in a task that may be cancelled."""
    future = asyncio.get_running_loop().create_future()

    def take(draft):
        if future.cancelled():
            negotiator.give_back(draft)
        else:
            future.set_result(draft)

    waiter = negotiator.want(take, avoid)
    try:
        return await future
    except asyncio.CancelledError:
        if future.done() and not future.cancelled():
            negotiator.give_back(future.result())
        raise
    finally:
        negotiator.forget(waiter)


class FakeCore:
    """What a negotiation uses of the engine's core."""

    def __init__(self, market, settings=None):
        self.settings = settings or Settings()
        traits = SimpleNamespace(collect_offers_sec=0.0)
        self.network = SimpleNamespace(market=market, traits=traits)
        self.dice = random.Random(1)
        self.creation = Limit(self.settings.create_timeout)
        self.answers = Limit(self.settings.approval_timeout)
        self.scoring = Limit(self.settings.score_timeout)
        self.ledger = Ledger(Decimal(10))
        self.room = RoomLines(self.ledger)
        self.events = []
        self.tasks = set()

    def emit(self, kind, **fields):
        self.events.append((kind, fields))

    def retried(self, loop):
        return lambda error, pause: None

    def try_spawn(self, work, name):
        task = asyncio.get_running_loop().create_task(work, name=name)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    def spawn_teller(self, work, what):
        self.try_spawn(work, what)

    def user_code(self, work, what):
        return own_code(work, what)


def negotiator(core, strategy=None, judge=lambda proposal: None, **options):
    return Negotiator(
        core,
        cluster_id="cluster-1",
        demand=DEMAND,
        strategy=strategy or MarketStrategy(),
        judge=judge,
        **options,
    )
