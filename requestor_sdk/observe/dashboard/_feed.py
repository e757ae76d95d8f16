"""The events of a run as the page gets them: encoded once, kept for all who look, bounded.

Pure but for the one future that wakes who waits. Amounts come added up, so that the page need not
know which note counts and which does not.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from requestor_sdk.model import events as ev
from requestor_sdk.observe.view import RunView

if TYPE_CHECKING:
    from requestor_sdk.model.events import Event

KEPT: Final = 200_000
"""Events that are kept; of a longer run the page has the last so many."""

_MONEY: Final = (
    ev.ComputationStarted,
    ev.ComputationRecovered,
    ev.AllocationAmended,
    ev.AllocationAmendFailed,
    ev.AgreementCreated,
    ev.AgreementRejected,
    ev.AgreementTerminated,
    ev.ActivityRequested,
    ev.DebitNoteAccepted,
    ev.InvoiceAccepted,
)
_DROPPED: Final = frozenset({"v", "traceback"})


class Feed:
    """Takes events in order and gives them to any number of readers, each at its own pace.

    Args:
        kept: How many are kept at most.

    Attributes:
        closed: Whether no more will come.
    """

    def __init__(self, kept: int = KEPT) -> None:
        self._texts: deque[str] = deque(maxlen=kept)
        self._came = 0
        self._view = RunView()
        self._owner: dict[str, str] = {}
        self._money: tuple[Decimal, Decimal, Decimal] | None = None
        self._waiting: list[asyncio.Future[None]] = []
        self.closed = False

    @property
    def came(self) -> int:
        """How many events have come."""
        return self._came

    def append(self, event: Event) -> None:
        """Take one event. To be called on the loop of the readers."""
        self._view.apply(event)
        record = {name: v for name, v in event.to_record().items() if name not in _DROPPED}
        self._came += 1
        record["n"] = self._came
        if isinstance(event, _MONEY):
            self._add_money(event, record)
        self._texts.append(json.dumps(record, separators=(",", ":")))
        self._wake()

    def close(self) -> None:
        """No more will come; readers end once they have read what is there. Idempotent."""
        self.closed = True
        self._wake()

    async def read(self, after: int, most: int = 1000) -> tuple[int, list[str]]:
        """Wait for events after a number; return the number of the first and their records.

        What is not kept any more is passed over. Nothing is returned where it is closed and all is
        read.
        """
        while self._came <= after and not self.closed:
            waiting = asyncio.get_running_loop().create_future()
            self._waiting.append(waiting)
            try:
                await waiting
            finally:
                if waiting in self._waiting:
                    self._waiting.remove(waiting)  # given up before anything came
        first = max(after, self._came - len(self._texts))
        start = len(self._texts) - (self._came - first)
        stop = min(start + most, len(self._texts))
        return first + 1, [self._texts[place] for place in range(start, stop)]

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            if not one.done():
                one.set_result(None)

    def _add_money(self, event: Event, record: dict[str, Any]) -> None:
        if isinstance(event, ev.AgreementCreated):
            self._owner[event.agreement_id] = event.instance_id
        view = self._view
        now = (view.spent, view.held, view.budget)
        if now == self._money:
            return
        self._money = now
        told: dict[str, Any] = dict(zip(("spent", "held", "budget"), map(float, now), strict=True))
        row = view.rows.get(self._owner.get(event.ids().get("agreement", ""), ""))
        if row is not None and row.cost:
            told |= {"instance": row.instance_id, "cost": float(row.cost)}
        record["$"] = told
