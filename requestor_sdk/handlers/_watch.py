"""Says where an async handler holds up the event loop, while it does.

One that computes, or waits without ``await``, stops all others, and readiness too: nothing of the
loop can tell. So a thread looks whether the loop still comes round, as long as async handlers work;
it looks at no values, and ends nothing.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Final

from requestor_sdk.handlers._logger import logger

STILL_SEC: Final = 1.0
"""Seconds without a turn of the loop that are told."""
_BEAT_SEC: Final = 0.25
_PLACES: Final = 4


class LoopWatch:
    """Watches the running loop.

    Args:
        busy: Whether async handlers work now.
    """

    def __init__(self, busy: Callable[[], bool]) -> None:
        self._busy = busy
        self._loop = asyncio.get_running_loop()
        self._watched = threading.get_ident()
        self._beat = 0.0
        self._works, self._ended = threading.Event(), threading.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._thread: threading.Thread | None = None
        self.stalls = 0
        """How often the loop stood still."""

    # On the loop ---------------------------------------------------------------------------------

    def begins(self) -> None:
        """An async handler begins to work."""
        if self._timer is None and not self._ended.is_set():
            self._beat = time.monotonic()
            self._works.set()
            self._timer = self._loop.call_later(_BEAT_SEC, self._beats)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="handlers-watch", daemon=True
                )
                self._thread.start()

    def _beats(self) -> None:
        now = time.monotonic()
        still, self._beat, self._timer = now - self._beat - _BEAT_SEC, now, None
        if still > STILL_SEC:
            self.stalls += 1
            logger.warning("the event loop goes on, after %.1f s", still)
        if self._busy():
            self._timer = self._loop.call_later(_BEAT_SEC, self._beats)
        else:
            self._works.clear()

    def close(self) -> None:
        """Watch no more."""
        if self._timer is not None:
            self._timer.cancel()
        self._ended.set()
        self._works.set()

    # In its thread -------------------------------------------------------------------------------

    def _run(self) -> None:
        told = 0.0
        while self._works.wait() and not self._ended.wait(_BEAT_SEC):
            beat = self._beat
            still = time.monotonic() - beat - _BEAT_SEC
            if still > STILL_SEC and beat != told and self._works.is_set():
                told = beat
                frame = sys._current_frames().get(self._watched)  # noqa: SLF001 - documented
                logger.warning(
                    "all calls wait: the event loop has stood still for %.1f s at %s;"
                    " what computes is better written as `def`, or has isolation='process'",
                    still,
                    _places(frame),
                )


def _places(frame: FrameType | None) -> str:
    """Return the innermost places of a stack, without values."""
    places: list[str] = []
    while frame is not None and len(places) < _PLACES:
        code = frame.f_code
        places.append(f"{code.co_filename}:{frame.f_lineno} in {code.co_name}")
        frame = frame.f_back
    return " < ".join(places) or "no place"
