"""Payments through the daemon: allocations, debit notes and invoices of one run.

Source: the OpenAPI pages of yagna's payment API, and the daemon's answers.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from requestor_sdk.golem._cursor import Cursor, kind_of
from requestor_sdk.golem._reading import (
    Record,
    amount,
    amount_of,
    moment_of,
    record,
    records,
    string,
    text_of,
)
from requestor_sdk.model.errors import BadAnswer, NetworkError, PaymentError
from requestor_sdk.model.market import Allocation, DebitNote, Invoice

if TYPE_CHECKING:
    from requestor_sdk.golem import Daemon
    from requestor_sdk.networks.golem._scope import Scope

logger: logging.Logger = logging.getLogger("requestor_sdk.networks.golem")

_API: Final = "/payment-api/v1"
ANSWER_SEC: Final = 10.0
"""Seconds that a provider has to take our answer; the daemon tries on after that."""
_MARGIN_SEC: Final = 10.0
_SPARES: Final = 3
"""How often an allocation of nothing is made where another process releases it too early."""
_OPEN: Final = ("ISSUED", "RECEIVED")
_ACCEPTED: Final = ("ACCEPTED", "SETTLED")
_PAID: Final = "SETTLED"
"""Of an invoice whose amount is paid: also of one that nobody accepted, by its debit notes."""
_UNKNOWN_CHAIN: Final = ("not registered", "not found in config")
_UNSOLICITED: Final = ("no activity", "not of this agreement", "accepted before")


class GolemPayments:
    """Allocations, debit notes and invoices of one identity.

    Args:
        daemon: Open while this is used.
        scope: The run's application session.
    """

    def __init__(self, daemon: Daemon, scope: Scope) -> None:
        self._daemon = daemon
        self._notes = Cursor(
            daemon, f"{_API}/debitNoteEvents", "debitNoteId", session=scope.current
        )
        self._invoices = Cursor(daemon, f"{_API}/invoiceEvents", "invoiceId", session=scope.current)
        self._unread: dict[str, type[DebitNote | Invoice]] = {}

    # Allocations ---------------------------------------------------------------------------------

    async def allocate(self, amount: Decimal) -> str:
        """Reserve an amount on the payment platform of the configuration; returns the id.

        Raises:
            PaymentError: There are no such funds, or no such platform; the hint names the fix.
        """
        body = {
            "address": self._daemon.identity,
            "paymentPlatform": self._daemon.config.platform,
            "totalAmount": _plain(amount),
            "makeDeposit": False,
        }
        try:
            found = await self._daemon.call("POST", f"{_API}/allocations", body=body)
        except NetworkError as error:
            raise self._not_allocated(error) from error
        return text_of(record(found, "an allocation"), "allocationId", "an allocation")

    async def amend_allocation(self, allocation_id: str, amount: Decimal) -> None:
        """Change the amount that an allocation reserves.

        Raises:
            PaymentError: There are no such funds, more is spent, or there is no such allocation.
        """
        path, body = f"{_API}/allocations/{allocation_id}", {"totalAmount": _plain(amount)}
        try:
            await self._daemon.call("PUT", path, body=body)
        except NetworkError as error:
            raise self._not_allocated(error) from error

    def _not_allocated(self, error: NetworkError) -> NetworkError | PaymentError:
        # Of a chain that it has no settings for, the daemon says that it failed itself.
        unknown = any(words in error.message for words in _UNKNOWN_CHAIN)
        if error.status not in (400, 404, 409, 410) and not unknown:
            return error
        return PaymentError(
            f"nothing could be reserved on {self._daemon.config.platform}: {error.message}",
            hint=self._fix(error.message),
        )

    def _fix(self, told: str) -> str:
        network = self._daemon.config.payment_network
        if "nsufficient" in told or "not registered" in told or "Not enough" in told:
            fund = f"`yagna payment fund --network {network}` gives test tokens"
            if not self._daemon.config.platform.endswith("-tglm"):
                fund = f"send GLM and a little for gas on {network} to {self._daemon.identity}"
            return f"{fund}; `yagna payment status --network {network}` shows what there is"
        return (
            "--payment-network and --payment-driver (YAGNA_PAYMENT_NETWORK, YAGNA_PAYMENT_DRIVER) "
            "name what the daemon can pay with; `yagna payment driver list` shows it"
        )

    async def release_allocation(self, allocation_id: str) -> None:
        """Free what is left of an allocation. Idempotent."""
        try:
            await self._daemon.call("DELETE", f"{_API}/allocations/{allocation_id}")
        except NetworkError as error:
            if error.status not in (404, 410):
                raise

    async def allocations(self) -> Sequence[Allocation]:
        """Return the allocations of this identity that are not released, oldest first.

        Those of nothing are not among them: they are made for a moment, and one that is there still
        was left by a process that was killed. So it is released; a process that lives and needs it
        makes another.
        """
        listed = records(await self._daemon.call("GET", f"{_API}/allocations"), "allocations")
        found = [_allocation(one) for one in listed]
        for spare in found:
            if not spare.amount:
                await self.release_allocation(spare.id)
        return sorted((one for one in found if one.amount), key=lambda one: one.created_at)

    # What providers ask for ----------------------------------------------------------------------

    async def unsettled(self) -> Sequence[DebitNote | Invoice]:
        """Return what came and was neither accepted nor rejected, oldest first.

        Of the debit notes of an activity that is the last; none of an agreement whose invoice was
        accepted: both have the whole amount. Invoices that are paid are among it, whether they were
        accepted or not: the daemon does not tell.
        """
        listed = await asyncio.gather(
            self._daemon.call("GET", f"{_API}/debitNotes"),
            self._daemon.call("GET", f"{_API}/invoices"),
        )
        notes, invoices = (records(found, "what providers ask for") for found in listed)
        paid = {one.get("agreementId") for one in invoices if one.get("status") in _ACCEPTED}
        last = {one.get("activityId"): one for one in _by_time(notes)}
        wanted = [one for one in last.values() if one.get("agreementId") not in paid]
        found = [
            *(self._read(one, DebitNote) for one in wanted),
            *(self._read(one, Invoice) for one in invoices),
        ]
        return sorted((one for one in found if one), key=lambda one: one.issued_at)

    def _read(self, found: Record, kind: type[DebitNote | Invoice]) -> DebitNote | Invoice | None:
        """Read what a provider asks this identity for; ``None`` where it was answered already."""
        to_us = str(found.get("recipientId", "")).lower() == self._daemon.identity
        status = found.get("status")
        is_open = status in _OPEN or (kind is Invoice and status == _PAID)
        if not to_us or not is_open:
            return None
        try:
            return debit_note_of(found) if kind is DebitNote else invoice_of(found)
        except BadAnswer as error:
            logger.warning("%s", error.message)
            return None

    async def payment_events(self) -> Sequence[DebitNote | Invoice]:
        """Wait for debit notes and invoices of this run and return at least one."""
        while True:
            if not self._unread:
                await self._hear()
            found = await self._fetch()
            if found:
                return found

    async def _hear(self) -> None:
        """Wait for what is new; which it is stays written down here until it was read."""
        hearing = [
            asyncio.ensure_future(self._hear_of(self._notes, DebitNote)),
            asyncio.ensure_future(self._hear_of(self._invoices, Invoice)),
        ]
        try:
            await asyncio.wait(hearing, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in hearing:
                one.cancel()
            ended = await asyncio.gather(*hearing, return_exceptions=True)
        for failure in ended:
            # What one of them has heard is worth more than what the other failed of.
            if isinstance(failure, Exception) and not self._unread:
                raise failure

    async def _hear_of(self, cursor: Cursor, kind: type[DebitNote | Invoice]) -> None:
        while True:
            for event in await cursor.next():
                if kind_of(event).endswith("ReceivedEvent"):
                    name = event["debitNoteId" if kind is DebitNote else "invoiceId"]
                    self._unread[name] = kind
            if self._unread:
                return

    async def _fetch(self) -> list[DebitNote | Invoice]:
        items: list[DebitNote | Invoice] = []
        for name, kind in list(self._unread.items()):
            where = "debitNotes" if kind is DebitNote else "invoices"
            try:
                found = await self._daemon.call("GET", f"{_API}/{where}/{name}")
                item = self._read(record(found, f"one of {where}"), kind)
            except NetworkError as error:
                if error.status != 404 and not isinstance(error, BadAnswer):
                    if items:
                        break  # the rest is read the next time
                    raise
                logger.warning("%s: %s", name, error.message)
                item = None
            self._unread.pop(name, None)
            if item is not None:
                items.append(item)
        return items

    # What is answered ----------------------------------------------------------------------------

    async def accept_debit_note(self, note: DebitNote, allocation_id: str) -> None:
        """Accept the total of a debit note. Idempotent: nothing is paid twice."""
        path = f"{_API}/debitNotes/{note.id}/accept"
        await self._accept(path, note.total, allocation_id, _ids(note))

    async def accept_invoice(self, invoice: Invoice, allocation_id: str) -> None:
        """Accept an invoice: it will be paid from the allocation. Idempotent, as with notes."""
        if invoice.paid:
            return  # there is nothing to add to what was accepted of its notes
        path = f"{_API}/invoices/{invoice.id}/accept"
        await self._accept(path, invoice.amount, allocation_id, _ids(invoice))

    async def _accept(
        self, path: str, amount: Decimal, allocation_id: str, ids: Mapping[str, str]
    ) -> None:
        try:
            if allocation_id and await self._accepted(path, amount, allocation_id):
                return
            await self._accept_with_nothing(path, amount)
        except NetworkError as error:
            if error.status not in (400, 404, 409, 410):
                raise
            raise PaymentError(
                f"the daemon does not accept it: {error.message}", ids=ids
            ) from error

    async def _accepted(self, path: str, amount: Decimal, allocation_id: str) -> bool:
        """Accept by an allocation; ``False`` where there is no such allocation any more."""
        body = {"totalAmountAccepted": _plain(amount), "allocationId": allocation_id}
        try:
            await self._answer(path, body)
        except NetworkError as error:
            gone = error.status in (400, 410) and error.message.find("Allocation") >= 0
            if gone and "Not enough" not in error.message:
                return False
            raise
        return True

    async def _accept_with_nothing(self, path: str, amount: Decimal) -> None:
        """Accept what adds nothing to be paid: the daemon wants an allocation all the same.

        It gets one of nothing for the moment, so that whatever adds something is refused.
        """
        for _ in range(_SPARES):
            making = asyncio.ensure_future(self.allocate(Decimal(0)))
            try:
                if await self._accepted(path, amount, await asyncio.shield(making)):
                    return
            finally:
                # Also where the call was cancelled while it was made: else nobody knows of it.
                await asyncio.wait({making})
                if not making.cancelled() and making.exception() is None:
                    await self.release_allocation(making.result())
        raise PaymentError(
            "the daemon does not accept it: its allocations are gone at once",
            hint="another process releases them; `requestor-sdk recover` accepts it later",
        )

    async def reject_invoice(self, invoice: Invoice, reason: str) -> None:
        """Reject an invoice, telling why."""
        unsolicited = any(words in reason for words in _UNSOLICITED)
        body = {
            "rejectionReason": "UNSOLICITED_SERVICE" if unsolicited else "INCORRECT_AMOUNT",
            "totalAmountAccepted": "0",
            "message": reason,
        }
        try:
            await self._answer(f"{_API}/invoices/{invoice.id}/reject", body)
        except NetworkError as error:
            if error.status not in (400, 404, 409, 410):
                raise
            raise PaymentError(
                f"the daemon does not reject it: {error.message}", ids=_ids(invoice)
            ) from error

    async def reject_debit_note(self, note: DebitNote, reason: str) -> None:
        """Accept nothing of a debit note: the daemon has no way to tell the provider so."""
        logger.info("debit note %s is not accepted: %s", note.id, reason)

    async def _answer(self, path: str, body: Mapping[str, Any]) -> None:
        params = {"timeout": ANSWER_SEC}
        limit = ANSWER_SEC + _MARGIN_SEC
        await self._daemon.call("POST", path, params=params, body=body, seconds=limit)


def _plain(amount: Decimal) -> str:
    return f"{amount:f}"


def _ids(item: DebitNote | Invoice) -> dict[str, str]:
    kind = "note" if isinstance(item, DebitNote) else "invoice"
    return {kind: item.id, "agreement": item.agreement_id}


def _by_time(found: Iterable[Record]) -> list[Record]:
    return sorted(found, key=lambda one: str(one.get("timestamp", "")))


def _allocation(found: Record) -> Allocation:
    what = "an allocation"
    return Allocation(
        id=text_of(found, "allocationId", what),
        amount=amount_of(found, "totalAmount", what),
        spent=amount_of(found, "spentAmount", what),
        created_at=moment_of(found, "createdTs" if "createdTs" in found else "timestamp", what),
    )


def debit_note_of(found: Record) -> DebitNote:
    """Read a debit note.

    Raises:
        BadAnswer: It is none.
    """
    what = "a debit note"
    usage = found.get("usageCounterVector")
    counted = usage if isinstance(usage, list) else []
    return DebitNote(
        id=text_of(found, "debitNoteId", what),
        agreement_id=text_of(found, "agreementId", what),
        activity_id=text_of(found, "activityId", what),
        total=amount_of(found, "totalAmountDue", what),
        usage=tuple(amount(one, f"the usage of {what}") for one in counted),
        issued_at=moment_of(found, "timestamp", what),
    )


def invoice_of(found: Record) -> Invoice:
    """Read an invoice.

    Raises:
        BadAnswer: It is none.
    """
    what = "an invoice"
    activities = found.get("activityIds")
    named = activities if isinstance(activities, list) else []
    return Invoice(
        id=text_of(found, "invoiceId", what),
        agreement_id=text_of(found, "agreementId", what),
        activity_ids=tuple(string(one, f"an activity of {what}") for one in named),
        amount=amount_of(found, "amount", what),
        issued_at=moment_of(found, "timestamp", what),
        paid=found.get("status") == _PAID,
    )
