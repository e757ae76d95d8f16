"""The command of an op: what goes in beside a job's files, what comes out, the events it tells of.

What it writes is hostile; an event is told of only where its line begins with a prefix that is made
anew for each run, so that printing something by accident tells of nothing.
"""

from __future__ import annotations

import os
import secrets
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from requestor_sdk.model.errors import CommandFailed, TransferRefused
from requestor_sdk.model.parsing import parse_json
from requestor_sdk.worker._attempt import Failed
from requestor_sdk.worker._job import finish, prepare, run_command
from requestor_sdk.worker._plain import NotPlain, plain_object

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from requestor_sdk.ports.runtime import Sandbox
    from requestor_sdk.ports.worker import Completion
    from requestor_sdk.worker._attempt import Attempt
    from requestor_sdk.worker.execution_pipeline.types.context import ExecutionContext

EVENT_PREFIX: Final = "GYOZA_EVENT_PREFIX"
"""The variable that has what a line begins with that tells of an event."""
OUTPUT_PATH: Final = "GYOZA_OUTPUT_PATH"
OUTPUT_BYTES: Final = (2 << 20) + 1
"""Bytes that are copied of an op's outputs: one more than are taken."""
LINE_BYTES: Final = 16 * 1024
"""Bytes that a line with an event may have."""
KINDS: Final = frozenset({"INFO", "PROGRESS", "ERROR"})
"""The types of events that an op can tell of."""
_CHUNK = 256 * 1024
_MESSAGE = 8_000


class EventLines:
    """Takes lines that are events out of what a command writes; the rest is its log.

    Args:
        attempt: Whose events they are.
        prefix: What such a line begins with.
    """

    def __init__(self, attempt: Attempt, prefix: bytes) -> None:
        self._attempt = attempt
        self._prefix = prefix
        self._held = b""
        self._within = False  # a line that is none, whose beginning was logged already

    async def __call__(self, stream: str, data: bytes) -> None:
        """Take a piece of output."""
        if stream != "stdout":
            await self._attempt.teller.log(data, stream)
            return
        log = bytearray()
        *lines, rest = (self._held + data).split(b"\n")
        for line in lines:
            if self._within or not self._event(line):
                log += line + b"\n"
            self._within = False
        if self._within or not self._may_be(rest):
            log += rest
            self._within = self._within or bool(rest)
            rest = b""
        self._held = rest
        if log:
            await self._attempt.teller.log(bytes(log))

    def _may_be(self, rest: bytes) -> bool:
        """Whether a line that is not whole yet may become an event."""
        size = len(self._prefix)
        return len(rest) <= LINE_BYTES and rest[:size] == self._prefix[: len(rest)]

    def _event(self, line: bytes) -> bool:
        """Tell of an event; false where the line is none."""
        if not line.startswith(self._prefix) or len(line) > LINE_BYTES:
            return False
        try:
            said = plain_object(parse_json(line[len(self._prefix) :]))
        except (NotPlain, ValueError, RecursionError):
            return False
        return tell(self._attempt, said)

    async def end(self) -> None:
        """Take the last line, which no line's end follows."""
        held, self._held = self._held, b""
        if held and not self._event(held):
            await self._attempt.teller.log(held)


def tell(attempt: Attempt, said: dict[str, Any]) -> bool:
    """Tell of an event of an op; false where it is none."""
    kind, message, payload = said.get("type"), said.get("message", ""), said.get("payload", {})
    if kind not in KINDS or not isinstance(payload, dict):
        return False
    if kind == "PROGRESS":
        if isinstance(message, bool) or not isinstance(message, int | float | str):
            return False
        try:
            part = min(100.0, max(0.0, float(message)))
        except ValueError:
            return False
        if attempt.holding is not None:
            attempt.holding.progress = part / 100
    attempt.teller.event(kind, str(message)[:_MESSAGE], payload)
    return True


async def run_op(attempt: Attempt, ctx: ExecutionContext) -> Completion:
    """Run the command of a context in a sandbox; set its log and exit code.

    Raises:
        Failed: It could not be run.
        Stopped: The attempt was stopped before it ran.
    """
    spec = attempt.claim.spec
    async with AsyncExitStack() as stack:
        ready = await prepare(attempt, stack, image=ctx.image, told=False)
        for host, inside in ctx.volumes.items():
            await _copy_in(ready.box, Path(host), inside)
        prefix = f"@{secrets.token_hex(12)} "
        lines = EventLines(attempt, prefix.encode())
        env = {**ctx.env_vars, EVENT_PREFIX: prefix}
        argv = tuple(spec.command) or ready.own_command
        ended = await run_command(attempt, ready, argv, env, lines)
        await lines.end()
        if ended.box_lives and not attempt.gone:
            await _copy_out(ready.box, ctx)
        completion = await finish(attempt, ready.box, ended)
    ctx.exit_code = completion.exit_code
    if ctx.exit_code == 0 and completion.reason:
        ctx.exit_code = None  # its outputs were refused, it was stopped, or its time was over
    ctx.logs = attempt.teller.tail(spec.log_limit).decode("utf-8", "replace")
    return completion


async def _copy_in(box: Sandbox, folder: Path, inside: str) -> None:
    try:
        await box.make_folder(inside)
        for path in _regular(folder):
            where = f"{inside.rstrip('/')}/{path.relative_to(folder).as_posix()}"
            await box.write_file(where, _chunks(path))
    except (CommandFailed, TransferRefused) as error:
        raise Failed("input_failed", error.message) from error


def _regular(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder; a link among them leads to none."""
    for here, _, names in os.walk(folder):
        for name in names:
            path = Path(here, name)
            if path.is_file() and not path.is_symlink():
                yield path


async def _chunks(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk


async def _copy_out(box: Sandbox, ctx: ExecutionContext) -> None:
    """Copy the file with the outputs to where its volume is; none is no failure."""
    inside = ctx.env_vars.get(OUTPUT_PATH, "")
    for host, where in ctx.volumes.items():
        if not inside.startswith(f"{where.rstrip('/')}/"):
            continue
        name = inside[len(where.rstrip("/")) + 1 :]
        if "/" in name or name in ("", ".", ".."):
            raise Failed("outputs_invalid", f"{OUTPUT_PATH} is no file of the folder itself")
        try:
            await _save(box, inside, Path(host, name))
        except CommandFailed:
            return
        except TransferRefused as error:
            raise Failed("outputs_invalid", error.message) from error


async def _save(box: Sandbox, inside: str, target: Path) -> None:
    size = 0
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
    chunks = box.read_file(inside)
    first = await anext(chunks, b"")
    with os.fdopen(os.open(target, flags, 0o600), "wb") as file:
        file.write(first)
        size += len(first)
        async for chunk in chunks:
            size += len(chunk)
            file.write(chunk)
            if size >= OUTPUT_BYTES:
                return
