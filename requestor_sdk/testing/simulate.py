"""Runs a program on the simulated network, seed after seed, and tells what came of it."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from requestor_sdk.client.compute import Compute
from requestor_sdk.model import events
from requestor_sdk.model.errors import EngineFailed, NotAvailable, RequestorError, UsageError
from requestor_sdk.networks.simulated import FaultPlan, SimulatedNetwork, SimulatedProvider
from requestor_sdk.testing import invariants
from requestor_sdk.testing.clock import Deadlock, VirtualTimeLoop
from requestor_sdk.testing.crashes import crash
from requestor_sdk.testing.story import story_of

if TYPE_CHECKING:
    from requestor_sdk.model.events import Event

WELL: Final = "ended well"
RECOVERED: Final = "crashed and was recovered"
CRASHED: Final = "crashed"
ENDLESS: Final = "did not end in time"

Program = Callable[[Compute], Awaitable[object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What all runs have in common.

    Attributes:
        providers: How many there are, or what they are like.
        faults: What goes wrong at the requestor's calls.
        budget: Of each run.
        limit: Virtual time after which a run is ended.
    """

    providers: int | Sequence[SimulatedProvider] = 8
    faults: FaultPlan = field(default_factory=FaultPlan)
    budget: Decimal | float | str = 10
    limit: timedelta = timedelta(days=30)


@dataclass(slots=True, kw_only=True)
class RunReport:
    """What came of one run.

    Attributes:
        seed: Its seed.
        outcome: How it ended: ``ended well``, or the error with its code, or what else happened.
        error: The error's text, where there was one.
        broken: The invariants that did not hold, and failures of this package; empty is good.
        own: Whether the program failed by an error of its own, which no fault explains: none struck,
            or it is one that none can cause.
        story: The last events, where something was broken.
        restarts: How many attempts of instances followed another.
        struck: How many faults struck.
        cost: What was accepted, in tokens.
        seconds: How long it took, in virtual time.
    """

    seed: int
    outcome: str = WELL
    error: str = ""
    broken: tuple[str, ...] = ()
    own: bool = False
    story: tuple[str, ...] = ()
    restarts: int = 0
    struck: int = 0
    cost: Decimal = Decimal(0)
    seconds: float = 0.0


def simulate(load: Callable[[], Program], setting: Setting, seed: int) -> RunReport:
    """Run a program once, on a loop of virtual time, and check what must hold of every run.

    Args:
        load: Loads the program anew, so that no run knows of another.
        setting: What the network is like.
        seed: Of all chance, that of the module ``random`` among it.
    """
    report = RunReport(seed=seed)
    before = random.getstate()
    random.seed(seed)
    try:
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            runner.run(_one(load, setting, report))
    except Deadlock as nothing_left:
        report.outcome, report.error, report.own = "waits for ever", str(nothing_left), True
    finally:
        random.setstate(before)
    return report


async def _one(load: Callable[[], Program], setting: Setting, report: RunReport) -> None:
    network = SimulatedNetwork(setting.providers, seed=report.seed, faults=setting.faults)
    compute = Compute(budget=setting.budget, network=network)
    began = asyncio.get_running_loop().time()
    try:
        await _to_the_end(load(), compute, network, setting, report)
    finally:
        report.seconds = asyncio.get_running_loop().time() - began
        found = [event for journal in network.journals.values() for event in journal.read()]
        report.struck = len(network.struck)
        _count(found, report)
    broken = [*report.broken, *_broken(compute, network, found, report)]
    report.broken = tuple(dict.fromkeys(broken))
    if broken or report.own:
        report.story = tuple(story_of(network))
    await network.end()


async def _to_the_end(
    program: Program,
    compute: Compute,
    network: SimulatedNetwork,
    setting: Setting,
    report: RunReport,
) -> None:
    """Let the program run until it ends, its requestor is crashed, or its time is over."""

    async def run() -> None:
        async with compute:
            await program(compute)

    running = asyncio.create_task(run(), name="the program")
    dead = asyncio.create_task(network.crashed.wait(), name="a crash of the requestor")
    try:
        await asyncio.wait(
            {running, dead},
            timeout=setting.limit.total_seconds(),
            return_when=asyncio.FIRST_COMPLETED,
        )
        if dead.done():
            await _recover(running, compute, network, report)
            return
        if not running.done():
            report.outcome, report.own = ENDLESS, True
            running.cancel()
            await asyncio.wait({running})
            return
        _take_outcome(running, network, report)
    finally:
        for task in (running, dead):
            task.cancel()
        await asyncio.wait({running, dead})


def _take_outcome(
    running: asyncio.Task[None], network: SimulatedNetwork, report: RunReport
) -> None:
    error = None if running.cancelled() else running.exception()
    if error is None:
        return
    report.error = str(error)
    if isinstance(error, EngineFailed):
        report.broken = (f"the engine failed: {error.message}",)
    else:
        report.own = not _explained(error, network)
    if isinstance(error, RequestorError):
        report.outcome = f"{type(error).__name__} ({error.code})"
    else:
        report.outcome = f"{type(error).__name__}: {error}"


def _explained(error: BaseException, network: SimulatedNetwork) -> bool:
    """Tell whether what went wrong on the network can be why the program failed."""
    if not isinstance(error, RequestorError):
        return False
    if isinstance(error, UsageError) and not isinstance(error, NotAvailable):
        return False  # handed over wrongly; but what was lost by a fault is not available
    return network.disturbed or any(agent.config.behaviours for agent in network.providers)


async def _recover(
    running: asyncio.Task[None], compute: Compute, network: SimulatedNetwork, report: RunReport
) -> None:
    """The plan has crashed the requestor: bury it, and take up what it has left."""
    report.outcome = CRASHED
    await crash(compute)
    running.cancel()
    await asyncio.wait({running})
    journal = network.journals[compute.run_id]
    if not journal.begun:
        return  # it died before it wrote or did anything
    report.outcome = RECOVERED
    try:
        async with Compute.recover(compute.run_id, journal=journal, network=network):
            pass
    except RequestorError as error:
        report.outcome = f"{type(error).__name__} ({error.code}) while it was recovered"
        report.error = str(error)


def _count(found: Sequence[Event], report: RunReport) -> None:
    report.restarts = sum(1 for event in found if isinstance(event, events.ServiceRestarting))
    report.cost = sum(invariants.accepted_of(found).values(), Decimal(0))


def _broken(
    compute: Compute, network: SimulatedNetwork, found: Sequence[Event], report: RunReport
) -> list[str]:
    crashed = report.outcome.startswith(CRASHED)
    broken = list(invariants.broken_of(compute, found, finished=not crashed))
    try:
        invariants.check_network(network)
    except invariants.InvariantBroken as also:
        broken += also.broken
    only_crashes = all(s.fault.action.kind == "crash_requestor" for s in network.struck)
    if report.outcome in (WELL, RECOVERED) and only_crashes:
        broken += invariants.standing(network)
    return broken


def run_all(
    load: Callable[[], Program],
    setting: Setting,
    seeds: Sequence[int],
    on_done: Callable[[RunReport], Any] = lambda _: None,
) -> list[RunReport]:
    """Run a program with each seed; what was done so far is returned where it is interrupted."""
    reports: list[RunReport] = []
    with contextlib.suppress(KeyboardInterrupt):
        for seed in seeds:
            reports.append(simulate(load, setting, seed))
            on_done(reports[-1])
    return reports
