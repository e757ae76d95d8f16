"""``Cluster``: the instances of one service, started, watched and replaced together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Generic, Self, TypeVar

from requestor_sdk.engine.contracts import Contract
from requestor_sdk.engine.demands import check_arguments, chosen_params
from requestor_sdk.engine.instance import Instance
from requestor_sdk.engine.negotiation import Negotiator
from requestor_sdk.model.errors import (
    AmountError,
    InstanceError,
    NotAvailable,
    RestartsExhausted,
    UsageError,
)
from requestor_sdk.model.events import ServiceFailed
from requestor_sdk.model.lifecycle import Record, ServiceState, Stimulus
from requestor_sdk.model.market import Demand, Proposal
from requestor_sdk.model.restart import RestartPolicy
from requestor_sdk.service._handles import Outcome
from requestor_sdk.service.service import Service, overrides
from requestor_sdk.service.strategy import MarketStrategy

if TYPE_CHECKING:
    from requestor_sdk.engine.core import Core

S = TypeVar("S", bound=Service)
T = TypeVar("T")

_SETTLED = frozenset({ServiceState.running, ServiceState.suspended, ServiceState.terminated})


class Cluster(Generic[S]):
    """The instances of one service. Made by ``compute.run_service()``.

    ``async with cluster`` stops it at the end of the block. What it does, it does at once; what is
    returned can be awaited for its completion, or not.
    """

    def __init__(
        self,
        core: Core,
        service_class: type[S],
        *,
        demand: Demand,
        strategy: MarketStrategy,
        judge: Callable[[Proposal], str | None],
        policy: RestartPolicy,
        expiration: datetime,
        hold_for: timedelta | None,
    ) -> None:
        self._core = core
        self._class = service_class
        self.id = core.next_id("cluster")
        self.policy = policy
        self.expiration = expiration
        self._hold_for = hold_for
        self._own_condition = overrides(service_class, "restart_condition")
        self._members: list[Instance] = []
        self.shunned: Callable[[], frozenset[str]] = frozenset
        """Set by the engine: providers that no member takes while another has an offer."""
        self._stopped = False
        self._changed: list[asyncio.Future[None]] = []
        self._watchers: list[Callable[[], None]] = []
        self._timers: list[asyncio.TimerHandle] = []
        self._attached: dict[str, Instance] = {}
        self.negotiator = Negotiator(
            core, cluster_id=self.id, demand=demand, strategy=strategy, judge=judge
        )
        self._negotiating = core.spawn(self._negotiate(), f"{self.id} negotiation")
        self._time_expiration()

    def __repr__(self) -> str:
        states = ", ".join(f"{i.id} {i.state}" for i in self._members)
        return f"<Cluster {self.id} of {self._class.__name__}: {states}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    # Members -------------------------------------------------------------------------------------

    @property
    def instances(self) -> list[S]:
        """All members, terminated ones too, in the order they were made."""
        return [member.service for member in self._members]  # type: ignore[misc]

    @property
    def service_class(self) -> type[S]:
        """The class of the service."""
        return self._class

    def spawn_instances(
        self,
        num_instances: int | None = None,
        instance_params: Iterable[Mapping[str, object]] | None = None,
    ) -> Outcome[list[S]]:
        """Add members, at once; they start side by side.

        Args:
            num_instances: How many; where it is left out, as many as there are parameters.
            instance_params: Keyword arguments of each object.

        Returns:
            What can be awaited until each of them runs or is over; gives the new members.

        Raises:
            NotAvailable: The cluster was stopped.
            AmountError: The count is below 1, or there are fewer parameters.
            UsageError: The class cannot be made with these parameters.
        """
        if self._stopped:
            raise NotAvailable(
                f"{self.id} was stopped, or expires soon: it takes no more instances",
                ids={"cluster": self.id},
                hint="start another one with compute.run_service()",
            )
        params = chosen_params(num_instances, instance_params)
        check_arguments(self._class, params)
        services = [self._class(**arguments) for arguments in params]
        members = [
            Instance(self._core, self, service, self._core.next_id("i")) for service in services
        ]
        self._members.extend(members)
        for member in members:
            member.begin()
        self.changed()
        return self._when(lambda: all(m.state in _SETTLED for m in members), services)

    def resize(self, size: int) -> Outcome[None]:
        """Have this many members that are not terminated: adds some, or stops the newest.

        Returns:
            What can be awaited until new ones run and those that are stopped are gone.
        """
        if isinstance(size, bool) or not isinstance(size, int) or size < 0:
            raise AmountError(f"a cluster's size must be zero or more, not {size!r}")
        living = [m for m in self._members if m.state is not ServiceState.terminated]
        if size > len(living):
            self.spawn_instances(size - len(living))
            added = self._members[len(self._members) - (size - len(living)) :]
            return self._when(lambda: all(m.state in _SETTLED for m in added), None)
        return self._all_over([self._stopped_member(member) for member in reversed(living[size:])])

    def _member_of(self, service: Service) -> Instance:
        for member in self._members:
            if member.service is service:
                return member
        raise UsageError(f"{service!r} is no member of {self.id}", ids={"cluster": self.id})

    # Acts ----------------------------------------------------------------------------------------

    def stop(self) -> Outcome[None]:
        """Stop all members in good order; there is no way back.

        Returns:
            What can be awaited until all are terminated and released.
        """
        self._stopped = True
        over = self._all_over([self._stopped_member(member) for member in self._members])
        over.on_done(self.close)
        return over

    def stop_instance(self, service: S) -> Outcome[None]:
        """Stop one member; returns what can be awaited until it is terminated and released."""
        return self._stopped_member(self._member_of(service)).over

    def suspend(self, service: S | None = None) -> Outcome[None]:
        """Let go of members: no handler runs, agreement and activity stay.

        Args:
            service: One member; all of them where it is left out.

        Returns:
            What can be awaited until they are suspended, or over.
        """
        members = list(self._members) if service is None else [self._member_of(service)]
        for member in members:
            member.post(Stimulus.suspend)
        settled = (ServiceState.suspended, ServiceState.terminated)
        return self._when(lambda: all(m.state in settled for m in members), None)

    def resume(self, service: S) -> Outcome[None]:
        """Let a suspended member run again; returns what can be awaited until it does.

        Raises:
            NotAvailable: It is not suspended.
        """
        member = self._member_of(service)
        if member.state is not ServiceState.suspended:
            raise NotAvailable(
                f"instance {member.id} is {member.state}, not suspended",
                ids={"instance": member.id},
            )
        member.post(Stimulus.resume)
        self._core.health.watch(member)
        done: Outcome[None] = Outcome()
        done.succeed(None)
        return done

    def cancel(self) -> None:
        """End all members at once: no shutdown handler runs."""
        self._stopped = True
        for member in self._members:
            if member.state is ServiceState.suspended:
                member.post(Stimulus.lost)
            member.post(Stimulus.cancel)
            member.hurry()

    def _stopped_member(self, member: Instance) -> Instance:
        member.post(Stimulus.stop)
        return member

    def _all_over(self, members: list[Instance]) -> Outcome[None]:
        done: Outcome[None] = Outcome()
        waiting = {member.id for member in members}
        if not waiting:
            done.succeed(None)

        def one_over(member: Instance) -> None:
            waiting.discard(member.id)
            if (error := member.over.error()) is not None:
                done.fail(error)
            elif not waiting:
                done.succeed(None)

        for member in members:
            member.over.on_done(partial(one_over, member))
        return done

    # Waiting -------------------------------------------------------------------------------------

    async def wait(self, state: ServiceState | str, count: int | None = None) -> list[S]:
        """Wait until so many members are in a state.

        Args:
            state: The state, e.g. ``"running"``.
            count: How many; all that there are now where it is left out.

        Returns:
            The members that are in that state.

        Raises:
            InstanceError: It cannot come true any more: too few members are left.
        """
        try:
            wanted = ServiceState(state)
        except ValueError:
            states = ", ".join(ServiceState)
            raise UsageError(f"there is no state {state!r}; there is {states}") from None
        number = len(self._members) if count is None else count
        if number < 0 or (number == 0 and count is not None):
            raise AmountError(f"count must be positive, not {count}")
        while True:
            found = [m for m in self._members if m.state is wanted]
            if len(found) >= number:
                return [m.service for m in found]  # type: ignore[misc]
            self._check_possible(wanted, number)
            await self._next_change()

    def _check_possible(self, wanted: ServiceState, number: int) -> None:
        if self._core.fatal is not None:
            raise self._core.fatal
        if wanted is ServiceState.terminated:
            return
        living = sum(1 for m in self._members if m.state is not ServiceState.terminated)
        if living >= number:
            return
        failed = [m for m in self._members if m.failure is not None]
        cause = failed[-1].failure if failed else None
        raise InstanceError(
            f"waited for {number} {wanted}, and only {living} of {len(self._members)} instances "
            f"still live" + (f"; the last failure was {type(cause).__name__}" if cause else ""),
            ids={"cluster": self.id, **({"instance": failed[-1].id} if failed else {})},
            story=self._core.story(instance=failed[-1].id) if failed else (),
            hint="see instance.failure of the members of cluster.instances",
        ) from cause

    async def wait_settled(self) -> None:
        """Wait until each member is running, suspended or terminated."""
        while not all(m.state in _SETTLED for m in self._members):
            if self._core.fatal is not None:
                raise self._core.fatal
            await self._next_change()

    def _when(self, condition: Callable[[], bool], value: T) -> Outcome[T]:
        """Return what gives the value once the condition holds, or the engine's fatal error."""
        done: Outcome[T] = Outcome()

        def look() -> None:
            if condition():
                done.succeed(value)
            elif self._core.fatal is not None:
                done.fail(self._core.fatal)
            else:
                self._watchers.append(look)

        look()
        return done

    async def _next_change(self) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._changed.append(future)
        await future

    def changed(self) -> None:
        """A member changed: wake those who wait. Called by the engine."""
        waiting, self._changed = self._changed, []
        for future in waiting:
            if not future.done():
                future.set_result(None)
        watchers, self._watchers = self._watchers, []
        for look in watchers:
            look()
        if self._stopped and all(m.over.done() for m in self._members):
            self.close()

    # The engine's side ---------------------------------------------------------------------------

    async def _negotiate(self) -> None:
        try:
            await self.negotiator.run()
        except Exception as error:  # noqa: BLE001 - fatal: told, and raised at exit
            self._core.fail(error, f"negotiation of {self.id}")

    def close(self) -> None:
        """End the negotiation and the timers. Idempotent; called by the engine."""
        self._negotiating.cancel()
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()

    def _time_expiration(self) -> None:
        settings = self._core.settings
        left = (self.expiration - self._core.clock.now()).total_seconds()
        margin = settings.shutdown_timeout + settings.stop_grace
        loop = asyncio.get_running_loop()
        self._timers = [
            loop.call_later(max(0.0, left - margin), self._expires_soon),
            loop.call_later(left, self._expired),
        ]

    def _expires_soon(self) -> None:
        """Let what runs end in good order; what has not started has no time left to."""
        self._stopped = True
        for member in self._members:
            pending = member.state is ServiceState.pending
            member.post(Stimulus.expired if pending else Stimulus.expiring)
        self.changed()

    def _expired(self) -> None:
        self._stopped = True
        self._post_all(Stimulus.expired)
        self.changed()

    def _post_all(self, stimulus: Stimulus) -> None:
        for member in self._members:
            member.post(stimulus)

    def hold_until(self) -> datetime:
        """Return until when an agreement made now is to last."""
        if self._hold_for is None:
            return self.expiration
        return min(self.expiration, self._core.clock.now() + self._hold_for)

    def time_hold(self, member: Instance, attempt: int) -> asyncio.TimerHandle | None:
        """Have the agreement ended before what is held for it runs out."""
        if self._hold_for is None:
            return None
        settings = self._core.settings
        margin = settings.shutdown_timeout + settings.stop_grace
        seconds = max(0.0, self._hold_for.total_seconds() - margin)
        return asyncio.get_running_loop().call_later(
            seconds, lambda: member.post(Stimulus.agreement_ended, attempt=attempt)
        )

    def attached(self, member: Instance, contract: Contract) -> None:
        """A member has a provider. Called by the engine."""
        self._core.health.watch(member)
        self._attached[contract.id] = member
        if contract.activity_id:
            self._attached[contract.activity_id] = member

    def detached(self, contract: Contract) -> None:
        """A member's attempt is over. Called by the engine."""
        member = self._attached.pop(contract.id, None)
        if member is not None:
            self._core.health.forget(member)
        self._attached.pop(contract.activity_id or "", None)

    def member_with(self, agreement_or_activity: str) -> Instance | None:
        """Return the member whose attempt has this agreement or activity."""
        return self._attached.get(agreement_or_activity)

    def members(self) -> tuple[Instance, ...]:
        """Return all members, as the engine knows them."""
        return tuple(self._members)

    def may_restart(self, member: Instance, record: Record) -> bool:
        """Decide whether an attempt that ended is followed by another."""
        wants = (
            bool(member.service.restart_condition)
            if self._own_condition
            else self.policy.wants(record)
        )
        if not wants:
            return False
        if self.policy.allows(member.search.attempts_at, self._core.clock.monotonic()):
            return True
        exhausted = RestartsExhausted(
            f"instance {member.id} was tried {len(member.search.attempts_at)} times; "
            f"the restart policy allows no more",
            ids={"instance": member.id, "cluster": self.id},
            story=self._core.story(most=20, kind=ServiceFailed, instance=member.id),
            hint="see the failures above; raise RestartPolicy(max_attempts=...) if they are no bug",
        )
        exhausted.__cause__ = member.failure
        member.failure = exhausted
        return False
