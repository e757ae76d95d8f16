"""The engine's payments: debit notes and invoices judged, accepted or rejected with the reason.

What is accepted is counted in the ledger before the network is told, so that it can never exceed
the budget; nothing is paid twice.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING

from requestor_sdk.engine.aio import read_for_ever
from requestor_sdk.model import events
from requestor_sdk.model.errors import RequestorError
from requestor_sdk.model.market import DebitNote, Invoice
from requestor_sdk.model.money import ZERO, check_debit_note, check_invoice, to_amount

if TYPE_CHECKING:
    from requestor_sdk.engine.contracts import Contract
    from requestor_sdk.engine.core import Core

logger = logging.getLogger("requestor_sdk.engine")


class Billing:
    """Judges what providers ask for.

    Args:
        core: What the engine shares.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self._contracts: dict[str, Contract] = {}
        self._deadlines: dict[str, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._settled: set[str] = set()
        self._all_settled: asyncio.Event = asyncio.Event()

    def follow(self, contract: Contract) -> None:
        """Expect notes for this agreement."""
        self._contracts[contract.id] = contract

    def expect_invoice(self, contract: Contract) -> None:
        """The agreement is over: wait for its invoice until a deadline, then let it go."""
        if contract.id not in self._contracts:
            return
        if not contract.uses:
            self._forget(contract.id)
            return
        due = self._core.clock.monotonic() + self._core.settings.invoice_deadline
        self._deadlines[contract.id] = due
        if self._timer is None:
            self._time(due)

    def _time(self, due: float) -> None:
        # One timer for all: every deadline is as long, so the first that was set is due first.
        left = due - self._core.clock.monotonic()
        self._timer = asyncio.get_running_loop().call_later(max(left, 0.0), self._first_is_due)

    def _first_is_due(self) -> None:
        self._timer = None
        now = self._core.clock.monotonic()
        for agreement_id, due in list(self._deadlines.items()):
            if due > now:
                self._time(due)
                return
            self.leave_over(agreement_id)

    def contract(self, agreement_id: str) -> Contract | None:
        """Return an agreement whose invoice has not been settled."""
        return self._contracts.get(agreement_id)

    def open(self) -> tuple[str, ...]:
        """Return the agreements whose invoice has not been settled."""
        return tuple(self._contracts)

    async def run(self) -> None:
        """Read and judge until cancelled."""
        await read_for_ever(
            lambda: self._core.network.payments.payment_events(),  # noqa: PLW0108
            self._take,
            self._core.retried("payments"),
            self._core.dice,
        )

    async def wait_settled(self, seconds: float) -> None:
        """Wait until every agreement is settled, this long at most."""
        try:
            async with asyncio.timeout(seconds):
                while self._contracts:
                    self._all_settled.clear()
                    await self._all_settled.wait()
        except TimeoutError:
            pass

    def leave_over(self, agreement_id: str) -> Decimal:
        """No invoice came: record what may still be asked for, and hold it no longer."""
        contract = self._contracts.get(agreement_id)
        if contract is None:
            return ZERO
        rest = self._core.ledger.settle(agreement_id)
        self._forget(agreement_id)
        self._core.emit(
            events.PaymentLeftOver,
            agreement_id=agreement_id,
            provider_id=contract.provider_id,
            at_most=rest,
        )
        self._core.room.made()
        return rest

    def close(self) -> Decimal:
        """Leave over all that is open; returns its sum."""
        if self._timer is not None:
            self._timer.cancel()
        return sum((self.leave_over(agreement_id) for agreement_id in self.open()), ZERO)

    def _forget(self, agreement_id: str) -> None:
        self._contracts.pop(agreement_id, None)
        self._deadlines.pop(agreement_id, None)
        self._all_settled.set()

    # Judging -------------------------------------------------------------------------------------

    async def _take(self, found: Sequence[DebitNote | Invoice]) -> None:
        for item in found:
            if isinstance(item, DebitNote):
                await self._debit_note(item)
            else:
                await self._invoice(item)

    async def _debit_note(self, note: DebitNote) -> None:
        core = self._core
        about = {"note_id": note.id, "agreement_id": note.agreement_id}
        core.emit(events.DebitNoteReceived, **about, activity_id=note.activity_id, total=note.total)
        reason = self._judge_note(note)
        if reason is not None:
            core.emit(events.DebitNoteRejected, **about, total=note.total, reason=reason)
            await self._told(core.network.payments.reject_debit_note(note, reason), note.id)
            return
        use = self._contracts[note.agreement_id].use_of(note.activity_id)
        assert use is not None, "it was judged right"
        use.noted, use.usage = note.total, note.usage
        use.noted_at = use.elapsed(core.clock.monotonic())
        core.emit(events.DebitNoteAccepted, **about, total=note.total)
        await self._told(core.network.payments.accept_debit_note(note, core.allocation_id), note.id)

    def _judge_note(self, note: DebitNote) -> str | None:
        contract = self._contracts.get(note.agreement_id)
        if contract is None:
            return "no such agreement is open"
        use = contract.use_of(note.activity_id)
        if use is None:
            return "the activity is not of this agreement"
        reason = check_debit_note(
            contract.terms,
            total=note.total,
            usage=note.usage,
            elapsed_sec=to_amount(use.elapsed(self._core.clock.monotonic())),
            accepted=use.noted or ZERO,
            previous_usage=use.usage,
        )
        if reason is not None:
            return reason
        total = contract.noted() - (use.noted or ZERO) + note.total
        if not self._core.ledger.accept(note.agreement_id, total):
            held = self._core.ledger.payable_for(note.agreement_id)
            return f"{total} is above {held}, which is held for this agreement"
        return None

    async def _invoice(self, invoice: Invoice) -> None:
        core = self._core
        about = {"invoice_id": invoice.id, "agreement_id": invoice.agreement_id}
        core.emit(events.InvoiceReceived, **about, amount=invoice.amount)
        contract = self._contracts.get(invoice.agreement_id)
        reason = self._judge_invoice(invoice, contract)
        if reason is not None or contract is None:
            core.emit(
                events.InvoiceRejected, **about, amount=invoice.amount, reason=reason or "unknown"
            )
            await self._told(
                core.network.payments.reject_invoice(invoice, reason or "unknown"), invoice.id
            )
            return
        core.ledger.accept(contract.id, invoice.amount)
        core.emit(
            events.InvoiceAccepted,
            **about,
            provider_id=contract.provider_id,
            amount=invoice.amount,
        )
        core.ledger.settle(contract.id)
        self._settled.add(contract.id)
        self._forget(contract.id)
        core.room.made()
        await self._told(
            core.network.payments.accept_invoice(invoice, core.allocation_id), invoice.id
        )

    def _judge_invoice(self, invoice: Invoice, contract: Contract | None) -> str | None:
        if invoice.agreement_id in self._settled:
            return "an invoice of this agreement was accepted before"
        if contract is None:
            return "no such agreement is open"
        now = self._core.clock.monotonic()
        return check_invoice(
            contract.terms,
            amount=invoice.amount,
            activities=tuple(use.charged(now) for use in contract.uses),
            payable=self._core.ledger.payable_for(contract.id),
        )

    async def _told(self, work: Awaitable[None], what: str) -> None:
        try:
            await work
        except RequestorError as error:
            logger.warning("%s: the answer did not reach the network: %s", what, error.message)
            self._core.retried("payments")(error, 0.0)
