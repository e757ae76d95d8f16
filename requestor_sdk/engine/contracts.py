"""Agreements and activities: signed with the worst case held, and released with it let go."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Final

from requestor_sdk.engine.aio import Backoff
from requestor_sdk.engine.contract import Contract, Use
from requestor_sdk.model import events
from requestor_sdk.model.errors import (
    ActivityRefused,
    AgreementRefused,
    EngineFailed,
    NetworkError,
    RequestorError,
)
from requestor_sdk.model.market import EndReason, Proposal
from requestor_sdk.model.money import Terms, room_for
from requestor_sdk.model.props import MULTI_ACTIVITY

if TYPE_CHECKING:
    from requestor_sdk.engine.core import Core
    from requestor_sdk.ports.network import Approval

logger: logging.Logger = logging.getLogger("requestor_sdk.engine")

MOST_USES: Final = 100
"""Activities that one agreement has, one after another, at most."""


class NoRoom(Exception):
    """The budget has no room for the worst case of an agreement; internal to the engine.

    Args:
        terms: Of the agreement.
    """

    def __init__(self, terms: Terms) -> None:
        super().__init__()
        self.terms = terms


async def sign(
    core: Core, proposal: Proposal, *, instance_id: str, cluster_id: str, until: datetime
) -> Contract:
    """Make an agreement of a draft, with its worst case until ``until`` held before it is sent.

    Raises:
        NoRoom: The budget does not carry it now.
        AgreementRefused: The provider would not, or did not answer in time.
        EngineFailed: It could not be written down, and was not signed.
    """
    terms = Terms.from_properties(proposal.properties)
    assert terms is not None, "the negotiator lets no unbounded offer pass"
    seconds = (until - core.clock.now()).total_seconds()
    room = room_for(terms, seconds=seconds, available=core.ledger.room(cluster_id))
    if not room.enough:
        core.emit(
            events.BudgetExhausted,
            cluster_id=cluster_id,
            needed=room.needed,
            available=room.available,
        )
        raise NoRoom(terms)
    # Held before the first await, so that no other takes the room while the agreement is made.
    core.ledger.hold(proposal.id, room.needed, cluster_id)
    try:
        # One that is made all the same binds nobody: it is never confirmed.
        agreement_id = await core.creation.answered(
            core.network.market.create_agreement(proposal, valid_to=until), "create_agreement()"
        )
    except BaseException:
        core.ledger.settle(proposal.id)
        core.room.made()
        raise
    core.ledger.rename(proposal.id, agreement_id)
    contract = Contract(
        id=agreement_id,
        provider_id=proposal.provider_id,
        provider_name=proposal.provider_name,
        instance_id=instance_id,
        terms=terms,
        until=until,
        reusable=proposal.properties.get(MULTI_ACTIVITY) is True,
    )
    try:
        core.emit(
            events.AgreementCreated,
            instance_id=instance_id,
            agreement_id=agreement_id,
            provider_id=proposal.provider_id,
            provider_name=proposal.provider_name,
            held=room.needed,
            cluster_id=cluster_id,
            until=until,
            counters=terms.pricing.counters,
            coeffs=terms.pricing.coeffs,
            fixed=terms.pricing.fixed,
            threads=terms.threads,
        )
        core.check_written()
    except EngineFailed as error:
        await _end_unwritten(core, contract, error)
        raise
    await _confirm(core, contract)
    return contract


async def _end_unwritten(core: Core, contract: Contract, error: EngineFailed) -> None:
    """What comes next could not be written down, and is not done: end what stands."""
    await end_agreement(core, contract, EndReason(message=error.message, code="Cancelled"))


async def _confirm(core: Core, contract: Contract) -> None:
    refusal: str | None = None
    by = "provider"
    try:
        approval = await core.signing.answered(_approval(core, contract), "confirm()")
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
        refusal, by = error.message, _refused_by(error)
    if refusal is None:
        core.emit(
            events.AgreementConfirmed,
            instance_id=contract.instance_id,
            agreement_id=contract.id,
            provider_id=contract.provider_id,
        )
        core.billing.follow(contract)
        return
    core.emit(
        events.AgreementRejected,
        instance_id=contract.instance_id,
        agreement_id=contract.id,
        provider_id=contract.provider_id,
        reason=refusal,
        by=by,
    )
    reason = EndReason(message=f"not signed: {refusal}", code="Cancelled")
    await end_agreement(core, contract, reason)
    raise AgreementRefused(
        f"{contract.provider_name} did not approve the agreement: {refusal}",
        ids=core.ids(agreement=contract.id, provider=contract.provider_id),
    )


def _refused_by(error: RequestorError) -> str:
    return "network" if isinstance(error, NetworkError) else "provider"


async def _approval(core: Core, contract: Contract) -> Approval:
    await core.network.market.confirm(contract.id)
    seconds = core.settings.approval_timeout
    return await core.network.market.wait_approval(contract.id, timeout=seconds)


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
            held=core.ledger.payable_for(contract.id),
        )
        core.check_written()
    except EngineFailed as error:
        await _end_unwritten(core, contract, error)
        raise
    use = Use(began=core.clock.monotonic())
    contract.begin(use)
    try:
        activity_id = await _created(core, contract)
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
            by=_refused_by(error),
        )
        if use.activity_id is None:
            contract.not_begun()  # otherwise a note has come of it: it is there, and is paid
        await end_agreement(core, contract, EndReason(message=error.message, code="NoActivity"))
        raise
    use.activity_id = activity_id
    core.emit(
        events.ActivityCreated,
        instance_id=contract.instance_id,
        activity_id=activity_id,
        agreement_id=contract.id,
        provider_id=contract.provider_id,
    )
    return activity_id


async def _created(core: Core, contract: Contract) -> str:
    seconds = core.settings.create_timeout
    try:
        return await core.creation.keep(core.network.activities.create(contract.id))
    except RequestorError:
        raise  # a time-out that the network reports is a TimeoutError too, and no end of ours
    except TimeoutError:
        raise ActivityRefused(
            f"{contract.provider_name} did not create an activity within {seconds:g} s",
            ids=core.ids(agreement=contract.id, provider=contract.provider_id),
        ) from None


async def release(core: Core, contract: Contract, reason: EndReason) -> None:
    """End an attempt's activity, then its agreement. Bounded in time; what fails is told."""
    await end_activity(core, contract, reason)
    await end_agreement(core, contract, reason)


