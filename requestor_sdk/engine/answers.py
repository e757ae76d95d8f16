"""Our answers to offers on their way to the market: one after another, as long as none waits.

Where the market takes its time with one, the next is sent beside it. It decides nothing: which
offer is answered is the negotiation's to say.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from requestor_sdk.engine.aio import Backoff
from requestor_sdk.model.errors import NetworkError, RequestorError

if TYPE_CHECKING:
    from requestor_sdk.engine.candidates import Candidate
    from requestor_sdk.engine.core import Core
    from requestor_sdk.engine.replies import Refusals, Replies
    from requestor_sdk.model.market import Demand


class Answers:
    """Sends our answers to offers.

    Args:
        core: What the engine shares.
        demand: What each answer says.
        replies: Counts on the provider's reply to each.
        refusals: Told of offers that cannot be answered.
        again: Called with an offer that can be answered later: the market failed, not the offer.
        name: Of the tasks.
    """

    def __init__(
        self,
        core: Core,
        *,
        demand: Demand,
        replies: Replies,
        refusals: Refusals,
        again: Callable[[Candidate], None],
        name: str,
    ) -> None:
        self._core = core
        self._demand = demand
        self._replies = replies
        self._refusals = refusals
        self._again = again
        self._name = name
        self._line: deque[Candidate] = deque()
        self._sender: asyncio.Task[None] | None = None
        self._tasks: dict[asyncio.Task[None], None] = {}
        self._unheard = Backoff(core.dice)

    def send(self, offer: Candidate) -> None:
        """Answer an offer; the reply is counted on before the market knows, so that it is once."""
        self._replies.sending(offer.proposal)
        self._line.append(offer)
        if self._sender is None:
            self._spawn()

    def _spawn(self) -> None:
        self._sender = sender = self._core.try_spawn(self._send_all(), self._name)
        if sender is not None:
            self._tasks[sender] = None

    async def _send_all(self) -> None:
        """Send what is in the line, until another does: one that waits for a call holds up none."""
        me = asyncio.current_task()
        assert me is not None
        try:
            while self._sender is me and self._line:
                await self._send(self._line.popleft())
        finally:
            self._tasks.pop(me, None)
            if self._sender is me:
                self._sender = None

    def _let_another_send(self) -> None:
        if asyncio.current_task() is self._sender:
            self._sender = None
            if self._line:
                self._spawn()

    async def _send(self, offer: Candidate) -> None:
        core, proposal = self._core, offer.proposal
        try:
            countering = core.network.market.counter(proposal, self._demand)
            answer_id = await core.answers.answered(countering, "counter()", self._let_another_send)
        except NetworkError as error:
            self._replies.not_sent(proposal)
            pause = self._unheard.next()
            core.retried("market")(error, pause)
            asyncio.get_running_loop().call_later(pause, self._again, offer)
        except RequestorError as error:
            self._refusals.tell(proposal, f"it could not be answered: {error.message}")
            self._replies.not_sent(proposal)
        else:
            self._unheard.reset()
            self._replies.sent(proposal, answer_id)

    def close(self) -> None:
        """Send nothing any more."""
        self._line.clear()
        for task in self._tasks:
            task.cancel()
