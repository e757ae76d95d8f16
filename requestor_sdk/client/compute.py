"""``Compute``: the face of the engine."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from requestor_sdk.client import ambient
from requestor_sdk.client._batches import Batches
from requestor_sdk.client.networks import make_network
from requestor_sdk.model.errors import (
    AmountError,
    NotAvailable,
    RequestorError,
    UsageError,
    WrongEventLoop,
)
from requestor_sdk.model.lifecycle import ServiceState
from requestor_sdk.model.money import to_amount, to_limit
from requestor_sdk.model.restart import RenewalPolicy, RestartPolicy
from requestor_sdk.service.budget import Spending
from requestor_sdk.service.service import Service
from requestor_sdk.service.strategy import MarketStrategy, check_strategy
from requestor_sdk.settings import Settings

if TYPE_CHECKING:
    import asyncio

    from requestor_sdk.engine.cluster import Cluster
    from requestor_sdk.engine.engine import Engine
    from requestor_sdk.model.events import Event
    from requestor_sdk.model.props import Payload
    from requestor_sdk.ports.basics import Journal
    from requestor_sdk.ports.network import Network
    from requestor_sdk.service._handles import Outcome

S = TypeVar("S", bound=Service)


class Budget(Spending):
    """What of the budget is where; amounts are of type ``Decimal``, in the network's token."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine.core.ledger)
        self._funds = engine.funds

    def add(self, amount: Decimal | float | str) -> Outcome[Decimal]:
        """Raise the budget while the run goes on.

        First the network reserves more, then instances that wait for room get it. Additions that
        are made at the same time follow one another.

        Args:
            amount: What is added; a float is taken by its repr.

        Returns:
            What can be awaited until it is done; gives the whole budget. Where the network
            refuses, it raises ``PaymentError`` and the budget is as it was.

        Raises:
            AmountError: The amount is not a number above zero, or the budget would be too large.
            NotAvailable: The run is over, or ending.
        """
        return self._funds.add(amount)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumable:
    """An instance that an earlier process left and that can be taken up.

    Attributes:
        instance_id: The instance.
        cluster_id: Its cluster.
        service: The qualified name of its class.
        suspended: Whether it was suspended on purpose; then it stays where it is not taken up.
        provider_name: Its provider.
        until: When its agreement ends at the latest.
    """

    instance_id: str
    cluster_id: str
    service: str
    suspended: bool
    provider_name: str
    until: datetime


