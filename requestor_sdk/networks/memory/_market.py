"""The in-process market: what joins one requestor's end with any number of providers' ends.

It holds the book, the agreements, the activities, the bank and the files, and the boxes in which
news waits for its reader. Each step is an act of one end; a network that is slow or lossy wraps the
ends, not the market.
"""

from __future__ import annotations

import logging
import secrets
from collections import deque
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

from requestor_sdk.clock import LoopClock
from requestor_sdk.model.errors import AgreementRefused, NotAvailable
from requestor_sdk.model.market import (
    ActivityChanged,
    ActivityState,
    AgreementBody,
    AgreementEnded,
    AgreementState,
    DebitNote,
    EndReason,
    Invoice,
    Proposal,
)
from requestor_sdk.networks.memory._agreements import Activity, Agreement
from requestor_sdk.networks.memory._bank import Bank
from requestor_sdk.networks.memory._book import Book, Step
from requestor_sdk.networks.memory._channels import Inbox, Latest
from requestor_sdk.networks.memory._files import MemoryFiles
from requestor_sdk.ports.provider import AgreementTerminated, ProviderEvent

if TYPE_CHECKING:
    from requestor_sdk.ports.basics import Clock

_log = logging.getLogger(__name__)


def random_id() -> str:
    """Return an id that nobody guesses."""
    return secrets.token_hex(8)


