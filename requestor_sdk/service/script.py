"""Scripts: batches of commands that a handler yields.

    script = self.ctx.new_script()
    stats = script.run("/golem/run/stats.py", "--json")
    yield script
    print((await stats).stdout)

A batch runs in order and ends with the first command that fails. Batches of one instance queue.
"""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from requestor_sdk.model.errors import AmountError, CommandFailed, PayloadError, UploadUnreadable
from requestor_sdk.model.parsing import parse_json
from requestor_sdk.model.script import (
    CONTAINER,
    Capture,
    Command,
    CommandResult,
    Deploy,
    Run,
    Start,
    Terminate,
    Transfer,
    describe,
)
from requestor_sdk.service._handles import BatchHandle, CommandHandle

if TYPE_CHECKING:
    from requestor_sdk.model.script import StreamName
    from requestor_sdk.service.context import WorkContext

T = TypeVar("T")

DOWNLOAD_LIMIT = 64 * 1024 * 1024
"""Bytes that ``download_bytes`` and ``download_json`` take into memory by default."""

OutputConsumer = Callable[["StreamName", bytes], Awaitable[None]]
"""Takes pieces of output as they come."""


@dataclass(slots=True, kw_only=True)
class Item(Generic[T]):
    """One command of a script with what this side has to do for it.

    Attributes:
        command: What goes to the provider; a transfer's own side is filled in when it is sent.
        handle: The user's awaitable.
        finish: Makes the user's value of the result and what came down.
        upload: What to serve, for an upload.
        download: Where to put what comes, for a download; ``None`` keeps it in memory.
        downloads: Whether this is a download.
        limit: Bytes that may come down into memory.
        on_output: Takes output, where the capture mode is ``stream``.
    """

    command: Command
    handle: CommandHandle[T]
    finish: Callable[[CommandResult, bytes], T]
    upload: Path | bytes | None = None
    download: Path | None = None
    downloads: bool = False
    limit: int = DOWNLOAD_LIMIT
    on_output: OutputConsumer | None = None


