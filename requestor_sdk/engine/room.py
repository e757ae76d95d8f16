"""Who waits for room in the budget: a line for each cluster, first come first served.

Only as many are woken as there is room for, so that an end of one instance costs the same however
many wait. Only the first in a line looks for what is cheaper than what it had no room for.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

from requestor_sdk.model.ledger import Ledger
from requestor_sdk.model.market import Proposal
from requestor_sdk.model.money import Terms, room_for

_SOONEST_SEC: Final = 10.0
"""Time makes room so slowly that it is not looked for more often than this."""


@dataclass(slots=True, eq=False)
class _Waiting:
    future: asyncio.Future[None]
    terms: Terms
    seconds: Callable[[], float]
    look: Callable[[Terms], Terms] | None
    avoid: frozenset[str]

    def needed(self) -> Decimal:
        """Return what is waited for; who is first for the first time looks for less."""
        if self.look is not None:
            self.terms, self.look = self.look(self.terms), None
        return self.terms.most(self.seconds())


@dataclass(slots=True, eq=False)
class _Line:
    waiting: OrderedDict[int, _Waiting] = field(default_factory=OrderedDict)
    timer: asyncio.TimerHandle | None = None

    def stop_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class RoomLines:
    """Those for whom the budget has no room now.

    Args:
        ledger: The budget's book.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._lines: dict[str, _Line] = {}
        self._numbers = itertools.count(1)

    def __len__(self) -> int:
        return sum(len(line.waiting) for line in self._lines.values())

    async def wait(
        self,
        part: str,
        terms: Terms,
        seconds: Callable[[], float],
        *,
        look: Callable[[Terms], Terms] | None = None,
        avoid: frozenset[str] = frozenset(),
    ) -> None:
        """Wait until there is room for one more agreement.

        It is not kept: who is woken tries to hold it, and may come back.

        Args:
            part: Of which part of the budget, e.g. a cluster's.
            terms: Of the agreement that is to be made.
            seconds: Returns until when it would last, from now.
            look: Returns the cheapest terms that can be had, called once at the front of the line.
            avoid: Providers whose terms are not waited for.
        """
        waiting = _Waiting(asyncio.get_running_loop().create_future(), terms, seconds, look, avoid)
        line = self._lines.setdefault(part, _Line())
        number = next(self._numbers)
        line.waiting[number] = waiting
        if len(line.waiting) == 1:
            self._serve(part, line, self._ledger.available)  # something cheaper may fit at once
        try:
            await waiting.future
        except asyncio.CancelledError:
            if waiting.future.done() and not waiting.future.cancelled():
                self.made()  # woken and cancelled in one moment: the room is another's
            raise
        finally:
            line.waiting.pop(number, None)
            self._time(part, line)

    def made(self) -> None:
        """There may be more room: wake those who fit into it now."""
        rest = self._ledger.available
        for part, line in self._lines.items():
            rest = self._serve(part, line, rest)

    def offered(self, part: str, proposal: Proposal) -> None:
        """Something new can be had: it may fit where what was waited for does not."""
        line = self._lines.get(part)
        if line is None or not line.waiting:
            return
        first = next(iter(line.waiting.values()))
        terms = Terms.from_properties(proposal.properties)
        if terms is None or proposal.provider_id in first.avoid:
            return
        if terms.most(first.seconds()) < first.needed():
            first.terms = terms
            self._serve(part, line, self._ledger.available)

    def _serve(self, part: str, line: _Line, rest: Decimal) -> Decimal:
        """Wake those in a line who fit into the rest; returns what is left of it."""
        room = self._ledger.room(part)
        while line.waiting:
            number, first = next(iter(line.waiting.items()))
            needed = first.needed()
            if needed > min(room, rest):
                break
            room, rest = room - needed, rest - needed
            del line.waiting[number]
            if not first.future.done():
                first.future.set_result(None)
        self._time(part, line)
        return rest

    def _time(self, part: str, line: _Line) -> None:
        """One timer for a line: the first in it fits in as its expiry comes nearer."""
        if not line.waiting:
            line.stop_timer()
        elif line.timer is None:
            after = self._after(part, next(iter(line.waiting.values())))
            if after is not None:
                line.timer = asyncio.get_running_loop().call_later(
                    max(after, _SOONEST_SEC), self._time_is_up, line
                )

    def _after(self, part: str, first: _Waiting) -> float | None:
        """Return after how long the first in a line may fit in, where nothing else changes."""
        if first.look is not None:
            return 0.0  # it came to the front because others left: it has not looked yet
        available = self._ledger.room(part)
        room = room_for(first.terms, seconds=first.seconds(), available=available)
        # Where there is enough, others were woken for it, and may not take it.
        return 0.0 if room.enough else room.after_sec

    def _time_is_up(self, line: _Line) -> None:
        line.timer = None
        self.made()
