"""The engine: one root task that owns all others, started and ended by signals to it."""

from __future__ import annotations

import asyncio
import logging
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar

from requestor_sdk.clock import LoopClock
from requestor_sdk.engine.aio import read_for_ever, running_loop
from requestor_sdk.engine.allocation import allocate
from requestor_sdk.engine.billing import Billing
from requestor_sdk.engine.buying import Buying, judge_for
from requestor_sdk.engine.cluster import Cluster
from requestor_sdk.engine.core import Core
from requestor_sdk.engine.funds import Funds
from requestor_sdk.engine.health import Health
from requestor_sdk.engine.learning import Learning
from requestor_sdk.engine.leaving import Leaving, close_network
from requestor_sdk.engine.lifetime import Lifetime
from requestor_sdk.engine.news import News
from requestor_sdk.engine.recovery import Recovery
from requestor_sdk.model import events
from requestor_sdk.model.errors import (
    LeaveTimeout,
    NotAvailable,
    RequestorError,
)
from requestor_sdk.model.ledger import Ledger
from requestor_sdk.model.lifecycle import ServiceState
from requestor_sdk.model.market import Demand
from requestor_sdk.model.restart import RestartPolicy
from requestor_sdk.service._handles import Outcome
from requestor_sdk.service.service import Service

if TYPE_CHECKING:
    from requestor_sdk.engine.instance import Instance
    from requestor_sdk.engine.tasks.job import Job
    from requestor_sdk.model.history import RunHistory
    from requestor_sdk.ports.basics import Clock, Journal
    from requestor_sdk.ports.network import Network
    from requestor_sdk.settings import Settings

logger: logging.Logger = logging.getLogger("requestor_sdk.engine")

S = TypeVar("S", bound=Service)


