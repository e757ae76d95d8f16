"""Kills a requestor in a simulation as SIGKILL would: nothing is ended, told or written down."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

from requestor_sdk.client import ambient
from requestor_sdk.model.errors import NotSupported, UsageError
from requestor_sdk.networks.simulated import SimulatedNetwork

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from requestor_sdk.client.compute import Compute
    from requestor_sdk.engine.engine import Engine
    from requestor_sdk.model.events import Event
    from requestor_sdk.ports.basics import Journal

TRIES: Final = 1000
"""How often what runs is cancelled before it counts as undead."""


async def crash(compute: Compute) -> None:
    """Kill a run on a simulated network where it stands; the market and its journal stay.

    Its handlers are cancelled, and what they do in their ``finally`` reaches nobody. Afterwards
    another ``Compute`` can open the network, to recover what this one has left. Returns once
    nothing of the run is left on the loop.

    Raises:
        NotSupported: The run is on another network.
        UsageError: It was not started; or a handler swallows its cancellation for ever.
    """
    network, engine = compute.network, compute._engine  # noqa: SLF001 - a test's privilege
    if not isinstance(network, SimulatedNetwork):
        raise NotSupported(
            f"only a run on a simulated network can be crashed, not one on {network.traits.name}",
            hint="Compute(network=SimulatedNetwork(...))",
        )
    if engine is None:
        raise UsageError("this Compute was not started: there is nothing to crash")
    root = engine._root  # noqa: SLF001
    if root is None or root.done():
        return
    network.bury_requestor()
    _silence(engine)
    await _bury(engine, root)
    _give_back_journal(engine)
    ambient.active.discard(compute)
    await network.close()


def _silence(engine: Engine) -> None:
    """Let nobody see or keep what the dead one still does."""
    engine.core.sinks = []
    engine.core.journal = _Kept(engine.core.journal)
    for cluster in engine.clusters:
        with contextlib.suppress(asyncio.CancelledError):
            cluster.close()


def _give_back_journal(engine: Engine) -> None:
    """Let the run be recovered with the journal that it had; the dead one writes no more."""
    core = engine.core
    core.over = True
    if isinstance(core.journal, _Kept):
        core.journal = core.journal.kept


class _Kept:
    """The journal of a run that dies: it can be read, and nothing is written any more."""

    def __init__(self, journal: Journal) -> None:
        self.kept = journal
        journal.close()

    def append(self, event: Event) -> None:
        """Write nothing."""

    def read(self, *, ids: Mapping[str, str] | None = None) -> Iterable[Event]:
        """Return what was written until the crash."""
        return self.kept.read(ids=ids)

    def close(self) -> None:
        """Do nothing: it is closed."""


async def _bury(engine: Engine, root: asyncio.Task[None]) -> None:
    group = engine.core._group  # noqa: SLF001
    handlers: set[asyncio.Task[None]] = set()
    left: set[asyncio.Task[None]] = {root}
    for _ in range(TRIES):
        for member in engine.members():
            handlers.update(member.hurry())
        left = {task for task in (root, *handlers) if not task.done()}
        if not left:
            break
        # The group cancels each of its tasks once, and users' code may swallow that.
        for task in [*left, *getattr(group, "_tasks", ())]:
            task.cancel()
        await asyncio.sleep(0)
    else:
        names = ", ".join(sorted(task.get_name() for task in left))
        raise UsageError(f"what runs there swallows each cancellation: {names}")
    await asyncio.gather(root, *handlers, return_exceptions=True)
