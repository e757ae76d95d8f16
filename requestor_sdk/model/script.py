"""Commands of a batch as values, and what comes back: what crosses to the provider, and no more.

Source of the command set: the exe-unit commands of Golem's activity API (deploy, start, run,
transfer, terminate).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Literal

StreamName = Literal["stdout", "stderr"]
"""Which of its two outputs a command wrote to."""

CAPTURE_LIMIT: Final = 16 * 1024 * 1024
"""Bytes that are kept of an output where the user sets no limit of his own."""


class CaptureMode(StrEnum):
    """What of an output is kept for the result."""

    all = "all"
    """All of it, up to the limit; past it the end is dropped and the result says so."""
    head = "head"
    """The first ``limit`` bytes."""
    tail = "tail"
    """The last ``limit`` bytes."""
    stream = "stream"
    """Passed on as it comes, in events; the result holds nothing of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """How one output of a command is captured.

    Attributes:
        mode: What is kept.
        limit: Bytes that are kept at most.
    """

    mode: CaptureMode = CaptureMode.all
    limit: int = CAPTURE_LIMIT


@dataclass(frozen=True, slots=True, kw_only=True)
class Deploy:
    """Prepare the image on the provider."""

    hostname: str | None = None
    arguments: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Start the runtime."""

    args: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Run a program to its end: an argument vector, no shell."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    stdout: Capture = field(default_factory=Capture)
    stderr: Capture = field(default_factory=Capture)


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """Copy a file; exactly one of the two is a path of the activity, ``container:/path``."""

    source: str
    target: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Terminate:
    """End the activity; nothing can follow."""


Command = Deploy | Start | Run | Transfer | Terminate
"""Any of the commands."""

CONTAINER: Final = "container:"
"""The scheme of paths inside the activity."""


def describe(command: Command) -> str:
    """Return the command as one short line for people."""
    match command:
        case Run(argv=argv):
            return _shortened("run " + " ".join(argv))
        case Transfer(source=source, target=target):
            into = target.startswith(CONTAINER)
            return _shortened(
                f"upload {target.removeprefix(CONTAINER)}"
                if into
                else f"download {source.removeprefix(CONTAINER)}"
            )
        case _:
            return type(command).__name__.lower()


def _shortened(text: str, most: int = 120) -> str:
    line = text.replace("\n", " ")
    return line if len(line) <= most else line[: most - 1] + "…"


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandResult:
    """How a command ended.

    Attributes:
        index: Its place in the batch, from 0.
        success: Whether it ended well.
        stdout: What was captured of its standard output, as text (undecodable bytes replaced);
            empty where nothing was, or where it was streamed.
        stderr: The same for standard error.
        message: What went wrong, or what the runtime has to say.
        return_code: The exit status of a program; ``None`` for other commands.
        truncated: Whether output was dropped because of the capture's limit.
    """

    index: int
    success: bool = True
    stdout: str = ""
    stderr: str = ""
    message: str | None = None
    return_code: int | None = None
    truncated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandStarted:
    """A command of a batch began."""

    index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandOutput:
    """A piece of output, of a command whose capture mode is ``stream``."""

    index: int
    stream: StreamName
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandProgress:
    """How far a deploy or a transfer is; ``total`` is ``None`` where it is not known."""

    index: int
    done: int
    total: int | None = None
    unit: str = "bytes"


BatchEvent = CommandStarted | CommandOutput | CommandProgress | CommandResult
"""What comes back while a batch runs; one ``CommandResult`` a command that ran, in order."""
