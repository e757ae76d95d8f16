"""The events of an attempt in the order in which they are told; of too many the middle gives way.

How far it is, is always told. Of all else the first are told as they come, and the last at the end:
these say how it ended. What lies between is counted.
"""

from __future__ import annotations

import json
from collections import deque
from typing import TYPE_CHECKING, Final

from requestor_sdk.model.fields import to_json
from requestor_sdk.ports.worker import RunEvent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from requestor_sdk.model.jobs import Json

STAGE: Final = "stage"
"""The type of event by which a worker tells how far an attempt is."""
WAITING_EVENTS: Final = 1_000
"""How many events may wait to be told; what comes then is held back."""
FIRST_EVENTS: Final = 9_000
"""How many are told as they come; the queue takes a few more."""
FIRST_CHARS: Final = 1 << 20
"""Characters that these may have together; the queue takes twice as many."""
LAST_EVENTS: Final = 500
LAST_CHARS: Final = 512 << 10


class Events:
    """Those of one attempt."""

    def __init__(self) -> None:
        self._waiting: deque[RunEvent] = deque()
        self._held: deque[tuple[str, str, Mapping[str, Json], int]] = deque()
        self._held_chars = 0
        self._left_out = 0
        self._told = 0
        self._chars = 0
        self._seq = 0
        self._over = False

    def __bool__(self) -> bool:
        """Tell whether one is to be told."""
        return bool(self._waiting)

    @property
    def first(self) -> RunEvent:
        """The one that is to be told."""
        return self._waiting[0]

    def add(self, kind: str, message: str, payload: Mapping[str, Json]) -> None:
        """Take one; it is told now, at the end, or is one of those that are only counted."""
        if kind == STAGE:
            self._put(kind, message, payload)
            return
        size = len(kind) + len(message) + len(json.dumps(to_json(payload)))
        if self._over or not (self._held or self._is_full(1, size)):
            self._tell(kind, message, payload, size)
            return
        self._held.append((kind, message, payload, size))
        self._held_chars += size
        while len(self._held) > LAST_EVENTS or self._held_chars > LAST_CHARS:
            self._held_chars -= self._held.popleft()[3]
            self._left_out += 1

    def told(self) -> None:
        """Note that the first one was told; what was held back may follow now."""
        self._waiting.popleft()
        if not self._waiting and not self._is_full(len(self._held) + 1, self._held_chars):
            self._release()

    def end(self) -> None:
        """Have all told that was held back: nothing more comes but from the worker itself."""
        self._over = True
        self._release()

    def _is_full(self, count: int, chars: int) -> bool:
        return (
            len(self._waiting) >= WAITING_EVENTS
            or self._told + count > FIRST_EVENTS
            or self._chars + chars > FIRST_CHARS
        )

    def _release(self) -> None:
        if self._left_out:
            message = f"{self._left_out} events were too many: they are left out here"
            self._tell("INFO", message, {"left_out": self._left_out}, len(message))
            self._left_out = 0
        while self._held:
            self._tell(*self._held.popleft())
        self._held_chars = 0

    def _tell(self, kind: str, message: str, payload: Mapping[str, Json], size: int) -> None:
        self._told += 1
        self._chars += size
        self._put(kind, message, payload)

    def _put(self, kind: str, message: str, payload: Mapping[str, Json]) -> None:
        self._seq += 1
        self._waiting.append(RunEvent(seq=self._seq, type=kind, message=message, payload=payload))
