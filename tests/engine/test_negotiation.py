"""The negotiation alone: who is asked, who gets what, and what comes late, twice or never."""

import asyncio
import dataclasses

import pytest
from support.market import FakeCore, FakeMarket, drafted, negotiator

from requestor_sdk import Settings
from requestor_sdk.model import events
from requestor_sdk.model.market import ProposalState
from requestor_sdk.strategy import SCORE_REJECTED, MarketStrategy, Rejection


class ByProperty(MarketStrategy):
    async def score_offer(self, offer):
        return offer.properties.get("score", 0.0)


class Stage:
    """A negotiation that runs, and a market to play with."""

    def __init__(self, *, answering=False, market=None, strategy=None, settings=None, **options):
        self.market = market or FakeMarket(answering=answering)
        self.core = FakeCore(self.market, settings)
        options.setdefault("collect_offers", 0.0)
        self.own = negotiator(self.core, strategy or ByProperty(), **options)

    async def __aenter__(self):
        self.task = asyncio.create_task(self.own.run())
        await asyncio.sleep(0)
        return self

    async def __aexit__(self, *_):
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        await asyncio.sleep(0.001)
        assert not self.core.tasks
        loop = asyncio.get_running_loop()
        assert not [t for t in loop._scheduled if not t.cancelled() and self.mine(t)]

    @staticmethod
    def mine(timer):
        return "negotiation" in repr(timer) or "replies" in repr(timer)

    def waiter(self, *avoid):
        return asyncio.create_task(drafted(self.own, frozenset(avoid)))

    def offer(self, *providers, **properties):
        offers = [self.market.offer(provider, **properties) for provider in providers]
        self.market.tell(*offers)
        return offers

    def told(self, kind):
        return [fields for found, fields in self.core.events if found is kind]


def asked(stage):
    return [proposal.provider_id for proposal, _ in stage.market.countered]


async def settled(*tasks, within=0.5):
    done, _ = await asyncio.wait(tasks, timeout=within)
    return sorted(task.result().provider_id for task in done)


async def test_offers_are_collected_for_a_moment_and_the_best_is_asked():
    async with Stage(answering=True, collect_offers=3) as stage:
        first = stage.waiter()
        stage.offer("dear", score=1.0)
        await asyncio.sleep(2.5)
        stage.offer("cheap", score=9.0)
        await asyncio.sleep(0.4)
        assert asked(stage) == []
        assert await settled(first) == ["cheap"]
        assert asked(stage) == ["cheap"]


async def test_no_more_are_asked_than_wait():
    async with Stage() as stage:
        stage.offer(*(f"p{n}" for n in range(20)))
        waiters = [stage.waiter() for _ in range(3)]
        await asyncio.sleep(1)
        assert len(asked(stage)) == 3
        for waiter in waiters:
            waiter.cancel()


async def test_one_that_does_not_reply_is_counted_on_for_a_while_only():
    async with Stage(settings=Settings(approval_timeout=15)) as stage:
        stage.offer("silent", score=2.0)
        stage.offer("other", score=1.0)
        waiter = stage.waiter()
        await asyncio.sleep(14)
        assert asked(stage) == ["silent"]
        await asyncio.sleep(2)
        assert asked(stage) == ["silent", "other"]
        waiter.cancel()


class SlowToReturn(FakeMarket):
    """Providers answer before the counter has returned."""

    async def counter(self, proposal, demand):
        answer_id = await super().counter(proposal, demand)
        await asyncio.sleep(0.01)
        return answer_id


async def test_a_reply_that_is_faster_than_its_counter_is_not_waited_for_any_more():
    async with Stage(market=SlowToReturn(answering=True)) as stage:
        stage.offer("amber", "birch", "cedar")
        for _ in range(3):  # each needs all that is counted on to be right
            assert len(await settled(stage.waiter())) == 1
        await asyncio.sleep(0.1)
        assert len(asked(stage)) == 3
        assert not stage.own._replies._awaited
        assert not stage.own._replies._early


async def test_an_offer_that_is_gone_is_not_counted_on():
    async with Stage(answering=True) as stage:
        (gone, _) = stage.offer("amber", "birch")
        stage.market.refusing.add(gone.id)
        assert await settled(stage.waiter()) == ["birch"]
        assert "could not be answered" in stage.told(events.ProposalRejected)[0]["reason"]


