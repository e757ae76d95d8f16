"""What time it is where the daemon runs: from the dates that its answers bear."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime


class DaemonClock:
    """The clock of one daemon, to a second."""

    def __init__(self) -> None:
        self._told: tuple[str, float] | None = None

    def hear(self, date: str | None) -> None:
        """Take the header ``Date`` of an answer that has just come."""
        if date is not None:
            self._told = date, asyncio.get_running_loop().time()

    def now(self) -> datetime | None:
        """Return the time; ``None`` where the daemon has told none that can be read."""
        if self._told is None:
            return None
        date, at = self._told
        try:
            told = parsedate_to_datetime(date)
        except ValueError:
            return None
        passed = asyncio.get_running_loop().time() - at
        return told.replace(tzinfo=told.tzinfo or UTC) + timedelta(seconds=passed)
