"""The work context: an instance's way to its provider, for one attempt."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from requestor_sdk.model.script import Capture, CaptureMode, CommandResult
from requestor_sdk.service.script import DOWNLOAD_LIMIT, OutputConsumer, Script

if TYPE_CHECKING:
    import os
    from pathlib import Path

    from requestor_sdk.model.market import ActivityState
    from requestor_sdk.model.script import StreamName
    from requestor_sdk.service._handles import CommandHandle

T = TypeVar("T")


class Backend(Protocol):
    """What the engine gives a work context; users have no business with it."""

    def check_available(self) -> None:
        """Raise ``NotAvailable`` where the instance takes no commands."""
        ...

    def submit(self, script: Script) -> None:
        """Queue a script."""
        ...

    def when_done(self, handle: CommandHandle[T], callback: Callable[[T], Awaitable[None]]) -> None:
        """Have a callback awaited with a command's value, by a task that the engine owns."""
        ...

    async def raw_state(self) -> ActivityState:
        """Ask the network for the activity's state."""
        ...

    def reach(self, path: str) -> int:
        """Return a descriptor of a unix socket of the instance."""
        ...


class WorkContext:
    """An instance's way to its provider.

    ``new_script()`` makes batches to yield; ``await ctx.run(...)`` and the like do one command
    directly, in starting, running and stopping. In another state they raise ``NotAvailable``; where
    the command fails, ``CommandFailed`` or another ``ActivityError``.

    Attributes:
        id: Of the activity.
        activity_id: The same.
        agreement_id: Of the agreement.
        provider_id: The provider's identity.
        provider_name: What it calls itself.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        activity_id: str,
        agreement_id: str,
        provider_id: str,
        provider_name: str,
    ) -> None:
        self._backend = backend
        self.id: str = activity_id
        self.activity_id: str = activity_id
        self.agreement_id: str = agreement_id
        self.provider_id: str = provider_id
        self.provider_name: str = provider_name

    def __repr__(self) -> str:
        return f"<work context of activity {self.id} on {self.provider_name}>"

    def new_script(
        self, timeout: timedelta | float | None = None, wait_for_results: bool = True
    ) -> Script:
        """Make an empty batch.

        Args:
            timeout: Seconds, or a ``timedelta``, that it may take.
            wait_for_results: Whether the yield returns only when the batch is over.
        """
        return Script(self, timeout=timeout, wait_for_results=wait_for_results)

    def when_done(self, handle: CommandHandle[T], callback: Callable[[T], Awaitable[None]]) -> None:
        """Have a callback awaited with a command's value."""
        self._backend.when_done(handle, callback)

    async def get_raw_state(self) -> ActivityState:
        """Ask the network for the state of the activity."""
        return await self._backend.raw_state()

    def reach(self, path: str) -> int:
        """Return a descriptor of a unix socket of the instance.

        Connect to ``/proc/self/fd/N`` with it, and close it.

        Args:
            path: Absolute, inside.

        Raises:
            NotSupported: This network cannot.
            NotAvailable: There is no such socket now.
            TransferRefused: What is there is no socket.
        """
        return self._backend.reach(path)

    async def send(self, script: Script) -> None:
        """Send a script now and wait until it is over.

        Raises:
            NotAvailable: The instance is not starting, running or stopping.
            ActivityError: The batch failed.
        """
        self._backend.check_available()
        self._backend.submit(script)
        await script.results

    async def run(
        self,
        cmd: str,
        *args: str,
        env: Mapping[str, str] | None = None,
        stdout: Capture | None = None,
        stderr: Capture | None = None,
        timeout: timedelta | float | None = None,
    ) -> CommandResult:
        """Run one program to its end; see ``Script.run``."""
        script = self.new_script(timeout)
        return await self._one(
            script, script.run(cmd, *args, env=env, stdout=stdout, stderr=stderr)
        )

    async def shell(
        self,
        line: str,
        *,
        env: Mapping[str, str] | None = None,
        timeout: timedelta | float | None = None,
    ) -> CommandResult:
        """Run one line by ``/bin/sh -c``."""
        script = self.new_script(timeout)
        return await self._one(script, script.shell(line, env=env))

    async def upload_file(self, src_path: str | os.PathLike[str], dst_path: str) -> None:
        """Copy a file of this machine to the instance."""
        script = self.new_script()
        await self._one(script, script.upload_file(src_path, dst_path))

    async def upload_bytes(self, data: bytes, dst_path: str) -> None:
        """Write bytes to a path of the instance."""
        script = self.new_script()
        await self._one(script, script.upload_bytes(data, dst_path))

    async def upload_json(self, data: object, dst_path: str) -> None:
        """Write a value as JSON to a path of the instance."""
        script = self.new_script()
        await self._one(script, script.upload_json(data, dst_path))

    async def download_file(self, src_path: str, dst_path: str | os.PathLike[str]) -> Path:
        """Copy a file of the instance to this machine."""
        script = self.new_script()
        return await self._one(script, script.download_file(src_path, dst_path))

    async def download_bytes(self, src_path: str, limit: int = DOWNLOAD_LIMIT) -> bytes:
        """Read a file of the instance into memory."""
        script = self.new_script()
        return await self._one(script, script.download_bytes(src_path, limit=limit))

    async def download_json(self, src_path: str, limit: int = DOWNLOAD_LIMIT) -> Any:
        """Read a JSON file of the instance."""
        script = self.new_script()
        return await self._one(script, script.download_json(src_path, limit=limit))

    def stream(
        self, cmd: str, *args: str, env: Mapping[str, str] | None = None
    ) -> AsyncIterator[str]:
        """Run a program and give its output line by line, as it comes, both outputs together.

        Raises ``CommandFailed`` after the last line where the exit status is not zero. A reader
        that is slow slows the program; one that goes away does not.
        """
        return _Stream(self, self._backend, cmd, args, env)

    async def _one(self, script: Script, handle: CommandHandle[T]) -> T:
        self._backend.check_available()
        self._backend.submit(script)
        return await handle


