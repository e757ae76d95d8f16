"""Negotiation of one cluster: from offers to drafts that instances can sign.

Offers are collected for a moment and scored together before the best are answered; only as many are
answered as instances wait. An instance takes the best draft; a provider that failed it comes last.
The cost of an instance does not depend on how many others wait, see ``engine.candidates``.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from requestor_sdk.engine.answers import Answers
from requestor_sdk.engine.bargains import Bargains, Thrifty, cheapest
from requestor_sdk.engine.candidates import Candidate, Pool, Recent, Waiter, Waiters
from requestor_sdk.engine.replies import Refusals, Replies
from requestor_sdk.engine.scoring import Judge, Scoring
from requestor_sdk.engine.subscription import Subscription
from requestor_sdk.model import events
from requestor_sdk.model.market import Demand, Proposal, ProposalState
from requestor_sdk.model.money import Terms
from requestor_sdk.service.strategy import MarketStrategy

if TYPE_CHECKING:
    from requestor_sdk.engine.core import Core

logger: logging.Logger = logging.getLogger("requestor_sdk.engine")

_OFFERED: Final = ProposalState.initial
_DRAFT: Final = ProposalState.draft

_REMEMBERED: Final = 4096
"""Proposals that are remembered for what the market tells twice."""

_SIGNING_SEC: Final = 1.0
"""Within how many seconds an agreement is made of a draft that was handed out."""


class Negotiator:
    """Negotiates for the instances of one cluster.

    Args:
        core: What the engine shares.
        cluster_id: For events.
        demand: What the cluster looks for.
        strategy: Judges offers.
        judge: Rules out offers that cannot be taken, e.g. ones without a price.
        collect_offers: Seconds for which offers are collected before the best are answered;
            ``None`` for the settings' or the network's own.

    Attributes:
        over: Whether it has ended.
    """

    def __init__(
        self,
        core: Core,
        *,
        cluster_id: str,
        demand: Demand,
        strategy: MarketStrategy,
        judge: Judge,
        collect_offers: float | None = None,
    ) -> None:
        self._core = core
        self._cluster_id = cluster_id
        self._offers = Pool()
        self._drafts = Pool()
        self._waiters = Waiters()
        self._thrifty = Bargains(core.ledger, cluster_id)
        self._known = Recent(_REMEMBERED)
        self._replies = Replies(core, self._kick, self.said_no)
        self._refusals = Refusals(core, cluster_id)
        self._answers = Answers(
            core,
            demand=demand,
            replies=self._replies,
            refusals=self._refusals,
            again=self._offer_again,
            name=f"{cluster_id} counter",
        )
        self.over: bool = False
        self._lent: OrderedDict[str, Candidate] = OrderedDict()
        self._scoring = Scoring(
            core, strategy=strategy, judge=judge, decline=self._refusals.decline
        )
        self._numbers = itertools.count(1)
        self._subscription = Subscription(
            core,
            cluster_id=cluster_id,
            demand=demand,
            begun=self._published,
            take=self._take,
            forgotten=self._forget_old,
        )
        self._seen = 0
        self._dropped = 0
        self._looked_again = False
        self._unwilling: set[str] = set()
        self._more = False
        self._stale = False
        self._rescoring: asyncio.Task[None] | None = None
        self._window: asyncio.TimerHandle | None = None
        self._patience: asyncio.TimerHandle | None = None
        self._silence: asyncio.TimerHandle | None = None
        self._renewal: asyncio.TimerHandle | None = None
        self._refresh: asyncio.TimerHandle | None = None
        self._heard_at = 0.0
        collect = core.settings.collect_offers if collect_offers is None else collect_offers
        self._collect = core.network.traits.collect_offers_sec if collect is None else collect

    async def run(self) -> None:
        """Subscribe and negotiate until cancelled; then withdraw the demand."""
        try:
            await self._subscription.run()
        finally:
            self.over = True
            self._let_go()

    def _published(self) -> None:
        self._dropped = self._scoring.too_dear = 0

    def _forget_old(self) -> None:
        """Forget what was said to the old subscription; it comes again."""
        for pool in (self._offers, self._drafts):
            pool.clear()
        self._lent.clear()

    def _starved(self) -> bool:
        """Tell whether offers that were dropped are all that is left for those who wait."""
        return bool(
            self._dropped
            and self._missing() > 0
            and not self._replies.providers
            and not self._has_wanted(self._offers)
        )

    def budget_rose(self) -> None:
        """Offers that were declined for what they can cost may do now: where needed, ask anew."""
        if not self.over:
            self._dropped += self._scoring.too_dear
            self._scoring.too_dear = 0
            self._kick()

    def _subscribe_anew(self) -> None:
        """Have the market tell all its offers again, those that were dropped among them."""
        self._renewal = None
        if self._starved():
            self._looked_again = True
            self._subscription.forget()

    def _look_after_subscription(self) -> None:
        """Publish the demand anew where instances wait and the market has long been silent."""
        self._refresh = None
        if self.over or not self._waiters:
            return
        silent = asyncio.get_running_loop().time() - self._heard_at
        if silent >= self._core.settings.demand_refresh:
            self._subscription.forget()
        self._time_refresh()

    def _time_refresh(self) -> None:
        if self._refresh is None:
            self._refresh = asyncio.get_running_loop().call_later(
                self._core.settings.demand_refresh, self._look_after_subscription
            )

    def _let_go(self) -> None:
        self.over = True
        self._replies.close()
        if self._rescoring is not None:
            self._rescoring.cancel()
        self._answers.close()
        timers = (self._window, self._patience, self._silence, self._renewal, self._refresh)
        for timer in timers:
            if timer is not None:
                timer.cancel()
        # A cluster is kept for its members: not with all that the market offered it.
        self._known = Recent(_REMEMBERED)
        for kept in (self._offers, self._drafts, self._lent, self._scoring, self._unwilling):
            kept.clear()

    def want(self, take: Callable[[Proposal], None], avoid: frozenset[str] = frozenset()) -> Waiter:
        """Stand in line for a draft: no task waits, however many do.

        Args:
            take: Called once, with the draft.
            avoid: Providers that are taken only where no other has an offer.

        Returns:
            The place in the line, for ``forget``.
        """
        waiter = Waiter(take, avoid)
        self._waiters.add(waiter)
        self._time_silence()
        self._time_refresh()
        if self._window is None or self._drafts or avoid:
            self._kick()  # otherwise the end of the window does
        return waiter

    def want_fitting(
        self,
        take: Callable[[Proposal | None], None],
        avoid: frozenset[str],
        seconds: Callable[[], float],
    ) -> Thrifty:
        """Stand in line for a draft for which there is room now, see ``Thrifty``."""
        waiter = Thrifty(take, avoid, seconds)
        self._thrifty.add(waiter)
        self._kick()
        return waiter

    def cheapest(self, avoid: frozenset[str], seconds: float, terms: Terms) -> Terms:
        """Return these terms, or cheaper ones that can be had now."""
        return cheapest((self._drafts, self._offers), avoid, terms, seconds)

    def forget(self, waiter: Waiter | Thrifty) -> None:
        """Leave the line. Idempotent."""
        if isinstance(waiter, Thrifty):
            self._thrifty.discard(waiter)
            return
        self._waiters.discard(waiter)
        self._time_silence()

    def said_no(self, provider_id: str) -> None:
        """A provider would not go on with us: offers of others are kept before its own."""
        self._unwilling.add(provider_id)

    def give_back(self, proposal: Proposal) -> None:
        """Put a draft back that could not be signed now, for whoever can sign it later."""
        lent = self._lent.pop(proposal.id, None)
        now = asyncio.get_running_loop().time()
        self._drafts.add(lent or self._candidate(0.0, proposal, now))
        if lent is None:
            self.scores_changed()  # its score is forgotten, or was given before others changed
        self._kick()

    def _candidate(self, score: float, proposal: Proposal, since: float) -> Candidate:
        return Candidate(next(self._numbers), score, proposal, since)

    def _time_silence(self) -> None:
        """Tell, after a while, that somebody waits and no offer has come at all."""
        wanted = bool(self._waiters) and not self._seen
        if wanted and self._silence is None:
            self._silence = asyncio.get_running_loop().call_later(
                self._core.settings.no_offers_after, self._tell_no_offers
            )
        elif not wanted and self._silence is not None:
            self._silence.cancel()
            self._silence = None

    def _tell_no_offers(self) -> None:
        self._silence = None
        self._core.emit(events.NoOffersYet, cluster_id=self._cluster_id, offers=0)

    # What the market says ------------------------------------------------------------------------

    async def _take(self, proposals: Sequence[Proposal]) -> None:
        self._heard_at = asyncio.get_running_loop().time()
        for proposal in proposals:
            if self._known.seen(proposal.id):
                continue
            state = proposal.state
            if state is _OFFERED:
                await self._received(proposal)
            elif state is _DRAFT:
                await self._confirmed(proposal)
            else:
                self._withdrawn(proposal)
        self._kick()

    async def _received(self, proposal: Proposal) -> None:
        self._seen += 1
        self._time_silence()
        self._core.emit(
            events.ProposalReceived,
            cluster_id=self._cluster_id,
            proposal_id=proposal.id,
            provider_id=proposal.provider_id,
            provider_name=proposal.provider_name,
        )
        score = await self._scoring.score(proposal)
        if score is None:
            return
        self._core.emit(
            events.ProposalScored,
            cluster_id=self._cluster_id,
            proposal_id=proposal.id,
            provider_id=proposal.provider_id,
            score=score,
        )
        self._scoring.like(proposal, score)
        self._keep(self._candidate(score, proposal, self._heard_at))
        self._core.room.offered(self._cluster_id, proposal)

    def _keep(self, offer: Candidate) -> None:
        self._offers.add(offer)
        if len(self._offers) > max(self._core.settings.proposals_kept, len(self._waiters)):
            self._offers.pop_worst(self._unwilling)
            self._dropped += 1

    async def _confirmed(self, proposal: Proposal) -> None:
        self._replies.came(proposal)
        score = self._scoring.known_score(proposal)
        if score is None:
            # A provider may answer with other terms than it offered.
            score = await self._scoring.score(proposal)
        if score is None:
            return
        self._core.emit(
            events.ProposalConfirmed,
            cluster_id=self._cluster_id,
            proposal_id=proposal.id,
            provider_id=proposal.provider_id,
        )
        self._drafts.add(self._candidate(score, proposal, self._heard_at))
        self._core.room.offered(self._cluster_id, proposal)

    def _withdrawn(self, proposal: Proposal) -> None:
        """The provider declined our answer, or took back what it said before."""
        self._replies.came(proposal)
        self.said_no(proposal.provider_id)
        step = proposal.previous_id or proposal.id
        self._offers.remove(step)
        self._drafts.remove(step)
        self._refusals.tell(proposal, f"by the provider: {proposal.reason or '-'}")

    # Scores that change --------------------------------------------------------------------------

    async def rescore(self) -> None:
        """Judge again what is kept: offers that were not answered and drafts that nobody has."""
        self.scores_changed()
        if self._rescoring is not None:
            await asyncio.wait({self._rescoring})

    def scores_changed(self) -> None:
        """Judge again what is kept, before any of it is taken."""
        self._stale = True
        self._scoring.changed()
        if self._rescoring is None and (self._offers or self._drafts or self._lent):
            self._rescoring = self._core.try_spawn(self._rescore(), f"{self._cluster_id} rescore")

    async def _rescore(self) -> None:
        try:
            while self._stale:
                self._stale = False
                self._lent.clear()
                for pool in (self._offers, self._drafts):
                    for candidate in pool:
                        await self._judge_again(pool, candidate)
        finally:
            self._rescoring = None
        self._kick()

    async def _judge_again(self, pool: Pool, candidate: Candidate) -> None:
        score = await self._scoring.score(candidate.proposal)
        if candidate not in pool:
            return  # withdrawn meanwhile
        if score is None:
            pool.remove(candidate.key)
        elif score != candidate.score:
            pool.move(candidate, score)

    # Who gets what -------------------------------------------------------------------------------

    def _kick(self) -> None:
        """Give drafts to those who wait, and see to it that more come where they are needed."""
        if self._rescoring is not None:
            return
        self._match()
        if self._thrifty:
            self._serve_thrifty()
        if not self._waiters:
            return
        loop = asyncio.get_running_loop()
        if self._window is None and self._missing() > 0 and self._has_wanted(self._offers):
            if self._may_answer():
                # What is left of those that were collected is not collected once more.
                collect, self._more = 0.0 if self._more else self._collect, False
                self._window = loop.call_later(collect, self._answer_best)
        elif self._renewal is None and self._starved():
            # Not at once: drafts that were handed out are signed under this subscription.
            self._renewal = loop.call_later(_SIGNING_SEC, self._subscribe_anew)
        self._lose_patience()

    def _has_wanted(self, pool: Pool) -> bool:
        return self._waiters.wanted(pool.providers) > 0

    def _missing(self) -> int:
        return len(self._waiters) - self._waiters.wanted(self._replies.providers)

    def _may_answer(self) -> bool:
        """Tell whether fewer answers are under way than there may be."""
        return self._replies.has_room()

    def _match(self) -> None:
        if not self._has_wanted(self._drafts):
            return
        too_old = asyncio.get_running_loop().time() - self._core.settings.draft_lifetime
        unwanted = []
        while self._has_wanted(self._drafts):
            draft = self._drafts.pop_best()
            if draft.since < too_old:
                self._keep(draft)  # to be answered again, which shows whether it still stands
            elif (waiter := self._waiters.take_for(draft.proposal.provider_id)) is None:
                unwanted.append(draft)
            else:
                self._lend(draft)
                waiter.take(draft.proposal)
        for draft in unwanted:
            self._drafts.add(draft)

    def _serve_thrifty(self) -> None:
        """Give those whom only some drafts suit such a one, or see to it that one comes."""
        loop = asyncio.get_running_loop()
        too_old = loop.time() - self._core.settings.draft_lifetime
        asked = 0  # so many at the front of the line wait for a reply
        while (waiter := self._thrifty.at(asked)) is not None:
            draft = self._thrifty.best(self._drafts, waiter)
            if draft is not None:
                self._drafts.remove(draft.key)
                if draft.since >= too_old:
                    self._thrifty.discard(waiter)
                    self._lend(draft)
                    waiter.take(draft.proposal)
                    continue
                self._keep(draft)
            if waiter.asked not in self._replies.providers:
                if not self._may_answer():
                    break  # those behind have to wait, too
                offer = self._thrifty.best(self._offers, waiter)
                if offer is None:
                    # Later: who is told looks further, and that must not be in the middle of this.
                    if not waiter.over:
                        waiter.over = True
                        loop.call_soon(self._nothing_fits, waiter)
                    break
                self._offers.remove(offer.key)
                waiter.asked = offer.proposal.provider_id
                self._answers.send(offer)
            asked += 1

    def _nothing_fits(self, waiter: Thrifty) -> None:
        if self._thrifty.discard(waiter):
            waiter.take(None)
        self._kick()  # those behind have their turn

    def _lend(self, draft: Candidate) -> None:
        self._lent[draft.proposal.id] = draft
        if len(self._lent) > self._core.settings.proposals_kept:
            self._lent.popitem(last=False)

    def _answer_best(self) -> None:
        self._window = None
        if self._rescoring is not None:
            return
        unwanted = []
        while self._missing() > 0 and self._has_wanted(self._offers) and self._may_answer():
            offer = self._offers.pop_best()
            if self._waiters.wants(offer.proposal.provider_id):
                self._answers.send(offer)
            else:
                unwanted.append(offer)
        for offer in unwanted:
            self._offers.add(offer)
        self._more = not self._may_answer()
        self._kick()

    def _offer_again(self, offer: Candidate) -> None:
        if not self.over:
            self._keep(offer)
            self._kick()

    def _lose_patience(self) -> None:
        """Let those whose only choice is a provider that failed them have it, a moment later."""
        if self._patience is None and self._hopeless():
            self._patience = asyncio.get_running_loop().call_later(
                max(2 * self._collect, 0.05), self._give_in
            )

    def _hopeless(self) -> list[Waiter]:
        return self._waiters.hopeless(
            self._offers.providers, self._drafts.providers, self._replies.providers
        )

    def _give_in(self) -> None:
        self._patience = None
        if self._starved() and not self._looked_again:
            return  # first the offers that were dropped are asked for once more
        self._looked_again = False
        for waiter in self._hopeless():
            self._waiters.give_in(waiter)
        self._kick()
