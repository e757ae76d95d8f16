"""The deadlines of many, of which the loop knows the first only.

Most deadlines are put off or dropped long before they are due. A timer of the loop for each would
stay with the loop all the same, and there are as many as agreements.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from heapq import heappop, heappush


class Deadlines:
    """Calls of a function, each with a name and due at a time of the loop.

    Args:
        ring: Called with the name and the time; also for what is no longer of interest.
    """

    __slots__ = ("_due", "_ring", "_timer")

    def __init__(self, ring: Callable[[str, float], None]) -> None:
        self._ring = ring
        self._due: list[tuple[float, str]] = []
        self._timer: asyncio.TimerHandle | None = None

    def set(self, due: float, name: str) -> None:
        """Have the function called once more."""
        heappush(self._due, (due, name))
        self._arm()

    def clear(self) -> None:
        """Call nothing any more."""
        self._due.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        if not self._due:
            return
        first = self._due[0][0]
        if self._timer is not None:
            if self._timer.when() <= first:
                return
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(first, self._call, first)

    def _call(self, due: float) -> None:
        self._timer = None
        # A timer may go off a little too early: what it was set for is due all the same.
        now = max(due, asyncio.get_running_loop().time())
        while self._due and self._due[0][0] <= now:
            self._ring(heappop(self._due)[1], now)
        self._arm()
