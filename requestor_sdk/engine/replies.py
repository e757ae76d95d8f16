"""What a negotiation says to providers and hears back: our answers, and what we decline."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from requestor_sdk.engine.candidates import Count
from requestor_sdk.model import events
from requestor_sdk.model.errors import RequestorError
from requestor_sdk.model.market import EndReason, Proposal

if TYPE_CHECKING:
    from requestor_sdk.engine.core import Core

logger: logging.Logger = logging.getLogger("requestor_sdk.engine")

_LATE: Final = 64
"""Replies that may be too late among those that may be early."""

_FEW: Final = 8
"""Replies that are awaited at one time from providers that reply at once."""

_MOMENT_SEC: Final = 0.025
"""How often it is seen whether providers reply at once."""

_UNTOLD: Final = 4096
"""Declined proposals that wait to be told to their providers."""


class Replies:
    """Answers of ours to which the provider's reply is awaited, for a while.

    Where providers reply at once, a few answers under way keep everybody busy, and more would only
    be half done for longer. The slower they are, the more are sent, up to ``answers_at_once``.

    Args:
        core: What the engine shares.
        on_fewer: Called when a reply is counted on no more that was until now.
        on_silence: Called before that with the provider that did not reply in time.
    """

    def __init__(
        self, core: Core, on_fewer: Callable[[], None], on_silence: Callable[[str], None]
    ) -> None:
        self._core = core
        self._on_fewer = on_fewer
        self._on_silence = on_silence
        self._awaited: OrderedDict[str, tuple[float, str]] = OrderedDict()
        self._sending = 0
        self._early: OrderedDict[str, None] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None
        self._most = _FEW
        self._oldest = ""
        self._look: asyncio.TimerHandle | None = None
        self.providers: Count = Count()

    def __len__(self) -> int:
        return len(self._awaited)

    def has_room(self) -> bool:
        """Tell whether another answer may be sent."""
        return len(self._awaited) < min(self._most, self._core.settings.answers_at_once)

    def sending(self, proposal: Proposal) -> None:
        """An answer is on its way to the market; its id is not known yet."""
        self._sending += 1
        self._expect(proposal.id, proposal.provider_id)
        self._look_again()

    def sent(self, proposal: Proposal, answer_id: str) -> None:
        """The market has the answer; the reply can have been faster."""
        self._drop(proposal.id)
        early = answer_id in self._early
        if early:
            del self._early[answer_id]
        else:
            self._expect(answer_id, proposal.provider_id)
        self._one_less()
        if early:
            self._on_fewer()

    def not_sent(self, proposal: Proposal) -> None:
        """The market would not take the answer."""
        self._drop(proposal.id)
        self._one_less()
        self._on_fewer()

    def came(self, reply: Proposal) -> None:
        """The provider replied."""
        step = reply.previous_id or reply.id
        if not self._drop(step) and self._sending:
            self._early[step] = None
            if len(self._early) > self._sending + _LATE:
                self._early.popitem(last=False)

    def close(self) -> None:
        """Count on nothing any more."""
        for timer in (self._timer, self._look):
            if timer is not None:
                timer.cancel()
        self._timer = self._look = None
        self._most = _FEW

    def _look_again(self) -> None:
        if self._look is None and not self.has_room():
            self._look = asyncio.get_running_loop().call_later(_MOMENT_SEC, self._widen)

    def _widen(self) -> None:
        """Await more at one time, where the oldest is the same as when it was looked last."""
        self._look = None
        oldest, self._oldest = self._oldest, next(iter(self._awaited), "")
        if oldest == self._oldest and self._most < self._core.settings.answers_at_once:
            self._most *= 2
            self._on_fewer()
        self._look_again()

    def _one_less(self) -> None:
        self._sending -= 1
        if not self._sending:
            self._early.clear()  # what is left there replied too late

    def _expect(self, step: str, provider_id: str) -> None:
        self._drop(step)
        until = asyncio.get_running_loop().time() + self._core.settings.approval_timeout
        self._awaited[step] = (until, provider_id)
        self.providers.add(provider_id)
        self._time()

    def _drop(self, step: str) -> bool:
        found = self._awaited.pop(step, None)
        if found is not None:
            self.providers.discard(found[1])
        if not self._awaited:
            self.close()
        return found is not None

    def _time(self) -> None:
        """One timer serves all: they are in the order of their deadlines."""
        if self._timer is None and self._awaited:
            until, _ = next(iter(self._awaited.values()))
            self._timer = asyncio.get_running_loop().call_at(until, self._give_up)

    def _give_up(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        while self._awaited and next(iter(self._awaited.values()))[0] <= now:
            step, (_, provider_id) = next(iter(self._awaited.items()))
            self._drop(step)
            self._on_silence(provider_id)
        self._time()
        self._on_fewer()


class Refusals:
    """Tells why proposals are declined: in an event, and to the provider, one after the other.

    Args:
        core: What the engine shares.
        cluster_id: For events.
    """

    def __init__(self, core: Core, cluster_id: str) -> None:
        self._core = core
        self._cluster_id = cluster_id
        self._untold: deque[tuple[Proposal, str]] = deque()
        self._telling = False

    def tell(self, proposal: Proposal, reason: str) -> None:
        """Emit why nothing comes of a proposal."""
        self._core.emit(
            events.ProposalRejected,
            cluster_id=self._cluster_id,
            proposal_id=proposal.id,
            provider_id=proposal.provider_id,
            reason=reason,
        )

    def decline(self, proposal: Proposal, reason: str) -> None:
        """Decline a proposal, telling the provider why."""
        self.tell(proposal, reason)
        if len(self._untold) >= _UNTOLD:
            logger.info("proposal %s is declined unheard: too many are", proposal.id)
            return
        self._untold.append((proposal, reason))
        if not self._telling:
            self._telling = True
            self._core.spawn_teller(self._tell_all(), f"{self._cluster_id} reject")

    async def _tell_all(self) -> None:
        try:
            while self._untold:
                proposal, reason = self._untold.popleft()
                no = EndReason(message=reason, code="Rejected")
                try:
                    telling = self._core.network.market.reject(proposal, no)
                    await self._core.answers.answered(telling, "reject()")
                except RequestorError as error:
                    logger.info("proposal %s was declined unheard: %s", proposal.id, error.message)
        finally:
            self._telling = False
