"""``Compute``: the face of the engine."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from requestor_sdk.client import ambient
from requestor_sdk.client.networks import make_network
from requestor_sdk.model.errors import AmountError, NotAvailable, RequestorError, WrongEventLoop
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


class Compute:
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
        journal: Where the run is written down: a ``Journal``, or the path of a JSONL file.
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
        self._setup = self._network.new_run()
        self.run_id = self._setup.run_id or os.urandom(4).hex()

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
        from requestor_sdk.engine.aio import running_loop
        from requestor_sdk.engine.buying import make_buying
        from requestor_sdk.engine.engine import Engine

        self._loop = running_loop()
        self._entered = asyncio.current_task()
        self._engine = Engine(
            network=self._network,
            budget=self._budget,
            settings=self._settings,
            journal=self._open_journal(),
            defaults=make_buying(
                strategy=self._strategy, max_price_per_hour=self._max_price_per_hour
            ),
            subnet=self._subnet,
            run_id=self.run_id,
            clock=self._setup.clock,
        )
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

    def _open_journal(self) -> Journal:
        from requestor_sdk.observe import JsonlJournal, MemoryJournal

        if self._journal is None:
            return self._setup.journal or MemoryJournal()
        if isinstance(self._journal, str | Path):
            return JsonlJournal(Path(self._journal))
        return self._journal

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
