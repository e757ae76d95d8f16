"""A call of a handler did not succeed: RSK-900 to RSK-949."""

from __future__ import annotations

from typing import Unpack

from requestor_sdk.model.errors._base import RequestorError, Told


class CallError(RequestorError):
    """A call of a handler did not succeed.

    Attributes:
        error_type: The class name of what the handler raised, or a word of ours, e.g. ``Timeout``;
            empty where nothing is known.
    """

    code = "RSK-900"

    def __init__(
        self,
        message: str,
        *,
        error_type: str = "",
        **told: Unpack[Told],
    ) -> None:
        super().__init__(message, **told)
        self.error_type = error_type


class CallFailed(CallError):
    """The handler raised, returned what does not fit, or its process died."""

    code = "RSK-901"


class CallTimedOut(CallError, TimeoutError):
    """The call took longer than the handler's time-out, and was stopped."""

    code = "RSK-902"


class CallCancelled(CallError):
    """The call was cancelled, by a request or by the end of the program."""

    code = "RSK-903"


class CallRejected(CallError):
    """The call was not begun: too many wait, or the program starts or ends.

    Attributes:
        retry_after: Seconds after which another try makes sense.
    """

    code = "RSK-904"

    def __init__(
        self,
        message: str,
        *,
        retry_after: float = 1.0,
        error_type: str = "",
        **told: Unpack[Told],
    ) -> None:
        super().__init__(message, error_type=error_type, **told)
        self.retry_after = retry_after


class CallRefused(CallError, ValueError):
    """The input, the id or the handler's name does not fit; the same call never succeeds."""

    code = "RSK-905"


class CallUnreachable(CallError, ConnectionError):
    """Nothing answers where the handlers should be; the call was not sent."""

    code = "RSK-906"


class CallInterrupted(CallError, ConnectionError):
    """The connection broke after the call may have got through; its outcome is not known here."""

    code = "RSK-907"