class _Stream(AsyncIterator[str]):
    """The lines of one program, which is sent at the first reading.

    No generator: a handler that breaks off its reading lets go of this at once, and the program
    must not wait for it any longer.
    """

    def __init__(
        self,
        context: WorkContext,
        backend: Backend,
        cmd: str,
        args: tuple[str, ...],
        env: Mapping[str, str] | None,
    ) -> None:
        self._backend = backend
        self._lines = _Lines()
        self._sent = False
        self._script = context.new_script()
        capture = Capture(mode=CaptureMode.stream)
        self._handle = self._script.run(
            cmd, *args, env=env, stdout=capture, stderr=capture, on_output=self._lines.feed
        )

    async def __anext__(self) -> str:
        if not self._sent:
            self._sent = True
            self._backend.check_available()
            self._backend.submit(self._script)
            self._script.results.on_done(self._lines.end)
        line = await self._lines.next()
        if line is None:
            await self._handle
            raise StopAsyncIteration
        return line

    async def aclose(self) -> None:
        self._lines.end()

    def __del__(self) -> None:
        self._lines.end()


_LINE = 64 * 1024
"""Bytes of a line that has no end yet, above which it is passed on in pieces."""


class _Lines:
    """A bounded queue of the lines of two outputs."""

    def __init__(self, most: int = 256) -> None:
        self._most = most
        self._lines: deque[str] = deque()
        self._rest = {"stdout": b"", "stderr": b""}
        self._over = False
        self._changed = asyncio.Event()

    async def feed(self, stream: StreamName, data: bytes) -> None:
        *whole, rest = (self._rest[stream] + data).split(b"\n")
        # A line without an end may not grow for ever: it is passed on in pieces.
        while len(rest) > _LINE:
            whole.append(rest[:_LINE])
            rest = rest[_LINE:]
        self._rest[stream] = rest
        for line in whole:
            while len(self._lines) >= self._most and not self._over:
                self._changed.clear()
                await self._changed.wait()
            if not self._over:
                self._lines.append(line.decode(errors="replace"))
                self._changed.set()

    def end(self) -> None:
        if self._over:
            return
        self._lines.extend(rest.decode(errors="replace") for rest in self._rest.values() if rest)
        self._over = True
        self._changed.set()

    async def next(self) -> str | None:
        while not self._lines:
            if self._over:
                return None
            self._changed.clear()
            await self._changed.wait()
        self._changed.set()
        return self._lines.popleft()


__all__ = ["Backend", "OutputConsumer", "WorkContext"]
