"""The budget raised while the run goes on: first the network's allocation, then the ledger."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING

from requestor_sdk.model import events
from requestor_sdk.model.errors import NotAvailable, PaymentError, RequestorError
from requestor_sdk.model.money import ZERO, to_amount, to_positive
from requestor_sdk.service._handles import Outcome

if TYPE_CHECKING:
    from requestor_sdk.engine.core import Core


class Funds:
    """Raises the budget, one addition after the other.

    Args:
        core: What the engine shares.
        on_more: Called when the budget was raised.
    """

    def __init__(self, core: Core, on_more: Callable[[], None]) -> None:
        self._core = core
        self._on_more = on_more
        self._asked: deque[tuple[Decimal, Outcome[Decimal]]] = deque()
        self._worker: asyncio.Task[None] | None = None

    def add(self, amount: Decimal | float | str) -> Outcome[Decimal]:
        """Raise the budget; see ``Budget.add``."""
        more = to_positive(amount)
        asked = sum((each for each, _ in self._asked), ZERO)
        to_amount(self._core.ledger.budget + asked + more, name="the budget")
        self._core.check_running()
        outcome: Outcome[Decimal] = Outcome()
        self._asked.append((more, outcome))
        if self._worker is None:
            self._worker = self._core.spawn(self._add_all(), "budget")
        return outcome

    async def _add_all(self) -> None:
        try:
            while self._asked:
                more, outcome = self._asked[0]
                try:
                    outcome.succeed(await self._add(more))
                except RequestorError as error:
                    outcome.fail(error)
                self._asked.popleft()
        finally:
            self._worker = None
            while self._asked:
                _, outcome = self._asked.popleft()
                outcome.fail(NotAvailable("the engine ended before the budget was raised"))

    async def _add(self, more: Decimal) -> Decimal:
        core = self._core
        before = core.ledger.budget
        about = {"allocation_id": core.allocation_id}
        core.emit(events.AllocationAmended, **about, amount=before + more)
        core.check_written()
        try:
            async with asyncio.timeout(core.settings.release_timeout):
                await core.network.payments.amend_allocation(core.allocation_id, before + more)
        except (RequestorError, TimeoutError) as error:
            reason = error.message if isinstance(error, RequestorError) else "it did not answer"
            core.emit(events.AllocationAmendFailed, **about, amount=before, reason=reason)
            raise PaymentError(
                f"the network would not raise the allocation by {more.normalize():f}: {reason}",
                ids=core.ids(allocation=core.allocation_id),
                hint="the budget is as it was; see the funds that the network can reserve",
            ) from error
        core.ledger.add(more)
        core.room.made()
        self._on_more()
        return core.ledger.budget
