"""The events of a run as the page gets them: encoded once, kept for all who look, bounded.

Amounts come added up, so that the page need not
know which note counts and which does not.
"""

from __future__ import annotations

import json
from collections import deque
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar, Final

from requestor_sdk.model import events as ev
from requestor_sdk.observe.dashboard._source import Batch, Source
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


class Feed(Source):
    """Takes events in order and gives them to any number of readers, each at its own pace.

    Args:
        kept: How many are kept at most.
    """

    subject: ClassVar[str] = "run"
    resumes: ClassVar[bool] = True

    def __init__(self, kept: int = KEPT) -> None:
        super().__init__()
        self._texts: deque[str] = deque(maxlen=kept)
        self._view = RunView()
        self._owner: dict[str, str] = {}
        self._money: tuple[Decimal, Decimal, Decimal] | None = None

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

    def _after(self, after: int, most: int) -> Batch:
        first = max(after, self._came - len(self._texts))
        start = len(self._texts) - (self._came - first)
        stop = min(start + most, len(self._texts))
        records = [self._texts[place] for place in range(start, stop)]
        return Batch(last=first + len(records), records=records, skipped=first - after)

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
