"""Agreements and activities: signed with the worst case held, and released with it let go."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from requestor_sdk.model import events
from requestor_sdk.model.errors import AgreementRefused, AmountError, RequestorError
from requestor_sdk.model.history import marked
from requestor_sdk.model.market import EndReason, Properties, Proposal
from requestor_sdk.model.money import ZERO, LinearPricing, Terms, to_amount
from requestor_sdk.model.props import INF_THREADS

if TYPE_CHECKING:
    from requestor_sdk.engine.core import Core

logger = logging.getLogger("requestor_sdk.engine")


@dataclass(slots=True, kw_only=True)
class Contract:
    """An agreement of ours, with the activity in it.

    Attributes:
        id: Of the agreement.
        provider_id: The provider's identity.
        provider_name: What it calls itself.
        instance_id: For whom it was made.
        terms: What was agreed about money.
        activity_id: Of its activity, once there is one.
        began: When the activity was created, in the clock's monotonic seconds.
        ended: When it was over.
        silent_since: Since when the provider has been silent, if it is.
        silent_sec: Seconds of silence that are over and are not paid.
        usage: The usage vector of the last debit note.
        noted: The total of the last debit note that was accepted.
        noted_at: How many seconds of the activity had passed when it came.
        ended_by: Who ended the agreement.
        judged: Its debit notes by id: why one was rejected, ``None`` where it was accepted.
    """

    id: str
    provider_id: str
    provider_name: str
    instance_id: str
    terms: Terms
    activity_id: str | None = None
    began: float | None = None
    ended: float | None = None
    silent_since: float | None = None
    silent_sec: float = 0.0
    usage: tuple[Decimal, ...] = ()
    noted: Decimal | None = None
    noted_at: float = 0.0
    ended_by: str = "requestor"
    judged: dict[str, str | None] = field(default_factory=dict)

    def elapsed(self, now: float) -> float:
        """Return the seconds that the activity can be charged for."""
        if self.began is None:
            return 0.0
        end = min(x for x in (self.ended, self.silent_since, now) if x is not None)
        return max(0.0, end - self.began - self.silent_sec)

    def most(self, now: float) -> Decimal:
        """Return the most that the activity can have cost until now."""
        return ZERO if self.began is None else self.terms.most(self.elapsed(now))


class NoRoom(Exception):
    """The budget has no room for the worst case of an agreement; internal to the engine.

    Args:
        after: Seconds after which it has, where nothing else changes: the expiry comes nearer.
    """

    def __init__(self, after: float | None = None) -> None:
        super().__init__(after)
        self.after = after


def terms_of(properties: Properties) -> Terms | None:
    """Return what an offer says about money; ``None`` where its cost cannot be bounded."""
    pricing = LinearPricing.from_properties(properties)
    if pricing is None or pricing.worst_case(Decimal(1), Decimal(1)) is None:
        return None
    try:
        threads = to_amount(str(properties.get(INF_THREADS, 1)), name=INF_THREADS)
    except AmountError:
        return None
    return Terms(pricing=pricing, threads=max(threads, Decimal(1)))


async def sign(
    core: Core, proposal: Proposal, *, instance_id: str, cluster_id: str, until: datetime
) -> Contract:
    """Make an agreement of a draft, with its worst case until ``until`` held before it is sent.

    Raises:
        NoRoom: The budget does not carry it now.
        AgreementRefused: The provider would not, or did not answer in time.
    """
    terms = terms_of(proposal.properties)
    assert terms is not None, "the negotiator lets no unbounded offer pass"
    cost = terms.most((until - core.clock.now()).total_seconds())
    if cost > core.ledger.available:
        core.emit(
            events.BudgetExhausted,
            cluster_id=cluster_id,
            needed=cost,
            available=core.ledger.available,
        )
        raise NoRoom(_fits_after(terms, cost - core.ledger.available))
    market = core.network.market
    agreement_id = await market.create_agreement(proposal, valid_to=until)
    contract = Contract(
        id=agreement_id,
        provider_id=proposal.provider_id,
        provider_name=proposal.provider_name,
        instance_id=instance_id,
        terms=terms,
    )
    # Others may have taken the room while the agreement was made.
    if not core.ledger.hold(agreement_id, cost):
        raise NoRoom
    core.emit(
        events.AgreementCreated,
        instance_id=instance_id,
        agreement_id=agreement_id,
        provider_id=proposal.provider_id,
        provider_name=proposal.provider_name,
        held=cost,
        cluster_id=cluster_id,
        until=until,
        counters=terms.pricing.counters,
        coeffs=terms.pricing.coeffs,
        fixed=terms.pricing.fixed,
        threads=terms.threads,
    )
    await _confirm(core, contract)
    return contract


def _fits_after(terms: Terms, missing: Decimal) -> float | None:
    rate = terms.most(1) - terms.most(0)
    return float(missing / rate) if rate > 0 else None


async def _confirm(core: Core, contract: Contract) -> None:
    ids = {
        "instance_id": contract.instance_id,
        "agreement_id": contract.id,
        "provider_id": contract.provider_id,
    }
    refusal: str | None = None
    try:
        await core.network.market.confirm(contract.id)
        approval = await core.network.market.wait_approval(
            contract.id, timeout=core.settings.approval_timeout
        )
        if not approval.approved:
            refusal = approval.reason or "no reason was given"
    except asyncio.CancelledError:
        # Stopped meanwhile: one that is approved all the same is ended at once.
        core.try_spawn(
            end_agreement(core, contract, EndReason(message="the instance was stopped")),
            f"{contract.instance_id} withdraw",
        )
        raise
    except RequestorError as error:
        refusal = error.message
    if refusal is None:
        core.emit(events.AgreementConfirmed, **ids)
        core.billing.follow(contract)
        return
    core.emit(events.AgreementRejected, **ids, reason=refusal)
    reason = EndReason(message=f"not signed: {refusal}", code="Cancelled")
    await end_agreement(core, contract, reason)
    raise AgreementRefused(
        f"{contract.provider_name} did not approve the agreement: {refusal}",
        ids=core.ids(agreement=contract.id, provider=contract.provider_id),
    )


async def create_activity(core: Core, contract: Contract) -> str:
    """Create the activity of an agreement; returns its id.

    Raises:
        RequestorError: It could not be created; the agreement has been ended.
    """
    try:
        core.emit(
            events.ActivityRequested,
            instance_id=contract.instance_id,
            agreement_id=contract.id,
            provider_id=contract.provider_id,
        )
        contract.began = core.clock.monotonic()
        activity_id = await core.network.activities.create(contract.id)
    except asyncio.CancelledError:
        core.try_spawn(
            end_agreement(core, contract, EndReason(message="the instance was stopped")),
            f"{contract.instance_id} withdraw",
        )
        raise
    except RequestorError as error:
        core.emit(
            events.ActivityCreateFailed,
            instance_id=contract.instance_id,
            agreement_id=contract.id,
            provider_id=contract.provider_id,
            reason=error.message,
        )
        contract.began = None
        await end_agreement(core, contract, EndReason(message=error.message, code="NoActivity"))
        raise
    contract.activity_id = activity_id
    core.emit(
        events.ActivityCreated,
        instance_id=contract.instance_id,
        activity_id=activity_id,
        agreement_id=contract.id,
        provider_id=contract.provider_id,
    )
    return activity_id


async def release(core: Core, contract: Contract, reason: EndReason) -> None:
    """End an attempt's activity, then its agreement. Bounded in time; what fails is told."""
    if contract.activity_id is not None:
        await bounded(
            core,
            core.network.activities.destroy(contract.activity_id),
            f"activity {contract.activity_id} could not be destroyed",
        )
        core.emit(
            events.ActivityEnded,
            activity_id=contract.activity_id,
            agreement_id=contract.id,
            reason=reason.message,
        )
    await end_agreement(core, contract, reason)