class Compute(Batches):
    """Rents computers on one network, with one budget.

    Used as ``async with Compute(budget=1) as compute:``, or by ``start()`` and ``stop()``. Leaving
    stops what runs, in good order, and returns within ``Settings.leave_timeout``.

    Args:
        budget: What may be spent, in the network's token; a float is taken by its repr.
        network: ``local``, the name of an installed network, or a ``Network`` of one's own.
        subnet_tag: Only offers of this subnet are taken.
        payment_driver: For networks that have several, e.g. ``erc20``.
        payment_network: The chain, e.g. ``hoodi``.
        strategy: Judges offers; the least expensive come first by default.
        max_price_per_hour: The most that an hour of an instance may cost with all its processors at
            work, the start fee apart; for clusters that name no limit of their own.
        event_consumer: Called with each event; more by ``add_event_consumer``.
        journal: Where the run is written down: a ``Journal``, or the path of a file, in SQLite
            where it ends in ``.sqlite`` and of JSON lines otherwise. By default the store of runs
            in the user's data folder, which ``requestor-sdk runs`` lists.
        providers: For ``local``: how many providers there are, or their configurations.
        allow_unsandboxed: For ``local``: run plain processes where no sandbox can be had. For one's
            own scripts only.
        settings: Delays and limits.

    Raises:
        AmountError: The budget, or the limit, is not a positive number.
        UsageError: The strategy is none, e.g. a class instead of an object.
        UnknownNetwork: There is no network of that name.
    """

    def __init__(
        self,
        *,
        budget: Decimal | float | str,
        network: str | Network = "local",
        subnet_tag: str | None = None,
        payment_driver: str | None = None,
        payment_network: str | None = None,
        strategy: MarketStrategy | None = None,
        max_price_per_hour: Decimal | float | str | None = None,
        event_consumer: Callable[[Event], None] | None = None,
        journal: Journal | Path | str | None = None,
        providers: int | Sequence[Any] | None = None,
        allow_unsandboxed: bool = False,
        settings: Settings | None = None,
    ) -> None:
        self._budget = to_amount(budget, name="budget")
        if self._budget <= 0:
            raise AmountError(f"budget must be above zero, not {budget!r}")
        self._network = make_network(
            network,
            subnet_tag=subnet_tag,
            payment_driver=payment_driver,
            payment_network=payment_network,
            providers=providers,
            allow_unsandboxed=allow_unsandboxed,
        )
        self._subnet = subnet_tag
        self._strategy = None if strategy is None else check_strategy(strategy)
        self._max_price_per_hour = to_limit(max_price_per_hour, name="max_price_per_hour")
        self._settings = settings or Settings()
        self._consumers = [event_consumer] if event_consumer else []
        self._journal = journal
        self._engine: Engine | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._entered: asyncio.Task[Any] | None = None
        self._interrupts = 0
        self._recovers = self._end_suspended = False
        self._setup = self._network.new_run()
        self.run_id: str = self._setup.run_id or os.urandom(4).hex()

    @classmethod
    def recover(
        cls,
        run_id: str,
        *,
        journal: Journal | Path | str | None = None,
        network: str | Network | None = None,
        subnet_tag: str | None = None,
        payment_driver: str | None = None,
        payment_network: str | None = None,
        strategy: MarketStrategy | None = None,
        event_consumer: Callable[[Event], None] | None = None,
        settings: Settings | None = None,
        end_suspended: bool = False,
    ) -> Self:
        """Go on with a run whose process died, was left with suspended instances, or left debts.

        Entering what is returned settles what can be settled: agreements that nobody can take up
        are ended in order, notes and invoices are judged, and what was accepted and perhaps not
        told is told again. ``resume_service`` takes up instances that ran; those that are not
        taken up are ended on leaving, suspended ones excepted. The run keeps its id, budget and
        journal. Recovering a run of which nothing is left changes nothing.

        Args:
            run_id: The run.
            journal: Where it was written down; it is continued there. By default the store of
                runs in the user's data folder.
            network: The market; by default the one of the name that the journal has.
            subnet_tag: As in ``Compute``, for agreements that follow.
            payment_driver: As in ``Compute``.
            payment_network: As in ``Compute``.
            strategy: As in ``Compute``, for agreements that follow.
            event_consumer: Called with each event from now on.
            settings: Delays and limits.
            end_suspended: Whether leaving ends suspended instances, too, that were not taken up.

        Raises:
            RunNotFound: The store, or the journal, has no such run.
            RunLocked: It is alive, here or in another process. A journal of lines cannot tell.
            JournalDamaged: Not all of its journal can be read.
            UsageError: The run was on another network than the one that is given.
            UnknownNetwork: Its network is not installed here.
        """
        from requestor_sdk.client._journal import existing_journal, history_of

        opened = existing_journal(journal, run_id)
        history = history_of(opened, run_id)
        compute = cls(
            budget=history.budget,
            network=history.network if network is None else network,
            subnet_tag=subnet_tag,
            payment_driver=payment_driver,
            payment_network=payment_network,
            strategy=strategy,
            event_consumer=event_consumer,
            journal=opened,
            settings=settings,
        )
        name = compute.network.traits.name
        if name != history.network:
            raise UsageError(
                f"run {run_id} was on the network {history.network!r}, not on {name!r}",
                ids={"run": run_id},
                hint=f"network={history.network!r}, or leave network= out",
            )
        compute.run_id, compute._recovers, compute._end_suspended = run_id, True, end_suspended
        return compute

    def __repr__(self) -> str:
        state = "not started" if self._engine is None else "started"
        return f"<Compute {self.run_id} on {self._network.traits.name}, {state}>"

    # Start and end -------------------------------------------------------------------------------

    async def start(self) -> None:
        """Connect, reserve the budget and begin to listen.

        Raises:
            NotAvailable: It was started before.
            RequestorError: It could not be started; nothing is left behind.
        """
        if self._engine is not None:
            raise NotAvailable(
                "this Compute was started before", hint="make a new one for each run"
            )
        import asyncio

        # The engine loads with the first run: naming Compute in a program costs little.
        from requestor_sdk.client._journal import opened_journal, taken_over
        from requestor_sdk.clock import LoopClock
        from requestor_sdk.engine.aio import running_loop
        from requestor_sdk.engine.buying import make_buying
        from requestor_sdk.engine.engine import Engine

        self._loop = running_loop()
        clock = self._setup.clock or LoopClock()
        self._entered = asyncio.current_task()
        journal = opened_journal(
            self._journal,
            self._setup.journal,
            run_id=self.run_id,
            traits=self._network.traits,
            now=clock.now,
        )
        # Read anew under the lock: another recovery may have written since.
        history = taken_over(journal, self.run_id) if self._recovers else None
        self._engine = Engine(
            network=self._network,
            budget=self._budget if history is None else history.budget,
            settings=self._settings,
            journal=journal,
            defaults=make_buying(
                strategy=self._strategy, max_price_per_hour=self._max_price_per_hour
            ),
            subnet=self._subnet,
            run_id=self.run_id,
            clock=clock,
            history=history,
        )
        if self._engine.recovery is not None:
            self._engine.recovery.end_suspended = self._end_suspended
        self._engine.core.sinks += [*self._consumers, *ambient.consumers]
        await self._engine.start()
        ambient.active.add(self)

    async def stop(self) -> None:
        """Stop what runs, in stages; idempotent.

        Raises:
            EngineFailed: The engine had failed.
            LeaveTimeout: Something hung; the ids name what is left open.
        """
        if self._engine is None:
            return
        try:
            await self._engine.stop()
        finally:
            ambient.active.discard(self)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            await self.stop()
        except RequestorError as ours:
            if error is None or error is ours:
                raise
            error.add_note(f"while leaving, also: {ours}")

    def interrupt(self) -> int:
        """Take an interrupt, e.g. Ctrl-C: the first leaves in stages, the second cancels.

        Returns:
            Which it was, from 1; at 3 and above there is nothing left to do but to give up.
        """
        self._interrupts += 1
        entered, engine = self._entered, self._engine
        if self._interrupts == 1 and entered is not None and not entered.done():
            entered.cancel()
        elif self._interrupts == 1 and engine is not None:
            engine.leave()
        elif self._interrupts == 2 and engine is not None:
            engine.cancel()
        return self._interrupts

    def _running(self) -> Engine:
        if self._engine is None:
            raise NotAvailable(
                "this Compute is not started",
                hint="use it inside `async with Compute(...) as compute:`",
            )
        from requestor_sdk.engine.aio import running_loop

        if self._loop is not running_loop():
            raise WrongEventLoop(
                "this Compute was started on another event loop",
                hint="use it on the loop that entered it",
            )
        return self._engine

    # Use -----------------------------------------------------------------------------------------

    async def run_service(
        self,
        service_class: type[S],
        *,
        num_instances: int | None = None,
        instance_params: Iterable[Mapping[str, object]] | None = None,
        payload: Payload | None = None,
        expiration: datetime | timedelta | None = None,
        respawn_unstarted_instances: bool | None = None,
        restart: RestartPolicy | None = None,
        hold_for: timedelta | None = None,
        renewal: RenewalPolicy | None = None,
        strategy: MarketStrategy | None = None,
        budget: Decimal | float | str | None = None,
        max_price_per_hour: Decimal | float | str | None = None,
        collect_offers: timedelta | float | None = None,
    ) -> Cluster[S]:
        """Start a cluster of a service.

        Args:
            service_class: The class; the engine makes the objects.
            num_instances: How many; 1, or as many as there are ``instance_params``.
            instance_params: Keyword arguments of each object.
            payload: What is to run, instead of the class's ``get_payload()``.
            expiration: When all is over: an aware datetime, or a timedelta from now. 180 minutes
                where it is left out.
            respawn_unstarted_instances: Whether an instance that did not start is tried again;
                ``True`` where neither this nor ``restart`` is given.
            restart: When an instance is tried again.
            hold_for: Hold money for this long only: before it runs out the engine ends the
                agreement, and the restart policy decides whether another one follows.
            renewal: Have another instance take the place of one before its agreement ends, so
                that none is missing meanwhile; with ``hold_for`` only.
            strategy: Judges offers for this cluster.
            budget: What this cluster may spend, within the whole budget. It may be above what the
                whole is now: the whole limits it, and can be raised by ``budget.add()``.
            max_price_per_hour: The most that an hour of an instance may cost with all its
                processors at work, the start fee apart; dearer offers are declined.
            collect_offers: For how long offers are collected before the best are taken, in seconds
                or as a timedelta; the settings', or the network's own, where it is left out.

        Returns:
            The cluster, at once; wait for it by ``await cluster.wait("running")``.

        Raises:
            HandlerError: A handler of the class is no async generator.
            PayloadError: There is no payload, or it cannot be expressed as a demand.
            ImageNotFound: Its image is not there.
            AmountError: A count, limit or time that makes no sense.
            DeadlineError: An expiration that is naive, past or too near.
            NoMatchingOffer: No offer meets the payload, or none is within max_price_per_hour.
            BudgetTooSmall: The budget does not carry one instance.
            UsageError: The strategy is none, e.g. a class instead of an object.
            TypeError: Both ``respawn_unstarted_instances`` and ``restart`` are given, or
                ``restart`` is no policy.
        """
        return await self._running().run_service(
            service_class,
            payload=payload,
            num_instances=num_instances,
            instance_params=instance_params,
            expiration=expiration,
            respawn_unstarted=respawn_unstarted_instances,
            restart=restart,
            hold_for=hold_for,
            renewal=renewal,
            strategy=strategy,
            budget=budget,
            max_price_per_hour=max_price_per_hour,
            collect_offers=collect_offers,
        )

    async def resume_service(
        self,
        service_class: type[S],
        *,
        cluster_id: str | None = None,
        instance_params: Iterable[Mapping[str, object]] | None = None,
        payload: Payload | None = None,
        respawn_unstarted_instances: bool | None = None,
        restart: RestartPolicy | None = None,
        hold_for: timedelta | None = None,
        renewal: RenewalPolicy | None = None,
        strategy: MarketStrategy | None = None,
        max_price_per_hour: Decimal | float | str | None = None,
        collect_offers: timedelta | float | None = None,
    ) -> Cluster[S]:
        """Take up the instances of a service that an earlier process left; after ``recover``.

        New objects of the class take the place of the old ones, under the same ids and attempt
        numbers and on the same agreements and activities; ``run()`` begins anew, ``start()`` does
        not run again. One whose provider was lost meanwhile is treated as lost now: the restart
        policy decides. Expiration and
        budget are the cluster's own.

        Args:
            service_class: The class, of the same qualified name as before.
            cluster_id: Which cluster, where there are several of the class.
            instance_params: Keyword arguments of each object, in the order of ``resumable``.
            payload: As in ``run_service``; for agreements that follow.
            respawn_unstarted_instances: As in ``run_service``.
            restart: As in ``run_service``.
            hold_for: As in ``run_service``, for agreements that follow.
            renewal: As in ``run_service``.
            strategy: As in ``run_service``.
            max_price_per_hour: As in ``run_service``.
            collect_offers: As in ``run_service``.

        Returns:
            The cluster, of what was taken up.

        Raises:
            NotAvailable: Nothing of that class can be taken up, or this ``Compute`` was not made
                by ``recover``.
            NotSupported: The network ends with its process.
            UsageError: Several clusters are of that class, or it cannot be made so.
            HandlerError: A handler of the class is no async generator.
        """
        from requestor_sdk.engine.resume import resume_service

        return await resume_service(
            self._running(),
            service_class,
            cluster_id=cluster_id,
            instance_params=instance_params,
            payload=payload,
            respawn_unstarted=respawn_unstarted_instances,
            restart=restart,
            hold_for=hold_for,
            renewal=renewal,
            strategy=strategy,
            max_price_per_hour=max_price_per_hour,
            collect_offers=collect_offers,
        )

    @property
    def resumable(self) -> tuple[Resumable, ...]:
        """What an earlier process left that can be taken up, and was not yet."""
        recovery = self._started_engine().recovery
        kept = () if recovery is None else tuple(recovery.kept.values())
        return tuple(
            Resumable(
                instance_id=one.past.id,
                cluster_id=one.cluster.id,
                service=one.cluster.service,
                suspended=one.past.state is ServiceState.suspended,
                provider_name=one.contract.provider_name,
                until=one.until,
            )
            for one in kept
        )

    def add_event_consumer(self, consumer: Callable[[Event], None]) -> None:
        """Have a function called with each event from now on. It must not block."""
        self._consumers.append(consumer)
        if self._engine is not None:
            self._engine.core.sinks.append(consumer)

    def now(self) -> datetime:
        """Return the engine's time, aware, in UTC."""
        return self._running().core.clock.now()

    @property
    def budget(self) -> Budget:
        """What of the budget is where."""
        return Budget(self._started_engine())

    @property
    def journal(self) -> Journal:
        """Where the run is written down."""
        return self._started_engine().core.journal

    @property
    def clusters(self) -> tuple[Cluster[Any], ...]:
        """The clusters of this run."""
        return self._started_engine().clusters

    @property
    def network(self) -> Network:
        """The network that it runs on."""
        return self._network

    @property
    def settings(self) -> Settings:
        """Delays and limits."""
        return self._settings

    def open_ids(self) -> dict[str, tuple[str, ...]]:
        """Return what is still open: instances, activities, agreements, allocations."""
        return {} if self._engine is None else self._engine.open_ids()

    def _started_engine(self) -> Engine:
        if self._engine is None:
            raise NotAvailable("this Compute is not started")
        return self._engine
