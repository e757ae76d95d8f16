"""How many members of a cluster are in which state, and who waits for how many to be there.

By counts: what a change of one member costs does not depend on how many there are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from requestor_sdk.model.errors import InstanceError
from requestor_sdk.model.lifecycle import ServiceState
from requestor_sdk.service._handles import Outcome

if TYPE_CHECKING:
    from requestor_sdk.engine.core import Core
    from requestor_sdk.engine.instance import Instance
    from requestor_sdk.model.errors import EngineFailed
    from requestor_sdk.service.service import Service

T = TypeVar("T")

LET_GO: Final = frozenset({ServiceState.suspended, ServiceState.terminated})
SETTLED: Final = LET_GO | {ServiceState.running}


@dataclass(slots=True, eq=False)
class _Wait:
    """Somebody who waits until so many members are in one of these states."""

    states: frozenset[ServiceState]
    number: int
    woken: asyncio.Future[bool]
    found: list[Service] = field(default_factory=list)


class Census:
    """Counts the members of one cluster.

    Args:
        core: What the engine shares.
        cluster_id: For errors.
        members: The cluster's own list, which grows.
    """

    def __init__(self, core: Core, cluster_id: str, members: list[Instance]) -> None:
        self._core = core
        self._cluster_id = cluster_id
        self._members = members
        self._counts = dict.fromkeys(ServiceState, 0)
        self._over: list[Instance] = []
        self._waits: list[_Wait] = []
        self._outcomes: dict[Outcome[Any], None] = {}

    def added(self, count: int) -> None:
        """So many members were added; they are pending."""
        self._counts[ServiceState.pending] += count

    def all_in(self, states: frozenset[ServiceState]) -> bool:
        """Tell whether each member is in one of these states."""
        return self._in(states) == len(self._members)

    @property
    def _living(self) -> int:
        return len(self._members) - self._counts[ServiceState.terminated]

    def _check_possible(self, wanted: frozenset[ServiceState], number: int) -> None:
        if self._core.fatal is not None:
            raise self._core.fatal
        if ServiceState.terminated in wanted or self._living >= number:
            return
        # Of those that are over, in the order of their ends: one that lives was tried again.
        failed = next((m for m in reversed(self._over) if m.failure is not None), None)
        cause = failed.failure if failed else None
        raise InstanceError(
            f"waited for {number} {', '.join(sorted(wanted))}, and only {self._living} of "
            f"{len(self._members)} instances still live"
            + (f"; the last failure was {type(cause).__name__}" if cause else ""),
            ids={"cluster": self._cluster_id, **({"instance": failed.id} if failed else {})},
            story=self._core.story(instance=failed.id) if failed else (),
            hint="see instance.failure of the members of cluster.instances",
        ) from cause

    def _in(self, states: frozenset[ServiceState]) -> int:
        return sum(self._counts[state] for state in states)

    def each(
        self, members: Iterable[Instance], states: frozenset[ServiceState], value: T
    ) -> Outcome[T]:
        """Return what gives the value once each has come to one of the states."""
        done: Outcome[T] = Outcome()
        waiting = [member for member in members if member.state not in states]
        left = len(waiting)

        def one() -> None:
            nonlocal left
            left -= 1
            if not left:
                done.succeed(value)

        if not waiting:
            done.succeed(value)
        elif self._core.fatal is not None:
            done.fail(self._core.fatal)
        else:
            self._outcomes[done] = None
            done.on_done(lambda: self._outcomes.pop(done, None))
            for member in waiting:
                member.watch(states, one)
        return done

    async def come_to(self, states: frozenset[ServiceState], number: int) -> list[Service]:
        """Wait until so many are in these states at one moment; return those that were."""
        if self._in(states) >= number:
            return self._found(states)
        self._check_possible(states, number)
        wait = _Wait(states, number, asyncio.get_running_loop().create_future())
        self._waits.append(wait)
        try:
            if not await wait.woken:
                self._check_possible(states, number)
        finally:
            self._waits.remove(wait)
        return wait.found

    def _found(self, states: frozenset[ServiceState]) -> list[Service]:
        return [m.service for m in self._members if m.state in states]

    def moved(self, member: Instance, old: ServiceState, new: ServiceState) -> None:
        """A member went from one state to another. Called by the engine."""
        self._counts[old] -= 1
        self._counts[new] += 1
        if new is ServiceState.terminated:
            self._over.append(member)
        for wait in self._waits:
            if wait.woken.done() or (new not in wait.states and new is not ServiceState.terminated):
                continue
            if self._in(wait.states) >= wait.number:
                # Those of this moment: by the time that the waiter runs they may have gone on.
                wait.found.extend(self._found(wait.states))
                wait.woken.set_result(True)
            elif self._living < wait.number and ServiceState.terminated not in wait.states:
                wait.woken.set_result(False)

    def failed(self, error: EngineFailed) -> None:
        """The engine failed: wake all who wait with that."""
        for outcome in list(self._outcomes):
            outcome.fail(error)
        for wait in self._waits:
            if not wait.woken.done():
                wait.woken.set_result(False)


def all_over(members: Iterable[Instance]) -> Outcome[None]:
    """Return what succeeds once all of them are terminated and released, or fails with the first.

    The states do not tell: what a terminated member had is released after it came to be that.
    """
    done: Outcome[None] = Outcome()
    waiting = {member.id: member for member in members}
    if not waiting:
        done.succeed(None)

    def one_over(member: Instance) -> None:
        waiting.pop(member.id, None)
        if (error := member.over.error()) is not None:
            done.fail(error)
        elif not waiting:
            done.succeed(None)

    for member in list(waiting.values()):
        member.over.on_done(partial(one_over, member))
    return done
