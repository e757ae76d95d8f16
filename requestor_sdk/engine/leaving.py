"""How a run ends: in stages, each bounded in time; at once; or broken off by a defect.

Whatever hangs, all is told to those who wait, and what stays open is written down.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from requestor_sdk.engine.allocation import release_allocations
from requestor_sdk.engine.contracts import release, until_heard
from requestor_sdk.model import events
from requestor_sdk.model.errors import NotAvailable
from requestor_sdk.model.lifecycle import ServiceState
from requestor_sdk.model.market import EndReason
from requestor_sdk.model.money import ZERO

if TYPE_CHECKING:
    from requestor_sdk.engine.cluster import Cluster
    from requestor_sdk.engine.core import Core
    from requestor_sdk.engine.instance import Instance
    from requestor_sdk.engine.recovery import Recovery
    from requestor_sdk.engine.tasks.job import Job

logger: logging.Logger = logging.getLogger("requestor_sdk.engine")


class Leaving:
    """Ends a run.

    Args:
        core: What the engine shares.
        clusters: The engine's own list, which grows, and which clusters of jobs leave.
        jobs: The engine's own list, too.
        recovery: What took up the run, where an earlier process began it.
    """

    def __init__(
        self,
        core: Core,
        clusters: Sequence[Cluster[Any]],
        jobs: Sequence[Job],
        recovery: Recovery | None,
    ) -> None:
        self._core = core
        self._clusters = clusters
        self._jobs = jobs
        self._recovery = recovery
        self._hurried = False
        self._staying: dict[str, str] = {}

    def _members(self) -> list[Instance]:
        return [member for cluster in self._clusters for member in cluster.members()]

    def hurry(self) -> None:
        """End everything at once: no shutdown handler runs, no invoice is waited for."""
        self._hurried = True
        for cluster in self._clusters:
            cluster.leave(hurried=True)

    async def in_stages(self) -> None:
        """Stop what runs, wait for invoices, and leave open only what is to stay."""
        core, settings = self._core, self._core.settings
        core.leaving = True
        waiting = tuple(m.id for m in self._members() if m.state is not ServiceState.terminated)
        core.emit(events.ShutdownStarted, run_id=core.run_id, waiting_for=waiting)
        for job in self._jobs:
            job.end(core.fatal or NotAvailable(f"the run ends, and {job.id} with it"))
        for cluster in self._clusters:
            cluster.leave()
        recovery = self._recovery
        letting_go = None if recovery is None else core.spawn(recovery.let_go(), "letting go")
        last = min(settings.leave_timeout / 2, settings.release_timeout + settings.invoice_timeout)
        core.leave_by = core.clock.monotonic() + settings.leave_timeout - self._last_seconds()
        if not await self._all_over(settings.leave_timeout - last):
            for cluster in self._clusters:
                cluster.leave(hurried=True)
            core.turns.hurry()
            await self._all_over(min(settings.release_timeout, last / 2))
        if letting_go is not None:
            await letting_go
        await self._let_stay()
        if not self._hurried and core.fatal is None:
            seconds = min(settings.invoice_timeout, last / 2)
            await core.billing.wait_settled(seconds, but=self._staying)
        core.billing.wait_no_longer()
        for cluster in self._clusters:
            cluster.close()

    def _last_seconds(self) -> float:
        """Return what is kept of the time to leave for the release of the allocation."""
        settings = self._core.settings
        return min(settings.leave_timeout / 8, settings.release_timeout)

    async def _let_stay(self) -> None:
        """Let go of what a later process can take up."""
        members = [m for c in self._clusters for m in c.members() if c.stays(m)]
        for member in members:
            await member.stay()
        contracts = [m.attempt.contract for m in members if m.attempt is not None]
        if self._recovery is not None:
            contracts += [kept.contract for kept in self._recovery.kept.values()]
        self._staying = {contract.id: contract.instance_id for contract in contracts}

    async def _all_over(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                for cluster in tuple(self._clusters):
                    for member in cluster.members():
                        if not cluster.stays(member):
                            await member.over.wait()
        except TimeoutError:
            return False
        return True

    async def close(self) -> None:
        """Release the allocation, close the network and write down how the run ended."""
        core = self._core
        left_over = core.billing.close(but=self._staying)  # in whatever way the run ended
        for agreement_id, provider_id in core.unheard.items():
            # No money depends on it, but it may stand: a recovery ends it.
            core.emit(
                events.PaymentLeftOver,
                agreement_id=agreement_id,
                provider_id=provider_id,
                at_most=ZERO,
            )
        if (core.allocation_id or core.asked) and not self._staying:
            await self._release_allocation()
        await close_network(core)
        end = {
            "run_id": core.run_id,
            "spent": core.ledger.spent,
            "left_over": left_over,
            "error": None if core.fatal is None else core.fatal.message,
        }
        if self._staying:
            instances = tuple(self._staying.values())
            core.emit(events.ComputationSuspended, **end, instances=instances)
        else:
            core.emit(events.ComputationFinished, **end)

    async def _release_allocation(self) -> None:
        core = self._core
        act = partial(release_allocations, core)
        told = f"allocation {core.allocation_id} or a double of it could not be released"
        try:
            # Half of the last seconds is for closing the network, and for the end of the journal.
            async with asyncio.timeout(max(core.release_seconds(), self._last_seconds() / 2)):
                await until_heard(core, act, told)
        except TimeoutError:
            logger.warning("%s in time; a recovery releases it", told)
        else:
            if core.allocation_id:
                core.emit(events.AllocationReleased, allocation_id=core.allocation_id)

    async def break_off(self) -> None:
        """The engine failed: end what runs as well as can be, and wake all who wait."""
        core, fatal = self._core, self._core.fatal
        assert fatal is not None
        reason = EndReason(message="the requestor's engine failed", code="Failure")
        handlers = [task for member in self._members() for task in member.hurry()]
        if handlers:
            await asyncio.wait(handlers, timeout=core.settings.close_timeout)
        attempts = [m.attempt for m in self._members() if m.attempt is not None]
        for attempt in attempts:
            await attempt.batches.close(fatal)
        kept = [found for m in self._members() if (found := m.search.let_go()) is not None]
        signed = [*(attempt.contract for attempt in attempts), *kept]
        await asyncio.gather(*(release(core, contract, reason) for contract in signed))
        for member in self._members():
            member.close_mailbox(fatal.message)
            member.over.fail(fatal)
        for cluster in self._clusters:
            cluster.failed(fatal)


async def close_network(core: Core) -> None:
    """Close the network, or go on without it: the end is written down whatever hangs there."""
    limit = asyncio.timeout(core.settings.release_timeout)
    try:
        async with limit:
            await core.network.close()
    except TimeoutError:
        if not limit.expired():
            raise
        logger.warning("the network %s could not be closed in time", core.network.traits.name)
