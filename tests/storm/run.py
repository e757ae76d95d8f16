"""One storm: a seed's program in a seed's world, its crashes, its recoveries, and the checks."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import hashlib
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from storm import checks
from storm.program import Leave, Program
from storm.services import KINDS, Mood, Moody
from storm.world import draw_network, draw_settings

from requestor_sdk import Compute, RequestorError
from requestor_sdk.model.errors import EngineFailed, LeaveTimeout
from requestor_sdk.model.history import RunHistory
from requestor_sdk.testing import Deadlock, HandlerLog, VirtualTimeLoop, crash
from requestor_sdk.testing.story import story_of

LIMIT_SEC = 5 * 24 * 3600
"""Virtual seconds that a run may take."""

RECOVERIES = 4
"""How often a run is recovered while faults go on, before all is calm for the last one."""


@dataclass(slots=True, kw_only=True)
class Report:
    """What came of one seed.

    Attributes:
        outcome: How the program ended, and its recoveries.
        broken: What did not hold; empty is good.
        story: What happened, a line each, where something was broken.
        digest: Of all that happened: the same seed has the same in every process.
    """

    seed: int
    world: str = ""
    outcome: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    story: list[str] = field(default_factory=list)
    digest: str = ""


class _Loop(VirtualTimeLoop):
    """Notes what it is told of, and async generators that nobody closed."""

    def __init__(self) -> None:
        super().__init__()
        self.unseen: list[str] = []
        self.set_exception_handler(self._note)

    def _note(self, _loop: Any, told: dict[str, Any]) -> None:
        self.unseen.append(f"{told.get('message')}: {told.get('exception')!r}")

    def _asyncgen_finalizer_hook(self, agen: Any) -> None:
        self.unseen.append(f"an async generator was left unclosed: {agen!r}")
        super()._asyncgen_finalizer_hook(agen)

    def open_generators(self) -> Iterator[str]:
        for agen in list(self._asyncgens):
            if agen.ag_frame is not None:
                yield f"an async generator is still open: {agen!r}"


class Storm:
    """One seed."""

    def __init__(self, seed: int, *, tell: bool) -> None:
        self.seed = seed
        self.tell = tell
        self.report = Report(seed=seed)
        self.network = draw_network(random.Random(f"{seed}/world"), seed)
        self.dice = random.Random(f"{seed}/program")
        self.entered = self.killed = False
        Moody.mood = Mood(random.Random(f"{seed}/mood"))
        self.log = HandlerLog()
        watched = {kind: self.log.watching(kind) for kind in KINDS}
        self.kinds = [watched[kind] for kind in KINDS]
        self.settings = draw_settings(self.dice)
        self.program = Program(self.network, Moody.mood, self.kinds, self.dice)
        behaving = {a.name: a.config.behaviours for a in self.network.providers}
        self.report.world = (
            f"faults: {self.network.faults}\nproviders: {behaving}\nleaves by: {self.program.way}"
        )

    async def blow(self) -> None:
        compute = Compute(
            budget=self.dice.choice((10, 10, "0.05", "0.002")),
            network=self.network,
            settings=self.settings,
            event_consumer=self.log,
        )
        crashed = await self.live(compute, self.first(compute))
        if self.program.tasks:  # the engine's end has woken them; each may dawdle for a moment
            await asyncio.wait(self.program.tasks, timeout=60)
        if not crashed:
            self.broken(checks.of_program(self.program))
        for task in [*self.program.tasks, *self.program.own]:
            task.cancel()
        await asyncio.gather(*self.program.tasks, *self.program.own, return_exceptions=True)
        # One that did not get to start leaves its journal without an end, for a recovery.
        self.check_run(compute, finished=not crashed and self.program.left_at is not None)
        await self.recover(compute.run_id)
        self.broken(checks.of_network(self.network))
        found = [event for journal in self.network.journals.values() for event in journal.read()]
        self.broken(checks.of_honest(found, self.network, self.program.gone))
        self.broken(self.log.broken())
        self.digest()
        if self.report.broken or self.tell:
            self.report.story = story_of(self.network, 10**6)
        await self.network.end()

    def broken(self, found) -> None:
        self.report.broken += [text for text in found if text not in self.report.broken]

    def check_run(self, compute: Compute, *, finished: bool, recovered: bool = False) -> None:
        """Check what one process of the requestor leaves behind it."""
        self.broken(checks.of_run(compute, finished=finished, recovered=recovered))

    async def live(self, compute: Compute, life) -> bool:
        """Let a requestor live until it ends, or is killed; tells whether it was."""
        running = asyncio.create_task(life, name="the program")
        dead = asyncio.create_task(self.network.crashed.wait(), name="a crash of the requestor")
        await asyncio.wait({running, dead}, timeout=LIMIT_SEC, return_when="FIRST_COMPLETED")
        self.killed = self.network.crashed.is_set()
        if self.killed:
            await crash(compute)
        elif not running.done():
            self.report.broken.append(f"it did not end within {LIMIT_SEC} s")
        for task in (running, dead):
            task.cancel()
        await asyncio.wait({running, dead})
        return self.killed

    async def first(self, compute: Compute) -> None:
        expected = {"raise": Leave, "cancel": asyncio.CancelledError}.get(self.program.way)
        if self.program.way == "interrupt":
            expected = asyncio.CancelledError
        with contextlib.suppress(BaseException):  # what it was is told
            try:
                async with compute:
                    await self.program.run(compute)
            except BaseException as error:
                self.told(error, expected)
                raise
            finally:
                self.in_time("leaving", self.program.left_at)
            self.report.outcome.append("ended well")

    def in_time(self, what: str, since: float | None) -> None:
        """Leaving returns within leave_timeout; a cancellation adds the time of a release."""
        if since is None or self.killed:
            return
        took = asyncio.get_running_loop().time() - since
        most = self.settings.leave_timeout + 0.001
        if took > most:
            self.report.broken.append(f"{what} took {took:.1f} s")

    def told(self, error: BaseException, expected: type[BaseException] | None) -> None:
        if self.killed:
            self.report.outcome.append("killed")
            return
        self.report.outcome.append(f"{type(error).__name__}: {error}".splitlines()[0])
        if isinstance(error, EngineFailed | LeaveTimeout):
            self.report.broken.append(f"{type(error).__name__}: {error}")
        elif not isinstance(error, RequestorError) and type(error) is not expected:
            self.report.broken.append(f"the program ended with {error!r}")

    # Recovery ------------------------------------------------------------------------------------

    async def recover(self, run_id: str) -> None:
        """Recover until nothing is left; at last in calm, with suspended instances ended."""
        journal = self.network.journals[run_id]
        if not journal.begun:
            return
        for number in range(1, RECOVERIES + 1):
            if RunHistory.of(journal.read(), run_id).state == "settled":
                return
            calm = number == RECOVERIES or self.dice.random() < 0.4
            if calm:
                self.network.calm()
                Moody.mood.calm = True
            compute = Compute.recover(
                run_id,
                journal=journal,
                network=self.network,
                settings=self.settings,
                event_consumer=self.log,
                end_suspended=calm,
            )
            self.entered = self.killed = False
            crashed = await self.live(compute, self.again(compute, last=calm))
            self.check_run(compute, finished=not crashed and self.entered, recovered=True)
            if calm and not crashed:
                return

    async def again(self, compute: Compute, *, last: bool) -> None:
        left_at = None
        with contextlib.suppress(BaseException):
            try:
                async with compute:
                    self.entered = True
                    if self.dice.random() < 0.6:
                        await self.resume(compute, last=last)
                    left_at = asyncio.get_running_loop().time()
            except BaseException as error:
                self.told(error, None)
                raise
            finally:
                self.in_time("leaving a recovery", left_at)
            self.report.outcome.append("recovered")

    async def resume(self, compute: Compute, *, last: bool) -> None:
        for kind in dict.fromkeys(self.kinds):
            for cluster_id in sorted({r.cluster_id for r in compute.resumable}):
                with contextlib.suppress(RequestorError):
                    await compute.resume_service(
                        kind, cluster_id=cluster_id, restart=self.program.policy()
                    )
        await asyncio.sleep(self.dice.choice((0, 1, 30, 300)))
        for cluster in compute.clusters:
            if self.dice.random() < 0.3 and not last:
                cluster.suspend()
        await asyncio.sleep(self.dice.choice((0, 1)))

    def digest(self) -> None:
        rows = [
            event.to_record()
            for journal in self.network.journals.values()
            for event in journal.read()
        ]
        rows += [strike.line() for strike in self.network.struck]
        text = json.dumps([rows, self.report.outcome], default=str, sort_keys=True)
        self.report.digest = hashlib.sha256(text.encode()).hexdigest()[:16]


def blow(seed: int, *, tell: bool = False) -> Report:
    """Run one seed on a loop of its own, and check all that must hold."""
    before = random.getstate()
    random.seed(seed)
    loop: _Loop | None = None

    def make() -> _Loop:
        nonlocal loop
        loop = _Loop()
        return loop

    report: Report | None = None
    try:
        with asyncio.Runner(loop_factory=make) as runner:
            report = runner.run(_one(seed, tell=tell))
    except Deadlock as nothing_left:
        report = report or Report(seed=seed)
        report.broken.append(f"waits for ever: {nothing_left}")
    finally:
        random.setstate(before)
    gc.collect()
    assert loop is not None
    killed = "killed" in report.outcome
    report.broken += [text for text in loop.unseen if not (killed and "generator" in text)]
    return report


async def _one(seed: int, *, tell: bool) -> Report:
    storm = Storm(seed, tell=tell)
    report = storm.report
    await storm.blow()
    del storm
    gc.collect()
    for _ in range(3):
        await asyncio.sleep(0)
    report.broken += checks.of_loop(killed="killed" in report.outcome)
    return report
