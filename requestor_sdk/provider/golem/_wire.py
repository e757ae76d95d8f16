"""Commands and results as they cross Golem's service bus: our values from and to theirs.

Pure functions. Source: the exe-unit commands and runtime events of yagna's activity API.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from requestor_sdk.model.errors import UsageError
from requestor_sdk.model.script import (
    CAPTURE_LIMIT,
    Capture,
    CaptureMode,
    Command,
    CommandOutput,
    CommandProgress,
    CommandResult,
    Deploy,
    Run,
    Start,
    StreamName,
    Terminate,
    Transfer,
)

COMMANDS: Final = 1000
"""Commands that a batch may have."""

_DISCARD: Final = Capture(mode=CaptureMode.head, limit=0)
_ARCHIVES: Final = ("format", "depth", "fileset")


@dataclass(frozen=True, slots=True)
class Wanted:
    """How the outputs of a command are wanted back.

    Attributes:
        captured: Which outputs are part of the result.
        binary: Which outputs are sent as lists of bytes, and not as text.
    """

    captured: frozenset[StreamName] = frozenset({"stdout", "stderr"})
    binary: frozenset[StreamName] = frozenset()


_ALL: Final = Wanted()


def read_batch(script: object) -> tuple[tuple[Command, ...], tuple[Wanted, ...]]:
    """Return the commands of a batch, and how the outputs of each are wanted back.

    Raises:
        UsageError: It is no list of commands; the message says which is none.
    """
    if not isinstance(script, list):
        raise UsageError("exeScript is no list of commands")
    if len(script) > COMMANDS:
        raise UsageError(f"{len(script)} commands are too many for a batch: at most {COMMANDS}")
    found = [_command(index, one) for index, one in enumerate(script)]
    return tuple(command for command, _ in found), tuple(wanted for _, wanted in found)


def _command(index: int, given: object) -> tuple[Command, Wanted]:
    if not isinstance(given, dict) or len(given) != 1:
        raise UsageError(f"command {index} is no command")
    ((name, fields),) = given.items()
    if not isinstance(fields, dict):
        raise UsageError(f"command {index}, {name}: its arguments are no map")
    try:
        match name:
            case "deploy":
                hostname = fields.get("hostname")
                arguments = {k: v for k, v in fields.items() if k != "hostname" and v is not None}
                text = None if hostname is None else _text(hostname, "hostname")
                return Deploy(hostname=text, arguments=arguments), _ALL
            case "start":
                return Start(args=_texts(fields.get("args"), "args")), _ALL
            case "run":
                return _run(fields)
            case "transfer":
                return _transfer(fields), _ALL
            case "terminate":
                return Terminate(), _ALL
    except UsageError as error:
        raise UsageError(f"command {index}, {name}: {error.message}") from None
    raise UsageError(f"command {index}: this provider does not know {str(name)[:40]!r}")


def _run(fields: Mapping[str, Any]) -> tuple[Run, Wanted]:
    argv = (_text(fields.get("entry_point"), "entry_point"), *_texts(fields.get("args"), "args"))
    capture = fields.get("capture")
    if capture is None:
        return Run(argv=argv, stdout=_DISCARD, stderr=_DISCARD), Wanted(captured=frozenset())
    if not isinstance(capture, dict):
        raise UsageError("capture is no map")
    stdout, stderr = _capture(capture.get("stdout")), _capture(capture.get("stderr"))
    captured: set[StreamName] = set()
    binary: set[StreamName] = set()
    streams: tuple[tuple[StreamName, tuple[Capture, bool]], ...] = (
        ("stdout", stdout),
        ("stderr", stderr),
    )
    for name, (what, as_bytes) in streams:
        if what is not _DISCARD and what.mode is not CaptureMode.stream:
            captured.add(name)
        if as_bytes:
            binary.add(name)
    run = Run(argv=argv, stdout=stdout[0], stderr=stderr[0])
    return run, Wanted(captured=frozenset(captured), binary=frozenset(binary))


def _capture(given: object) -> tuple[Capture, bool]:
    if given is None:
        return _DISCARD, False
    if not isinstance(given, dict) or len(given) != 1:
        raise UsageError("capture: neither atEnd nor stream")
    ((name, fields),) = given.items()
    if name not in ("atEnd", "stream") or not isinstance(fields, dict):
        raise UsageError("capture: neither atEnd nor stream")
    as_bytes = fields.get("format") in ("bin", "binary")
    if name == "stream":
        return Capture(mode=CaptureMode.stream, limit=_limit(fields.get("limit"))), as_bytes
    for part, mode in (
        ("head", CaptureMode.head),
        ("tail", CaptureMode.tail),
        ("headTail", CaptureMode.head),
    ):
        if fields.get(part) is not None:
            return Capture(mode=mode, limit=_limit(fields[part])), as_bytes
    return Capture(), as_bytes


def _limit(given: object) -> int:
    if given is None:
        return CAPTURE_LIMIT
    if not isinstance(given, int) or given < 0:
        raise UsageError(f"capture: {given!r} is no number of bytes")
    return min(given, CAPTURE_LIMIT)


def _transfer(fields: Mapping[str, Any]) -> Transfer:
    unknown = [name for name in _ARCHIVES if fields.get(name) is not None]
    if unknown:
        raise UsageError(f"this provider transfers single files, without {', '.join(unknown)}")
    return Transfer(
        source=_inside(_text(fields.get("from"), "from")),
        target=_inside(_text(fields.get("to"), "to")),
    )


def _inside(address: str) -> str:
    """Return a path inside as we write it: ``container:/path``, also where it came as a URL."""
    scheme, colon, rest = address.partition(":")
    if scheme == "container" and colon:
        return f"container:/{rest.lstrip('/')}"
    return address


def _text(given: object, name: str) -> str:
    if not isinstance(given, str):
        raise UsageError(f"{name} is no text")
    return given


def _texts(given: object, name: str) -> tuple[str, ...]:
    if given is None:
        return ()
    if not isinstance(given, list) or not all(isinstance(one, str) for one in given):
        raise UsageError(f"{name} is no list of texts")
    return tuple(given)


def result_form(
    result: CommandResult, command: Command, wanted: Wanted, *, last: bool
) -> dict[str, object]:
    """Return a command's result as the daemon reads it."""
    stdout = result.stdout
    if isinstance(command, Deploy) and result.success and not stdout:
        stdout = json.dumps({"valid": {"Ok": ""}, "vols": [], "startMode": "blocking"})
    return {
        "index": result.index,
        "result": "Ok" if result.success else "Error",
        "stdout": _output(stdout, "stdout", wanted),
        "stderr": _output(result.stderr, "stderr", wanted),
        "message": result.message,
        "isBatchFinished": last or not result.success,
        "eventDate": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
    }


