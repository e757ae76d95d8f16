"""``Compute``: the face of the engine."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self

from requestor_sdk.client import ambient
from requestor_sdk.client._batches import Batches
from requestor_sdk.client._board import board_of
from requestor_sdk.client._computing import Computing
from requestor_sdk.client._services import Services
from requestor_sdk.client.networks import make_network
from requestor_sdk.model.errors import (
    NotAvailable,
    RequestorError,
    UsageError,
)
from requestor_sdk.model.money import to_limit, to_positive
from requestor_sdk.service import _current
from requestor_sdk.service.budget import Spending
from requestor_sdk.service.strategy import MarketStrategy, check_strategy
from requestor_sdk.settings import Settings, check_settings

if TYPE_CHECKING:
    import asyncio

    from requestor_sdk.client._job_desk import JobDesk
    from requestor_sdk.client.rehearsal import Wanted
    from requestor_sdk.engine.engine import Engine
    from requestor_sdk.model.events import Event
    from requestor_sdk.networks.ocean import OceanConfig
    from requestor_sdk.observe.timeline import Timeline
    from requestor_sdk.ports.basics import Journal
    from requestor_sdk.ports.network import Network
    from requestor_sdk.service._handles import Outcome


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


NO_BUDGET: Final = Decimal(0)
"""Stands for a budget that was not given: then nothing can be bought."""


class Compute(Services, Batches, Computing):
    """Rents computers on one network, with one budget; or has jobs done where the data is.

    Used as ``async with Compute(budget=1) as compute:``, or by ``start()`` and ``stop()``. Leaving
    stops what runs, in good order, and returns within ``Settings.leave_timeout``.

    Args:
        budget: What may be spent, in the network's token; a float is taken by its repr. Without it
            nothing can be bought, and jobs can be submitted.
        network: ``local``, ``golem``, the name of an installed network, or a ``Network`` of one's
            own. Where it is left out it is ``local``; with ``ocean``, no market at all.
        ocean: The provider that jobs are submitted to; without it, on ``local``, they run in this
            process.
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
        dashboard: Show the run as a page in the browser, on a free port of this machine or on the
            one that is given; the address is ``dashboard_url``, and is printed to standard error.

    Raises:
        AmountError: The budget, or the limit, is not a positive number.
        UsageError: The strategy is none, e.g. a class instead of an object; or the settings are
            none, e.g. a mapping.
        UnknownNetwork: There is no network of that name.
    """

    def __init__(
        self,
        *,
        budget: Decimal | float | str = NO_BUDGET,
        network: str | Network | None = None,
        ocean: OceanConfig | None = None,
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
        dashboard: bool | int = False,
    ) -> None:
        self._board = board_of(dashboard)
        self._budget = NO_BUDGET if budget is NO_BUDGET else to_positive(budget, name="budget")
        self._ocean = ocean
        self._network = make_network(
            network or ("local" if ocean is None else "ocean"),
            subnet_tag=subnet_tag,
            payment_driver=payment_driver,
            payment_network=payment_network,
            providers=providers,
            allow_unsandboxed=allow_unsandboxed,
        )
        self._subnet = subnet_tag
        self._strategy = None if strategy is None else check_strategy(strategy)
        self._max_price_per_hour = to_limit(max_price_per_hour, name="max_price_per_hour")
        self._settings = check_settings(settings)
        self._consumers = [event_consumer] if event_consumer else []
        self._journal = journal
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
        dashboard: bool | int = False,
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
            dashboard: As in ``Compute``; it shows the earlier events, too.

        Raises:
            RunNotFound: The store, or the journal, has no such run.
            RunLocked: It is alive, here or in another process. A journal in memory, or of one's
                own, cannot tell.
            JournalDamaged: Not all of its journal can be read.
            UsageError: The run was on another network than the one that is given.
            UnknownNetwork: Its network is not installed here.
        """
        from requestor_sdk.client._journal import existing_journal, history_of

        opened = existing_journal(journal, run_id)
        history = history_of(opened, run_id)
        compute = cls(
            budget=history.budget or NO_BUDGET,
            network=history.network if network is None else network,
            subnet_tag=subnet_tag,
            payment_driver=payment_driver,
            payment_network=payment_network,
            strategy=strategy,
            event_consumer=event_consumer,
            journal=opened,
            settings=settings,
            dashboard=dashboard,
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

    async def _rehearse(self, wanted: Wanted) -> NoReturn:
        from requestor_sdk.engine.buying import make_buying

        assert self._rehearsal is not None
        await self._rehearsal.judge(
            self._network,
            wanted,
            budget=self._budget,
            settings=self._settings,
            subnet=self._subnet,
            defaults=make_buying(
                strategy=self._strategy, max_price_per_hour=self._max_price_per_hour
            ),
        )

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
        if ambient.rehearsal is not None:
            # Nothing is reserved, signed or written down: the first purchase ends the program.
            self._rehearsal = ambient.rehearsal
            await self._rehearsal.open(self._network)
            return
        # The engine loads with the first run: naming Compute in a program costs little.
        import asyncio

        from requestor_sdk.engine.aio import running_loop

        _current.run_id.set(self.run_id)
        self._loop = running_loop()
        self._entered = asyncio.current_task()
        self._engine = self._made_engine()
        if self._board is not None:
            await self._board.open(self._engine)
        try:
            await self._engine.start()
        except BaseException:
            if self._board is not None:
                await self._board.close()
            raise
        self._desk = self._make_desk()
        ambient.active.add(self)

    def _made_engine(self) -> Engine:
        """Open the journal and return the engine that writes it; what fails leaves none open."""
        from requestor_sdk.client._journal import opened_journal, taken_over
        from requestor_sdk.clock import LoopClock
        from requestor_sdk.engine.buying import make_buying
        from requestor_sdk.engine.engine import Engine

        clock = self._setup.clock or LoopClock()
        journal = opened_journal(
            self._journal,
            self._setup.journal,
            run_id=self.run_id,
            traits=self._network.traits,
            now=clock.now,
        )
        try:
            # Read anew under the lock: another recovery may have written since.
            history = taken_over(journal, self.run_id) if self._recovers else None
            engine = Engine(
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
        except BaseException:
            # Until the engine has it nobody else closes it: one that is empty goes away by that.
            journal.close()
            raise
        if engine.recovery is not None:
            engine.recovery.end_suspended = self._end_suspended
        engine.core.sinks += [*self._consumers, *ambient.consumers]
        return engine

    def _make_desk(self) -> JobDesk | None:
        engine, ocean = self._started_engine(), self._ocean
        from requestor_sdk.client._job_desk import JobDesk

        if ocean is not None:
            from requestor_sdk.networks.ocean import OceanJobs

            return JobDesk(lambda: OceanJobs(ocean), engine.core.emit, provider=ocean.url)
        from requestor_sdk.client._local import LocalNetwork

        network = self._network
        if isinstance(network, LocalNetwork):
            from requestor_sdk.client._local_jobs import LocalJobs

            return JobDesk(lambda: LocalJobs(network), engine.core.emit, provider="local")
        return None

    async def stop(self) -> None:
        """Stop what runs, in stages; idempotent.

        Raises:
            EngineFailed: The engine had failed.
            LeaveTimeout: Something hung; the ids name what is left open.
        """
        if self._rehearsal is not None:
            await self._network.close()
            return
        if self._engine is None:
            return
        try:
            try:
                if self._desk is not None:
                    await self._desk.close()
            finally:
                await self._engine.stop()
        finally:
            ambient.active.discard(self)
            if self._board is not None:
                await self._board.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
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

    # Use -----------------------------------------------------------------------------------------

    def add_event_consumer(self, consumer: Callable[[Event], None]) -> None:
        """Have a function called with each event from now on. It must not block.

        Where the run has begun it is called with the event of that first: which run it is, and of
        which network, is told by no other.
        """
        self._consumers.append(consumer)
        if self._engine is not None:
            self._engine.core.join(consumer)

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
    def network(self) -> Network:
        """The network that it runs on."""
        return self._network

    @property
    def settings(self) -> Settings:
        """Delays and limits."""
        return self._settings

    @property
    def dashboard_url(self) -> str | None:
        """The address of the dashboard, with its token; ``None`` where there is none now."""
        return None if self._board is None else self._board.url

    def timeline(self) -> Timeline:
        """Return the run so far as lanes over time, as its journal has it.

        It shows itself in a notebook; ``.save("run.svg")`` writes it, also as ``.html`` or
        ``.json``.

        Raises:
            NotAvailable: This ``Compute`` was not started.
            JournalDamaged: Not all of the journal can be read.
        """
        from requestor_sdk.observe.timeline import Timeline

        return Timeline.of(self.journal.read())

    def open_ids(self) -> dict[str, tuple[str, ...]]:
        """Return what is still open: instances, activities, agreements, allocations."""
        return {} if self._engine is None else self._engine.open_ids()


Golem = Compute
"""What yapapi calls it."""
