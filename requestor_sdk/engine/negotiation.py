"""Negotiation of one cluster: from offers to drafts that instances can sign.

Offers are collected for a moment and scored together before the best are answered; only as many are
answered as instances wait. An instance takes the best draft; a provider that failed it comes last.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from requestor_sdk.engine.aio import own_code, read_for_ever
from requestor_sdk.model import events
from requestor_sdk.model.errors import RequestorError
from requestor_sdk.model.market import Demand, EndReason, Proposal, ProposalState
from requestor_sdk.service.strategy import MarketStrategy, Rejection

if TYPE_CHECKING:
    from requestor_sdk.engine.core import Core

logger = logging.getLogger("requestor_sdk.engine")

Judge = Callable[[Proposal], str | None]
"""Returns why a proposal cannot be taken whatever its score, or ``None``."""


@dataclass(slots=True)
class _Scored:
    score: float
    proposal: Proposal


@dataclass(slots=True, eq=False)
class _Waiter:
    future: asyncio.Future[Proposal]
    avoid: frozenset[str] = field(default=frozenset())
    patient: bool = True


class Negotiator:
    """Negotiates for the instances of one cluster.

    Args:
        core: What the engine shares.
        cluster_id: For events.
        demand: What the cluster looks for.
        strategy: Judges offers.
        judge: Rules out offers that cannot be taken, e.g. ones without a price.
    """

    def __init__(
        self,
        core: Core,
        *,
        cluster_id: str,
        demand: Demand,
        strategy: MarketStrategy,
        judge: Judge,
    ) -> None:
        self._core = core
        self._cluster_id = cluster_id
        self._demand = demand
        self._strategy = strategy
        self._judge = judge
        self._initial: list[_Scored] = []
        self._answered: dict[str, _Scored] = {}
        self._drafts: list[_Scored] = []
        self._early: set[str] = set()
        self._waiters: list[_Waiter] = []
        self._window: asyncio.TimerHandle | None = None
        self._seen = 0
        collect = core.settings.collect_offers
        self._collect = core.network.traits.collect_offers_sec if collect is None else collect

    async def run(self) -> None:
        """Subscribe and negotiate until cancelled; then withdraw the demand."""
        market = self._core.network.market
        demand_id = await market.subscribe(self._demand)
        self._core.emit(
            events.SubscriptionCreated, cluster_id=self._cluster_id, demand_id=demand_id
        )
        try:
            await read_for_ever(
                lambda: market.collect(demand_id),
                self._take,
                self._core.retried("market"),
                self._core.dice,
            )
        finally:
            self._forget_window()
            try:
                async with asyncio.timeout(self._core.settings.close_timeout):
                    await market.unsubscribe(demand_id)
            except (RequestorError, TimeoutError) as error:
                logger.warning("the demand %s could not be withdrawn: %s", demand_id, error)

    async def acquire(self, avoid: frozenset[str] = frozenset()) -> Proposal:
        """Wait for a draft and take it.

        Args:
            avoid: Providers that are taken only where no other has an offer.
        """
        waiter = _Waiter(asyncio.get_running_loop().create_future(), avoid)
        self._waiters.append(waiter)
        unanswered = asyncio.get_running_loop().call_later(
            self._core.settings.no_offers_after, self._tell_no_offers
        )
        self._kick()
        try:
            return await waiter.future
        except asyncio.CancelledError:
            if waiter.future.done() and not waiter.future.cancelled():
                # Cancelled in the moment after the draft was handed over: others may want it.
                self.give_back(waiter.future.result())
                self._kick()
            raise
        finally:
            unanswered.cancel()
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    def give_back(self, proposal: Proposal) -> None:
        """Put a draft back that could not be signed now, for whoever can sign it later."""
        self._drafts.append(_Scored(0.0, proposal))

    def _tell_no_offers(self) -> None:
        if not self._seen:
            self._core.emit(events.NoOffersYet, cluster_id=self._cluster_id, offers=0)

    # What the market says ------------------------------------------------------------------------

    async def _take(self, proposals: Sequence[Proposal]) -> None:
        for proposal in proposals:
            match proposal.state:
                case ProposalState.initial:
                    await self._received(proposal)
                case ProposalState.draft:
                    self._confirmed(proposal)
                case ProposalState.rejected:
                    self._known(proposal)
                    self._tell_rejected(proposal, f"by the provider: {proposal.reason or '-'}")
        self._kick()

    async def _received(self, proposal: Proposal) -> None:
        self._seen += 1
        ids = {"cluster_id": self._cluster_id, "proposal_id": proposal.id}
        self._core.emit(
            events.ProposalReceived,
            **ids,
            provider_id=proposal.provider_id,
            provider_name=proposal.provider_name,
        )
        verdict = self._judge(proposal) or await self._scored(proposal)
        if isinstance(verdict, str):
            self._tell_rejected(proposal, verdict)
            self._core.try_spawn(self._reject(proposal, verdict), f"{self._cluster_id} reject")
            return
        self._core.emit(
            events.ProposalScored, **ids, provider_id=proposal.provider_id, score=verdict
        )
        self._initial.append(_Scored(verdict, proposal))
        self._initial.sort(key=lambda scored: -scored.score)
        del self._initial[self._core.settings.proposals_kept :]

    async def _scored(self, proposal: Proposal) -> float | str:
        try:
            found = await own_code(self._strategy.score_offer(proposal), "score_offer()")
            if isinstance(found, Rejection):
                return found.reason
            score = float(found)
        except Exception as error:
            logger.exception("the strategy failed on an offer of %s", proposal.provider_name)
            return f"the strategy failed: {type(error).__name__}"
        return score if score >= 0 else "its score is too low"

    async def _reject(self, proposal: Proposal, reason: str) -> None:
        try:
            await self._core.network.market.reject(
                proposal, EndReason(message=reason, code="Rejected")
            )
        except RequestorError as error:
            logger.info("proposal %s could not be rejected: %s", proposal.id, error.message)

    def _confirmed(self, proposal: Proposal) -> None:
        known = self._known(proposal)
        self._core.emit(
            events.ProposalConfirmed,
            cluster_id=self._cluster_id,
            proposal_id=proposal.id,
            provider_id=proposal.provider_id,
        )
        self._drafts.append(_Scored(known.score if known else 0.0, proposal))
        self._drafts.sort(key=lambda scored: -scored.score)

    def _known(self, reply: Proposal) -> _Scored | None:
        answer_id = reply.previous_id or reply.id
        known = self._answered.pop(answer_id, None)
        if known is None:
            self._early.add(answer_id)
        return known

    def _tell_rejected(self, proposal: Proposal, reason: str) -> None:
        self._core.emit(
            events.ProposalRejected,
            cluster_id=self._cluster_id,
            proposal_id=proposal.id,
            provider_id=proposal.provider_id,
            reason=reason,
        )

    # Who gets what -------------------------------------------------------------------------------

    def _kick(self) -> None:
        """Give drafts to those who wait, and see to it that more come where they are needed."""
        self._match()
        if self._waiters and self._initial and self._missing() > 0 and self._window is None:
            loop = asyncio.get_running_loop()
            self._window = loop.call_later(self._collect, self._answer_best)
        elif self._waiters and self._drafts:
            self._lose_patience()  # these drafts are of providers that failed those who wait

    def _missing(self) -> int:
        usable = sum(
            1 for scored in self._answered.values() if self._wanted(scored.proposal.provider_id)
        )
        return len(self._waiters) - usable

    def _wanted(self, provider_id: str) -> bool:
        return any(provider_id not in w.avoid or not w.patient for w in self._waiters)

    def _forget_window(self) -> None:
        if self._window is not None:
            self._window.cancel()
            self._window = None

    def _answer_best(self) -> None:
        self._window = None
        for scored in [s for s in self._initial if self._wanted(s.proposal.provider_id)]:
            if self._missing() <= 0:
                break
            self._initial.remove(scored)
            # Counted as answered before the market knows, so that it is not answered twice.
            self._expect(scored.proposal.id, scored)
            self._core.try_spawn(self._answer(scored), f"{self._cluster_id} counter")
        self._match()
        self._lose_patience()

    def _expect(self, answer_id: str, scored: _Scored) -> None:
        """Count on a provider's reply; after a while without it, on others again."""
        self._answered[answer_id] = scored
        asyncio.get_running_loop().call_later(
            self._core.settings.approval_timeout, self._expect_no_more, answer_id
        )

    def _expect_no_more(self, answer_id: str) -> None:
        if self._answered.pop(answer_id, None) is not None:
            self._kick()

    async def _answer(self, scored: _Scored) -> None:
        proposal = scored.proposal
        try:
            answer_id = await self._core.network.market.counter(proposal, self._demand)
        except RequestorError as error:
            self._answered.pop(proposal.id, None)
            self._tell_rejected(proposal, f"it could not be answered: {error.message}")
            self._kick()
            return
        self._answered.pop(proposal.id, None)
        if answer_id not in self._early:
            self._expect(answer_id, scored)
            return
        # The provider was faster than the answer's id.
        self._early.discard(answer_id)
        for draft in self._drafts:
            if draft.proposal.previous_id == answer_id:
                draft.score = scored.score

    def _match(self) -> None:
        for waiter in list(self._waiters):
            found = next(
                (
                    scored
                    for scored in self._drafts
                    if scored.proposal.provider_id not in waiter.avoid or not waiter.patient
                ),
                None,
            )
            if found is not None and not waiter.future.done():
                self._drafts.remove(found)
                self._waiters.remove(waiter)
                waiter.future.set_result(found.proposal)

    def _lose_patience(self) -> None:
        """Let those whose only choice is a provider that failed them have it, a moment later."""
        for waiter in self._waiters:
            if not waiter.patient or not waiter.avoid:
                continue
            others = [*self._answered.values(), *self._initial, *self._drafts]
            if others and all(s.proposal.provider_id in waiter.avoid for s in others):
                asyncio.get_running_loop().call_later(
                    max(2 * self._collect, 0.05), self._give_in, waiter
                )

    def _give_in(self, waiter: _Waiter) -> None:
        if waiter in self._waiters:
            waiter.patient = False
            self._kick()
