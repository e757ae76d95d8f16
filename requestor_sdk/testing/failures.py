"""Attempts of instances that failed in one run, and whether the program is to blame."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from requestor_sdk.engine.tracebacks import is_ours
from requestor_sdk.model import events
from requestor_sdk.model.lifecycle import ServiceState, Stimulus

if TYPE_CHECKING:
    from datetime import datetime

    from requestor_sdk.model.events import Event

_LIBRARY: Final = str(Path(traceback.__file__).parent)
_FRAME: Final = re.compile(r'^[ |+-]*File "(.+)", line (\d+), in ', re.MULTILINE)


def is_users(filename: str) -> bool:
    """Tell whether a frame's file is neither of this package nor of a library."""
    return not (
        is_ours(filename) or filename.startswith(("<", _LIBRARY)) or "site-packages" in filename
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedAttempt:
    """An attempt of an instance that failed.

    Attributes:
        instance: Which instance.
        attempt: Which of its attempts, from 1.
        error: The type of what it raised.
        text: The first line of what that says, with the type.
        place: The last line of the user's that it came through, as ``file.py:36``; may be empty.
        own: Whether a handler raised it of its own: it is no error of this package.
        mended: Whether what followed made it good.
    """

    instance: str
    attempt: int
    error: str
    text: str
    place: str
    own: bool
    mended: bool


@dataclass(slots=True)
class _Ran:
    """What the journal says of one attempt."""

    began: datetime | None = None
    ended: datetime | None = None
    done: bool = False
    failed: bool = False

    def seconds(self, last: datetime) -> float:
        return ((self.ended or last) - self.began).total_seconds() if self.began else 0.0


@dataclass(slots=True)
class _History:
    """What the journal says of all attempts and tasks."""

    attempts: dict[tuple[str, int], _Ran] = field(default_factory=dict)
    missed: dict[str, set[str]] = field(default_factory=dict)
    accepted: set[str] = field(default_factory=set)
    last: datetime | None = None

    def ran(self, instance: str, attempt: int) -> _Ran:
        return self.attempts.setdefault((instance, attempt), _Ran())

    def take(self, event: Event) -> None:
        self.last = event.at
        match event:
            case events.ServiceFailed():
                ran = self.ran(event.instance_id, event.attempt)
                ran.failed, ran.ended = True, ran.ended or event.at
            case events.ServiceStateChanged():
                ran = self.ran(event.instance_id, event.attempt)
                if event.new == ServiceState.running:
                    ran.began = ran.began or event.at
                elif event.new not in (ServiceState.unresponsive, ServiceState.starting):
                    ran.ended = ran.ended or event.at
                    ran.done = ran.done or event.stimulus == Stimulus.run_done
            case events.TaskAttemptFailed():
                self.missed.setdefault(event.instance_id, set()).add(event.task_id)
            case events.TaskFinished(status="accepted"):
                self.accepted.add(event.task_id)

    def mended(self, instance: str, attempt: int, *, cut: bool) -> bool:
        """Tell whether what followed a failed attempt made it good.

        Args:
            instance: The instance.
            attempt: Its attempt.
            cut: Whether the run was ended by what is none of the program's doing: then a later
                attempt had no chance to show that it is better.
        """
        missed = self.missed.get(instance)
        if missed and missed <= self.accepted:
            return True  # of a worker nothing counts but its tasks, whoever did them in the end
        assert self.last is not None
        lasted = self.ran(instance, attempt).seconds(self.last)
        for (whose, number), ran in self.attempts.items():
            if whose != instance or number <= attempt or ran.failed:
                continue
            # One that was merely stopped before it came to where the last one failed shows nothing.
            if cut or ran.done or (ran.began and ran.seconds(self.last) > lasted):
                return True
        return False


def failed_in(found: Sequence[Event], *, cut: bool = False) -> Iterable[FailedAttempt]:
    """Return the attempts that failed, in their order.

    Args:
        found: The events of the run.
        cut: Whether the run was ended by what is none of the program's doing.
    """
    history = _History()
    for event in found:
        history.take(event)
    for event in found:
        if isinstance(event, events.ServiceFailed):
            name, _, text = event.error.partition(": ")
            yield FailedAttempt(
                instance=event.instance_id,
                attempt=event.attempt,
                error=name,
                text=(event.error.splitlines() or [""])[0],
                place=_place(event.traceback),
                own=not text.startswith("[RSK-"),
                mended=history.mended(event.instance_id, event.attempt, cut=cut),
            )


def _place(text: str) -> str:
    places = [f"{Path(name).name}:{line}" for name, line in _FRAME.findall(text) if is_users(name)]
    return places[-1] if places else ""
