"""The clock that engine, market and providers go by: the running loop's own time."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta


class LoopClock:
    """Time by the running loop, so that a loop whose time jumps takes the date along.

    The wall clock is read once, at the first reading; from then on ``now()`` goes as the loop does.

    Args:
        start: The date at the first reading; the real one by default.
    """

    def __init__(self, start: datetime | None = None) -> None:
        self._start = start
        self._began: float | None = None

    def now(self) -> datetime:
        """Return the aware time in UTC."""
        seconds = asyncio.get_running_loop().time()
        if self._start is None or self._began is None:
            self._start, self._began = self._start or datetime.now(UTC), seconds
        return self._start + timedelta(0, seconds - self._began)

    def monotonic(self) -> float:
        """Return the loop's seconds, which never go back."""
        return asyncio.get_running_loop().time()
