"""Events of the daemon, read by long poll: each once and none lost, whatever becomes of the daemon.

The daemon tells what is later than a moment. An event bears the moment at which its sender made it,
and is written down when it has come here: by then there may be events of a later moment, and no
poll for what is later than those will ever tell of it, or return because of it. So for a while
after each event what was read is looked over again, and what is known by then is passed over. None
of it depends on this machine's clock, or on the daemon's life.

Moments can lie ahead of the daemon's clock: where a sender's is fast, or the daemon's was set back.
Who waits for what is later than those hears nothing until that time has come. So no reader goes
beyond the time that the daemon's answers bear; what lies ahead comes with each of them meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import math
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from requestor_sdk.golem._reading import Record, moment_of, text_of
from requestor_sdk.model.errors import BadAnswer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from requestor_sdk.golem._rest import Daemon, Params

_log = logging.getLogger(__name__)

POLL_SEC: Final = 25.0
"""Seconds that a long poll lasts where nothing comes."""
BEGINNING: Final = "1970-01-01T00:00:00Z"
MOST: Final = 100
"""Events that the daemon tells at one time: more than that it refuses to be asked for."""
LATE: Final = timedelta(seconds=10)
"""How late an event may be written down behind one of a later moment."""
FIRST_LOOK_SEC: Final = 0.25
"""Seconds between the first look back after an event and the second; then ever twice as long."""
AHEAD: Final = timedelta(seconds=2)
"""How far beyond the time of the daemon's last answer a reader goes: that counts seconds."""
AHEAD_PAUSE_SEC: Final = 1.0
"""Seconds between two polls that are answered at once, by what lies ahead and is known."""
_FEW: Final = 256
"""Known events among which none is looked for that can be forgotten."""


def _everyone() -> str:
    return ""


class Mark:
    """Up to when events were read.

    Args:
        daemon: Whose events.
        since: The moment from which on they count, as the daemon writes moments.

    Attributes:
        since: As given; earlier where the daemon's clock is behind that.
        after: Up to when all is known, as the daemon writes moments.
        newest: The same as a time; ``None`` before the first event.
    """

    def __init__(self, daemon: Daemon, since: str) -> None:
        self.since = since
        self.after = since
        self.newest: datetime | None = None
        self._daemon = daemon

    def reach(self, at: datetime, text: str) -> bool:
        """Take an event's moment, and the daemon's text of it; tells whether none was later."""
        bound = self._bound()
        if bound is not None and at > bound:
            at, text = bound, _text(bound)
        if self.newest is not None and at < self.newest:
            return False
        # As the daemon wrote it: it counts nanoseconds, and a datetime does not.
        self.newest, self.after = at, text
        return True

    def come_back(self) -> None:
        """Go back to the daemon's clock where it is behind what was read."""
        bound = self._bound()
        if bound is None:
            return
        if datetime.fromisoformat(self.since) > bound:
            self.since = _text(bound)
            if self.newest is None:
                self.after = self.since
        if self.newest is not None and self.newest > bound:
            self.newest, self.after = bound, _text(bound)

    def _bound(self) -> datetime | None:
        now = self._daemon.clock.now()
        return None if now is None else now + AHEAD


class Cursor:
    """Reads the events of one kind.

    Args:
        daemon: Whose events.
        path: Where they are.
        key: Which field names what an event is about.
        session: Returns the application session whose events are meant; empty for all.
        since: The moment from which on they count, as the daemon writes moments.
        dated: Which field has an event's moment.
    """

    def __init__(
        self,
        daemon: Daemon,
        path: str,
        key: str,
        *,
        session: Callable[[], str] = _everyone,
        since: str = BEGINNING,
        dated: str = "eventDate",
    ) -> None:
        self._daemon = daemon
        self._path = path
        self._key = key
        self._session = session
        self._dated = dated
        self._mark = Mark(daemon, since)
        self._known: dict[tuple[str, str, str], datetime] = {}
        self._look_at = math.inf
        self._next_look = math.inf

    async def next(self) -> Sequence[Record]:
        """Wait for events and return at least one, oldest first.

        Raises:
            RequestorError: As ``Daemon.poll``; no event is lost by it.
        """
        now = asyncio.get_running_loop().time
        while True:
            self._mark.come_back()
            if self._look_at > now():
                fresh = await self._wait(self._look_at - now())
            else:
                fresh = await self._look_back()
                self._plan_look(now())
            if fresh:
                self._look_at, self._next_look = now(), FIRST_LOOK_SEC
                return fresh

    async def peek(self) -> Sequence[Record]:
        """Return the latest events without waiting, and read none of them."""
        found: list[Record] = []
        after = self._before()
        while page := await self._fetch(0.0, after):
            found += page
            if len(page) < MOST or page[-1][self._dated] == after:
                break
            after = page[-1][self._dated]
        return found

    async def _wait(self, seconds: float) -> list[Record]:
        """Wait for what is later than all that is known, until the next look back is due."""
        found = await self._fetch(min(seconds, POLL_SEC), self._mark.after)
        fresh = self._new(found)
        if found and not fresh:
            await asyncio.sleep(min(seconds, AHEAD_PAUSE_SEC))
        elif not fresh and seconds > POLL_SEC:
            self._look_at = 0.0
        return fresh

    async def _look_back(self) -> list[Record]:
        return self._new(await self.peek())

    def _plan_look(self, now: float) -> None:
        """Look back ever less often, and after an event's longest delay once a poll."""
        if self._next_look > LATE.total_seconds():
            self._look_at = math.inf
        else:
            self._look_at = now + self._next_look
            self._next_look *= 2

    def _before(self) -> str:
        """Return since when an event may have been written down that was not read."""
        newest, since = self._mark.newest, self._mark.since
        if newest is None or newest - LATE <= datetime.fromisoformat(since):
            return since
        return _text(newest - LATE)

    async def _fetch(self, seconds: float, after: str) -> list[Record]:
        params: Params = {
            "afterTimestamp": after,
            "maxEvents": MOST,
            "appSessionId": self._session() or None,
        }
        found = await self._daemon.poll(self._path, params=params, seconds=seconds)
        return [one for one in found if self._makes_sense(one)]

    def _makes_sense(self, event: Record) -> bool:
        what = f"an event of {self._path}"
        try:
            moment_of(event, self._dated, what)
            text_of(event, self._key, what)
        except BadAnswer as error:
            _log.warning("%s", error.message)
            return False
        return True

    def _new(self, events: Sequence[Record]) -> list[Record]:
        return [one for one in events if self._is_new(one)]

    def _is_new(self, event: Record) -> bool:
        at = moment_of(event, self._dated, "an event")
        name = (event[self._key], kind_of(event), event[self._dated])
        if name in self._known:
            return False
        if self._mark.reach(at, event[self._dated]) and self._mark.newest is not None:
            self._forget(self._mark.newest)
        self._known[name] = at
        return True

    def _forget(self, now: datetime) -> None:
        if len(self._known) > _FEW:
            self._known = {name: at for name, at in self._known.items() if at > now - 2 * LATE}


def _text(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")


def kind_of(event: Record) -> str:
    """Return what kind of event it is; the market's API writes the field's name its own way."""
    found = event.get("eventType") or event.get("eventtype")
    return found if isinstance(found, str) else ""
