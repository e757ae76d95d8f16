"""The engine: one root task that owns all others, started and ended by signals to it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar

from requestor_sdk.clock import LoopClock
from requestor_sdk.engine import demands
from requestor_sdk.engine.aio import read_for_ever, running_loop
from requestor_sdk.engine.billing import Billing
from requestor_sdk.engine.cluster import Cluster
from requestor_sdk.engine.contracts import release
from requestor_sdk.engine.core import Core
from requestor_sdk.engine.health import Health
from requestor_sdk.engine.news import News
from requestor_sdk.model import events
from requestor_sdk.model.errors import LeaveTimeout, NotAvailable, RequestorError
from requestor_sdk.model.lifecycle import ServiceState
from requestor_sdk.model.market import (
    EndReason,
)
from requestor_sdk.model.money import Ledger
from requestor_sdk.model.props import Payload
from requestor_sdk.model.restart import RestartPolicy
from requestor_sdk.service._handles import Outcome
from requestor_sdk.service.service import Service, check_service_class
from requestor_sdk.service.strategy import LeastExpensiveLinearPayuMS, MarketStrategy

if TYPE_CHECKING:
    from requestor_sdk.engine.instance import Instance
    from requestor_sdk.engine.tasks.job import Job
    from requestor_sdk.ports.basics import Clock, Journal
    from requestor_sdk.ports.network import Network
    from requestor_sdk.settings import Settings

logger = logging.getLogger("requestor_sdk.engine")

S = TypeVar("S", bound=Service)


class Engine:
    """Runs clusters on one network with one budget.

    Args:
        network: Where; the engine opens and closes it.
        budget: What may be spent, in the network's token.
        settings: Delays and limits.
        journal: Where events are written.
        strategy: Judges offers; the least expensive ones by default.
        subnet: Only offers of this subnet are taken.
        run_id: Of this run.
        clock: Time; the loop's by default.
    """

    def __init__(
        self,
        *,
        network: Network,
        budget: Decimal,
        settings: Settings,
        journal: Journal,
        strategy: MarketStrategy | None,
        subnet: str | None,
        run_id: str,
        clock: Clock | None = None,
    ) -> None:
        self._subnet = subnet
        self._strategy = strategy or LeastExpensiveLinearPayuMS()
        self.core = Core(
            network=network,
            settings=settings,
            clock=clock or LoopClock(),
            journal=journal,
            ledger=Ledger(budget),
            run_id=run_id,
        )
        self.core.billing = Billing(self.core)
        self.core.on_fatal = self.leave
        self._clusters: list[Cluster[Any]] = []
        self.jobs: list[Job] = []
        self.core.health = self._health = Health(self.core, self.members)
        self._asked_to_leave = asyncio.Event()
        self._hurried = asyncio.Event()
        self._started: Outcome[None] = Outcome()
        self._root: asyncio.Task[None] | None = None
        self._left_over = Decimal(0)

    # Start and end -------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open the network, reserve the budget and start the loops.

        Raises:
            RequestorError: It could not be started; nothing is left behind.
        """
        self._root = running_loop().create_task(self._main(), name="requestor_sdk engine")
        self._root.add_done_callback(self._root_over)
        try:
            await self._started
        except asyncio.CancelledError:
            self._root.cancel()
            await asyncio.wait({self._root})
            raise

    def _root_over(self, root: asyncio.Task[None]) -> None:
        """Let nobody wait for a start that will never be."""
        error = None if root.cancelled() else root.exception()
        self._started.fail(error or RequestorError("the engine ended while it started"))

    async def stop(self) -> None:
        """Stop what runs, in stages, and return within ``leave_timeout`` whatever hangs.

        Raises:
            EngineFailed: The engine had failed.
            LeaveTimeout: Something hung; the ids name what is left open.
        """
        root = self._root
        if root is None:
            return
        self.leave()
        try:
            await asyncio.wait({root}, timeout=self.core.settings.leave_timeout)
        except asyncio.CancelledError:
            self.cancel()
            await asyncio.wait({root}, timeout=self.core.settings.release_timeout)
            self._give_up(root)
            raise
        if not root.done():
            self._give_up(root)
            raise LeaveTimeout(
                f"leaving took longer than {self.core.settings.leave_timeout:g} s",
                ids={name: ", ".join(found) for name, found in self.open_ids().items() if found},
                hint="what is named here may still cost until its expiry",
            )
        if not root.cancelled() and (error := root.exception()) is not None:
            raise error
        if self.core.fatal is not None:
            raise self.core.fatal

    def leave(self) -> None:
        """Begin to stop what runs, in stages; ``stop`` waits for the end of it."""
        self._asked_to_leave.set()

    def cancel(self) -> None:
        """End everything at once: no shutdown handler runs, no invoice is waited for."""
        self.leave()
        self._hurried.set()
        for cluster in self._clusters:
            cluster.cancel()

    def _give_up(self, root: asyncio.Task[None]) -> None:
        root.cancel()
        root.add_done_callback(_consume)

    async def _main(self) -> None:
        core = self.core
        try:
            await core.network.open()
            core.allocation_id = await core.network.payments.allocate(core.ledger.budget)
        except BaseException as error:
            await self._close_unopened(error)
            if isinstance(error, asyncio.CancelledError):
                self._started.fail(RequestorError("the engine was cancelled while it started"))
                raise
            self._started.fail(error)
            return
        core.emit(
            events.ComputationStarted,
            run_id=core.run_id,
            network=core.network.traits.name,
            budget=core.ledger.budget,
        )
        core.emit(
            events.AllocationCreated,
            allocation_id=core.allocation_id,
            amount=core.ledger.budget,
        )
        try:
            await self._run()
        finally:
            await self._close()

    async def _close_unopened(self, error: BaseException) -> None:
        """The start failed: leave nothing behind; what fails here too is a note on its error."""
        try:
            await self.core.network.close()
        except Exception as also:
            logger.exception("the network could not be closed")
            error.add_note(f"while closing the network, also: {also}")
        self.core.journal.close()

    async def _run(self) -> None:
        core = self.core
        try:
            async with asyncio.TaskGroup() as group:
                core.adopt(group)
                loops = self._start_loops(group)
                self._started.succeed(None)
                await self._asked_to_leave.wait()
                await self._leave_in_stages()
                core.adopt(None)
                for task in [*loops, *core.callbacks]:
                    task.cancel()
        except BaseExceptionGroup as failed:
            core.adopt(None)
            for error in failed.exceptions:
                core.fail(error, "a task of the engine failed")
            await self._abort()
        finally:
            core.adopt(None)
            for job in list(self.jobs):
                job.finish(core.fatal or NotAvailable("the engine was ended"))

    async def _abort(self) -> None:
        """The engine failed: end what runs as well as can be, and wake all who wait."""
        assert self.core.fatal is not None
        reason = EndReason(message="the requestor's engine failed", code="Failure")
        handlers = [task for member in self.members() for task in member.hurry()]
        if handlers:
            await asyncio.wait(handlers, timeout=self.core.settings.close_timeout)
        attempts = [m.attempt for m in self.members() if m.attempt is not None]
        for attempt in attempts:
            await attempt.batches.close(self.core.fatal)
        await asyncio.gather(*(release(self.core, a.contract, reason) for a in attempts))
        self._left_over = self.core.billing.close()
        for member in self.members():
            member.mailbox.close(self.core.fatal.message)
            member.over.fail(self.core.fatal)
        for cluster in self._clusters:
            cluster.close()
            cluster.changed()

    def _start_loops(self, group: asyncio.TaskGroup) -> list[asyncio.Task[None]]:
        core, network = self.core, self.core.network
        news = News(core, self._member_with)
        loops = {
            "agreement events": read_for_ever(
                lambda: network.market.agreement_events(),  # noqa: PLW0108 - found anew each time
                news.agreements_ended,
                core.retried("market"),
                core.dice,
            ),
            "activity events": read_for_ever(
                lambda: network.activities.activity_events(),  # noqa: PLW0108
                news.activities_changed,
                core.retried("activities"),
                core.dice,
            ),
            "payments": core.billing.run(),
            "health": self._health.run(),
        }
        return [group.create_task(work, name=name) for name, work in loops.items()]

    async def _leave_in_stages(self) -> None:
        core, settings = self.core, self.core.settings
        core.leaving = True
        waiting = tuple(m.id for m in self.members() if m.state is not ServiceState.terminated)
        core.emit(events.ShutdownStarted, run_id=core.run_id, waiting_for=waiting)
        for job in self.jobs:
            job.end(core.fatal or NotAvailable(f"the run ends, and {job.id} with it"))
        for cluster in self._clusters:
            cluster.stop()
        last = min(settings.leave_timeout / 2, settings.release_timeout + settings.invoice_timeout)
        if not await self._all_over(settings.leave_timeout - last):
            for cluster in self._clusters:
                cluster.cancel()
            await self._all_over(min(settings.release_timeout, last / 2))
        if not self._hurried.is_set() and core.fatal is None:
            await core.billing.wait_settled(min(settings.invoice_timeout, last / 2))
        self._left_over = core.billing.close()
        for cluster in self._clusters:
            cluster.close()

    async def _all_over(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                for member in self.members():
                    await member.over.wait()
        except TimeoutError:
            return False
        return True

    async def _close(self) -> None:
        core = self.core
        try:
            async with asyncio.timeout(core.settings.release_timeout):
                await core.network.payments.release_allocation(core.allocation_id)
            core.emit(events.AllocationReleased, allocation_id=core.allocation_id)
        except (RequestorError, TimeoutError) as error:
            logger.warning("allocation %s could not be released: %s", core.allocation_id, error)
        await core.network.close()
        core.emit(
            events.ComputationFinished,
            run_id=core.run_id,
            spent=core.ledger.spent,
            left_over=self._left_over,
            error=None if core.fatal is None else core.fatal.message,
        )
        core.journal.close()

    # What is asked of it -------------------------------------------------------------------------

    @property
    def clusters(self) -> tuple[Cluster[Any], ...]:
        """The clusters of this run."""
        return tuple(self._clusters)

    def _member_with(self, agreement_or_activity: str) -> Instance | None:
        for cluster in self._clusters:
            if (member := cluster.member_with(agreement_or_activity)) is not None:
                return member
        return None

    def members(self) -> tuple[Instance, ...]:
        """Return the members of all clusters."""
        return tuple(member for cluster in self._clusters for member in cluster.members())

    def open_ids(self) -> dict[str, tuple[str, ...]]:
        """Return what is still open: instances, agreements, activities, the allocation."""
        attempts = [m.attempt for m in self.members() if m.attempt is not None]
        over = self._root is None or self._root.done()
        return {
            "instances": tuple(
                m.id for m in self.members() if m.state is not ServiceState.terminated
            ),
            "activities": tuple(a.contract.activity_id or "" for a in attempts),
            "agreements": self.core.ledger.open_agreements(),
            "allocations": ()
            if over or not self.core.allocation_id
            else (self.core.allocation_id,),
        }

    async def run_service(
        self,
        service_class: type[S],
        *,
        payload: Payload | None,
        num_instances: int | None,
        instance_params: Iterable[Mapping[str, object]] | None,
        expiration: datetime | timedelta | None,
        respawn_unstarted: bool | None,
        restart: RestartPolicy | None,
        hold_for: timedelta | None,
        strategy: MarketStrategy | None,
    ) -> Cluster[S]:
        """Start a cluster; see ``Compute.run_service``."""
        core = self.core
        core.check_running()
        check_service_class(service_class)
        policy = demands.policy_of(restart, respawn_unstarted)
        params = demands.chosen_params(num_instances, instance_params)
        demands.check_arguments(service_class, params)
        end = demands.deadline_of(expiration, core.clock.now(), core.settings)
        if hold_for is not None:
            demands.deadline_of(hold_for, core.clock.now(), core.settings)
        wanted = payload if payload is not None else await demands.payload_of(service_class)
        demands.demand_of(wanted, expiration=end, subnet=self._subnet)
        assert isinstance(wanted, Payload)
        resolved = await core.network.resolve(wanted)
        demand = demands.demand_of(resolved, expiration=end, subnet=self._subnet)

        def seconds() -> float:
            left = (end - core.clock.now()).total_seconds()
            return left if hold_for is None else min(left, hold_for.total_seconds())

        demands.check_report(
            await core.network.market.match_report(demand),
            seconds=seconds(),
            budget=core.ledger.budget,
            ids={"run": core.run_id},
        )
        core.check_running()
        cluster = Cluster(
            core,
            service_class,
            demand=demand,
            strategy=strategy or self._strategy,
            judge=demands.judge_for(lambda: core.ledger.budget, seconds),
            policy=policy,
            expiration=end,
            hold_for=hold_for,
        )
        self._clusters.append(cluster)
        try:
            cluster.spawn_instances(instance_params=params)
        except BaseException:
            # The user's constructor failed: there is no cluster, and nobody could stop it.
            self._clusters.remove(cluster)
            cluster.close()
            raise
        return cluster


def _consume(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.error("the engine ended late with %r", error)