async def test_late_replies_are_remembered_only_while_a_counter_is_on_its_way():
    hang = asyncio.Event()

    class Slow(FakeMarket):
        async def counter(self, proposal, demand):
            answer_id = await super().counter(proposal, demand)
            await hang.wait()
            return answer_id

    async with Stage(market=Slow()) as stage:
        stage.offer("amber")
        waiter = stage.waiter()
        await asyncio.sleep(0.1)
        (offer,) = stage.offer("late")
        replies = [stage.market.reply(offer, f"old-{n}") for n in range(500)]
        stage.market.tell(*replies)
        await asyncio.sleep(0.1)
        assert 0 < len(stage.own._replies._early) <= 65
        hang.set()
        await asyncio.sleep(0.1)
        assert not stage.own._replies._early
        waiter.cancel()


async def test_what_the_market_says_twice_is_taken_once():
    async with Stage(answering=True) as stage:
        (offer,) = stage.offer("amber")
        first, second = stage.waiter(), stage.waiter()
        assert await settled(first, second) == ["amber"]
        stage.market.tell(offer, first.result() if first.done() else second.result())
        assert await settled(first, second) == ["amber"]
        assert len(asked(stage)) == 1
        first.cancel()
        second.cancel()


async def test_who_avoids_a_provider_gets_another_and_that_one_goes_to_who_does_not_mind():
    async with Stage(answering=True) as stage:
        choosy, plain = stage.waiter("amber"), stage.waiter()
        stage.offer("amber", score=5.0)
        stage.offer("birch", score=1.0)
        await settled(choosy, plain)
        assert choosy.result().provider_id == "birch"
        assert plain.result().provider_id == "amber"


async def test_who_avoids_the_only_provider_takes_it_a_moment_later():
    async with Stage(answering=True, collect_offers=1) as stage:
        stage.offer("amber")
        waiter = stage.waiter("amber")
        assert await settled(waiter, within=1.9) == []
        assert await settled(waiter, within=5) == ["amber"]


async def test_a_provider_that_all_avoid_is_not_asked_while_others_offer():
    async with Stage(answering=True) as stage:
        stage.offer("amber", "amber", "amber", score=9.0)
        stage.offer("birch", score=0.0)
        assert await settled(stage.waiter("amber")) == ["birch"]
        assert asked(stage) == ["birch"]
        assert await settled(stage.waiter()) == ["amber"]


async def test_a_draft_that_nobody_wants_now_is_kept_for_who_does():
    async with Stage(answering=True) as stage:
        stage.offer("amber")
        (first,) = (stage.waiter(),)
        draft = await first
        choosy = stage.waiter("amber", "birch")
        stage.offer("birch")
        await asyncio.sleep(0)
        stage.own.give_back(draft)
        assert await settled(stage.waiter()) == ["amber"]
        assert await settled(choosy) == ["birch"]


async def test_where_all_avoid_somebody_a_draft_goes_to_the_first_who_does_not_avoid_it():
    async with Stage(answering=True) as stage:
        first, second = stage.waiter("amber"), stage.waiter("birch")
        stage.offer("amber")
        assert await settled(first, second, within=0.04) == ["amber"]
        assert second.done()
        stage.offer("cedar")
        assert await settled(first) == ["cedar"]


async def test_a_draft_that_those_who_wait_avoid_stays_for_one_who_does_not():
    async with Stage(answering=True) as stage:
        stage.offer("amber", score=9.0)
        stage.own.give_back(await stage.waiter())
        choosy = stage.waiter("amber")
        stage.offer("birch", score=1.0)
        assert await settled(choosy) == ["birch"]
        assert await settled(stage.waiter()) == ["amber"]
        assert asked(stage) == ["amber", "birch"]


async def test_a_provider_that_answers_twice_has_one_draft():
    async with Stage() as stage:
        (offer,) = stage.offer("amber")
        waiter = stage.waiter()
        await asyncio.sleep(0.1)
        waiter.cancel()
        await asyncio.sleep(0.1)
        ((_, answer_id),) = stage.market.countered
        stage.market.tell(*(stage.market.reply(offer, answer_id) for _ in range(2)))
        await asyncio.sleep(0.1)
        assert len(stage.own._drafts) == stage.own._drafts.providers.total == 1


async def test_a_draft_is_not_given_to_one_that_was_just_cancelled():
    async with Stage() as stage:
        (offer,) = stage.offer("amber")
        first, second = stage.waiter(), stage.waiter()
        await asyncio.sleep(0.1)
        ((_, answer_id),) = stage.market.countered
        first.cancel()  # it is still in line: its task has not run yet
        await stage.own._take([stage.market.reply(offer, answer_id)])
        assert await settled(second) == ["amber"]


