"""The lives of one simulated run: that of the program, and of each recovery after a crash.

Each of them is bounded, whatever it does: by virtual time, by real time, and where it swallows its
cancellation by being given up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from requestor_sdk.model.errors import UsageError
from requestor_sdk.testing.clock import VirtualTimeLoop
from requestor_sdk.testing.crashes import TRIES, crash
from requestor_sdk.testing.watchdog import NeverAwaits

if TYPE_CHECKING:
    from datetime import timedelta

    from requestor_sdk.client.compute import Compute
    from requestor_sdk.networks.simulated import SimulatedNetwork

LEAVE_SEC: Final = 600.0
"""Virtual seconds that one whose time is over has to leave in good order."""

GRACE_SEC: Final = 10.0
"""Real seconds that it has for that."""

Program = Callable[["Compute"], Awaitable[object]]

How = Literal["over", "crashed", "late", "slow"]
"""It ended by itself; its requestor was crashed; its virtual, or its real time was over."""

_given_up: list[asyncio.Task[Any]] = []
"""Kept for good: a coroutine that is thrown away is entered once more, to close it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """How a life ended.

    Attributes:
        how: What ended it.
        error: What it raised, where it ended by itself.
        stuck: Whether it swallowed each cancellation, so that something of it is left.
        hanging: The calls that faults let hang where its virtual time was over.
        recovery: Whether it was that of a recovery, which is none of the program's doing.
    """

    how: How
    hanging: tuple[str, ...] = ()
    recovery: bool = False
    error: BaseException | None = None
    stuck: bool = False


class Lives:
    """Lives one after another, within one limit.

    Args:
        network: Where they are lived.
        limit: Virtual time for all of them.
        real_sec: Real seconds for all of them.
    """

    def __init__(self, network: SimulatedNetwork, limit: timedelta, real_sec: float) -> None:
        self._network = network
        self._until = asyncio.get_running_loop().time() + limit.total_seconds()
        self._overtime = _after_really(real_sec)

    async def live(self, compute: Compute, program: Program | None) -> Life:
        """Let a program run until it ends, its requestor is crashed, or its time is over.

        Args:
            compute: What it is given.
            program: The program; ``None`` for a recovery, which is left at once: that settles it.
        """
        recovery = program is None
        running = asyncio.create_task(_run(compute, program or _nothing), name="the program")
        dead = asyncio.create_task(self._network.crashed.wait(), name="a crash of the requestor")
        try:
            waited: set[asyncio.Future[Any]] = {running, dead, self._overtime}
            await asyncio.wait(
                waited,
                timeout=max(0.0, self._until - asyncio.get_running_loop().time()),
                return_when=asyncio.FIRST_COMPLETED,
            )
            if dead.done():
                stuck = await self._killed(compute, running)
                return Life(how="crashed", stuck=stuck, recovery=recovery)
            if running.done() and not isinstance(_error_of(running), NeverAwaits):
                return Life(how="over", error=_error_of(running), recovery=recovery)
            if self._overtime.done() or running.done():
                return Life(how="slow", stuck=await self._ended(running), recovery=recovery)
            hanging = self._network.hanging
            stuck = await self._ended(running)
            return Life(how="late", stuck=stuck, hanging=hanging, recovery=recovery)
        finally:
            await put_down([running, dead])
            _error_of(running)  # of one that was ended it says nothing; unread it would be logged

    async def _killed(self, compute: Compute, running: asyncio.Task[None]) -> bool:
        """Bury a requestor that is dead, with the program that had it."""
        stuck = False
        try:
            await crash(compute)
        except UsageError:
            stuck = True  # a handler of the program's swallows each cancellation
        # Its engine may have been over before: then there was nothing to bury but its end.
        await self._network.close()
        return bool(await put_down([running])) or stuck

    async def _ended(self, running: asyncio.Task[None]) -> bool:
        """Have one whose time is over leave in good order, or at least leave."""
        grace = _after_really(GRACE_SEC)
        running.cancel()
        await asyncio.wait({running, grace}, timeout=LEAVE_SEC, return_when=asyncio.FIRST_COMPLETED)
        return bool(await put_down([running]))


async def _nothing(_compute: Compute) -> None:
    """What a recovery is taken up for here."""


async def _run(compute: Compute, program: Program) -> None:
    try:
        async with compute:
            await program(compute)
    except SystemExit as leaving:
        # Left to a task, it would end the loop with everything on it.
        raise Exit(leaving.code) from None


class Exit(Exception):
    """The program left by ``sys.exit``.

    Attributes:
        code: What it gave; ``None`` and 0 are good.
    """

    def __init__(self, code: object) -> None:
        super().__init__(code)
        self.code = code


def _error_of(running: asyncio.Task[None]) -> BaseException | None:
    return running.exception() if running.done() and not running.cancelled() else None


def _after_really(seconds: float) -> asyncio.Future[None]:
    """Return a future that is cancelled after so many real seconds; there is one only."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    future: asyncio.Future[None] = loop.create_future()
    loop.alarm(seconds, future.cancel)
    return future


async def put_down(tasks: Iterable[asyncio.Task[Any]]) -> list[asyncio.Task[Any]]:
    """Cancel tasks until they end; return those that swallow each cancellation.

    These are given up: nothing waits for them any more, the end of their loop neither.
    """
    left = [task for task in tasks if not task.done()]
    for _ in range(TRIES):
        for task in left:
            task.cancel()
        await asyncio.sleep(0)
        left = [task for task in left if not task.done()]
        if not left:
            break
    for task in left:
        asyncio.tasks._unregister_task(task)  # noqa: SLF001
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # noqa: SLF001
        _given_up.append(task)
    return left


async def put_down_others() -> None:
    """Put down all other tasks of the loop."""
    await put_down(task for task in asyncio.all_tasks() if task is not asyncio.current_task())
