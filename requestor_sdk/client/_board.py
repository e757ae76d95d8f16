"""The dashboard of a run in this process: made for ``Compute(dashboard=...)``, closed with it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from requestor_sdk.model.errors import AmountError, NotAvailable

if TYPE_CHECKING:
    from requestor_sdk.engine.engine import Engine
    from requestor_sdk.observe.dashboard import Dashboard


class Board:
    """A dashboard that is opened with an engine.

    Args:
        port: Where it listens; 0 for any free port.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._served: Dashboard | None = None

    @property
    def url(self) -> str | None:
        """Its address; ``None`` while it is closed."""
        return None if self._served is None else self._served.url

    async def open(self, engine: Engine) -> None:
        """Serve the events of an engine that is about to start; of a recovery, the earlier too.

        Raises:
            NotAvailable: The port is in use. The engine's journal is closed.
        """
        from requestor_sdk.observe.dashboard import Dashboard, Feed

        feed = Feed()
        served = Dashboard(feed, port=self._port, now=engine.core.clock.now)
        try:
            await served.open()
        except NotAvailable:
            engine.core.journal.close()
            raise
        for event in engine.core.journal.read() if engine.recovery is not None else ():
            feed.append(event)
        engine.core.sinks.append(feed.append)
        self._served = served
        if sys.stderr is not None:
            # Asked for: this is the one thing that the library ever prints.
            sys.stderr.write(f"dashboard: {served.url}\n")
            sys.stderr.flush()

    async def close(self) -> None:
        """Tell viewers what is left to tell, and stop listening. Idempotent."""
        served, self._served = self._served, None
        if served is not None:
            await served.close()


def board_of(dashboard: object) -> Board | None:
    """Return the dashboard that is asked for, if one is.

    Raises:
        AmountError: It is neither a bool nor a port.
    """
    if isinstance(dashboard, bool):
        return Board(0) if dashboard else None
    if not isinstance(dashboard, int) or not 0 < dashboard < 65536:
        raise AmountError(f"dashboard must be True, False or a port, not {dashboard!r}")
    return Board(dashboard)
