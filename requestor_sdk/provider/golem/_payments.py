"""Debit notes, invoices and payments of one provider, over the daemon's payment API.

A note is written once and sent until it got through: sending the same note again does nothing
twice. An invoice that the requestor's daemon does not take yet waits in a bounded outbox, and what
is not answered is asked for.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from requestor_sdk.golem._cursor import Cursor
from requestor_sdk.model.errors import BadAnswer, NetworkError
from requestor_sdk.model.money import ZERO, plain
from requestor_sdk.ports.provider import NoteJudged, PaymentReceived
from requestor_sdk.provider.golem._loops import Pause, follow, steady
from requestor_sdk.provider.golem._unanswered import Ask, Unanswered

if TYPE_CHECKING:
    from requestor_sdk.golem import Daemon
    from requestor_sdk.provider.golem._market import Post

API: Final = "/payment-api/v1"
SEND_SEC: Final = 30.0
PATIENCE_SEC: Final = 60.0
"""Seconds for which an invoice is written again where the daemon is away."""
INVOICE_DUE: Final = timedelta(days=1)
"""How long a requestor has to pay an invoice."""
OUTBOX: Final = 1000
"""Invoices that wait to be sent."""
OUTBOX_SEC: Final = 24 * 3600.0
"""Seconds for which an invoice is sent again and again."""

PAYMENTS: Final = 4096
"""Payments that are remembered, so that one that is told twice counts once."""
LONGEST: Final = timedelta(days=8)
"""How far back the notes of an agreement may lie."""
_log = logging.getLogger(__name__)


class Payments:
    """Debit notes, invoices, and what becomes of them.

    Args:
        daemon: The daemon, open.
        post: Takes events.
        since: From when on events count, as the daemon writes times.
        group: Owns the loops.
        ask: Asks the daemon of a requestor for the answers that it has not told.
    """

    def __init__(
        self, daemon: Daemon, post: Post, since: str, group: asyncio.TaskGroup, ask: Ask
    ) -> None:
        self._daemon = daemon
        self._unanswered = Unanswered(ask)
        self._post = post
        self._notes = Cursor(daemon, f"{API}/debitNoteEvents", "debitNoteId", since=since)
        self._invoices = Cursor(daemon, f"{API}/invoiceEvents", "invoiceId", since=since)
        self._payments = Cursor(
            daemon, f"{API}/payments", "paymentId", since=since, dated="timestamp"
        )
        self._paid_ids: OrderedDict[str, None] = OrderedDict()
        self._group = group
        self._outbox: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Hear of judgements and payments from now on."""
        for name, cursor, take in (
            ("debit note events", self._notes, self._judged),
            ("invoice events", self._invoices, self._judged),
            ("payments", self._payments, self._paid),
        ):
            self._group.create_task(follow(name, _step(cursor, take)))
        self._group.create_task(self._unanswered.keep_asking())

    async def send_debit_note(
        self, activity_id: str, total: Decimal, usage: Sequence[Decimal], due: timedelta | None
    ) -> str:
        """Write a debit note and send it; returns its id. The next one makes up for a lost one."""
        body: dict[str, object] = {
            "activityId": activity_id,
            "totalAmountDue": plain(total),
            "usageCounterVector": [float(value) for value in usage],
        }
        if due is not None:
            body["paymentDueDate"] = _time(due)
        told = await self._daemon.call("POST", f"{API}/debitNotes", body=body)
        note_id = _text(told, "debitNoteId")
        if due is not None:
            self._await_answer(activity_id, note_id, told)
        await self._daemon.call(
            "POST",
            f"{API}/debitNotes/{note_id}/send",
            params={"timeout": SEND_SEC},
            seconds=SEND_SEC + 10,
        )
        return note_id

    async def send_invoice(
        self, agreement_id: str, activity_ids: Sequence[str], amount: Decimal
    ) -> str:
        """Write an invoice and send it, later where it does not get through now; returns its id.

        Raises:
            NetworkError: It cannot be written.
        """

        async def write() -> Mapping[str, Any]:
            earlier = await self._earlier(agreement_id) if tries else None
            tries.append(True)
            if earlier is not None:
                return earlier
            body = {
                "agreementId": agreement_id,
                "activityIds": list(activity_ids),
                "amount": plain(amount),
                "paymentDueDate": _time(INVOICE_DUE),
            }
            told = await self._daemon.call("POST", f"{API}/invoices", body=body)
            return told if isinstance(told, dict) else {}

        tries: list[bool] = []
        invoice = await steady("invoice", write, seconds=PATIENCE_SEC)
        for activity_id in activity_ids:
            self._unanswered.forget(activity_id)
        await self._send_soon(invoice)
        return _text(invoice, "invoiceId")

    async def take_up(self, ended: Sequence[str]) -> None:
        """Go on with what an earlier process had asked for.

        What was never invoiced is, from its debit notes; an invoice that was not sent is sent, and
        one that is not answered asked about.

        Args:
            ended: The agreements of that process.
        """
        since = {"afterTimestamp": _time(-LONGEST)}
        try:
            found = await self._daemon.call("GET", f"{API}/invoices", params=since)
            notes = await self._daemon.call("GET", f"{API}/debitNotes", params=since)
        except NetworkError as error:
            _log.warning("what an earlier process left is not gone on with: %s", error.message)
            return
        me = self._daemon.identity
        invoices = [
            one
            for one in found or ()
            if isinstance(one, dict) and str(one.get("issuerId", "")).lower() == me
        ]
        try:
            for invoice in invoices:
                if invoice.get("status") == "ISSUED":
                    await self._send_soon(invoice)
                elif invoice.get("status") == "RECEIVED":
                    subject, name = str(invoice.get("agreementId")), str(invoice.get("invoiceId"))
                    self._await_answer(subject, name, invoice)
        except BadAnswer as error:
            _log.warning("an invoice of an earlier process: %s", error.message)
        done = {one.get("agreementId") for one in invoices}
        await self._settle([one for one in ended if one not in done], notes or ())

    async def _settle(self, agreement_ids: Sequence[str], notes: Sequence[object]) -> None:
        """Invoice what was asked for by debit notes, and never invoiced."""
        for agreement_id in agreement_ids:
            totals: dict[str, Decimal] = {}
            for note in notes:
                if isinstance(note, dict) and note.get("agreementId") == agreement_id:
                    activity_id = str(note.get("activityId"))
                    total = Decimal(str(note.get("totalAmountDue", 0)))
                    totals[activity_id] = max(total, totals.get(activity_id, ZERO))
            if not totals:
                continue
            amount = sum(totals.values(), ZERO)
            try:
                await self.send_invoice(agreement_id, tuple(totals), amount)
            except NetworkError as error:
                _log.warning("no invoice for agreement %s: %s", agreement_id, error.message)
            else:
                _log.info("agreement %s of an earlier process is invoiced", agreement_id)

    async def flush(self, seconds: float) -> None:
        """Give what waits in the outbox so many seconds more."""
        if self._outbox:
            await asyncio.wait(self._outbox, timeout=seconds)
        for task in self._outbox:
            _log.warning("%s is not sent", task.get_name())

    async def _send_soon(self, invoice: Mapping[str, Any]) -> None:
        """Send an invoice, later where it does not get through now."""
        # Before it is sent: the answer may be here before the daemon says that it was.
        self._await_answer(str(invoice.get("agreementId")), str(invoice.get("invoiceId")), invoice)
        try:
            await self._send(invoice)
        except NetworkError as error:
            self._later(invoice, error)

    async def _send(self, invoice: Mapping[str, Any]) -> None:
        await self._daemon.call(
            "POST",
            f"{API}/invoices/{_text(invoice, 'invoiceId')}/send",
            params={"timeout": SEND_SEC},
            seconds=SEND_SEC + 10,
        )

    def _await_answer(self, subject: str, name: str, document: Mapping[str, Any]) -> None:
        requestor_id, amount = document.get("recipientId"), document.get("amount")
        # Nobody has to answer an invoice of nothing.
        if isinstance(requestor_id, str) and (amount is None or Decimal(str(amount))):
            self._unanswered.sent(subject, name, requestor_id)

    def _later(self, invoice: Mapping[str, Any], error: NetworkError) -> None:
        invoice_id = _text(invoice, "invoiceId")
        if len(self._outbox) >= OUTBOX:
            _log.error("invoice %s is not sent: %d wait already", invoice_id, OUTBOX)
            return
        _log.warning("invoice %s is sent later: %s", invoice_id, error.message)
        task = self._group.create_task(self._keep_sending(invoice), name=f"invoice {invoice_id}")
        self._outbox.add(task)
        task.add_done_callback(self._outbox.discard)

    async def _keep_sending(self, invoice: Mapping[str, Any]) -> None:
        invoice_id = _text(invoice, "invoiceId")
        pause = Pause()
        loop = asyncio.get_running_loop()
        until = loop.time() + OUTBOX_SEC
        while loop.time() < until:
            await pause.take()
            try:
                await self._send(invoice)
            except NetworkError as error:
                if not error.may_pass:
                    _log.error("invoice %s cannot be sent: %s", invoice_id, error.message)
                    return
            else:
                return
        _log.error("invoice %s could not be sent for a day", invoice_id)

    async def _earlier(self, agreement_id: str) -> Mapping[str, Any] | None:
        """Return the invoice that a call wrote whose answer was lost."""
        since = {"afterTimestamp": _time(-timedelta(hours=1))}
        found = await self._daemon.call("GET", f"{API}/invoices", params=since)
        for invoice in found or ():
            if isinstance(invoice, dict) and invoice.get("agreementId") == agreement_id:
                return invoice
        return None

    async def _judged(self, event: Mapping[str, Any]) -> None:
        note_id = str(event.get("invoiceId") or event.get("debitNoteId"))
        kind = str(event.get("eventType"))
        if not kind.endswith(("AcceptedEvent", "RejectedEvent", "SettledEvent")):
            return
        was_awaited = self._unanswered.answered(note_id)
        # What is paid was accepted, also where nobody told so.
        if kind.endswith("AcceptedEvent") or (kind.endswith("SettledEvent") and was_awaited):
            await self._post(NoteJudged(note_id=note_id, accepted=True))
        elif kind.endswith("RejectedEvent"):
            told = event.get("rejection")
            said = told if isinstance(told, dict) else {}
            reason = str(said.get("message") or said.get("rejectionReason") or "no reason given")
            await self._post(NoteJudged(note_id=note_id, accepted=False, reason=reason[:500]))

    async def _paid(self, payment: Mapping[str, Any]) -> None:
        try:
            amount = Decimal(str(payment["amount"]))
            paid_for = [
                str(one["agreementId"])
                for one in (
                    *payment.get("agreementPayments", ()),
                    *payment.get("activityPayments", ()),
                )
                if "agreementId" in one
            ]
            payment_id = str(payment["paymentId"])
            if payment_id in self._paid_ids:
                return  # told again: it is one payment
            self._paid_ids[payment_id] = None
            while len(self._paid_ids) > PAYMENTS:
                self._paid_ids.popitem(last=False)
            await self._post(
                PaymentReceived(
                    payment_id=payment_id,
                    amount=amount,
                    agreement_ids=tuple(dict.fromkeys(paid_for)),
                )
            )
        except (KeyError, TypeError, ArithmeticError) as error:
            _log.warning("a payment that cannot be read: %r", error)


def _step(
    cursor: Cursor, take: Callable[[Mapping[str, Any]], Awaitable[None]]
) -> Callable[[], Awaitable[int]]:
    async def step() -> int:
        events = await cursor.next()
        for event in events:
            await take(event)
        return len(events)

    return step


def _time(ahead: timedelta) -> str:
    return (datetime.now(UTC) + ahead).isoformat().replace("+00:00", "Z")


def _text(told: object, key: str) -> str:
    found = told.get(key) if isinstance(told, dict) else None
    if not isinstance(found, str):
        raise BadAnswer(f"the daemon's answer has no {key}")
    return found
