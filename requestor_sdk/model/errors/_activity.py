"""Where a payload runs: RSK-3xx on a provider, RSK-6xx in a sandbox on this machine."""

from __future__ import annotations

from typing import Unpack

from requestor_sdk.model.errors._base import RequestorError, Told


class ActivityError(RequestorError):
    """Something went wrong on a provider."""

    code = "RSK-300"


class CommandFailed(ActivityError):
    """A command of a batch ended with an error.

    Attributes:
        stdout: What the command wrote to its standard output, as far as it was captured.
        stderr: The same for standard error.
        return_code: The exit status; negative for a signal; ``None`` where it never ran.
        command: The command as text, e.g. ``run /bin/false``.
    """

    code = "RSK-301"

    def __init__(
        self,
        message: str,
        *,
        command: str = "",
        stdout: str | None = None,
        stderr: str | None = None,
        return_code: int | None = None,
        **told: Unpack[Told],
    ) -> None:
        super().__init__(message, **told)
        self.command = command
        self.stdout = stdout
        self.stderr = stderr
        self.return_code = return_code

    def __str__(self) -> str:
        """Tell the failure with the last lines that the command wrote to standard error."""
        text = super().__str__()
        tail = (self.stderr or "").rstrip().splitlines()[-10:]
        return text + "".join(f"\n  stderr: {line}" for line in tail)


class CommandSkipped(ActivityError):
    """The command never ran: an earlier one of its batch failed."""

    code = "RSK-302"


class BatchTimeout(ActivityError, TimeoutError):
    """The script's own time-out passed before its last command ended."""

    code = "RSK-303"


class ProviderLost(ActivityError):
    """The activity or the agreement ended under the instance, or the provider fell silent."""

    code = "RSK-304"


class ActivityRefused(ActivityError):
    """The provider would not, or could not, create the activity."""

    code = "RSK-305"


class TransferRefused(ActivityError):
    """A transfer whose path would leave the activity's own layer, or is no regular file."""

    code = "RSK-306"


class SandboxError(RequestorError):
    """Running a payload on this machine went wrong."""

    code = "RSK-600"


class SandboxUnavailable(SandboxError):
    """No sandbox can be had on this machine; the hint names the fix."""

    code = "RSK-601"


class SandboxDied(SandboxError):
    """The sandbox ended under the commands that ran in it; the message says of what."""

    code = "RSK-602"
