"""What one connection may take of the server: so many in all, and a while for the next request.

uvicorn gives a connection all the time in the world to say what it wants, and takes as many as the
system has files for; then jobs find none either.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import asyncio

HEAD_SEC: Final = 30.0
"""How long the head of a request may take to come, or the first one after a connection was made."""


def bounded(*, most: int, head_sec: float = HEAD_SEC) -> type[asyncio.Protocol]:
    """Return uvicorn's protocol with bounds.

    Args:
        most: How many connections there may be; one above that is closed at once.
        head_sec: How long a request's head may take.
    """
    from uvicorn.protocols.http.auto import AutoHTTPProtocol

    base: Any = AutoHTTPProtocol

    class Bounded(base):  # type: ignore[misc]
        """One connection."""

        _until: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            if len(self.connections) > most:
                transport.abort()
            else:
                self._watch()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._watch()

        def connection_lost(self, error: Exception | None) -> None:
            self._unwatch()
            super().connection_lost(error)

        def _watch(self) -> None:
            """Have the time run while a request's head is to come."""
            if self.cycle is not None and not self.cycle.response_complete:
                self._unwatch()
            elif self._until is None:
                self._until = self.loop.call_later(head_sec, self._too_late)

        def _unwatch(self) -> None:
            if self._until is not None:
                self._until.cancel()
                self._until = None

        def _too_late(self) -> None:
            self._until = None
            if self.cycle is None or self.cycle.response_complete:
                self.transport.close()

    return Bounded
