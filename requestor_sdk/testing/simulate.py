"""Runs a program on the simulated network, seed after seed, and tells what came of it."""

from __future__ import annotations

import asyncio
import contextlib
import random
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from requestor_sdk.client.compute import Compute
from requestor_sdk.model import events
from requestor_sdk.model.errors import (
    EngineFailed,
    NotAvailable,
    RequestorError,
    UsageError,
)
from requestor_sdk.networks.simulated import FaultPlan, SimulatedNetwork, SimulatedProvider
from requestor_sdk.testing import invariants
from requestor_sdk.testing.clock import Deadlock, VirtualTimeLoop
from requestor_sdk.testing.crashes import TRIES
from requestor_sdk.testing.failures import FailedAttempt, failed_in, is_users
from requestor_sdk.testing.lives import Exit, Life, Lives, Program, put_down_others
from requestor_sdk.testing.story import story_of
from requestor_sdk.testing.watchdog import watched

if TYPE_CHECKING:
    from requestor_sdk.model.events import Event

WELL: Final = "ended well"
RECOVERED: Final = "crashed and was recovered"
CRASHED: Final = "crashed"
ENDLESS: Final = "did not end in time"
HANDLER: Final = "a handler failed"

RECOVERIES: Final = 20
"""How often one run is taken up: a plan can let each recovery crash."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What all runs have in common.

    Attributes:
        providers: How many there are, or what they are like.
        faults: What goes wrong at the requestor's calls.
        budget: Of each run.
        limit: Virtual time after which a run is ended.
        real_sec: Real seconds after which it is ended, wherever its virtual time is.
    """

    providers: int | Sequence[SimulatedProvider] = 8
    faults: FaultPlan = field(default_factory=FaultPlan)
    budget: Decimal | float | str = 10
    limit: timedelta = timedelta(days=30)
    real_sec: float = 300.0


@dataclass(slots=True, kw_only=True)
class RunReport:
    """What came of one run.

    Attributes:
        seed: Its seed.
        outcome: How it ended: ``ended well``, or the error with its code, or what else happened.
        error: The error's text, where there was one.
        where: The last lines of the program's that the error came through.
        broken: The invariants that did not hold, and failures of this package; empty is good.
        own: Whether the program failed by an error of its own: no fault struck that could explain
            it, or none could; or a handler did, and no restart made it good.
        failures: The attempts of instances that failed.
        story: The last events, where something was broken.
        restarts: How many attempts of instances followed another.
        struck: How many faults struck.
        cost: What was accepted, in tokens.
        seconds: How long it took, in virtual time.
    """

    seed: int
    outcome: str = WELL
    error: str = ""
    where: tuple[str, ...] = ()
    broken: tuple[str, ...] = ()
    own: bool = False
    failures: tuple[FailedAttempt, ...] = ()
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
            try:
                runner.run(_one(load, setting, report))
            except SystemExit as leaving:
                report.outcome = f"SystemExit: {leaving.code}"
                report.error, report.own = "a handler or a task ended the process", True
                _sweep(runner)
    except Deadlock as nothing_left:
        report.outcome, report.error, report.own = "waits for ever", str(nothing_left), True
    finally:
        random.setstate(before)
    return report


def _sweep(runner: asyncio.Runner) -> None:
    """End all tasks of a loop that one of them has ended."""
    for _ in range(TRIES):
        # Whoever awaits that one ends the loop once more; and the run itself, on its way out, puts
        # down all others.
        with contextlib.suppress(SystemExit, asyncio.CancelledError):
            runner.run(put_down_others())
            return


async def _one(load: Callable[[], Program], setting: Setting, report: RunReport) -> None:
    network = SimulatedNetwork(setting.providers, seed=report.seed, faults=setting.faults)
    compute = Compute(budget=setting.budget, network=network)
    began = asyncio.get_running_loop().time()
    last = Life(how="over")
    try:
        compute, last = await _lived(load, compute, network, setting)
        _take_outcome(last, network, report)
    finally:
        report.seconds = asyncio.get_running_loop().time() - began
        found = [event for journal in network.journals.values() for event in journal.read()]
        report.struck = len(network.struck)
        _count(found, report)
    broken = [*report.broken, *_broken(compute, network, found, report, last)]
    report.broken = tuple(dict.fromkeys(broken))
    _take_failures(found, report)
    if broken or report.own:
        report.story = tuple(story_of(network))
    await network.end()
    # The end of the loop waits for all its tasks, and one may swallow its cancellation.
    await put_down_others()