async def test_one_cancelled_with_a_draft_in_hand_leaves_it_to_the_next():
    async with Stage() as stage:
        (offer,) = stage.offer("amber")
        first, second = stage.waiter(), stage.waiter()
        await asyncio.sleep(0.1)
        ((_, answer_id),) = stage.market.countered
        await stage.own._take([stage.market.reply(offer, answer_id)])
        first.cancel()
        assert await settled(second) == ["amber"]


async def test_an_old_draft_is_asked_for_once_more_before_it_is_taken():
    async with Stage(answering=True, settings=Settings(draft_lifetime=60)) as stage:
        stage.offer("amber")
        draft = await stage.waiter()
        stage.own.give_back(draft)
        await asyncio.sleep(59)
        assert await settled(stage.waiter()) == ["amber"]
        stage.own.give_back(draft)
        await asyncio.sleep(2)
        fresh = await stage.waiter()
        assert fresh.id != draft.id
        assert asked(stage) == ["amber", "amber"]


async def test_an_old_draft_whose_offer_is_gone_is_given_to_nobody():
    async with Stage(answering=True, settings=Settings(draft_lifetime=60)) as stage:
        stage.offer("amber")
        draft = await stage.waiter()
        stage.own.give_back(draft)
        stage.market.refusing.add(draft.id)
        await asyncio.sleep(61)
        waiter = stage.waiter()
        assert await settled(waiter) == []
        assert "could not be answered" in stage.told(events.ProposalRejected)[-1]["reason"]
        waiter.cancel()


async def test_a_draft_that_its_provider_took_back_is_given_to_nobody():
    async with Stage(answering=True) as stage:
        stage.offer("amber")
        draft = await stage.waiter()
        stage.own.give_back(draft)
        stage.market.tell(
            stage.market.reply(draft, draft.previous_id, ProposalState.rejected, "withdrawn")
        )
        waiter = stage.waiter()
        await asyncio.sleep(0)
        assert await settled(waiter) in ([], ["amber"])
        if not waiter.done():
            waiter.cancel()
        assert not len(stage.own._drafts)


async def test_a_draft_with_other_terms_than_the_offer_is_judged_by_its_own():
    def judge(proposal):
        return "too dear" if proposal.properties["price"] > 1 else None

    async with Stage(judge=judge) as stage:
        (offer,) = stage.offer("cheat", price=1)
        waiter = stage.waiter()
        await asyncio.sleep(0.1)
        ((_, answer_id),) = stage.market.countered
        draft = stage.market.reply(offer, answer_id)
        stage.market.tell(dataclasses.replace(draft, properties={"price": 100}))
        assert await settled(waiter) == []
        assert [reason for _, reason in stage.market.rejected] == ["too dear"]
        assert stage.told(events.ProposalRejected)[0]["reason"] == "too dear"
        waiter.cancel()


async def test_a_strategy_is_asked_once_an_offer_so_that_it_may_count():
    class OneEach(MarketStrategy):
        def __init__(self):
            self.seen = set()

        async def score_offer(self, offer):
            if offer.provider_id in self.seen:
                return SCORE_REJECTED
            self.seen.add(offer.provider_id)
            return 1.0

    async with Stage(answering=True, strategy=OneEach()) as stage:
        stage.offer("amber", "amber", "birch")
        waiters = [stage.waiter() for _ in range(2)]
        assert sorted(await settled(*waiters)) == ["amber", "birch"]


async def test_offers_that_were_dropped_are_told_again_where_they_are_needed():
    async with Stage(answering=True, settings=Settings(proposals_kept=5)) as stage:
        for number in range(30):
            offer = stage.market.standing[number] = stage.market.offer(f"p{number}")
            stage.market.tell(offer)
        await asyncio.sleep(1)
        assert len(stage.own._offers) == 5
        waiters = [stage.waiter() for _ in range(12)]
        assert len(await settled(*waiters, within=10)) == 12
        assert stage.market.subscriptions == 2


async def test_nothing_is_subscribed_anew_while_there_is_enough():
    async with Stage(answering=True, settings=Settings(proposals_kept=5)) as stage:
        stage.offer(*(f"p{n}" for n in range(30)))
        await asyncio.sleep(1)
        waiters = [stage.waiter() for _ in range(5)]
        assert len(await settled(*waiters, within=10)) == 5
        assert stage.market.subscriptions == 1


