"""The run's allocation: asked for until it is clear what became of it, released with its doubles.

A double is one that nobody meant to make: the network took the question for two, or was asked once
more after an answer that was lost. It bears the run's mark and was made when the run asked, so it
is known for the run's own. Nothing else is ever touched.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from requestor_sdk.engine.aio import asked_again
from requestor_sdk.model import events
from requestor_sdk.model.errors import (
    NetworkUnreachable,
    NotSupported,
    PaymentError,
    RequestorError,
)
from requestor_sdk.model.history import marked
from requestor_sdk.model.money import TOLERANCE_SEC

if TYPE_CHECKING:
    from requestor_sdk.engine.core import Core
    from requestor_sdk.model.history import RunHistory
    from requestor_sdk.model.market import Allocation

ORPHAN_WINDOW: Final = timedelta(minutes=10)
"""For how long after it was asked for an allocation may have been made."""


def may_be_of(one: Allocation, amount: Decimal, asked_at: datetime) -> bool:
    """Tell whether an allocation can be what was asked for: the mark, the time, nothing paid."""
    early = asked_at - timedelta(seconds=float(TOLERANCE_SEC))
    in_time = early <= one.created_at <= asked_at + ORPHAN_WINDOW
    return one.amount == amount and one.spent == 0 and in_time


async def allocate(core: Core, amount: Decimal) -> None:
    """Reserve an amount for the run; written down before it is asked for, with the run's mark.

    Errors of the network that may pass are waited out, for as long as a release may take.

    Raises:
        RequestorError: The network would not, or did not answer; or it could not be written down.
    """
    asking = _Asking(core, marked(amount, core.run_id))
    core.emit(events.AllocationRequested, amount=asking.amount)
    core.check_written()
    try:
        core.allocation_id = await asked_again(
            asking.ask,
            seconds=core.settings.release_timeout,
            patience=core.settings.create_timeout,
            on_error=core.retried("payments"),
            dice=core.dice,
        )
    except RequestorError as error:
        if asking.nothing_made:
            core.emit(events.AllocationNotMade, amount=asking.amount, reason=error.message)
        raise
    core.emit(events.AllocationCreated, allocation_id=core.allocation_id, amount=asking.amount)
    core.asked.append((asking.amount, asking.at))


class _Asking:
    """Asks for one allocation, as often as it takes.

    Args:
        core: What the engine shares.
        amount: How much, with the run's mark.

    Attributes:
        nothing_made: Whether it is known that nothing was reserved, so that it can be asked anew.
    """

    def __init__(self, core: Core, amount: Decimal) -> None:
        self._core = core
        self.amount = amount
        self.at: datetime = core.clock.now()
        self.nothing_made: bool = True

    async def ask(self) -> str:
        payments = self._core.network.payments
        if not self.nothing_made:
            listed = await payments.allocations()
            found = [one.id for one in listed if may_be_of(one, self.amount, self.at)]
            if found:
                return found[0]
        self.nothing_made = False
        try:
            return await payments.allocate(self.amount)
        except (PaymentError, NetworkUnreachable):
            self.nothing_made = True
            raise


async def release_allocations(core: Core) -> None:
    """Release the run's allocation and its doubles. Idempotent.

    Raises:
        RequestorError: Of one of them it is not known whether it is released.
    """
    payments = core.network.payments
    if core.allocation_id:
        await payments.release_allocation(core.allocation_id)
    for double in await _doubles(core):
        await payments.release_allocation(double.id)
        core.emit(events.AllocationReleased, allocation_id=double.id)


async def _doubles(core: Core) -> Sequence[Allocation]:
    try:
        listed = await core.network.payments.allocations()
    except NotSupported:
        return ()  # a network that cannot tell
    return [
        one
        for one in listed
        if one.id != core.allocation_id and any(may_be_of(one, *asked) for asked in core.asked)
    ]


# In a recovery ------------------------------------------------------------------------------------


def take_up(core: Core, history: RunHistory, listed: Iterable[Allocation]) -> list[Allocation]:
    """Return those of the run among the ones that the network has; tell of those that are gone."""
    there = {found.id: found for found in listed}
    known = [there[name] for name in history.allocations if name in there]
    for gone in history.allocations:
        if gone not in there:
            core.emit(events.AllocationReleased, allocation_id=gone)
    if history.requested is not None:
        strangers = [one for one in there.values() if one.id not in history.allocations]
        known += _orphans(core, strangers, *history.requested)
    return known


def _orphans(
    core: Core, listed: Iterable[Allocation], amount: Decimal, asked_at: datetime
) -> list[Allocation]:
    """Return the allocation that was asked for and whose id was not heard any more, if any.

    It is this run's only where it bears the run's mark, was made when it was asked for, has
    paid nothing, and is the only one of that kind. Any doubt leaves it alone.
    """
    found = [one for one in listed if may_be_of(one, amount, asked_at)]
    if len(found) == 1:
        core.emit(events.AllocationCreated, allocation_id=found[0].id, amount=amount)
        return found
    names = ", ".join(one.id for one in found)
    reason = f"any of {names} may be it: none was taken" if found else "the network has none"
    core.emit(events.AllocationNotMade, amount=amount, reason=reason)
    return []


async def reserve(core: Core, known: Sequence[Allocation], needed: Decimal) -> None:
    """Have one allocation that carries what may still be accepted, and no other.

    Raises:
        RequestorError: The network would not, or did not answer.
    """
    payments = core.network.payments
    if known:
        # The oldest is the run's own; others were made by recoveries that died over it.
        own, *rest = known
        core.allocation_id = own.id
        if own.amount - own.spent < needed:
            amending = payments.amend_allocation(own.id, own.spent + needed)
            await core.creation.answered(amending, "amend_allocation()")
        for other in rest:
            releasing = payments.release_allocation(other.id)
            await core.release.answered(releasing, "release_allocation()")
            core.emit(events.AllocationReleased, allocation_id=other.id)
    elif needed > 0:
        await allocate(core, needed)