async def _lived(
    load: Callable[[], Program], compute: Compute, network: SimulatedNetwork, setting: Setting
) -> tuple[Compute, Life]:
    """Let the program run, and take up what it leaves as often as a plan crashes the requestor.

    Returns:
        The last requestor, and how its life ended.
    """
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    lives = Lives(network, setting.limit, setting.real_sec)
    run_id = compute.run_id
    with watched(loop, setting.real_sec):
        last = await lives.live(compute, load())
        for _ in range(RECOVERIES):
            journal = network.journals[run_id]
            if last.how != "crashed" or last.stuck or not journal.begun:
                break  # one that wrote nothing did nothing
            compute = Compute.recover(run_id, journal=journal, network=network)
            last = await lives.live(compute, None)
    return compute, last


def _take_outcome(last: Life, network: SimulatedNetwork, report: RunReport) -> None:
    match last:
        case Life(error=None, how="over"):
            report.outcome = RECOVERED if last.recovery else WELL
        case Life(error=BaseException() as error):
            _take_error(error, last, network, report)
        case Life(how="crashed"):
            report.outcome, report.own = CRASHED, last.stuck
        case Life(hanging=(first, *_), stuck=False):
            # A call that no time-out bounds is what the plan was asked for.
            report.outcome = f"{first} never answered"
            report.error = f"calls that a fault lets hang: {', '.join(last.hanging)}"
        case _ if last.recovery:
            report.outcome, report.broken = ENDLESS, ("the recovery did not end",)
        case _:
            report.outcome, report.own = ENDLESS, True
    if last.stuck:
        report.error = "it swallows each cancellation, and was given up"
    elif last.how == "slow":
        report.error = "its real time was over"


def _take_error(
    error: BaseException, last: Life, network: SimulatedNetwork, report: RunReport
) -> None:
    report.error, report.where = str(error), _where(error)
    if isinstance(error, Exit):
        if error.code not in (None, 0):
            report.outcome, report.own = f"SystemExit: {error.code}", True
        return
    if isinstance(error, RequestorError):
        report.outcome = f"{type(error).__name__} ({error.code})"
    else:
        report.outcome = f"{type(error).__name__}: {error}"
    if isinstance(error, EngineFailed):
        report.broken = (f"the engine failed: {error.message}",)
    elif not last.recovery:
        report.own = not _explained(error, network)
    elif not isinstance(error, RequestorError):
        report.broken = (f"the recovery failed: {report.outcome}",)
    if last.recovery:
        report.outcome += " while it was recovered"


def _take_failures(found: Sequence[Event], report: RunReport) -> None:
    """Hold against the program what its handlers raised, where no restart made it good."""
    report.failures = tuple(failed_in(found, cut=report.outcome != WELL and not report.own))
    blamed = next((one for one in report.failures if one.own and not one.mended), None)
    if blamed is None:
        return
    if report.outcome == WELL:
        # Else a run that counts as failed would be told as one that ended well.
        report.outcome, report.error = f"{HANDLER}: {blamed.error}", blamed.text
        report.where = (blamed.place,) if blamed.place else ()
    report.own = True


def _where(error: BaseException) -> tuple[str, ...]:
    """Return the last lines that it came through of what is neither ours nor a library's."""
    return tuple(
        f"{Path(frame.filename).name}:{frame.lineno} in {frame.name}: {frame.line}"
        for frame in traceback.extract_tb(error.__traceback__)
        if is_users(frame.filename)
    )[-3:]


def _explained(error: BaseException, network: SimulatedNetwork) -> bool:
    """Tell whether what went wrong on the network can be why the program failed."""
    if not isinstance(error, RequestorError):
        return False
    if isinstance(error, UsageError) and not isinstance(error, NotAvailable):
        return False  # handed over wrongly; but what was lost by a fault is not available
    return network.disturbed or any(agent.config.behaviours for agent in network.providers)


def _count(found: Sequence[Event], report: RunReport) -> None:
    report.restarts = sum(1 for event in found if isinstance(event, events.ServiceRestarting))
    report.cost = sum(invariants.accepted_of(found).values(), Decimal(0))


def _broken(
    compute: Compute,
    network: SimulatedNetwork,
    found: Sequence[Event],
    report: RunReport,
    last: Life,
) -> list[str]:
    # A recovery that failed leaves it to the next one.
    given_over = last.recovery and last.error is not None
    finished = last.how != "crashed" and not last.stuck and not given_over
    broken = list(invariants.broken_of(compute, found, finished=finished))
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