def _output(text: str, name: StreamName, wanted: Wanted) -> object:
    if name not in wanted.captured:
        return None
    return list(text.encode()) if name in wanted.binary else text


def started_form(batch_id: str, index: int, command: object) -> dict[str, object]:
    """Return the event that a command began; ``command`` is as it came."""
    return _event(batch_id, index, {"started": {"command": command}})


def output_form(batch_id: str, event: CommandOutput, text: str | None) -> dict[str, object]:
    """Return the event of a piece of output: as ``text``, or as bytes where that is ``None``."""
    return _event(batch_id, event.index, {event.stream: list(event.data) if text is None else text})


def progress_form(batch_id: str, event: CommandProgress) -> dict[str, object]:
    """Return the event of how far a command is."""
    progress = {
        "step": [0, 1],
        "message": None,
        "progress": [event.done, event.total],
        "unit": event.unit,
    }
    return _event(batch_id, event.index, {"progress": progress})


def finished_form(batch_id: str, result: CommandResult) -> dict[str, object]:
    """Return the event that a command ended."""
    code = result.return_code
    if code is None or (code == 0 and not result.success):
        code = 0 if result.success else 1
    kind = {"finished": {"return_code": code, "message": result.message}}
    return _event(batch_id, result.index, kind)


def _event(batch_id: str, index: int, kind: object) -> dict[str, object]:
    now = datetime.now(UTC).replace(tzinfo=None).isoformat()
    return {"batch_id": batch_id, "index": index, "timestamp": now, "kind": kind}
