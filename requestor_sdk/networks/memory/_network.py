"""The requestor's end of the in-process market: the four ports of a ``Network``."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

from requestor_sdk.model.errors import (
    ActivityRefused,
    NotAvailable,
    PayloadError,
    SignatureInvalid,
)
from requestor_sdk.model.market import (
    ActivityState,
    AgreementState,
    AgreementStatus,
    DebitNote,
    EndReason,
    Invoice,
    ProposalState,
)
from requestor_sdk.networks.memory._agreements import Activity
from requestor_sdk.networks.memory._channels import Closed, Latest
from requestor_sdk.ports.network import Approval, NetworkTraits, RunSetup
from requestor_sdk.ports.provider import (
    AgreementProposed,
    CreateActivity,
    DemandReceived,
    DestroyActivity,
    Execute,
    GiveUpBatch,
    NoteJudged,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from datetime import datetime
    from decimal import Decimal

    from requestor_sdk.model.market import (
        ActivityChanged,
        AgreementEnded,
        Allocation,
        Demand,
        MatchReport,
        Proposal,
    )
    from requestor_sdk.model.props import Payload
    from requestor_sdk.model.script import BatchEvent, Command
    from requestor_sdk.networks.memory._agreements import Agreement
    from requestor_sdk.networks.memory._files import MemoryFiles
    from requestor_sdk.networks.memory._market import MemoryMarket
    from requestor_sdk.ports.basics import Signer

TRAITS: Final = NetworkTraits(
    name="local", outlives_process=False, pushes_loss=True, collect_offers_sec=0.02
)

_APPROVED: Final = Approval(approved=True)

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


async def _take(box: Latest[_T]) -> Sequence[_T]:
    try:
        return await box.take()
    except Closed as closed:
        raise NotAvailable(closed.reason) from None


class MemoryMarketPort:
    """Demands, negotiation and agreements of the requestor."""

    def __init__(self, market: MemoryMarket, signer: Signer) -> None:
        self._market = market
        self._signer = signer
        self._plain: Demand | None = None

    async def subscribe(self, demand: Demand) -> str:
        """Publish a demand; returns its id."""
        self._check_plain(demand)
        demand_id, proposals = self._market.book.add_demand(demand)
        self._market.proposals[demand_id] = Latest()
        for proposal in proposals:
            self._market.offer_proposal(proposal)
        return demand_id

    async def unsubscribe(self, demand_id: str) -> None:
        """Withdraw a demand; who waits for its proposals is told so. Idempotent."""
        self._market.book.drop_demand(demand_id)
        box = self._market.proposals.pop(demand_id, None)
        if box is not None:
            box.close("the demand was withdrawn")

    async def match_report(self, demand: Demand) -> MatchReport | None:
        """Tell how the latest offer of each provider meets a demand."""
        return self._market.book.report(demand)

    def _check_plain(self, demand: Demand) -> None:
        """Refuse properties that could not be signed, before anything depends on them."""
        if demand is self._plain:
            return
        try:
            json.dumps(dict(demand.properties))
        except (TypeError, ValueError) as error:
            raise PayloadError(
                f"the demand has a property that is no plain value: {error}"
            ) from None
        self._plain = demand

    async def collect(self, demand_id: str) -> Sequence[Proposal]:
        """Wait for proposals of a demand and return at least one."""
        box = self._market.proposals.get(demand_id)
        if box is None:
            raise NotAvailable("no such demand stands", ids={"demand": demand_id})
        return await _take(box)

    async def counter(self, proposal: Proposal, demand: Demand) -> str:
        """Answer a proposal with a demand; returns the id of the new step.

        Raises:
            AgreementRefused: It was answered before, or its offer is gone.
        """
        self._check_plain(demand)
        step = self._market.book.counter(proposal.id, demand)
        await self._market.tell(
            proposal.provider_id,
            DemandReceived(
                proposal_id=step.id,
                offer_id=step.offer_id,
                requestor_id=self._signer.identity,
                properties=demand.properties,
                constraints=demand.constraints,
            ),
        )
        return step.id

    async def reject(self, proposal: Proposal, reason: EndReason) -> None:
        """Decline a proposal, telling why. Its offer stands on for other demands."""
        self._market.book.drop(proposal.id)
        _log.debug("proposal %s is declined: %s", proposal.id, reason.message)

    async def create_agreement(self, proposal: Proposal, *, valid_to: datetime) -> str:
        """Make an agreement of a draft; nothing is signed yet. Returns its id."""
        if proposal.state is not ProposalState.draft:
            raise NotAvailable(
                f"an agreement is made of a draft, not of a proposal that is {proposal.state}",
                ids={"proposal": proposal.id},
            )
        return self._market.draw_up(proposal, self._signer.identity, valid_to).id

    async def confirm(self, agreement_id: str) -> None:
        """Sign the agreement and send it to the provider.

        Raises:
            AgreementRefused: Its offer is gone, or its time is over.
        """
        agreement = self._market.agreement(agreement_id)
        signature = self._signer.sign(agreement.body.canonical())
        agreement.confirm(signature, self._market.clock.now())
        self._market.acted("confirm", agreement_id)
        self._market.consume_offer(agreement)
        known = await self._market.tell(
            agreement.body.provider_id,
            AgreementProposed(
                agreement_id=agreement_id,
                offer_id=agreement.offer_id,
                requestor_id=self._signer.identity,
                demand=agreement.body.demand.properties,
                offer=agreement.body.offer.properties,
            ),
        )
        if not known:
            agreement.reject("the provider left the market")

    async def wait_approval(self, agreement_id: str, *, timeout: float) -> Approval:
        """Wait for the provider's answer; not approved where none comes in ``timeout`` seconds.

        Raises:
            SignatureInvalid: The provider's signature is not its own; the agreement is ended.
        """
        agreement = self._market.agreement(agreement_id)
        if not agreement.decided:
            await self._decision(agreement, timeout)
        if not agreement.decided:
            return Approval(approved=False, reason=f"no answer within {timeout:g} s")
        if agreement.state is not AgreementState.approved:
            return Approval(approved=False, reason=agreement.reason)
        body = agreement.body
        if not self._signer.verify(
            body.provider_id, body.canonical(), agreement.provider_signature
        ):
            await self._market.end_by_requestor(
                agreement, EndReason(message="the signature is not yours", code="BadSignature")
            )
            raise SignatureInvalid(
                "the agreement does not carry its provider's signature",
                ids={"agreement": agreement_id, "provider": body.provider_id},
            )
        return _APPROVED

    async def _decision(self, agreement: Agreement, timeout: float) -> None:
        """Wait until an agreement is decided, ``timeout`` seconds at most; it may expire sooner."""
        loop = asyncio.get_running_loop()
        valid = (agreement.body.valid_to - self._market.clock.now()).total_seconds()
        until = loop.time() + min(timeout, valid)
        while not agreement.decided:
            left = until - loop.time()
            if left <= 0:
                agreement.expire(self._market.clock.now())
                return
            await agreement.change(left)

    async def terminate(self, agreement_id: str, reason: EndReason) -> None:
        """End an agreement, also one whose approval is awaited. Idempotent."""
        agreement = self._market.agreement(agreement_id)
        self._market.acted("terminate", agreement_id)
        await self._market.end_by_requestor(agreement, reason)

    async def agreement_state(self, agreement_id: str) -> AgreementStatus | None:
        """Ask for the state of an agreement; one that nobody approved in time has expired."""
        agreement = self._market.agreements.get(agreement_id)
        if agreement is None:
            return None
        agreement.expire(self._market.clock.now())
        return AgreementStatus(state=agreement.state, reason=agreement.reason)

    async def agreement_events(self) -> Sequence[AgreementEnded]:
        """Wait for agreements that the other side ended and return at least one."""
        return await _take(self._market.agreement_news)


class MemoryActivities:
    """Activities as the requestor sees them.

    Args:
        destroy_timeout: Seconds that a destroyed activity is waited for.
    """

    def __init__(self, market: MemoryMarket, *, destroy_timeout: float) -> None:
        self._market = market
        self._destroy_timeout = destroy_timeout

    async def create(self, agreement_id: str) -> str:
        """Create an activity; returns its id once the provider has it.

        Cancelling the call leaves an activity that ends with its agreement.

        Raises:
            ActivityRefused: The provider would not, or there is no agreement.
        """
        agreement = self._market.agreement(agreement_id)
        if agreement.state is not AgreementState.approved:
            raise ActivityRefused(
                f"the agreement is {agreement.state.lower()}", ids={"agreement": agreement_id}
            )
        activity = Activity(id=self._market.ids(), agreement=agreement)
        self._market.activities[activity.id] = activity
        agreement.begin(activity)
        self._market.acted("create", agreement_id, activity.id)
        known = await self._market.tell(
            agreement.body.provider_id,
            CreateActivity(activity_id=activity.id, agreement_id=agreement_id),
        )
        if not known:
            activity.refuse("the provider left the market")
        while not activity.answered:
            await activity.change()
        if activity.ended:
            raise ActivityRefused(
                activity.refused or activity.reason or "no reason given", ids=activity.ids
            )
        return activity.id

    async def execute(
        self,
        activity_id: str,
        commands: Sequence[Command],
        on_event: Callable[[BatchEvent], Awaitable[None]],
    ) -> None:
        """Run a batch and pass on its events in order; returns when the batch is over.

        Raises:
            ProviderLost: The activity is dead.
        """
        activity = self._market.activity(activity_id)
        batch_id = self._market.ids()
        events = activity.add_batch(batch_id)
        self._market.acted("execute", activity.agreement.id, activity_id)
        try:
            await self._market.tell(
                activity.agreement.body.provider_id,
                Execute(activity_id=activity_id, batch_id=batch_id, commands=tuple(commands)),
            )
            while True:
                await on_event(await events.get())
        except Closed as closed:
            if closed.reason:
                raise activity.lost(closed.reason) from None
        except BaseException:
            # Cancelled, or the listener failed: without it the batch would hold up those behind it.
            self._market.tell_now(
                activity.agreement.body.provider_id,
                GiveUpBatch(activity_id=activity_id, batch_id=batch_id),
            )
            raise
        finally:
            # Nobody listens any more: the provider must not wait for room.
            events.close(drop=True)
            activity.batches.pop(batch_id, None)

    async def state(self, activity_id: str) -> ActivityState:
        """Ask for the state, as the provider last reported it."""
        return self._market.activity(activity_id).state

    async def destroy(self, activity_id: str) -> None:
        """End an activity and wait, for a bounded time, until it has ended. Idempotent."""
        activity = self._market.activity(activity_id)
        self._market.acted("destroy", activity.agreement.id, activity_id)
        if activity.ended:
            return
        provider_id = activity.agreement.body.provider_id
        if not activity.end_asked:
            activity.end_asked = True
            self._market.tell_now(
                provider_id,
                DestroyActivity(activity_id=activity_id, agreement_id=activity.agreement.id),
            )
        loop = asyncio.get_running_loop()
        until = loop.time() + self._destroy_timeout
        while not activity.ended:
            left = until - loop.time()
            if left <= 0:
                _log.warning("provider %s does not end activity %s", provider_id, activity_id)
                return
            await activity.change(left)

    async def activity_events(self) -> Sequence[ActivityChanged]:
        """Wait for changes that providers report and return at least one."""
        return await _take(self._market.activity_news)


class MemoryPayments:
    """Allocations, debit notes and invoices of the requestor."""

    def __init__(self, market: MemoryMarket) -> None:
        self._market = market
        self._bank = market.bank

    async def allocate(self, amount: Decimal) -> str:
        """Reserve an amount; returns the allocation's id."""
        return self._bank.allocate(amount, self._market.clock.now())

    async def amend_allocation(self, allocation_id: str, amount: Decimal) -> None:
        """Change the amount that an allocation reserves."""
        self._bank.amend(allocation_id, amount)

    async def release_allocation(self, allocation_id: str) -> None:
        """Free what is left of an allocation. Idempotent."""
        self._bank.release(allocation_id)

    async def allocations(self) -> Sequence[Allocation]:
        """Return the allocations that are not released, oldest first."""
        return self._bank.listed()

    async def unsettled(self) -> Sequence[DebitNote | Invoice]:
        """Return what was neither accepted nor rejected, oldest first."""
        return tuple(self._bank.unsettled.values())

    async def payment_events(self) -> Sequence[DebitNote | Invoice]:
        """Wait for debit notes and invoices and return at least one.

        Of several debit notes of an activity that were not read, only the last is returned: each
        holds the whole total.
        """
        return await _take(self._market.payment_news)

    async def accept_debit_note(self, note: DebitNote, allocation_id: str) -> None:
        """Accept the total of a debit note, and pay what it adds."""
        if self._bank.accept_note(note, allocation_id):
            await self._tell(note, accepted=True)

    async def reject_debit_note(self, note: DebitNote, reason: str) -> None:
        """Reject a debit note, telling why."""
        if self._bank.reject(note):
            await self._tell(note, accepted=False, reason=reason)

    async def accept_invoice(self, invoice: Invoice, allocation_id: str) -> None:
        """Accept an invoice, and pay what its debit notes have not paid yet."""
        if self._bank.accept_invoice(invoice, allocation_id):
            await self._tell(invoice, accepted=True)

    async def reject_invoice(self, invoice: Invoice, reason: str) -> None:
        """Reject an invoice, telling why."""
        if self._bank.reject(invoice):
            await self._tell(invoice, accepted=False, reason=reason)

    async def _tell(
        self, note: DebitNote | Invoice, *, accepted: bool, reason: str | None = None
    ) -> None:
        event = NoteJudged(note_id=note.id, accepted=accepted, reason=reason)
        self._market.tell_now(self._bank.provider_of(note), event)


