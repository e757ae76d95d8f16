"""Commands as the exe-unit's JSON, and what it tells of them back as values.

Source: the exe-script commands, command results and runtime events of Golem's activity API.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from requestor_sdk.golem._reading import Record, record
from requestor_sdk.model.errors import PayloadError
from requestor_sdk.model.parsing import parse_json
from requestor_sdk.model.script import (
    BatchEvent,
    Capture,
    CaptureMode,
    Command,
    CommandOutput,
    CommandProgress,
    CommandResult,
    CommandStarted,
    Deploy,
    Run,
    Start,
    Terminate,
    Transfer,
)

if TYPE_CHECKING:
    from requestor_sdk.model.script import StreamName

ENV_PROGRAM: Final = "/usr/bin/env"
"""Sets the variables of a program: the exe-unit's own command knows none."""
PROGRESS: Final[Mapping[str, object]] = {"updateInterval": "1s"}

_EXIT: Final = ("exited with status ", "exited with code ")
_KILLED: Final = "killed by "
_LONG: Final = 6


def script_text(commands: Sequence[Command]) -> str:
    """Return commands as the JSON text that is executed.

    Raises:
        PayloadError: An argument of ``deploy`` is no plain value.
    """
    try:
        return json.dumps([_written(command) for command in commands], separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise PayloadError(f"a command has an argument that is no plain value: {error}") from None


def _written(command: Command) -> dict[str, Any]:
    match command:
        case Deploy(hostname=hostname, arguments=arguments):
            named = {} if hostname is None else {"hostname": hostname}
            return {"deploy": {"progress": PROGRESS, **arguments, **named}}
        case Start(args=args):
            return {"start": {"args": list(args)}}
        case Run():
            return {"run": _run(command)}
        case Transfer(source=source, target=target):
            return {"transfer": {"from": source, "to": target, "progress": PROGRESS}}
        case Terminate():
            return {"terminate": {}}


def _run(command: Run) -> dict[str, Any]:
    program, *args = command.argv
    if command.env:
        settings = (f"{name}={value}" for name, value in command.env.items())
        program, args = ENV_PROGRAM, [*settings, program, *args]
    capture = {"stdout": _capture(command.stdout), "stderr": _capture(command.stderr)}
    return {"entry_point": program, "args": args, "capture": capture}


def _capture(wanted: Capture) -> dict[str, Any]:
    if wanted.mode is CaptureMode.stream:
        # As bytes: a piece may end in the middle of a character.
        return {"stream": {"format": "bin"}}
    part = "tail" if wanted.mode is CaptureMode.tail else "head"
    # One byte more than is kept, which shows whether there was more.
    return {"atEnd": {part: wanted.limit + 1, "format": "str"}}


def result_of(found: Record, index: int, command: Command) -> CommandResult:
    """Read the result of a command; what the provider gets wrong in it is passed over.

    Args:
        found: What the exe-unit tells.
        index: Its place in the batch.
        command: What was to be done.
    """
    success = found.get("result") == "Ok"
    message = found.get("message")
    told = message if isinstance(message, str) and message else None
    out, err, cut = "", "", False
    if isinstance(command, Run):
        out, out_cut = _kept(found.get("stdout"), command.stdout)
        err, err_cut = _kept(found.get("stderr"), command.stderr)
        cut = out_cut or err_cut
    else:
        out, err = (bytes_of(found.get(n)).decode(errors="replace") for n in ("stdout", "stderr"))
    return CommandResult(
        index=index,
        success=success,
        stdout=out,
        stderr=err,
        message=told,
        return_code=_code(told, success=success) if isinstance(command, Run) else None,
        truncated=cut,
    )


def _kept(found: object, wanted: Capture) -> tuple[str, bool]:
    """Return what is kept of an output, and whether some of it is dropped."""
    if wanted.mode is CaptureMode.stream:
        return "", False
    if isinstance(found, str) and len(found) * 4 <= wanted.limit:
        return found, False  # short however it is written
    data = bytes_of(found)
    if len(data) <= wanted.limit:
        return data.decode(errors="replace"), False
    start = len(data) - wanted.limit if wanted.mode is CaptureMode.tail else 0
    return data[start : start + wanted.limit].decode(errors="replace"), True


def bytes_of(found: object) -> bytes:
    """Return an output, which comes as a text or as a list of bytes; nothing for anything else."""
    if isinstance(found, str):
        return found.encode(errors="replace")
    if isinstance(found, list | bytes):
        try:
            return bytes(found)
        except (TypeError, ValueError):
            return b""
    return b""


def _code(message: str | None, *, success: bool) -> int | None:
    """Return the exit status, which is told in words where it is not 0."""
    if success:
        return 0
    for before in _EXIT:
        number = _word_after(before, message)
        if number.lstrip("-").isdecimal() and number.isascii() and len(number) < _LONG:
            return int(number)
    name = _word_after(_KILLED, message)
    return -signal.Signals[name] if name in signal.Signals.__members__ else None


def _word_after(before: str, message: str | None) -> str:
    _, _, rest = (message or "").partition(before)
    return rest.split(maxsplit=1)[0].rstrip(".,:;)") if rest.split() else ""


def event_of(text: str) -> BatchEvent | Finished | None:
    """Read an event of a stream that is JSON; see ``event_from``.

    Raises:
        BadAnswer: It is no JSON object.
    """
    try:
        parsed: object = parse_json(text)
    except ValueError:
        parsed = text
    return event_from(parsed)


def event_from(told: object) -> BatchEvent | Finished | None:
    """Read an event of a stream; ``None`` for one that says nothing of use.

    Raises:
        BadAnswer: It is no object.
    """
    found = record(told, "an event of a batch")
    index, kind = found.get("index"), found.get("kind")
    if not isinstance(index, int) or isinstance(index, bool) or not isinstance(kind, Mapping):
        return None
    for name, what in kind.items():
        match str(name).lower():
            case "started":
                return CommandStarted(index=index)
            case "finished":
                return Finished(index)
            case "stdout":
                return _output(index, "stdout", what)
            case "stderr":
                return _output(index, "stderr", what)
            case "progress":
                return _progress(index, what)
    return None


class Finished(int):
    """The place of a command that has ended; its result is had elsewhere."""

    __slots__ = ()


def _output(index: int, stream: StreamName, told: object) -> CommandOutput | None:
    data = bytes_of(told)
    return CommandOutput(index=index, stream=stream, data=data) if data else None


def _progress(index: int, told: object) -> CommandProgress | None:
    progress = told.get("progress") if isinstance(told, Mapping) else None
    if not isinstance(progress, list) or len(progress) != 2 or not _is_count(progress[0]):
        return None
    done, total = progress
    unit = told.get("unit") if isinstance(told, Mapping) else None
    return CommandProgress(
        index=index,
        done=done,
        total=total if _is_count(total) else None,
        unit=unit.lower() if isinstance(unit, str) and unit else "bytes",
    )


def _is_count(found: Any) -> bool:
    return isinstance(found, int) and not isinstance(found, bool) and 0 <= found < 2**63