async def end_agreement(core: Core, contract: Contract, reason: EndReason) -> None:
    """End an agreement and shrink what is held to what its time can have cost."""
    now = core.clock.monotonic()
    if contract.ended is None:
        contract.ended = now
        core.ledger.end(contract.id, contract.most(now))
        core.emit(
            events.AgreementTerminated,
            agreement_id=contract.id,
            provider_id=contract.provider_id,
            by=contract.ended_by,
            reason=reason.message,
            code=reason.code,
        )
        if contract.began is None:
            core.ledger.settle(contract.id)
        core.billing.expect_invoice(contract)
        core.room_made()
    if contract.ended_by != "requestor":
        return
    await bounded(
        core,
        core.network.market.terminate(contract.id, reason),
        f"agreement {contract.id} could not be terminated",
    )


async def allocate(core: Core, amount: Decimal) -> None:
    """Reserve an amount for the run; written down before it is asked for, with the run's mark.

    Raises:
        RequestorError: The network would not, or did not answer.
    """
    asked = marked(amount, core.run_id)
    core.emit(events.AllocationRequested, amount=asked)
    core.allocation_id = await core.network.payments.allocate(asked)
    core.emit(events.AllocationCreated, allocation_id=core.allocation_id, amount=asked)


async def bounded(core: Core, work: Awaitable[None], told: str) -> None:
    """Await an act at the end of something, for a bounded time; a failure is logged."""
    try:
        async with asyncio.timeout(core.settings.release_timeout):
            await work
    except (RequestorError, TimeoutError) as error:
        logger.warning("%s: %s", told, error)
