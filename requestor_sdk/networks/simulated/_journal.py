"""The journal of a simulated run: all of it, in memory, for as long as the network is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from requestor_sdk.model.events import Event


class SimulatedJournal:
    """Keeps every event of one run; a crash of the requestor cuts it for that one."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._cut = False

    @property
    def begun(self) -> bool:
        """Whether anything was written."""
        return bool(self._events)

    def append(self, event: Event) -> None:
        """Write one event; after a cut nothing is written any more."""
        if not self._cut:
            self._events.append(event)

    def read(self, *, ids: Mapping[str, str] | None = None) -> Iterator[Event]:
        """Return what was written, oldest first; only what concerns all of ``ids``."""
        wanted = ids or {}
        return iter([event for event in self._events if event.concerns(wanted)])

    def cut(self) -> None:
        """Let nothing more be written: whoever wrote is dead."""
        self._cut = True

    def pass_on(self) -> None:
        """Let it be written on by whoever takes up the run of the dead one."""
        self._cut = False

    def close(self) -> None:
        """Do nothing: the events stay readable."""