async def test_a_demand_that_the_market_has_lost_is_published_anew_while_somebody_waits():
    async with Stage(answering=True, settings=Settings(demand_refresh=60)) as stage:
        waiter = stage.waiter()
        await asyncio.sleep(59)
        assert stage.market.subscriptions == 1
        stage.market.standing[1] = stage.market.offer("amber")
        assert await settled(waiter, within=10) == ["amber"]
        assert stage.market.subscriptions == 2


async def test_a_demand_is_left_as_it_is_while_the_market_speaks_or_nobody_waits():
    async with Stage(settings=Settings(demand_refresh=60)) as stage:
        waiter = stage.waiter("amber")
        for _ in range(10):
            await asyncio.sleep(30)
            stage.offer("amber")
        waiter.cancel()
        await asyncio.sleep(1000)
        assert stage.market.subscriptions == 1


async def test_a_demand_that_the_market_does_not_know_any_more_is_published_anew():
    async with Stage(answering=True) as stage:
        waiter = stage.waiter()
        await asyncio.sleep(1)
        stage.market.standing[1] = stage.market.offer("amber")
        stage.market.forgotten = True
        stage.market.there.set()
        assert await settled(waiter, within=10) == ["amber"]
        assert stage.market.subscriptions == 2


async def test_that_there_are_no_offers_is_told_once_however_many_wait():
    async with Stage(settings=Settings(no_offers_after=20)) as stage:
        waiters = [stage.waiter() for _ in range(50)]
        await asyncio.sleep(100)
        assert len(stage.told(events.NoOffersYet)) == 1
        for waiter in waiters:
            waiter.cancel()


# Scores that change -----------------------------------------------------------------------------


class Fickle(MarketStrategy):
    def __init__(self):
        self.scores = {}
        self.gate = None

    async def score_offer(self, offer):
        if self.gate is not None:
            await self.gate.wait()
        return self.scores.get(offer.provider_id, 1.0)


async def test_what_is_kept_is_taken_by_its_new_score():
    strategy = Fickle()
    async with Stage(answering=True, strategy=strategy) as stage:
        stage.offer("amber", "birch", "cedar")
        await asyncio.sleep(0.1)
        strategy.scores = {"amber": 1.0, "birch": 3.0, "cedar": 2.0}
        await stage.own.rescore()
        assert [await stage.waiter() for _ in range(3)]
        assert asked(stage) == ["birch", "cedar", "amber"]


async def test_a_draft_of_a_provider_that_is_banned_meanwhile_is_not_taken():
    strategy = Fickle()
    async with Stage(answering=True, strategy=strategy) as stage:
        stage.offer("amber")
        draft = await stage.waiter()
        stage.own.give_back(draft)
        strategy.scores["amber"] = Rejection("it failed")
        await stage.own.rescore()
        assert [reason for _, reason in stage.market.rejected] == ["it failed"]
        waiter = stage.waiter()
        assert await settled(waiter) == []
        waiter.cancel()


async def test_a_draft_given_back_after_a_ban_is_judged_before_the_next_gets_it():
    strategy = Fickle()
    async with Stage(answering=True, strategy=strategy) as stage:
        stage.offer("amber", "birch")
        draft = await stage.waiter()
        strategy.scores[draft.provider_id] = Rejection("it failed")
        await stage.own.rescore()
        stage.own.give_back(draft)
        (other,) = await settled(stage.waiter())
        assert other != draft.provider_id


async def test_nothing_is_taken_while_what_is_kept_is_judged_again():
    strategy = Fickle()
    async with Stage(answering=True, strategy=strategy) as stage:
        stage.offer("amber")
        stage.own.give_back(await stage.waiter())
        strategy.gate = asyncio.Event()
        rescored = asyncio.create_task(stage.own.rescore())
        await asyncio.sleep(0.1)
        waiter = stage.waiter()
        assert await settled(waiter) == []
        strategy.gate.set()
        await rescored
        assert await settled(waiter) == ["amber"]


@pytest.mark.parametrize("score", [float("nan"), float("-inf"), -1, Rejection("no")])
async def test_what_is_declined_is_told_to_the_provider_with_the_reason(score):
    async with Stage() as stage:
        stage.offer("amber", score=score)
        await asyncio.sleep(0.1)
        ((declined, reason),) = stage.market.rejected
        assert declined.provider_id == "amber"
        assert reason == stage.told(events.ProposalRejected)[0]["reason"]
        assert reason in (
            "the strategy failed: its score is no number",
            "its score is too low",
            "no",
        )
