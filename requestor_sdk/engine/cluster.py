"""``Cluster``: the instances of one service, started, watched and replaced together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Final, Generic, Self, TypeVar

from requestor_sdk.engine.buying import Buying
from requestor_sdk.engine.census import LET_GO, SETTLED, Census, all_over
from requestor_sdk.engine.contract import Contract
from requestor_sdk.engine.demands import check_arguments, chosen_params
from requestor_sdk.engine.instance import Instance
from requestor_sdk.engine.lifetime import Lifetime
from requestor_sdk.engine.negotiation import Negotiator
from requestor_sdk.model.errors import (
    AmountError,
    NotAvailable,
    RestartsExhausted,
    UsageError,
)
from requestor_sdk.model.events import ClusterStarted, ServiceFailed, ServiceRenewing
from requestor_sdk.model.lifecycle import Record, ServiceState, Stimulus
from requestor_sdk.model.market import Demand, Proposal
from requestor_sdk.model.restart import RestartPolicy
from requestor_sdk.service._handles import Outcome
from requestor_sdk.service.budget import Spending
from requestor_sdk.service.service import Service, overrides

if TYPE_CHECKING:
    from requestor_sdk.engine.core import Core
    from requestor_sdk.engine.recovery import Kept
    from requestor_sdk.model.errors import EngineFailed

logger: logging.Logger = logging.getLogger("requestor_sdk.engine")

_RUNNING: Final = frozenset({ServiceState.running})
_RENEWED: Final = frozenset({ServiceState.starting, ServiceState.running})

S = TypeVar("S", bound=Service)
T = TypeVar("T")


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
        buying: Buying,
        judge: Callable[[Proposal], str | None],
        policy: RestartPolicy,
        lifetime: Lifetime,
        cluster_id: str | None = None,
    ) -> None:
        self._core = core
        self._class = service_class
        self.id: str = cluster_id or core.next_id("cluster")
        if cluster_id is None:
            core.emit(
                ClusterStarted,
                cluster_id=self.id,
                service=service_class.__qualname__,
                expiration=lifetime.expiration,
                budget=buying.budget,
                max_price_per_hour=buying.max_price_per_hour,
            )
        self.policy: RestartPolicy = policy
        self.lifetime: Lifetime = lifetime
        self._own_condition = overrides(service_class, "restart_condition")
        self._members: list[Instance] = []
        self.census: Census = Census(core, self.id, self._members)
        self.shunned: Callable[[], frozenset[str]] = frozenset
        """Set by the engine: providers that no member takes while another has an offer."""
        self._over = 0
        self._gone: Outcome[None] = Outcome()
        self._stopped = False
        core.ledger.part(self.id, buying.budget)
        self.negotiator: Negotiator = Negotiator(
            core,
            cluster_id=self.id,
            demand=demand,
            strategy=buying.strategy,
            judge=judge,
            collect_offers=buying.collect_offers,
        )
        self._negotiating = core.spawn(self._negotiate(), f"{self.id} negotiation")
        self._timers = lifetime.time_cluster(self._expires_soon, self._expired)

    def __repr__(self) -> str:
        states = ", ".join(f"{i.id} {i.state}" for i in self._members)
        return f"<Cluster {self.id} of {self._class.__name__}: {states}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    # Members -------------------------------------------------------------------------------------

    @property
    def instances(self) -> list[S]:
        """All members, terminated ones too, in the order they were made."""
        return [member.service for member in self._members]  # type: ignore[misc]

    @property
    def spending(self) -> Spending:
        """What of this cluster's budget is where."""
        return Spending(self._core.ledger, self.id)

    @property
    def expiration(self) -> datetime:
        """When all of it is over."""
        return self.lifetime.expiration

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
        services = [(self._class(**arguments), arguments) for arguments in params]
        members = [self._add(service, arguments) for service, arguments in services]
        for member in members:
            member.begin()
        return self.census.each(members, SETTLED, [service for service, _ in services])

    def _add(
        self,
        service: S,
        params: Mapping[str, object],
        replaces: Instance | None = None,
        instance_id: str | None = None,
    ) -> Instance:
        member = Instance(
            self._core,
            self,
            service,
            instance_id or self._core.next_id("i"),
            params=params,
            replaces=replaces,
        )
        self._members.append(member)
        self.census.added(1)
        return member

    def resize(self, size: int) -> Outcome[None]:
        """Have this many members that are not terminated: adds some, or stops the newest.

        One that is being replaced and its successor count as one.

        Returns:
            What can be awaited until new ones run and those that are stopped are gone.
        """
        if isinstance(size, bool) or not isinstance(size, int) or size < 0:
            raise AmountError(f"a cluster's size must be zero or more, not {size!r}")
        living = [m for m in self._members if m.counts]
        if size > len(living):
            self.spawn_instances(size - len(living))
            added = self._members[len(self._members) - (size - len(living)) :]
            return self.census.each(added, SETTLED, None)
        going = living[size:]
        # One that is being replaced goes, too: without its successor it would count again.
        going += [m for m in self._members if m.successor in going]
        return all_over([self._stopped_member(member) for member in reversed(going)])

    def _member_of(self, service: Service) -> Instance:
        member = service._member  # noqa: SLF001 - attached by the engine
        if isinstance(member, Instance) and member.cluster is self:
            return member
        raise UsageError(f"{service!r} is no member of {self.id}", ids={"cluster": self.id})

    # Acts ----------------------------------------------------------------------------------------

    def stop(self) -> Outcome[None]:
        """Stop all members in good order; there is no way back.

        Returns:
            What can be awaited until all are terminated and released.
        """
        self._stopped = True
        for member in self._members:
            self._stopped_member(member)
        self._close_if_over()
        return self._gone

    def stop_instance(self, service: S) -> Outcome[None]:
        """Stop one member; returns what can be awaited until it is terminated and released."""
        member = self._member_of(service)
        if (successor := member.successor) is not None:
            self._stopped_member(successor)
        return self._stopped_member(member).over

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
        return self.census.each(members, LET_GO, None)

    def resume(self, service: S) -> Outcome[None]:
        """Let a suspended member run again; returns what can be awaited until it does.

        One whose provider was silent before is unresponsive until that answers, or is given up.

        Raises:
            NotAvailable: It is not suspended.
        """
        member = self._member_of(service)
        if member.state is not ServiceState.suspended:
            raise NotAvailable(
                f"instance {member.id} is {member.state}, not suspended",
                ids={"instance": member.id},
            )
        member.resume()
        self._core.health.watch(member)
        return self.census.each([member], SETTLED, None)

    def cancel(self) -> None:
        """End all members at once: no shutdown handler runs."""
        self._stopped = True
        for member in self._members:
            if member.state is ServiceState.suspended:
                member.post(Stimulus.lost)
            self._cut(member)

    def _cut(self, member: Instance) -> None:
        member.post(Stimulus.cancel)
        member.hurry()

    def _stopped_member(self, member: Instance) -> Instance:
        if member.state is not ServiceState.terminated:
            member.post(Stimulus.stop)
        return member

    async def rescore(self) -> None:
        """Judge again what is kept of offers, and of answers that no instance has taken yet.

        For a strategy whose scores changed by what the engine cannot know; what it now declines is
        not taken any more. Returns once all has been judged.
        """
        await self.negotiator.rescore()

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
        return await self.census.come_to(frozenset({wanted}), number)  # type: ignore[return-value]

    async def wait_settled(self) -> None:
        """Wait until each member is running, suspended or terminated."""
        while not self.census.all_in(SETTLED):
            await self.census.come_to(SETTLED, len(self._members))

    # The engine's side ---------------------------------------------------------------------------

    def leave(self, *, hurried: bool = False) -> None:
        """The engine leaves: stop all members, or cancel them. Called by the engine.

        Where the network outlives this process, those that are suspended stay as they are.
        """
        self._stopped = True
        for member in self._members:
            if self.stays(member):
                continue
            if hurried and member.state is ServiceState.suspended:
                member.post(Stimulus.lost)
            if hurried:
                self._cut(member)
            else:
                self._stopped_member(member)
        self._close_if_over()

    def stays(self, member: Instance) -> bool:
        """Tell whether a member is left to a later process."""
        outlives = self._core.network.traits.outlives_process
        return outlives and member.state is ServiceState.suspended

    def take_up(self, service: S, params: Mapping[str, object], kept: Kept) -> Instance:
        """Add a member that an earlier process had. Called by the engine."""
        member = self._add(service, params, instance_id=kept.past.id)
        member.take_up(kept)
        return member

    def failed(self, error: EngineFailed) -> None:
        """The engine failed: wake all who wait with that. Called by the engine."""
        self.close()
        self.census.failed(error)
        self._gone.fail(error)

    def member_over(self) -> None:
        """A member is terminated and released, or left to a later process. By the engine."""
        self._over += 1
        self._close_if_over()

    def _close_if_over(self) -> None:
        if self._stopped and self._over == len(self._members):
            self.close()
            self._gone.succeed(None)

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

    def _expires_soon(self) -> None:
        """Let what runs end in good order; what has not started has no time left to."""
        self._stopped = True
        for member in self._members:
            pending = member.state is ServiceState.pending
            member.post(Stimulus.expired if pending else Stimulus.expiring)
        self._close_if_over()

    def _expired(self) -> None:
        self._stopped = True
        for member in self._members:
            member.post(Stimulus.expired)
        self._close_if_over()

    def time_hold(
        self, member: Instance, attempt: int, until: datetime
    ) -> Sequence[asyncio.TimerHandle]:
        """Have the agreement ended before what is held for it runs out, and renewed before that."""
        return self.lifetime.time_agreement(
            until,
            end=partial(member.post, Stimulus.agreement_ended, attempt=attempt),
            renew=partial(self._renew, member),
        )

    def _renew(self, member: Instance) -> None:
        """Start a second object from the same parameters; the first stops once it runs."""
        record = member.record
        if self._stopped or record.stop_asked or member.successor is not None:
            return
        if record.suspend_asked or record.state is ServiceState.suspended:
            # It is let go of on purpose: nothing is to run in its place until it does itself.
            member.watch(_RUNNING, partial(self._renew, member))
            return
        if (record.behind or record.state) not in _RENEWED:
            return  # it ends already
        try:
            service = self._class(**member.params)
        except Exception as error:
            # The user's own constructor: the agreement then ends as it would without a renewal.
            logger.exception("%s: no successor of %s could be made", self.id, member.id)
            member.keep_failure(error)
            return
        successor = self._add(service, member.params, replaces=member)
        assert member.attempt is not None
        self._core.emit(
            ServiceRenewing,
            instance_id=member.id,
            cluster_id=self.id,
            successor_id=successor.id,
            agreement_id=member.attempt.contract.id,
        )
        member.make_way_for(successor)
        successor.begin()

    def attached(self, member: Instance, contract: Contract) -> None:
        """A member has a provider. Called by the engine."""
        self._core.health.watch(member)
        self._core.attached[contract.id] = member
        if contract.activity_id:
            self._core.attached[contract.activity_id] = member

    def detached(self, contract: Contract) -> None:
        """A member's attempt is over. Called by the engine."""
        member = self._core.attached.pop(contract.id, None)
        if member is not None:
            self._core.health.forget(member)
        self._core.attached.pop(contract.activity_id or "", None)

    def members(self) -> tuple[Instance, ...]:
        """Return all members, as the engine knows them."""
        return tuple(self._members)

    def may_restart(self, member: Instance, record: Record) -> bool:
        """Decide whether an attempt that ended is followed by another."""
        if member.successor is not None:
            return False  # its place is taken already
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
