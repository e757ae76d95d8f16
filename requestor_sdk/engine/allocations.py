"""The allocations of a run that is recovered: which are its own, and how much they have to carry.

An allocation is the user's money: any doubt whose it is leaves it alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from requestor_sdk.engine.contracts import allocate
from requestor_sdk.model import events
from requestor_sdk.model.market import Allocation
from requestor_sdk.model.money import TOLERANCE_SEC

if TYPE_CHECKING:
    from requestor_sdk.engine.core import Core
    from requestor_sdk.model.history import RunHistory

ORPHAN_WINDOW: Final = timedelta(minutes=10)
"""For how long after it was asked for an allocation may have been made."""


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
    early = asked_at - timedelta(seconds=float(TOLERANCE_SEC))
    found = [
        one
        for one in listed
        if one.amount == amount
        and one.spent == 0
        and early <= one.created_at <= asked_at + ORPHAN_WINDOW
    ]
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
            await payments.amend_allocation(own.id, own.spent + needed)
        for other in rest:
            await payments.release_allocation(other.id)
            core.emit(events.AllocationReleased, allocation_id=other.id)
    elif needed > 0:
        await allocate(core, needed)
