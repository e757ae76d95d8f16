"""Whether a job that is right is let in: is there room for it, and was it paid for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from requestor_sdk.c2d.orders import order_id, price_of
from requestor_sdk.c2d.records import Bounds
from requestor_sdk.model.errors import JobRefused

if TYPE_CHECKING:
    from requestor_sdk.c2d._terms import JobPlan
    from requestor_sdk.c2d.orders import Orders
    from requestor_sdk.c2d.records import JobRuns

LEAST_FREE: Final = 256 << 20
"""Bytes that have to be free on the disk for a job to be taken."""


class Admission:
    """Lets jobs in.

    Args:
        runs: Says what room is left on the disk.
        orders: Checks what was paid; ``None`` where nothing can be.
        owned: How many jobs an owner may have that are not over.
        kept: Bytes that the results of one owner may take; ``None`` for as many as there are.
    """

    def __init__(
        self, runs: JobRuns, orders: Orders | None, *, owned: int, kept: int | None
    ) -> None:
        self._runs = runs
        self._orders = orders
        self._owned = owned
        self._kept = kept

    def bounds(self, plan: JobPlan) -> Bounds:
        """Return what the store has to hold a new job to.

        Raises:
            JobRefused: The disk is full.
        """
        if self._runs.free() < LEAST_FREE:
            raise JobRefused("the provider's disk is full", reasons={"environment": "no_room"})
        spec = plan.environment
        return Bounds(
            of_environment=spec.max_jobs + spec.max_waiting, of_owner=self._owned, kept=self._kept
        )

    def refused(self, bound: str) -> JobRefused:
        """Return how a job is refused that is one too many for a field of ``Bounds``."""
        if bound == "of_environment":
            return JobRefused(
                "the environment has as many jobs as it takes",
                reasons={"environment": "too_many_jobs"},
            )
        if bound == "of_owner":
            return JobRefused(
                f"an owner may have {self._owned} jobs that are not over",
                reasons={"consumerAddress": "too_many_jobs"},
            )
        return JobRefused(
            f"an owner's results may take {self._kept} bytes: delete jobs first",
            reasons={"consumerAddress": "too_much_kept"},
        )

    async def pay(self, owner: str, plan: JobPlan) -> tuple[str, list[str]]:
        """Return the order of a job, and what it is remembered by; none where it costs nothing."""
        if plan.environment.free:
            return plan.order, []
        if self._orders is None:
            raise JobRefused(
                "this provider cannot check orders: it was started without --rpc",
                reasons={"order": "order_invalid"},
            )
        if not plan.order:
            raise JobRefused(
                "the environment has a price: transferTxId has to name what paid it",
                reasons={"dataset.transferTxId": "missing"},
            )
        remembered = order_id(plan.order, plan.environment.chain_id)
        price = price_of(plan.environment, plan.duration)
        await self._orders.check(plan.order, payer=owner, price=price)
        return plan.order, [remembered]
