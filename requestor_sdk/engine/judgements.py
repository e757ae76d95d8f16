"""What the network is told of notes and invoices: each judgement in its order, until it is heard.

It judges nothing. Of one agreement one call is under way at a time; one that waits holds up no
other agreement.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from requestor_sdk.engine.aio import Backoff
from requestor_sdk.model.errors import RequestorError
from requestor_sdk.model.market import DebitNote, Invoice

if TYPE_CHECKING:
    from requestor_sdk.engine.core import Core

logger: logging.Logger = logging.getLogger("requestor_sdk.engine")

_IN_LINE: Final = 64
"""Judgements about one agreement that wait while the network takes one, at most."""


class Judgements:
    """Tells the network of judgements.

    Args:
        core: What the engine shares.
        on_wait: Called where a call takes its time.
        on_heard: Called when the network has heard that an invoice is accepted.
        still_counts: Tells whether no later note counts what a debit note does.

    Attributes:
        untold: Accepted invoices of which the network has not heard yet, by their agreement's id.
    """

    def __init__(
        self,
        core: Core,
        *,
        on_wait: Callable[[], None],
        on_heard: Callable[[], None],
        still_counts: Callable[[DebitNote], bool],
    ) -> None:
        self._core = core
        self._on_wait = on_wait
        self._on_heard = on_heard
        self._still_counts = still_counts
        self.untold: dict[str, Invoice] = {}
        self._retrying: dict[str, asyncio.Task[None]] = {}
        self._lines: dict[str, deque[tuple[DebitNote | Invoice, str | None]]] = {}

    async def tell(self, item: DebitNote | Invoice, reason: str | None) -> None:
        """Tell the network of a judgement: accepted, or why not.

        What is accepted is told until it is heard, a debit note until a later one counts what it
        does. A rejection need not be: what nobody accepted is not paid.
        """
        if accepted := reason is None and isinstance(item, Invoice):
            assert isinstance(item, Invoice)
            if item.agreement_id in self.untold:
                return  # it came twice, and is being told already
            # Until it is heard it is left over, also where the run ends in the middle of a call.
            self.untold[item.agreement_id] = item
        line = self._lines.get(item.agreement_id)
        if line is None:
            await self._tell_now(item, reason)
            while line := self._lines.get(item.agreement_id):
                await self._tell_now(*line.popleft())
            self._lines.pop(item.agreement_id, None)
        elif accepted or len(line) < _IN_LINE:
            line.append((item, reason))
        else:
            logger.warning("the judgement on %s is not told: too many are", item.id)

    async def _tell_now(self, item: DebitNote | Invoice, reason: str | None) -> None:
        heard = await self._told(item, reason, partial(self._waits, item.agreement_id))
        if reason is not None:
            return
        if isinstance(item, Invoice):
            if heard:
                self._heard(item)
            elif item.agreement_id in self.untold:
                self._retry(item)
        elif not heard:
            self._core.spawn_teller(self._tell_while_it_counts(item), f"note {item.id}")

    def _waits(self, agreement_id: str) -> None:
        """A call takes its time: what is judged of the same agreement is told after it."""
        self._lines.setdefault(agreement_id, deque())
        self._on_wait()

    def tell_again(self) -> None:
        """Tell what was not heard yet beside a call that may hang."""
        for invoice in self.untold.values():
            self._retry(invoice)

    def close(self) -> None:
        """Tell nothing any more. Idempotent."""
        for retrying in self._retrying.values():
            retrying.cancel()

    def _retry(self, invoice: Invoice) -> None:
        if invoice.agreement_id in self._retrying:
            return
        telling = self._tell_until_heard(invoice)
        retrying = self._core.try_spawn(telling, f"invoice {invoice.id}")
        if retrying is not None:
            self._retrying[invoice.agreement_id] = retrying

    def _heard(self, invoice: Invoice) -> None:
        self.untold.pop(invoice.agreement_id, None)
        retrying = self._retrying.pop(invoice.agreement_id, None)
        if retrying is not None and retrying is not asyncio.current_task():
            retrying.cancel()
        self._on_heard()

    async def _tell_until_heard(self, invoice: Invoice) -> None:
        backoff = Backoff(self._core.dice)
        while True:
            await asyncio.sleep(backoff.next())
            if await self._told(invoice, None):
                break
        self._heard(invoice)

    async def _tell_while_it_counts(self, note: DebitNote) -> None:
        backoff = Backoff(self._core.dice)
        while True:
            await asyncio.sleep(backoff.next())
            if not self._still_counts(note) or await self._told(note, None):
                return

    async def _told(
        self,
        item: DebitNote | Invoice,
        reason: str | None,
        on_wait: Callable[[], None] | None = None,
    ) -> bool:
        payments, allocation_id = self._core.network.payments, self._core.allocation_id
        if isinstance(item, DebitNote):
            if reason is None:
                call = payments.accept_debit_note(item, allocation_id)
            else:
                call = payments.reject_debit_note(item, reason)
        elif reason is None:
            call = payments.accept_invoice(item, allocation_id)
        else:
            call = payments.reject_invoice(item, reason)
        try:
            await self._core.release.answered(call, "the judgement", on_wait)
        except RequestorError as error:
            logger.warning("%s: the answer did not reach the network: %s", item.id, error.message)
            self._core.retried("payments")(error, 0.0)
            return False
        return True
