"""Breaks into code that keeps the loop from its next round: a busy loop without an ``await``.

By a signal of the process's alarm clock, so on the main thread of Unix only; elsewhere nothing is
watched. It must not touch a loop that goes on, however slowly, or that waits.
"""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

from requestor_sdk.testing.clock import VirtualTimeLoop

TICK_SEC: Final = 0.5
"""A round that is still the same after so many real seconds has to end."""


class NeverAwaits(BaseException):
    """Raised in code that lets the loop do nothing else; what swallows it is told again."""


@contextmanager
def watched(loop: VirtualTimeLoop, seconds: float) -> Iterator[None]:
    """Break into what keeps the loop busy, from so many real seconds on."""
    if not hasattr(signal, "setitimer") or not _on_main_thread():
        yield
        return
    seen = math.nan

    def look(_signal: int, _frame: FrameType | None) -> None:
        nonlocal seen
        before, seen = seen, float(loop.rounds)
        if before == seen and not loop.waiting:
            raise NeverAwaits

    before = signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, seconds + TICK_SEC, TICK_SEC)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _on_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