async def end_activity(core: Core, contract: Contract, reason: EndReason) -> None:
    """End the activity that lives in an agreement. Bounded in time; what fails is told."""
    use = contract.use
    if use is None or use.activity_id is None:
        return
    await bounded(
        core,
        partial(core.network.activities.destroy, use.activity_id),
        f"activity {use.activity_id} could not be destroyed",
    )
    if use.ended is None:
        use.ended = core.clock.monotonic()
    core.emit(
        events.ActivityEnded,
        activity_id=use.activity_id,
        agreement_id=contract.id,
        reason=reason.message,
    )


def can_be_reused(core: Core, contract: Contract) -> bool:
    """Tell whether another activity can follow in an agreement, and hold what it may cost."""
    settings, now = core.settings, core.clock.monotonic()
    left = (contract.until - core.clock.now()).total_seconds()
    if contract.ended is not None or not contract.reusable or len(contract.uses) >= MOST_USES:
        return False
    if left <= settings.shutdown_timeout + settings.stop_grace + settings.approval_timeout:
        return False
    return core.ledger.extend(contract.id, contract.most(now) + contract.terms.most(left))


async def end_agreement(core: Core, contract: Contract, reason: EndReason) -> None:
    """End an agreement and shrink what is held to what its time can have cost."""
    now = core.clock.monotonic()
    if contract.ended is None:
        contract.ended = now
        if contract.use is not None and contract.use.ended is None:
            contract.use.ended = now
        core.ledger.end(contract.id, contract.most(now))
        core.emit(
            events.AgreementTerminated,
            agreement_id=contract.id,
            provider_id=contract.provider_id,
            by=contract.ended_by,
            reason=reason.message,
            code=reason.code,
        )
    if contract.use is None:
        # Also where it was over before its first activity turned out not to be.
        core.ledger.settle(contract.id)
    core.billing.expect_invoice(contract)
    core.room.made()
    if contract.ended_by != "requestor":
        return
    if contract.use is None:
        core.unheard[contract.id] = contract.provider_id
    await bounded(
        core,
        partial(_terminate, core, contract.id, reason),
        f"agreement {contract.id} could not be terminated",
    )


async def _terminate(core: Core, agreement_id: str, reason: EndReason) -> None:
    await core.network.market.terminate(agreement_id, reason)
    core.unheard.pop(agreement_id, None)


async def bounded(core: Core, act: Callable[[], Awaitable[None]], told: str) -> None:
    """Perform an idempotent act at the end of something, in spite of errors, for a bounded time.

    What the network has not heard by then it is told for as long as the engine runs: nobody is to
    work, and to be owed, for what is over.
    """
    work = until_heard(core, act, told)
    seconds = core.release_seconds()
    try:
        if seconds == core.settings.release_timeout:
            await core.release.keep(work)  # thousands may do this in one moment
        else:
            async with asyncio.timeout(seconds):
                await work
    except TimeoutError:
        logger.warning("%s in time; it is tried on", told)
        core.spawn_teller(until_heard(core, act, told), told)


async def until_heard(core: Core, act: Callable[[], Awaitable[None]], told: str) -> None:
    """Perform an idempotent act, again after each error, until it is done."""
    backoff: Backoff | None = None
    while True:
        try:
            return await act()
        except RequestorError as error:
            backoff = backoff or Backoff(core.dice)
            pause = backoff.next()
            logger.warning("%s: %s; again in %.1f s", told, error.message, pause)
            await asyncio.sleep(pause)
