"""The engine's payments: debit notes and invoices judged, accepted or rejected with the reason.

What is accepted is counted in the ledger before the network is told, so that it can never exceed
the budget; nothing is paid twice.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Container, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Final, NamedTuple

from requestor_sdk.engine.aio import Backoff
from requestor_sdk.engine.judgements import Judgements
from requestor_sdk.model import events
from requestor_sdk.model.errors import EngineFailed, RequestorError
from requestor_sdk.model.market import DebitNote, Invoice
from requestor_sdk.model.money import ZERO, to_seconds
from requestor_sdk.model.notes import check_debit_note, check_invoice, due_by_usage

if TYPE_CHECKING:
    from requestor_sdk.engine.contract import Contract
    from requestor_sdk.engine.core import Core

logger: logging.Logger = logging.getLogger("requestor_sdk.engine")

_GIVEN_UP: Final = 1024
"""Agreements whose invoice is too late and that are remembered for when it comes."""

_UNUSED: Final = 4096
"""Agreements without an activity that are remembered for what their providers ask for."""

_SETTLED: Final = 4096
"""Agreements that are paid and remembered for what comes twice; the journal has them all."""

_LAST: Final = 8
"""Answers that are kept of an agreement which is paid, for as long as the run lasts."""


class _Settled(NamedTuple):
    """An agreement whose invoice was accepted, and what was said to that and its last notes."""

    provider_id: str
    judged: Mapping[str, str | None]


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
        self._settled: dict[str, _Settled] = {}
        self._given_up: OrderedDict[str, Contract] = OrderedDict()
        self._unused: OrderedDict[str, str] = OrderedDict()
        self._all_settled: asyncio.Event = asyncio.Event()
        self._judgements = Judgements(
            core,
            on_wait=self._let_another_read,
            on_heard=self._all_settled.set,
            still_counts=self._still_counts,
        )
        self._inbox: deque[DebitNote | Invoice] = deque()
        self._reader: asyncio.Task[None] | None = None
        self._readers: asyncio.TaskGroup | None = None

    def follow(self, contract: Contract) -> None:
        """Expect notes for this agreement."""
        self._contracts[contract.id] = contract

    def expect_invoice(self, contract: Contract) -> None:
        """The agreement is over: wait for its invoice until a deadline, then let it go."""
        if contract.use is None:
            self._forget(contract.id)
            self.owes_nothing(contract.id, contract.provider_id)
            return
        if contract.id not in self._contracts:
            return
        if contract.id in self._deadlines:
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

    def was_settled(
        self,
        agreement_id: str,
        provider_id: str,
        *,
        invoice_id: str,
        judged: Mapping[str, str | None],
    ) -> None:
        """The invoice of this agreement was accepted, here or by an earlier process."""
        last = dict(judged) if len(judged) <= _LAST else dict(list(judged.items())[-_LAST:])
        last[invoice_id] = None
        self._settled[agreement_id] = _Settled(provider_id, last)
        if len(self._settled) > _SETTLED:
            # One whose acceptance the network has not heard is still told of.
            untold = {agreement_id, *self._judgements.untold}
            self._settled.pop(next((old for old in self._settled if old not in untold), ""), None)

    def owes_nothing(self, agreement_id: str, provider_id: str) -> None:
        """An agreement of this run is over, and there was no activity in it."""
        if agreement_id not in self._settled:
            self._unused[agreement_id] = provider_id
            if len(self._unused) > _UNUSED:
                self._unused.popitem(last=False)

    def contract(self, agreement_id: str) -> Contract | None:
        """Return an agreement whose invoice has not been settled."""
        return self._contracts.get(agreement_id)

    def open(self) -> tuple[str, ...]:
        """Return the agreements whose invoice has not been settled."""
        return tuple(self._contracts)

    async def run(self) -> None:
        """Read and judge until cancelled."""
        try:
            async with asyncio.TaskGroup() as self._readers:
                self._readers.create_task(self._read(), name="payments")
        except BaseExceptionGroup as failed:
            raise failed.exceptions[0] from None  # one is told more plainly than a group

    async def _read(self) -> None:
        """Read and judge until another reader does: one that waits for a call holds up nobody."""
        me = self._reader = asyncio.current_task()
        backoff, payments = Backoff(self._core.dice), self._core.network.payments
        while self._reader is me:
            if self._inbox:
                await self.judge(self._inbox.popleft())
                continue
            try:
                self._inbox.extend(await payments.payment_events())
            except RequestorError as error:
                pause = backoff.next()
                self._core.retried("payments")(error, pause)
                await asyncio.sleep(pause)
            else:
                backoff.reset()

    def _let_another_read(self) -> None:
        if self._readers is not None and asyncio.current_task() is self._reader:
            self._reader = self._readers.create_task(self._read(), name="payments")

    async def wait_settled(self, seconds: float, *, but: Container[str] = ()) -> None:
        """Wait until every agreement is settled, these excepted, this long at most.

        What the network has not heard after half of that is told again beside a call that hangs.
        """
        await self._settled_within(seconds / 2, but)
        self._judgements.tell_again()
        await self._settled_within(seconds / 2, but)

    async def _settled_within(self, seconds: float, but: Container[str]) -> None:
        try:
            async with asyncio.timeout(seconds):
                while self._judgements.untold or any(found not in but for found in self._contracts):
                    self._all_settled.clear()
                    await self._all_settled.wait()
        except TimeoutError:
            pass

    def leave_over(self, agreement_id: str) -> Decimal:
        """No invoice came: record what may still be asked for, and hold it no longer."""
        contract = self._contracts.get(agreement_id)
        if contract is None:
            return ZERO
        rest = self._core.ledger.give_up(agreement_id)
        self._forget(agreement_id)
        self._give_up(contract)
        self._core.emit(
            events.PaymentLeftOver,
            agreement_id=agreement_id,
            provider_id=contract.provider_id,
            at_most=rest,
        )
        self._core.room.made()
        return rest

    def _give_up(self, contract: Contract) -> None:
        """Its invoice is still paid where it comes and there is room: not all are remembered."""
        self._given_up[contract.id] = contract
        if len(self._given_up) > _GIVEN_UP:
            oldest, _ = self._given_up.popitem(last=False)
            self._core.ledger.settle(oldest)

    def wait_no_longer(self) -> None:
        """Let no deadline pass and tell nothing any more; what is open stays so. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
        self._judgements.close()

    def close(self, *, but: Container[str] = ()) -> Decimal:
        """Leave over all that is open, these agreements excepted; returns its sum."""
        self.wait_no_longer()
        for agreement_id in self._judgements.untold:
            self._core.emit(
                events.PaymentLeftOver,
                agreement_id=agreement_id,
                provider_id=self._settled[agreement_id].provider_id,
                at_most=ZERO,
            )
        self._judgements.untold.clear()
        left = (agreement_id for agreement_id in self.open() if agreement_id not in but)
        return sum((self.leave_over(agreement_id) for agreement_id in left), ZERO)

    def _forget(self, agreement_id: str) -> None:
        self._contracts.pop(agreement_id, None)
        self._given_up.pop(agreement_id, None)
        self._unused.pop(agreement_id, None)
        self._deadlines.pop(agreement_id, None)
        self._all_settled.set()

    # Judging -------------------------------------------------------------------------------------

    async def judge(self, item: DebitNote | Invoice) -> None:
        """Accept or reject what belongs to an agreement of this run, where it can be written down.

        What cannot is not answered: a recovery will find it, and judge it anew. One that was judged
        before is told the same again, and no more. One of an agreement that this run did not make
        is another run's of the same identity, and left alone: a rejection would be final, and the
        provider never paid.
        """
        try:
            contract = self._contract_of(item)
            settled = self._settled.get(item.agreement_id)
            if contract is not None and item.id in contract.judged:
                await self.tell(item, contract.judged[item.id])
            elif settled is not None and item.id in settled.judged:
                await self.tell(item, settled.judged[item.id])
            elif contract is None and settled is None and item.agreement_id not in self._unused:
                logger.debug("%s: agreement %s is not of this run", item.id, item.agreement_id)
            elif isinstance(item, DebitNote):
                # One of an agreement that was given up is left alone: its invoice will count it.
                if item.agreement_id not in self._given_up:
                    await self._debit_note(item)
            else:
                await self._invoice(item)
        except EngineFailed as error:
            logger.warning("%s is not answered: %s", item.id, error.message)

    def _contract_of(self, item: DebitNote | Invoice) -> Contract | None:
        found = self._contracts.get(item.agreement_id)
        return found or self._given_up.get(item.agreement_id)

    async def tell(self, item: DebitNote | Invoice, reason: str | None) -> None:
        """Tell the network of a judgement: accepted, or why not; see ``Judgements.tell``."""
        await self._judgements.tell(item, reason)

    def _still_counts(self, note: DebitNote) -> bool:
        """Tell whether no later note counts what this one does."""
        contract = self._contracts.get(note.agreement_id)
        use = None if contract is None else contract.use_of(note.activity_id)
        return use is not None and use.noted == note.total

    async def _debit_note(self, note: DebitNote) -> None:
        core = self._core
        core.emit(
            events.DebitNoteReceived,
            note_id=note.id,
            agreement_id=note.agreement_id,
            activity_id=note.activity_id,
            total=note.total,
            usage=note.usage,
        )
        reason = self._judge_note(note)
        contract = self._contracts.get(note.agreement_id)
        if reason is not None or contract is None:
            if contract is not None:
                contract.answer(note.id, reason)
            core.emit(
                events.DebitNoteRejected,
                note_id=note.id,
                agreement_id=note.agreement_id,
                total=note.total,
                reason=reason or "",
                due=None if contract is None else self._due(contract, note),
            )
            await self.tell(note, reason or "")
            return
        use = contract.use_of(note.activity_id)
        assert use is not None, "it was judged right"
        use.accept(note.total, note.usage, core.clock.monotonic())
        core.emit(
            events.DebitNoteAccepted,
            note_id=note.id,
            agreement_id=note.agreement_id,
            total=note.total,
        )
        core.check_written()
        contract.answer(note.id, None)
        await self.tell(note, None)

    def _judge_note(self, note: DebitNote) -> str | None:
        contract = self._contracts.get(note.agreement_id)
        if contract is None:
            return self._closed(note.agreement_id)
        use = contract.use_of(note.activity_id)
        if use is None:
            return "the activity is not of this agreement"
        now = self._core.clock.monotonic()
        reason = check_debit_note(
            contract.terms,
            total=note.total,
            usage=note.usage,
            elapsed_sec=to_seconds(use.elapsed(now)),
            accepted=use.noted or ZERO,
            previous_usage=use.usage,
            lasted_sec=to_seconds(use.lasted(now)),
        )
        if reason is not None:
            return reason
        return self._count(contract, contract.noted() - (use.noted or ZERO) + note.total)

    def _due(self, contract: Contract, note: DebitNote) -> Decimal | None:
        """Keep what the usage of a rejected note comes to: it bounds the invoice."""
        use = contract.use_of(note.activity_id)
        if use is None:
            return None
        now = self._core.clock.monotonic()
        due = due_by_usage(
            contract.terms,
            usage=note.usage,
            lasted_sec=to_seconds(use.lasted(now)),
            previous_usage=use.usage,
        )
        if due is None or due >= note.total:
            return None
        use.due, use.due_at = max(due, use.noted or ZERO), use.elapsed(now)
        return use.due

    def _count(self, contract: Contract, total: Decimal) -> str | None:
        """Count an amount that is right as accepted; return why there is no room for it."""
        ledger = self._core.ledger
        if ledger.accept(contract.id, total):
            return None
        held = ledger.payable_for(contract.id)
        return f"{total} is above {held}, which is held for this agreement"

    def _closed(self, agreement_id: str) -> str:
        """Return why nothing is paid for an agreement of this run that is not open."""
        if agreement_id in self._settled:
            return "an invoice of this agreement was accepted before"
        return "there was no activity in this agreement"

    async def _invoice(self, invoice: Invoice) -> None:
        core = self._core
        contract = self._contract_of(invoice)
        reason = self._judge_invoice(invoice, contract)
        if reason is None and contract is not None:
            reason = self._count(contract, invoice.amount)
            if reason is not None and contract.id in self._given_up:
                logger.info("invoice %s is right and left to a recovery: %s", invoice.id, reason)
                return
        core.emit(
            events.InvoiceReceived,
            invoice_id=invoice.id,
            agreement_id=invoice.agreement_id,
            amount=invoice.amount,
        )
        if reason is not None:
            core.emit(
                events.InvoiceRejected,
                invoice_id=invoice.id,
                agreement_id=invoice.agreement_id,
                amount=invoice.amount,
                reason=reason,
            )
            if contract is not None:
                contract.answer(invoice.id, reason)
            await self.tell(invoice, reason)
        elif contract is not None:
            self._accept(invoice, contract.provider_id, contract.judged)
            await self.tell(invoice, None)
        else:
            self._accept(invoice, self._unused[invoice.agreement_id], {})
            await self.tell(invoice, None)

    def _accept(self, invoice: Invoice, provider_id: str, judged: Mapping[str, str | None]) -> None:
        core, agreement_id = self._core, invoice.agreement_id
        core.emit(
            events.InvoiceAccepted,
            invoice_id=invoice.id,
            agreement_id=agreement_id,
            provider_id=provider_id,
            amount=invoice.amount,
        )
        core.check_written()
        core.ledger.settle(agreement_id)
        self.was_settled(agreement_id, provider_id, invoice_id=invoice.id, judged=judged)
        self._forget(agreement_id)
        core.room.made()

    def _judge_invoice(self, invoice: Invoice, contract: Contract | None) -> str | None:
        if contract is None:
            free = invoice.agreement_id in self._unused and invoice.amount == ZERO
            return None if free else self._closed(invoice.agreement_id)
        now = self._core.clock.monotonic()
        return check_invoice(
            contract.terms,
            amount=invoice.amount,
            activities=tuple(use.charged(now) for use in contract.uses),
            payable=self._core.ledger.payable_for(contract.id),
        )