class MemoryNetwork:
    """The requestor's end of an in-process market; implements the port ``Network``.

    Args:
        market: What it is an end of; closing the network closes it.
        signer: The requestor's identity.
        destroy_timeout: Seconds that a silent provider is waited for at the end of an activity.
    """

    def __init__(
        self, market: MemoryMarket, signer: Signer, *, destroy_timeout: float = 10.0
    ) -> None:
        self._memory = market
        self.identity = signer.identity
        self.traits = TRAITS
        self.market = MemoryMarketPort(market, signer)
        self.activities = MemoryActivities(market, destroy_timeout=destroy_timeout)
        self.payments = MemoryPayments(market)

    @property
    def transfers(self) -> MemoryFiles:
        """Its way of moving files."""
        return self._memory.files

    def new_run(self) -> RunSetup:
        """Bring nothing of its own to a run."""
        return RunSetup()

    async def open(self, *, run_id: str = "") -> None:
        """Do nothing: a market in this process is there."""

    async def resolve(self, payload: Payload) -> Payload:
        """Return the payload as it is: this network knows no images."""
        return payload

    def cut(self) -> None:
        """Let nothing that is done by this end have an effect: the requestor is dead.

        Calls that wait never hear of anything; those that go on are cancelled.
        """
        self._memory.lose_readers()
        dead: Any = _Dead()
        self.market._market = self.activities._market = dead  # noqa: SLF001 - its own ports
        self.payments._market = self.payments._bank = dead  # noqa: SLF001

    async def close(self) -> None:
        """Close the market. Idempotent."""
        self._memory.close()


class _Dead:
    """What a dead requestor's ports reach instead of the market."""

    def __getattr__(self, name: str) -> NoReturn:
        raise asyncio.CancelledError