class Script:
    """A batch of commands. Made by ``ctx.new_script()``; sent by yielding it, once.

    Args:
        context: The work context of the instance.
        timeout: Seconds, or a ``timedelta``, that the batch may take; ``None`` for no limit.
        wait_for_results: Whether the yield returns only when the batch is over.
    """

    def __init__(
        self,
        context: WorkContext,
        *,
        timeout: timedelta | float | None = None,
        wait_for_results: bool = True,
    ) -> None:
        self._context = context
        self.timeout: float | None = _seconds(timeout)
        self.wait_for_results = wait_for_results
        self.items: list[Item[Any]] = []
        self.results: BatchHandle = BatchHandle()
        self._sent = False

    @property
    def sent(self) -> bool:
        """Whether it was yielded."""
        return self._sent

    def mark_sent(self) -> None:
        """Called by the engine when it takes the script.

        Raises:
            PayloadError: It was sent before.
        """
        if self._sent:
            raise PayloadError(
                "a script can be yielded once", hint="make a new one with ctx.new_script()"
            )
        self._sent = True
        for item in self.items:
            item.handle.mark_sent()

    def __repr__(self) -> str:
        return f"<script {[describe(item.command) for item in self.items]}>"

    # Commands ------------------------------------------------------------------------------------

    def add(self, command: Command) -> CommandHandle[CommandResult]:
        """Add any command of ``requestor_sdk.model.script``."""
        return self._add(command, _whole)

    def deploy(self, **arguments: object) -> CommandHandle[CommandResult]:
        """Prepare the image on the provider."""
        return self._add(Deploy(arguments=arguments), _whole)

    def start(self, *args: str) -> CommandHandle[CommandResult]:
        """Start the runtime."""
        return self._add(Start(args=args), _whole)

    def terminate(self) -> CommandHandle[CommandResult]:
        """End the activity; nothing can follow."""
        return self._add(Terminate(), _whole)

    def run(
        self,
        cmd: str,
        *args: str,
        env: Mapping[str, str] | None = None,
        stdout: Capture | None = None,
        stderr: Capture | None = None,
        on_output: OutputConsumer | None = None,
    ) -> CommandHandle[CommandResult]:
        """Run a program to its end. No shell: each argument reaches it as it stands.

        Args:
            cmd: Path of the program inside, or its name in PATH.
            args: Its arguments.
            env: Variables of its environment.
            stdout: What of its standard output is kept; default all, up to 16 MiB.
            stderr: The same for standard error.
            on_output: Takes output as it comes, where the capture mode is ``stream``.

        Returns:
            The awaitable of the ``CommandResult``; raises ``CommandFailed`` where the exit status
            is not zero.
        """
        given: tuple[object, ...] = (cmd, *args)
        alien = [part for part in given if not isinstance(part, str | int | float | PurePath)]
        if alien:
            raise PayloadError(
                f"cannot run {given!r}: {alien[0]!r} is no string",
                hint="give each argument by itself: script.run('/bin/echo', 'one', 'two')",
            )
        argv = tuple(str(part) for part in given)
        if not cmd or any("\0" in part for part in argv):
            raise PayloadError(f"cannot run {argv!r}: empty, or a NUL character in an argument")
        command = Run(
            argv=argv,
            env={str(k): str(v) for k, v in (env or {}).items()},
            stdout=stdout or Capture(),
            stderr=stderr or Capture(),
        )
        return self._add(command, _whole, on_output=on_output)

    def shell(
        self,
        line: str,
        *,
        env: Mapping[str, str] | None = None,
        stdout: Capture | None = None,
        stderr: Capture | None = None,
        on_output: OutputConsumer | None = None,
    ) -> CommandHandle[CommandResult]:
        """Run a line by ``/bin/sh -c``."""
        return self.run(
            "/bin/sh", "-c", line, env=env, stdout=stdout, stderr=stderr, on_output=on_output
        )

    # Transfers -----------------------------------------------------------------------------------

    def upload_file(self, src_path: str | os.PathLike[str], dst_path: str) -> CommandHandle[None]:
        """Copy a file of this machine to a path of the instance.

        Raises:
            UploadUnreadable: At once, where the file cannot be read.
        """
        source = Path(src_path)
        if not source.is_file() or not os.access(source, os.R_OK):
            why = "there is no such file" if not source.exists() else "it is no readable file"
            raise UploadUnreadable(f"cannot upload {source}: {why}")
        return self._add(Transfer(source="", target=_inside(dst_path)), _nothing, upload=source)

    def upload_bytes(self, data: bytes, dst_path: str) -> CommandHandle[None]:
        """Write bytes to a path of the instance."""
        if not isinstance(data, bytes | bytearray | memoryview):
            raise PayloadError(
                f"upload_bytes takes bytes, not {type(data).__name__}",
                hint="text.encode(), or upload_json()",
            )
        return self._add(
            Transfer(source="", target=_inside(dst_path)), _nothing, upload=bytes(data)
        )

    def upload_json(self, data: object, dst_path: str) -> CommandHandle[None]:
        """Write a value as JSON to a path of the instance."""
        return self.upload_bytes(json.dumps(data).encode(), dst_path)

    def download_file(self, src_path: str, dst_path: str | os.PathLike[str]) -> CommandHandle[Path]:
        """Copy a file of the instance to this machine; gives the path."""
        target = Path(dst_path)
        if not target.parent.is_dir():
            raise PayloadError(f"cannot download to {target}: {target.parent} is no folder")

        def finish(_result: CommandResult, _content: bytes) -> Path:
            return target

        return self._add(
            Transfer(source=_inside(src_path), target=""), finish, downloads=True, download=target
        )

    def download_bytes(
        self,
        src_path: str,
        on_download: Callable[[bytes], Awaitable[None]] | None = None,
        limit: int = DOWNLOAD_LIMIT,
    ) -> CommandHandle[bytes]:
        """Read a file of the instance into memory; gives the bytes.

        Args:
            src_path: Where it is in the instance.
            on_download: Awaited with the bytes once they are there. What it raises ends the
                attempt.
            limit: Bytes at most; above it the command fails.
        """

        def finish(_result: CommandResult, content: bytes) -> bytes:
            return content

        return self._download(src_path, finish, on_download, limit)

    def download_json(
        self,
        src_path: str,
        on_download: Callable[[Any], Awaitable[None]] | None = None,
        limit: int = DOWNLOAD_LIMIT,
    ) -> CommandHandle[Any]:
        """Read a JSON file of the instance; gives the value. Otherwise like ``download_bytes``."""

        def finish(_result: CommandResult, content: bytes) -> Any:
            try:
                return parse_json(content)
            except ValueError as error:
                raise CommandFailed(
                    f"{src_path} holds no JSON: {error}", command=f"download {src_path}"
                ) from None

        return self._download(src_path, finish, on_download, limit)

    def _download(
        self,
        src_path: str,
        finish: Callable[[CommandResult, bytes], T],
        on_download: Callable[[T], Awaitable[None]] | None,
        limit: int,
    ) -> CommandHandle[T]:
        if limit <= 0:
            raise AmountError(f"limit must be positive, not {limit}")
        handle = self._add(
            Transfer(source=_inside(src_path), target=""), finish, downloads=True, limit=limit
        )
        if on_download is not None:
            self._context.when_done(handle, on_download)
        return handle

    def _add(
        self, command: Command, finish: Callable[[CommandResult, bytes], T], **rest: Any
    ) -> CommandHandle[T]:
        if self._sent:
            raise PayloadError("commands cannot be added to a script that was sent")
        handle: CommandHandle[T] = CommandHandle(describe(command))
        self.items.append(Item(command=command, handle=handle, finish=finish, **rest))
        return handle


def with_urls(item: Item[Any], *, source: str | None = None, target: str | None = None) -> Command:
    """Return an item's transfer with this side's URL filled in."""
    command = item.command
    assert isinstance(command, Transfer)
    return replace(command, source=source or command.source, target=target or command.target)


def _whole(result: CommandResult, _content: bytes) -> CommandResult:
    return result


def _nothing(_result: CommandResult, _content: bytes) -> None:
    return None


def _inside(path: str) -> str:
    if not path.startswith("/") or "\0" in path or ".." in path.split("/"):
        raise PayloadError(
            f"a path of the instance must be absolute and without '..': {path!r}",
            hint="for example /golem/work/data.bin",
        )
    return CONTAINER + path


def _seconds(value: timedelta | float | None) -> float | None:
    if value is None:
        return None
    seconds = value.total_seconds() if isinstance(value, timedelta) else float(value)
    if not seconds > 0:
        raise AmountError(f"a time-out must be positive, not {value!r}")
    return seconds
