"""Events of a run: read by long poll, each once and none lost, whatever becomes of the daemon.

Here is also what makes them the run's: the application session that its agreements bear.
"""

from __future__ import annotations

import logging
import secrets
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from requestor_sdk.model.errors import BadAnswer
from requestor_sdk.networks.golem._reading import Record, moment_of, text_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from requestor_sdk.golem import Daemon

logger: logging.Logger = logging.getLogger("requestor_sdk.networks.golem")

POLL_SEC: Final = 25.0
"""Seconds that a long poll lasts where nothing comes."""

_BEGINNING: Final = "1970-01-01T00:00:00Z"
_LATE: Final = timedelta(seconds=10)
"""How late an event may be written down behind one of a later time."""
_FEW: Final = 256
"""Known events among which none is looked for that can be forgotten."""


class Scope:
    """The application session of a run, shared by the ports of its network.

    Attributes:
        session: Its name; empty while the network is closed.
    """

    def __init__(self) -> None:
        self.session = ""

    def enter(self, run_id: str) -> None:
        """Take the name of a run, the same in each recovery of it; one of its own for none."""
        self.session = f"requestor-sdk-{run_id or secrets.token_hex(8)}"

    def leave(self) -> None:
        """Forget the name."""
        self.session = ""


class Cursor:
    """Reads the events of one kind of a run.

    The daemon tells what is later than a moment, and writes an event down a little after the moment
    that it bears. So what was read is looked over once more after each wait, and what is known by
    then is passed over. None of it depends on this machine's clock, or on the daemon's life.

    Args:
        daemon: Whose events.
        scope: Of which run.
        path: Where they are.
        key: Which field names what an event is about.
    """

    def __init__(self, daemon: Daemon, scope: Scope, path: str, key: str) -> None:
        self._daemon = daemon
        self._scope = scope
        self._path = path
        self._key = key
        self._after = _BEGINNING
        self._newest: datetime | None = None
        self._known: dict[tuple[str, str, str], datetime] = {}
        self._look_back = False

    async def next(self) -> Sequence[Record]:
        """Wait for events and return at least one, oldest first.

        Raises:
            RequestorError: As ``Daemon.poll``; no event is lost by it.
        """
        while True:
            back, self._look_back = self._look_back, False
            seconds, after = (0.0, self._before()) if back else (POLL_SEC, self._after)
            fresh = await self._read(seconds, after)
            self._look_back = not back
            if fresh:
                return fresh

    async def peek(self) -> Sequence[Record]:
        """Return the latest events without waiting, and read none of them."""
        return await self._fetch(0.0, self._before())

    def _before(self) -> str:
        """Return since when an event may have been written down that was not read."""
        return self._after if self._newest is None else _iso(self._newest - _LATE)

    async def _read(self, seconds: float, after: str) -> list[Record]:
        return [one for one in await self._fetch(seconds, after) if self._is_new(one)]

    async def _fetch(self, seconds: float, after: str) -> list[Record]:
        params = {"afterTimestamp": after, "appSessionId": self._scope.session or None}
        found = await self._daemon.poll(self._path, params=params, seconds=seconds)
        return [one for one in found if self._makes_sense(one)]

    def _makes_sense(self, event: Record) -> bool:
        what = f"an event of {self._path}"
        try:
            moment_of(event, "eventDate", what)
            text_of(event, self._key, what)
        except BadAnswer as error:
            logger.warning("%s", error.message)
            return False
        return True

    def _is_new(self, event: Record) -> bool:
        at = moment_of(event, "eventDate", "an event")
        name = (event[self._key], kind_of(event), event["eventDate"])
        if name in self._known:
            return False
        if self._newest is None or at >= self._newest:
            # As the daemon wrote it: it counts nanoseconds, and a datetime does not.
            self._newest, self._after = at, event["eventDate"]
            self._forget(at)
        self._known[name] = at
        return True

    def _forget(self, now: datetime) -> None:
        if len(self._known) > _FEW:
            self._known = {name: at for name, at in self._known.items() if at > now - 2 * _LATE}


def _iso(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def kind_of(event: Record) -> str:
    """Return what kind of event it is; the market's API writes the field's name its own way."""
    found = event.get("eventType") or event.get("eventtype")
    return found if isinstance(found, str) else ""
