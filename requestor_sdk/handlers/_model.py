"""Values of a call: what was asked, how it ended. No I/O here.

A call that was accepted ends exactly once, in one of five statuses; the end carries the output as
JSON or an error, never both.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Status(StrEnum):
    """Where a call is."""

    queued = "queued"
    """Accepted; waits for its turn."""
    running = "running"
    """Its handler works on it."""
    succeeded = "succeeded"
    """The handler returned an output that fits its type."""
    failed = "failed"
    """The handler raised, returned what does not fit, or its process ended."""
    timed_out = "timed_out"
    """It took longer than the handler's time-out."""
    cancelled = "cancelled"
    """It was cancelled, by a request or by the end of the program."""
    rejected = "rejected"
    """It was accepted, and never begun: nothing of it was done."""

    @property
    def over(self) -> bool:
        """Whether it is one of the five ends."""
        return self not in (Status.queued, Status.running)


TERMINAL: Final = tuple(status for status in Status if status.over)
"""The five ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallFailure:
    """Why a call did not succeed.

    Attributes:
        type: The error's class name, e.g. ``ValueError``, or one of ours, e.g. ``Timeout``.
        message: What it said; known secrets are replaced by ``***``.
        fields: For outputs that do not fit: where, and what is wrong there.
    """

    type: str
    message: str
    fields: tuple[tuple[str, str], ...] = ()

    def document(self) -> dict[str, object]:
        """Return it as plain JSON values."""
        shown: dict[str, object] = {"type": self.type, "message": self.message}
        if self.fields:
            shown["fields"] = [{"loc": loc, "msg": msg} for loc, msg in self.fields]
        return shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a call ended.

    Attributes:
        status: One of the five ends.
        output: The output as JSON where it succeeded; of a stream, the list of its parts.
        error: Why it did not.
    """

    status: Status
    output: bytes | None = None
    error: CallFailure | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A call as the store keeps it.

    Attributes:
        id: Chosen by the caller, or made here.
        function: The handler's name.
        body: The input as JSON.
        digest: Of the input as it came, to tell a repetition from another call by the same id.
        notify: Whether its end goes to the callback.
        attempt: From 1; higher where an earlier process ended in the middle of it.
        status: Where it is.
        accepted_at: Seconds since the epoch; so are the two that follow.
        outcome: How it ended, or ``None``.
        delivered: Whether the callback has it, or was given up.
    """

    id: str
    function: str
    body: bytes
    digest: bytes
    notify: bool
    attempt: int
    status: Status
    accepted_at: float
    started_at: float | None = None
    finished_at: float | None = None
    outcome: Outcome | None = None
    delivered: bool = False


_NAME: Final = re.compile(r"[^\x00-\x1f\x7f-\x9f/\u2028\u2029\ud800-\udfff]{1,200}")


def is_call_id(text: str) -> bool:
    """Tell whether this can be the id of a call: 1 to 200 characters, no slash, no control."""
    return _NAME.fullmatch(text) is not None and text not in (".", "..")


class HandlersFull(Exception):
    """No more calls are taken now.

    Attributes:
        retry_after: Seconds after which another try makes sense.
    """

    def __init__(self, reason: str, *, retry_after: int) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class HandlersClosed(HandlersFull):
    """The program starts, or ends: it takes no calls now."""


class CallConflict(Exception):
    """The id belongs to another call already."""


class HandlerStopped(BaseException):
    """Raised inside a sync handler of its own process when its call is stopped.

    It is no ``Exception``, so that a handler's ``except Exception`` does not keep it.
    """
