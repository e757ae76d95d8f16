"""The effects of one instance, in order: a task lives only while one of them takes time."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from requestor_sdk.engine.core import Core

Effect = Callable[[], Coroutine[Any, Any, None] | None]
"""Does something; what takes time is returned, to be awaited."""

_FEW: Final = 64
"""How many begin at once of what is done in turns."""

_MOMENT_SEC: Final = 0.05
"""How long one of them holds up those who stand in line."""


class Turns:
    """Lets a few begin at once, of work that thousands may want to do in the same moment.

    Quick work is done a few at a time, as one after another would be, and never lies about half
    done by the thousand. Whoever takes longer than a moment holds up nobody any more.
    """

    def __init__(self) -> None:
        self._line: deque[EffectQueue] = deque()
        self._begun: OrderedDict[EffectQueue, float] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None

    def stand(self, who: EffectQueue) -> None:
        """Let it begin when it is its turn; at once, where nobody waits."""
        self._line.append(who)
        self._admit()

    def over(self, who: EffectQueue) -> None:
        """It is done: somebody else has a turn. Idempotent."""
        if self._begun.pop(who, None) is not None and self._line:
            self._admit()

    def hurry(self) -> None:
        """Let all begin who stand in line."""
        self._admit(most=len(self._begun) + len(self._line))

    def _admit(self, most: int = _FEW) -> None:
        while self._line and len(self._begun) < most:
            who = self._line.popleft()
            if who.begin():
                self._begun[who] = asyncio.get_running_loop().time()
        self._time()

    def _time(self) -> None:
        if not self._line:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
        elif self._timer is None:
            first = next(iter(self._begun.values()))
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(first + _MOMENT_SEC, self._moment_over)

    def _moment_over(self) -> None:
        self._timer = None
        long_ago = asyncio.get_running_loop().time() - _MOMENT_SEC
        while self._begun and next(iter(self._begun.values())) <= long_ago:
            self._begun.popitem(last=False)
        self._admit()


class EffectQueue:
    """Does one thing after another.

    Args:
        core: What the engine shares.
        name: Of the task.
    """

    __slots__ = ("_core", "_cut_off", "_in_line", "_name", "_waiting", "_worker")

    def __init__(self, core: Core, name: str) -> None:
        self._core = core
        self._name = name
        self._waiting: list[Effect] | None = None
        self._worker: asyncio.Task[None] | None = None
        self._in_line = False
        self._cut_off = False

    def queue(self, effect: Effect, *, in_turn: bool = False) -> None:
        """Do this after what was queued before; at once, where there is nothing to wait for.

        Args:
            effect: What is to be done.
            in_turn: Whether thousands may want the same in this moment: it has its turn then.
        """
        if self._worker is not None or self._in_line or self._cut_off:
            if self._waiting is None:
                self._waiting = []
            self._waiting.append(effect)
        elif in_turn:
            self._waiting, self._in_line = [effect], True
            self._core.turns.stand(self)
        elif (rest := effect()) is not None:
            worker = self._spawn(rest)
            if worker is None:
                rest.close()
            else:
                # Cancelled before it began, it would leave this unawaited.
                worker.add_done_callback(lambda _: rest.close())

    def begin(self) -> bool:
        """Begin what stands in line; tells whether there was something, which takes time now."""
        if not self._in_line:
            return False
        self._in_line = False
        return self._spawn(None) is not None

    def _spawn(self, first: Coroutine[Any, Any, None] | None) -> asyncio.Task[None] | None:
        self._worker = worker = self._core.try_spawn(self._work(first), self._name)
        # Where the engine breaks off, it is the engine that releases what there is.
        self._cut_off = worker is None
        return worker

    async def idle(self) -> None:
        """Wait until nothing is left to do."""
        self.begin()
        while self._worker is not None and not self._worker.done():
            await asyncio.wait({self._worker})

    async def _work(self, rest: Coroutine[Any, Any, None] | None) -> None:
        try:
            while True:
                if rest is not None:
                    await rest
                if not self._waiting:
                    return
                rest = self._waiting.pop(0)()
        finally:
            self._worker = None
            self._core.turns.over(self)
