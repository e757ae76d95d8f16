"""What offers are worth: the strategy's opinion of each, within what may be spent.

A strategy is a user's code: what it raises, or takes too long for, declines the offer and ends
nothing else.
"""

from __future__ import annotations

import logging
import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from requestor_sdk.model.market import Properties, Proposal
from requestor_sdk.service.strategy import MarketStrategy, Rejection

if TYPE_CHECKING:
    from requestor_sdk.engine.core import Core

logger: logging.Logger = logging.getLogger("requestor_sdk.engine")

Judge = Callable[[Proposal], str | None]
"""Returns why a proposal cannot be taken whatever its score, or ``None``."""


@dataclass(frozen=True, slots=True)
class _Liked:
    """The last offer of a provider that was found good: its terms, its score, by which scores."""

    terms: Properties
    score: float
    changes: int


class Scoring:
    """Scores proposals.

    Args:
        core: What the engine shares.
        strategy: Judges offers.
        judge: Rules out offers that cannot be taken, e.g. ones without a price.
        decline: Told of a proposal that is declined, and why.

    Attributes:
        too_dear: How many were declined for what they can cost, since this was set to zero.
    """

    def __init__(
        self,
        core: Core,
        *,
        strategy: MarketStrategy,
        judge: Judge,
        decline: Callable[[Proposal, str], None],
    ) -> None:
        self._core = core
        self._strategy = strategy
        self._judge = judge
        self._decline = decline
        self._liked: OrderedDict[str, _Liked] = OrderedDict()
        self._changes = 0
        self.too_dear: int = 0

    async def score(self, proposal: Proposal) -> float | None:
        """Return the score of a proposal; ``None`` where it is declined, with the reason told."""
        changes = self._changes
        verdict = self._affordable(proposal) or await self._opinion(proposal)
        if changes != self._changes:
            # Scores changed while this one was made; once more is enough for honest strategies.
            verdict = self._affordable(proposal) or await self._opinion(proposal)
        if isinstance(verdict, str):
            self._decline(proposal, verdict)
            return None
        return verdict

    def _affordable(self, proposal: Proposal) -> str | None:
        """Return why a proposal is above what may be spent, as things are."""
        objection = self._judge(proposal)
        if objection is not None:
            self.too_dear += 1
        return objection

    async def _opinion(self, proposal: Proposal) -> float | str:
        try:
            scored = self._strategy.score_offer(proposal)
            asked = self._core.user_code(scored, "score_offer()")
            found = await self._core.scoring.keep(asked)
            if isinstance(found, Rejection):
                return found.reason
            score = float(found)
        except TimeoutError:
            seconds = self._core.settings.score_timeout
            return f"the strategy gave no score within {seconds:g} s"
        except Exception as error:
            logger.exception("the strategy failed on an offer of %s", proposal.provider_name)
            return f"the strategy failed: {type(error).__name__}"
        if math.isnan(score):
            return "the strategy failed: its score is no number"
        return score if score >= 0 else "its score is too low"

    # What is known already -----------------------------------------------------------------------

    def like(self, offer: Proposal, score: float) -> None:
        """Remember an offer's score, for the provider's answer to it."""
        self._liked[offer.provider_id] = _Liked(offer.properties, score, self._changes)
        self._liked.move_to_end(offer.provider_id)
        if len(self._liked) > self._core.settings.proposals_kept:
            self._liked.popitem(last=False)

    def known_score(self, draft: Proposal) -> float | None:
        """Return the score of a draft whose terms are those of its offer.

        A strategy is asked once an offer, so that it may count, e.g. take each provider once.
        """
        liked = self._liked.get(draft.provider_id)
        if liked is None or liked.changes != self._changes or liked.terms != draft.properties:
            return None
        return None if self._judge(draft) else liked.score

    def changed(self) -> None:
        """Scores are others from now on: those that are known count no more."""
        self._changes += 1

    def clear(self) -> None:
        """Forget what is known."""
        self._liked.clear()
