"""One agreement on a provider: its activities, its deadlines, its invoice."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from requestor_sdk.model.errors import RequestorError
from requestor_sdk.model.market import EndReason
from requestor_sdk.model.money import ZERO, LinearPricing, plain
from requestor_sdk.provider._activity import LiveActivity, Tariff
from requestor_sdk.provider._billing import short

if TYPE_CHECKING:
    from decimal import Decimal

    from requestor_sdk.provider._billing import Billing
    from requestor_sdk.provider._commands import Workshop
    from requestor_sdk.provider._negotiation import Terms

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class DealSpec:
    """What a deal is about.

    Attributes:
        agreement_id: The agreement.
        pricing: The agreed prices.
        terms: What else was agreed.
        idle_timeout_sec: For how long it may have no activity.
        workshop: What its activities' commands are performed with.
        billing: Follows its notes.
        tell: Takes short lines about what happens.
    """

    agreement_id: str
    pricing: LinearPricing
    terms: Terms
    idle_timeout_sec: float
    workshop: Workshop
    billing: Billing
    tell: Callable[[str], None]


class Deal:
    """One agreement; ``live`` is its life from the approval to the invoice."""

    def __init__(self, spec: DealSpec) -> None:
        self.id = spec.agreement_id
        self.activities: dict[str, LiveActivity] = {}
        self._spec = spec
        self._transport = spec.workshop.transport
        self._clock = spec.workshop.clock
        self._totals: dict[str, Decimal] = {}
        self._waiting: list[LiveActivity] = []
        self._changed = asyncio.Event()
        self._reason: EndReason | None = None
        self._told = False
        self._idle_since = self._clock.monotonic()
        self._unanswered: dict[str, tuple[str, float]] = {}

    def create(self, activity_id: str) -> str | None:
        """Take the wish for an activity; returns the reason where it is refused."""
        if self._reason is not None:
            return "the agreement has ended"
        if any(not activity.ending for activity in self.activities.values()):
            return "the agreement has a living activity; its resources are let once"
        tariff = Tariff(
            pricing=self._spec.pricing,
            interval_sec=self._spec.terms.interval_sec,
            on_note=self._noted,
        )
        activity = LiveActivity(activity_id, self._spec.workshop, tariff)
        self.activities[activity_id] = activity
        self._waiting.append(activity)
        self._changed.set()
        return None

    def judged(self, note_id: str, *, accepted: bool) -> None:
        """Take the judgement of a debit note: one that is accepted stands for those before it."""
        found = self._unanswered.get(note_id)
        if found is None or not accepted:
            return
        for other, (activity_id, _) in tuple(self._unanswered.items()):
            if activity_id == found[0]:
                del self._unanswered[other]
            if other == note_id:
                break
        self._changed.set()

    def _noted(self, note_id: str, activity_id: str, total: Decimal) -> None:
        if self._spec.terms.accept_sec is not None:
            self._unanswered[note_id] = (activity_id, self._clock.monotonic())
            self._changed.set()
        self._spec.billing.debit_note(note_id, self.id, activity_id, total)
        self._spec.tell(f"debit note of {plain(total)} for activity {short(activity_id)} sent")

    def end(self, reason: EndReason, *, told: bool = False) -> None:
        """Let it end; ``told`` where the requestor knows. The first reason stays."""
        if self._reason is None:
            self._reason = reason
            self._told = told
            self._changed.set()

    async def live(self) -> None:
        """Serve activities until the end, then send the invoice."""
        async with asyncio.TaskGroup() as group:
            while self._reason is None:
                while self._waiting:
                    group.create_task(self._serve(self._waiting.pop(0)))
                await self._wait()
            self._spec.tell(f"agreement {short(self.id)} ended: {self._reason.message}")
            # The agreement is ended before its activities are: they end because it did.
            await self._tell(self._reason)
            for activity in self._waiting:
                await self._refuse(activity, self._reason.message)
            for activity in self.activities.values():
                activity.end(self._reason.message)
        await self._send_invoice()

    async def _serve(self, activity: LiveActivity) -> None:
        self._spec.tell(f"activity {short(activity.id)} begins")
        try:
            await activity.live()
        finally:
            self._spec.tell(f"activity {short(activity.id)} ended, {plain(activity.total)} due")
            self._totals[activity.id] = activity.total
            del self.activities[activity.id]
            self._idle_since = self._clock.monotonic()
            self._changed.set()

    async def _wait(self) -> None:
        """Wait for a change, or end it where a deadline passes first."""
        self._changed.clear()
        seconds, reason = self._deadline()
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            self.end(reason)

    def _deadline(self) -> tuple[float | None, EndReason]:
        rows: list[tuple[float, EndReason]] = []
        if self._spec.terms.expires is not None:
            left = (self._spec.terms.expires - self._clock.now()).total_seconds()
            rows.append((left, EndReason(message="the agreement expired", code="Expired")))
        if not self.activities:
            idle = self._clock.monotonic() - self._idle_since
            text = f"no activity for {self._spec.idle_timeout_sec:g} s"
            rows.append(
                (self._spec.idle_timeout_sec - idle, EndReason(message=text, code="NoActivity"))
            )
        if self._unanswered and self._spec.terms.accept_sec is not None:
            since = self._clock.monotonic() - min(at for _, at in self._unanswered.values())
            text = f"no debit note was accepted for {self._spec.terms.accept_sec:g} s"
            reason = EndReason(message=text, code="DebitNotesDeadline")
            rows.append((self._spec.terms.accept_sec - since, reason))
        if not rows:
            return None, EndReason(message="never")
        seconds, reason = min(rows, key=lambda row: row[0])
        return max(0.0, seconds), reason

    async def _tell(self, reason: EndReason) -> None:
        if self._told:
            return
        try:
            await self._transport.terminate(self.id, reason)
        except RequestorError as error:
            _log.warning("the end of agreement %s is not told: %s", self.id, error.message)

    async def _refuse(self, activity: LiveActivity, reason: str) -> None:
        try:
            await self._transport.refuse_activity(activity.id, reason)
        except RequestorError as error:
            _log.debug("activity %s is not refused: %s", activity.id, error.message)

    async def _send_invoice(self) -> None:
        amount = sum(self._totals.values(), ZERO)
        try:
            invoice_id = await self._transport.send_invoice(
                agreement_id=self.id, activity_ids=tuple(self._totals), amount=amount
            )
        except RequestorError as error:
            _log.warning("no invoice for agreement %s: %s", self.id, error.message)
        else:
            self._spec.billing.invoice(invoice_id, self.id, amount)
            self._spec.tell(f"invoice of {plain(amount)} for agreement {short(self.id)} sent")