class Engine:
    """Runs clusters on one network with one budget.

    Args:
        network: Where; the engine opens and closes it.
        budget: What may be spent, in the network's token.
        settings: Delays and limits.
        journal: Where events are written.
        defaults: How clusters buy that do not say it themselves.
        subnet: Only offers of this subnet are taken.
        run_id: Of this run.
        clock: Time; the loop's by default.
        history: What the journal says of the run, where an earlier process began it.
    """

    def __init__(
        self,
        *,
        network: Network,
        budget: Decimal,
        settings: Settings,
        journal: Journal,
        defaults: Buying,
        subnet: str | None,
        run_id: str,
        clock: Clock | None = None,
        history: RunHistory | None = None,
    ) -> None:
        self.subnet = subnet
        self.defaults = defaults
        self.core: Core = Core(
            network=network,
            settings=settings,
            clock=clock or LoopClock(),
            journal=journal,
            ledger=Ledger(budget),
            run_id=run_id,
        )
        self.core.billing = Billing(self.core)
        self.funds: Funds = Funds(self.core, self._budget_rose)
        self._learning = Learning()
        self.core.on_fatal = self.leave
        self._clusters: list[Cluster[Any]] = []
        self.jobs: list[Job] = []
        self.core.health = self._health = Health(self.core, self.members)
        self._asked_to_leave = asyncio.Event()
        self._started: Outcome[None] = Outcome()
        self._root: asyncio.Task[None] | None = None
        self.recovery: Recovery | None = None if history is None else Recovery(self.core, history)
        self._leaving = Leaving(self.core, self._clusters, self.jobs, self.recovery)

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
                ids=self.core.ids(
                    **{n: ", ".join(ids) for n, ids in self.open_ids().items() if ids}
                ),
                hint=f"requestor-sdk recover {self.core.run_id}, once this process has ended; "
                "until then what is named here may still cost, to its expiry at most",
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
        self._leaving.hurry()

    def _give_up(self, root: asyncio.Task[None]) -> None:
        root.cancel()
        root.add_done_callback(_consume)

    async def _main(self) -> None:
        core, recovery = self.core, self.recovery
        if recovery is not None:
            recovery.restore()
            if recovery.nothing_left or not core.network.traits.outlives_process:
                await self._close_books(recovery)
                return
        opened = False
        try:
            await core.creation.answered(core.network.open(run_id=core.run_id), "open()")
            opened = True
            await (self._begin() if recovery is None else recovery.begin())
        except BaseException as error:
            # Not available before it was opened: it is open already, for another run.
            await self._close_unopened(error, own=opened or not isinstance(error, NotAvailable))
            if isinstance(error, asyncio.CancelledError):
                self._started.fail(RequestorError("the engine was cancelled while it started"))
                raise
            self._started.fail(error)
            return
        try:
            await self._run()
        finally:
            try:
                await self._leaving.close()
            finally:
                core.over = True
                core.journal.close()

    async def _begin(self) -> None:
        core = self.core
        core.emit(
            events.ComputationStarted,
            run_id=core.run_id,
            network=core.network.traits.name,
            budget=core.ledger.budget,
        )
        if not core.ledger.budget:
            return  # nothing is to be bought: this run is for jobs alone
        try:
            await allocate(core, core.ledger.budget)
        except BaseException as error:
            core.emit(
                events.ComputationFinished,
                run_id=core.run_id,
                spent=core.ledger.spent,
                error=error.message if isinstance(error, RequestorError) else "it was cancelled",
            )
            raise

    async def _close_books(self, recovery: Recovery) -> None:
        """Take up a run of which nothing is left but its journal."""
        try:
            if not recovery.nothing_left:
                recovery.close_books()
            self._started.succeed(None)
            await self._asked_to_leave.wait()
        finally:
            self.core.journal.close()

    async def _close_unopened(self, error: BaseException, *, own: bool) -> None:
        """The start failed: leave nothing behind; what fails here too is a note on its error."""
        self.core.never_began()
        self.core.billing.wait_no_longer()
        try:
            if own:
                await close_network(self.core)
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
                if self.recovery is not None:
                    await self.recovery.settle()
                self._started.succeed(None)
                await self._asked_to_leave.wait()
                await self._leaving.in_stages()
                core.adopt(None)
                for task in [*loops, *core.callbacks, *core.tellers]:
                    task.cancel()
        except BaseExceptionGroup as failed:
            core.adopt(None)
            for error in failed.exceptions:
                core.fail(error, "a task of the engine failed")
            await self._leaving.break_off()
        finally:
            core.adopt(None)
            core.turns.hurry()
            core.close_timers()
            for job in list(self.jobs):
                job.finish(core.fatal or NotAvailable("the engine was ended"))

    def _start_loops(self, group: asyncio.TaskGroup) -> list[asyncio.Task[None]]:
        core, network = self.core, self.core.network
        news = News(core)
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

    # What is asked of it -------------------------------------------------------------------------

    @property
    def clusters(self) -> tuple[Cluster[Any], ...]:
        """The clusters of this run; those of jobs that are over are not kept."""
        return tuple(self._clusters)

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

    def make_cluster(
        self,
        service_class: type[S],
        *,
        demand: Demand,
        buying: Buying,
        policy: RestartPolicy,
        lifetime: Lifetime,
        cluster_id: str | None = None,
    ) -> Cluster[S]:
        """Make a cluster without members."""
        core = self.core
        cluster = Cluster(
            core,
            service_class,
            demand=demand,
            buying=buying,
            judge=judge_for(buying, budget=lambda: core.ledger.budget, seconds=lifetime.seconds),
            policy=policy,
            lifetime=lifetime,
            cluster_id=cluster_id,
        )
        if self._learning.add(buying.strategy, cluster.negotiator):
            core.sinks.insert(0, self._learning)
        self._clusters.append(cluster)
        return cluster

    def _budget_rose(self) -> None:
        for cluster in self._clusters:
            cluster.negotiator.budget_rose()

    def drop_cluster(self, cluster: Cluster[Any]) -> None:
        """Forget a cluster of which nothing is left, or whose members could not be made."""
        self._clusters.remove(cluster)
        cluster.close()


def _consume(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.error("the engine ended late with %r", error)
