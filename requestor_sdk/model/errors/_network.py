"""A network's daemon failed at a call: RSK-8xx."""

from __future__ import annotations

from typing import Unpack

from requestor_sdk.model.errors._base import RequestorError, Told


class NetworkError(RequestorError):
    """The daemon through which a network is reached failed at a call.

    Whether the call had its effect is unknown, unless it is a ``NetworkUnreachable``.

    Attributes:
        status: The HTTP status that it answered with; ``None`` where it did not answer.
    """

    code = "RSK-800"

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        **told: Unpack[Told],
    ) -> None:
        super().__init__(message, **told)
        self.status = status

    @property
    def may_pass(self) -> bool:
        """Whether the same call may do better a moment later: the daemon did not refuse it."""
        return self.status is None or self.status in (408, 429) or self.status >= 500


class NetworkUnreachable(NetworkError, ConnectionError):
    """Nothing listens where the network's daemon should be: it is not started, or was stopped.

    The call was not sent, and had no effect: to make it again does nothing twice.
    """

    code = "RSK-801"


class NetworkTimeout(NetworkError, TimeoutError):
    """The network's daemon did not answer in time; whether the call had its effect is unknown."""

    code = "RSK-802"


class NetworkInterrupted(NetworkError, ConnectionError):
    """The connection broke after the call may have got through.

    Whether the call had its effect is unknown.
    """

    code = "RSK-803"


class WrongAppKey(NetworkError):
    """There is no application key, or the daemon does not know the one that was given.

    The key itself is in no text.
    """

    code = "RSK-804"

    @property
    def may_pass(self) -> bool:
        """A key does not become right by waiting."""
        return False


class DaemonTooOld(NetworkError):
    """The daemon is of a version that this package cannot use; the hint names the fix."""

    code = "RSK-805"

    @property
    def may_pass(self) -> bool:
        """A version does not change by waiting."""
        return False


class BadAnswer(NetworkError):
    """The daemon answered what is no answer to the call, e.g. no JSON, or a field is missing.

    Whether the call had its effect is unknown.
    """

    code = "RSK-806"


class DevnetFailed(NetworkError):
    """A network on this machine did not start, or a part of it failed.

    ``story`` has the last lines of that part's log.
    """

    code = "RSK-810"

    @property
    def may_pass(self) -> bool:
        """What failed to start fails again."""
        return False