class MemoryMarket:
    """The market of one process.

    Args:
        clock: What time it is.
        ids: Makes ids; replaced where a run is to be repeatable.
        remembered: Of how many agreements that are over and paid it still knows, with all that was
            in them; of all where it is ``None``.

    Attributes:
        on_act: Called with each act of the requestor that binds it, as it takes effect: what it is
            (``confirm``, ``create``, ``execute``, ``destroy`` or ``terminate``), and the ids of the
            agreement and of the activity.
    """

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        ids: Callable[[], str] = random_id,
        remembered: int | None = None,
    ) -> None:
        self.clock: Clock = clock or LoopClock()
        self.ids = ids
        self.book = Book(ids=ids)
        self.bank = Bank(ids=ids)
        self.files = MemoryFiles(ids)
        self.agreements: dict[str, Agreement] = {}
        self.activities: dict[str, Activity] = {}
        self.proposals: dict[str, Latest[Proposal]] = {}
        self.agreement_news: Latest[AgreementEnded] = Latest()
        self.activity_news: Latest[ActivityChanged] = Latest()
        self.payment_news: Latest[DebitNote | Invoice] = Latest()
        self.on_act: Callable[[str, str, str], None] | None = None
        self._providers: dict[str, Inbox[ProviderEvent]] = {}
        self._remembered = remembered
        self._paid: deque[str] = deque()

    def acted(self, what: str, agreement_id: str, activity_id: str = "") -> None:
        """Tell who keeps a record of it what the requestor has just done."""
        if self.on_act is not None:
            self.on_act(what, agreement_id, activity_id)

    def join(self, provider_id: str, inbox: Inbox[ProviderEvent]) -> None:
        """Let a provider in; what concerns it is put into its inbox."""
        if provider_id in self._providers:
            raise NotAvailable(
                "this identity is in the market already", ids={"provider": provider_id}
            )
        self._providers[provider_id] = inbox

    def leave(self, provider_id: str, reason: str = "the provider left the market") -> None:
        """Let a provider go: its offers are withdrawn and all that it ran is lost. Idempotent."""
        inbox = self._providers.pop(provider_id, None)
        if inbox is None:
            return
        inbox.close(reason, drop=True)
        self.forget(self.book.drop_provider(provider_id))
        self.end_all_of(provider_id, EndReason(message=reason, code="ProviderLeft"))

    def knows(self, provider_id: str) -> bool:
        """Tell whether a provider is in the market."""
        return provider_id in self._providers

    def end_all_of(self, provider_id: str, reason: EndReason) -> None:
        """End every agreement and activity of a provider: what it ran is lost."""
        for agreement in list(self.agreements.values()):
            if agreement.body.provider_id != provider_id:
                continue
            self.end_by_provider(agreement, reason)
            for activity in agreement.activities:
                self.report(activity, ActivityState.terminated, reason.message)

    async def tell(self, provider_id: str, event: ProviderEvent) -> bool:
        """Pass an event to a provider; ``False`` where it has left. Waits while it is slow."""
        inbox = self._providers.get(provider_id)
        return inbox is not None and await inbox.put(event)

    def tell_now(self, provider_id: str, event: ProviderEvent) -> None:
        """Pass an event to a provider without waiting; for one event a batch, activity or note."""
        inbox = self._providers.get(provider_id)
        if inbox is not None:
            inbox.put_now(event)

    def offer_proposal(self, proposal: Proposal, *, subject: str | None = None) -> None:
        """Put a proposal into the box of its demand; it replaces an unread one on its subject."""
        box = self.proposals.get(proposal.demand_id)
        if box is not None:
            box.put(subject or proposal.id, proposal)

    def forget(self, steps: tuple[Step, ...]) -> None:
        """Tell the requestor that the offer of these steps is gone, where it waits for an answer.

        Proposals that it did not read yet are taken out of their boxes.
        """
        for step in steps:
            box = self.proposals.get(step.proposal.demand_id)
            if box is None:
                continue
            unread = box.drop(step.id)
            if step.at_provider or (unread and step.proposal.previous_id is not None):
                gone = self.book.rejection(step, "the offer was withdrawn or let to another demand")
                box.put(gone.id, gone)

    def draw_up(self, proposal: Proposal, requestor_id: str, valid_to: datetime) -> Agreement:
        """Make an agreement of a draft. Its offer stands until the agreement is confirmed."""
        step = self.book.take(proposal.id)
        body = AgreementBody(
            id=self.ids(),
            requestor_id=requestor_id,
            provider_id=proposal.provider_id,
            demand=step.demand,
            offer=step.offer,
            valid_to=valid_to,
        )
        agreement = Agreement(body=body, offer_id=step.offer_id)
        self.agreements[agreement.id] = agreement
        return agreement

    def consume_offer(self, agreement: Agreement) -> None:
        """Take the agreement's offer off the market: it becomes one agreement, not two.

        Raises:
            AgreementRefused: Another agreement was made of it, or it was withdrawn.
        """
        if agreement.offer_id not in self.book.offers:
            agreement.end("the offer is gone")
            raise AgreementRefused(
                "the offer was withdrawn, or another agreement was made of it",
                ids={"agreement": agreement.id, "provider": agreement.body.provider_id},
            )
        self.forget(self.book.drop_offer(agreement.offer_id))

    async def end_by_requestor(self, agreement: Agreement, reason: EndReason) -> None:
        """Let the requestor end an agreement; the provider hears of it if it knows of it."""
        before = agreement.end(reason.message)
        if before not in (AgreementState.pending, AgreementState.approved):
            return
        for activity in agreement.activities:
            activity.end_asked = True
        await self.tell(
            agreement.body.provider_id,
            AgreementTerminated(agreement_id=agreement.id, reason=reason),
        )

    def end_by_provider(self, agreement: Agreement, reason: EndReason) -> None:
        """Let the provider end an agreement; the requestor hears of it."""
        if agreement.reject(reason.message):
            return
        if agreement.end(reason.message) is AgreementState.approved:
            self.agreement_news.put(
                agreement.id, AgreementEnded(agreement_id=agreement.id, reason=reason)
            )

    def report(self, activity: Activity, state: ActivityState, reason: str | None) -> None:
        """Take the state of an activity; the requestor hears of it unless it asked for it."""
        if not activity.move(state, reason):
            return
        if activity.end_asked and activity.ended:
            self.activity_news.drop(activity.id)
            return
        self.activity_news.put(
            activity.id,
            ActivityChanged(
                activity_id=activity.id,
                agreement_id=activity.agreement.id,
                state=state,
                reason=reason,
            ),
        )

    def paid(self, agreement_id: str) -> None:
        """The invoice of an agreement is accepted: nothing follows, and one day nobody asks."""
        if self._remembered is None:
            return
        self._paid.append(agreement_id)
        if len(self._paid) > self._remembered:
            oldest = self._paid.popleft()
            self.bank.forget(oldest)
            agreement = self.agreements.pop(oldest, None)
            for activity in () if agreement is None else agreement.activities:
                self.activities.pop(activity.id, None)

    def lose_readers(self) -> None:
        """The requestor is dead: its news waits for whoever comes after it."""
        self.agreement_news = self.agreement_news.handed_over()
        self.activity_news = self.activity_news.handed_over()
        self.payment_news = self.payment_news.handed_over()
        self.proposals = {key: box.handed_over() for key, box in self.proposals.items()}

    def refuse_readers(self, error: Callable[[], Exception]) -> None:
        """The requestor's way to its news is cut: what waits there fails, and nothing is lost."""
        for refuse in (
            self.agreement_news.refuse,
            self.activity_news.refuse,
            self.payment_news.refuse,
            *(box.refuse for box in self.proposals.values()),
        ):
            refuse(error())

    def agreement(self, agreement_id: str) -> Agreement:
        """Return an agreement by its id."""
        try:
            return self.agreements[agreement_id]
        except KeyError:
            raise NotAvailable("no such agreement", ids={"agreement": agreement_id}) from None

    def activity(self, activity_id: str) -> Activity:
        """Return an activity by its id."""
        try:
            return self.activities[activity_id]
        except KeyError:
            raise NotAvailable("no such activity", ids={"activity": activity_id}) from None

    def close(self) -> None:
        """Let all providers go and wake whoever waits for news. Idempotent."""
        for provider_id in list(self._providers):
            self.leave(provider_id, "the market was closed")
        reason = "the market was closed"
        for box in self.proposals.values():
            box.close(reason)
        self.agreement_news.close(reason)
        self.activity_news.close(reason)
        self.payment_news.close(reason)
        _log.debug("the in-process market is closed")
