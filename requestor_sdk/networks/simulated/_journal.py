"""The journal of a simulated run: all of it, in memory, for as long as the network is kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from requestor_sdk.model.events import Event


@dataclass(frozen=True, slots=True)
class Act:
    """What a requestor did in the market, as it took effect there.

    Attributes:
        what: ``confirm``, ``create``, ``execute``, ``destroy`` or ``terminate``.
        agreement_id: Of the agreement.
        activity_id: Of the activity; empty where it is about an agreement.
    """

    what: str
    agreement_id: str
    activity_id: str


class SimulatedJournal:
    """Keeps every event of one run; a crash of the requestor cuts it for that one.

    Args:
        record: What all runs of a network wrote, and what they did, in the order of both.

    Attributes:
        was_cut: Whether one that wrote it was crashed, be it taken up since or not.
    """

    def __init__(self, record: list[Event | Act]) -> None:
        self._record = record
        self._events: list[Event] = []
        self._cut = False
        self.was_cut: bool = False

    @property
    def begun(self) -> bool:
        """Whether anything was written."""
        return bool(self._events)

    def append(self, event: Event) -> None:
        """Write one event; after a cut nothing is written any more."""
        if not self._cut:
            self._events.append(event)
            self._record.append(event)

    def read(self, *, ids: Mapping[str, str] | None = None) -> Iterator[Event]:
        """Return what was written, oldest first; only what concerns all of ``ids``."""
        wanted = ids or {}
        return iter([event for event in self._events if event.concerns(wanted)])

    def cut(self) -> None:
        """Let nothing more be written: whoever wrote is dead."""
        self._cut = self.was_cut = True

    def pass_on(self) -> None:
        """Let it be written on by whoever takes up the run of the dead one."""
        self._cut = False

    def close(self) -> None:
        """Do nothing: the events stay readable."""
