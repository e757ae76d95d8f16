"""The life of instances and tasks, RSK-4xx, and the engine that leads it, RSK-7xx."""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from requestor_sdk.model.errors._base import RequestorError, Told

if TYPE_CHECKING:
    from collections.abc import Iterable


class InstanceError(RequestorError):
    """Something in the life of an instance went wrong."""

    code = "RSK-400"


class StartTimeout(InstanceError, TimeoutError):
    """``start()`` took longer than ``start_timeout``."""

    code = "RSK-401"


class ShutdownTimeout(InstanceError, TimeoutError):
    """``shutdown()`` took longer than ``shutdown_timeout``."""

    code = "RSK-402"


class HandlerStuck(InstanceError):
    """A handler swallowed its cancellation twice and was abandoned."""

    code = "RSK-403"


class RestartsExhausted(InstanceError):
    """The limits of the restart policy are spent; the story tells of each attempt."""

    code = "RSK-404"


class MailboxFull(InstanceError):
    """A message queue of an instance holds as many messages as it may."""

    code = "RSK-405"


class TaskFailed(InstanceError):
    """A task was tried as often as its job allows; the last failure is chained.

    The story has one line an attempt: where it ran, and why it failed.
    """

    code = "RSK-406"


class ResultRejected(InstanceError):
    """A worker rejected the result of a task; the message holds the reason that it gave."""

    code = "RSK-407"


class TaskTimeout(InstanceError, TimeoutError):
    """An attempt at a task took longer than ``task_timeout``: its worker is ended."""

    code = "RSK-408"


class JobTimeout(InstanceError, TimeoutError):
    """A job took longer than its ``timeout``; its workers were stopped in good order.

    Attributes:
        done: How many tasks ended before.
        unfinished: The ids of the tasks that had begun or waited.
    """

    code = "RSK-409"

    def __init__(
        self,
        message: str,
        *,
        done: int = 0,
        unfinished: Iterable[str] = (),
        **told: Unpack[Told],
    ) -> None:
        super().__init__(message, **told)
        self.done = done
        self.unfinished: tuple[str, ...] = tuple(unfinished)


class WorkersExhausted(InstanceError):
    """The workers of a job failed again and again before they came to ask for a task."""

    code = "RSK-410"


class EngineError(RequestorError):
    """The SDK itself failed."""

    code = "RSK-700"


class EngineFailed(EngineError):
    """A fatal error inside the engine; the cause is chained.

    A defect of the SDK, or a journal that could not be written.
    """

    code = "RSK-701"


class LeaveTimeout(EngineError, TimeoutError):
    """Leaving took longer than ``leave_timeout``; what is left open is named."""

    code = "RSK-702"
