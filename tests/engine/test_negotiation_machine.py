"""The negotiation against a market that does anything in any order; failures shrink to a list."""

import asyncio
import dataclasses

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from support.market import FakeCore, FakeMarket, drafted, negotiator

from requestor_sdk import Settings
from requestor_sdk.model.market import ProposalState
from requestor_sdk.strategy import MarketStrategy, Rejection
from requestor_sdk.testing import VirtualTimeLoop

PROVIDERS = st.sampled_from(["amber", "birch", "cedar", "delta"])
SCORES = st.sampled_from([0, 1, 1, 2, 3, -1])
AVOIDS = st.one_of(st.just(frozenset()), st.frozensets(PROVIDERS, max_size=3))
KEPT = 4
LIFETIME = 60.0
REPLY_WITHIN = 15.0
RETURNS_AFTER = 0.005
"""How long a counter takes to return where the provider was faster."""


class Banning(MarketStrategy):
    """Scores by a property, and takes nothing of those that are banned now."""

    def __init__(self):
        self.banned = set()

    async def score_offer(self, offer):
        if offer.provider_id in self.banned:
            return Rejection("banned")
        return float(offer.properties["score"])


class Market(FakeMarket):
    """Knows which counters are open, and which providers answer before the counter returns."""

    def __init__(self):
        super().__init__()
        self.open = {}
        self.hasty = set()

    async def subscribe(self, demand):
        self.open.clear()
        return await super().subscribe(demand)

    async def counter(self, proposal, demand):
        answer_id = await super().counter(proposal, demand)
        if proposal.provider_id in self.hasty:
            self.tell(self.reply(proposal, answer_id))
            await asyncio.sleep(RETURNS_AFTER)
        else:
            self.open[answer_id] = proposal
        return answer_id


