"""The date that a server goes by: this machine's own, which may jump.

A date is put right while a server runs (by NTP, or when a machine wakes up), and all that is told
to others and kept has to follow it. What goes by leases has to know that it jumped: no worker has
been silent for the while that the date left out.
"""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from requestor_sdk.ports.basics import Clock

JUMP_SEC: Final = 1.0
"""Up to so much the date may run away from the loop's seconds before it is taken over."""

_log = logging.getLogger(__name__)


class DateClock:
    """The date, and the loop's seconds.

    Args:
        date: Tells the date, in seconds since the epoch.

    Attributes:
        jumps: How often the date jumped.
    """

    def __init__(self, date: Callable[[], float] = time.time) -> None:
        self._date = date
        self._ahead: float | None = None
        self.jumps = 0

    def now(self) -> datetime:
        """Return the aware time in UTC."""
        seconds = asyncio.get_running_loop().time()
        ahead = self._date() - seconds
        if self._ahead is None:
            self._ahead = ahead
        elif abs(jump := ahead - self._ahead) > JUMP_SEC:
            _log.warning("the date jumped by %+.1f s", jump)
            self._ahead = ahead
            self.jumps += 1
        return datetime.fromtimestamp(self._ahead + seconds, UTC)

    def monotonic(self) -> float:
        """Return the loop's seconds, which never go back."""
        return asyncio.get_running_loop().time()


def jumps_of(clock: Clock) -> int:
    """Return how often a clock's date jumped; one that cannot, never did."""
    return clock.jumps if isinstance(clock, DateClock) else 0