class NegotiationMachine(RuleBasedStateMachine):
    """Offers, answers, withdrawals and waiters in any order."""

    def __init__(self):
        super().__init__()
        self.loop = VirtualTimeLoop()
        self.errors = []
        self.loop.set_exception_handler(lambda loop, told: self.errors.append(told))
        self.run_(self.set_up())

    def run_(self, work):
        return self.loop.run_until_complete(work)

    async def set_up(self):
        self.market = Market()
        self.strategy = Banning()
        limits = Settings(
            proposals_kept=KEPT, draft_lifetime=LIFETIME, approval_timeout=REPLY_WITHIN
        )
        self.core = FakeCore(self.market, limits)
        self.negotiator = negotiator(self.core, self.strategy, collect_offers=0.0)
        self.running = asyncio.ensure_future(self.negotiator.run())
        self.waiting = {}
        self.held = []
        self.said = []
        self.most_waiting = 0
        self.watch_what_is_asked()
        await asyncio.sleep(0)

    def watch_what_is_asked(self):
        """No more providers are asked than instances wait, where any will do for each."""
        replies = self.negotiator._replies
        sending = replies.sending

        def watched(proposal):
            waiting = [avoid for task, avoid in self.waiting.items() if not task.done()]
            if not any(waiting):
                assert len(replies._awaited) < len(waiting), "more are asked than are needed"
            sending(proposal)

        replies.sending = watched

    async def settle(self, seconds=0.0):
        await asyncio.sleep(seconds)
        for _ in range(12):
            await asyncio.sleep(0)
        self.most_waiting = max(self.most_waiting, len(self.waiting))
        for task, avoid in list(self.waiting.items()):
            if task.done():
                del self.waiting[task]
                draft = task.result()
                assert draft.id not in [other.id for other, _ in self.held], "one draft for two"
                assert draft.provider_id not in self.strategy.banned, "a banned provider"
                assert draft.state is ProposalState.draft
                self.held.append((draft, avoid))

    # What the market does

    @initialize(
        offered=st.lists(st.tuples(PROVIDERS, SCORES), max_size=8),
        avoids=st.lists(AVOIDS, max_size=4),
        first=st.booleans(),
    )
    def begin(self, offered, avoids, first):
        """Hypothesis leaves out some rules of a run: there is something to do in any case."""
        if first:
            self.wait(avoids)
        self.offer(offered)
        if not first:
            self.wait(avoids)

    @rule(offered=st.lists(st.tuples(PROVIDERS, SCORES), min_size=1, max_size=6))
    def offer(self, offered):
        offers = [self.market.offer(provider, score=score) for provider, score in offered]
        self.market.standing.update((offer.id, offer) for offer in offers)
        self.say(*offers)

    def say(self, *proposals):
        self.said.extend(proposals)
        self.market.tell(*proposals)
        self.run_(self.settle())

    @precondition(lambda self: self.said)
    @rule(data=st.data())
    def say_again(self, data):
        self.say(data.draw(st.sampled_from(self.said)))

    @precondition(lambda self: self.market.open)
    @rule()
    def draft_all(self):
        answered, self.market.open = self.market.open, {}
        self.say(*(self.market.reply(proposal, step) for step, proposal in answered.items()))

    def answered(self, data):
        return data.draw(st.sampled_from(list(self.market.open.items())))

    @precondition(lambda self: self.market.open)
    @rule(data=st.data(), score=st.sampled_from([None, None, None, -1, 5]))
    def draft(self, data, score):
        answer_id, proposal = self.answered(data)
        del self.market.open[answer_id]
        reply = self.market.reply(proposal, answer_id)
        if score is not None:  # other terms than were offered
            reply = dataclasses.replace(reply, properties={"score": score})
        self.say(reply)

    @precondition(lambda self: self.market.open)
    @rule(data=st.data())
    def decline(self, data):
        answer_id, proposal = self.answered(data)
        del self.market.open[answer_id]
        self.say(self.market.reply(proposal, answer_id, ProposalState.rejected, "no"))

    @precondition(lambda self: self.said)
    @rule(data=st.data())
    def withdraw(self, data):
        gone = data.draw(st.sampled_from(self.said))
        step = gone.previous_id or gone.id
        self.market.open.pop(step, None)
        self.market.refusing.add(gone.id)
        self.say(self.market.reply(gone, step, ProposalState.rejected, "withdrawn"))
        assert not [d for d in self.negotiator._drafts if d.key == step]
        assert not [d for d in self.negotiator._offers if d.key == step]

    @rule(provider=PROVIDERS)
    def answers_before_it_is_asked_from_now_on_or_no_more(self, provider):
        self.market.hasty ^= {provider}

    # What instances do

    @rule(avoids=st.lists(AVOIDS, min_size=1, max_size=4))
    def wait(self, avoids):
        for avoid in avoids:
            self.waiting[self.loop.create_task(drafted(self.negotiator, avoid))] = avoid
        self.run_(self.settle())

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def stop_waiting(self, data):
        task = data.draw(st.sampled_from(list(self.waiting)))
        del self.waiting[task]
        task.cancel()
        self.run_(self.settle())

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def give_back(self, data):
        draft, _ = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))

        async def give_back():
            self.negotiator.give_back(draft)
            await self.settle()

        self.run_(give_back())

    @rule(banned=st.one_of(st.just(set()), st.sets(PROVIDERS, max_size=2)))
    def ban(self, banned):
        async def change():
            self.strategy.banned = banned
            await self.negotiator.rescore()
            await self.settle()
            kept = [*self.negotiator._offers, *self.negotiator._drafts]
            assert not [c for c in kept if c.proposal.provider_id in self.strategy.banned]

        self.run_(change())

    @rule(seconds=st.sampled_from([0.01, 0.6, 3.0, REPLY_WITHIN + 1, LIFETIME + 1]))
    def time_passes(self, seconds):
        self.run_(self.settle(seconds))

    # What always holds

    @invariant()
    def nothing_failed_unheard(self):
        assert not self.errors

    @invariant()
    def nobody_waits_while_there_is_a_draft_for_them(self):
        oldest = self.loop.time() - LIFETIME
        for draft in self.negotiator._drafts:
            if draft.since < oldest:
                continue
            for avoid in self.waiting.values():
                assert draft.proposal.provider_id in avoid, "a usable draft is left"

    @invariant()
    def nobody_waits_while_there_is_somebody_to_ask(self):
        own = self.negotiator
        if self.waiting and not any(self.waiting.values()):
            assert len(own._replies._awaited) >= len(self.waiting) or not len(own._offers)

    @invariant()
    def nothing_is_countered_twice(self):
        asked = [proposal.id for proposal, _ in self.market.countered]
        assert len(asked) == len(set(asked))

    @invariant()
    def memory_is_bounded(self):
        own = self.negotiator
        assert len(own._offers) <= max(KEPT, self.most_waiting)
        assert len(own._lent) <= KEPT
        assert len(own._waiters) == len(self.waiting)
        assert len(own._replies._early) <= own._replies._sending + 64
        assert own._replies.providers.total == len(own._replies._awaited)
        assert all(until > self.loop.time() for until, _ in own._replies._awaited.values())
        assert not own._refusals._untold

    @invariant()
    def what_is_counted_is_there(self):
        for pool in (self.negotiator._offers, self.negotiator._drafts):
            providers = [candidate.proposal.provider_id for candidate in pool]
            assert pool.providers == {p: providers.count(p) for p in set(providers)}
            assert pool.providers.total == len(pool) == len(pool._by_key)
            scores = [candidate.score for candidate in pool]
            assert scores == sorted(scores, reverse=True)

    def teardown(self):
        try:
            self.run_(self.end())
        finally:
            self.loop.close()

    async def end(self):
        """With an honest provider all who wait get a draft, also those whom it had failed."""
        self.strategy.banned.clear()
        self.market.hasty = {"amber", "birch", "cedar", "delta"}
        self.market.refusing.clear()
        self.market.standing.clear()
        await self.settle(REPLY_WITHIN + 1)
        for number in range(len(self.waiting) + 1):
            offer = self.market.standing[number] = self.market.offer("amber", score=1)
            self.market.tell(offer)
        await self.settle(100)
        assert not self.waiting, "somebody starves"
        await self.close()

    async def close(self):
        """Ended in the middle of things, it leaves nothing behind."""
        del self.negotiator._replies.sending  # those who wait now are not in the list
        self.market.hasty.clear()
        self.market.tell(self.market.offer("birch", score=1))
        waiters = [asyncio.ensure_future(drafted(self.negotiator)) for _ in range(3)]
        await self.settle()
        for task in (self.running, *waiters):
            task.cancel()
        await asyncio.gather(self.running, *waiters, return_exceptions=True)
        await self.settle()
        assert not self.core.tasks
        assert not [t for t in self.loop._scheduled if not t.cancelled()], "a timer is left"
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert not self.errors


NegotiationMachine.TestCase.settings = settings(
    max_examples=200, stateful_step_count=50, deadline=None
)
TestNegotiation = NegotiationMachine.TestCase
