"""One living bubblewrap sandbox, seen from the host.

Commands and transfers take turns. Nothing here polls: an end is an event of the launcher, output
is an event of the socket, and what a command ran into is read once, when it has ended.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING

from requestor_sdk.model.errors import CommandFailed, SandboxDied, SandboxError, TransferRefused
from requestor_sdk.ports.runtime import (
    ProcessExit,
    SandboxFile,
    SandboxListing,
    SandboxUsage,
)
from requestor_sdk.sandbox import _channel as wire
from requestor_sdk.sandbox._meter import Breaches, Meter
from requestor_sdk.sandbox._sockets import open_socket

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from requestor_sdk.ports.runtime import OutputSink, ProcessSpec, SandboxSpec
    from requestor_sdk.sandbox._channel import Channel
    from requestor_sdk.sandbox._zygote import Ended, Ticket, Zygote

_CHUNK = 64 * 1024
# Unwritten data of its file system may have to be thrown away first.
_CLOSE_S = 30.0
# No file of the base is larger.
_BASE_FILE = 1 << 30
_NOT_STARTED = 126
_CLOSED = "closed"
_NAME_MAX = 4096


class BubblewrapSandbox:
    """Implements ``requestor_sdk.ports.runtime.Sandbox``; made by ``BubblewrapRuntime.create``."""

    def __init__(
        self, spec: SandboxSpec, channel: Channel, zygote: Zygote, ticket: Ticket, meter: Meter
    ) -> None:
        self._spec = spec
        self._channel = channel
        self._zygote = zygote
        self._ticket = ticket
        self._meter = meter
        self._breaches = Breaches(spec.limits)
        self._turn = asyncio.Lock()
        self._next = 0
        self._command = 0
        self._reason = ""
        self._cause: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        channel.lost.add_done_callback(self._lost)
        ticket.ended.add_done_callback(self._ended)

    @property
    def name(self) -> str:
        """The name it was made with."""
        return self._spec.name

    @property
    def pid(self) -> int:
        """The sandbox's first process, in the host's numbering."""
        return self._meter.pid

    @property
    def alive(self) -> bool:
        """Whether it has not ended yet."""
        return not self._cause.done()

    @property
    def meter(self) -> Meter:
        """What reads its usage."""
        return self._meter

    # -- its end

    def _lost(self, lost: asyncio.Future[str]) -> None:
        if lost.result() and not self._reason:
            self._reason = lost.result()
        self._zygote.kill(self._ticket)

    def _ended(self, ended: asyncio.Future[Ended]) -> None:
        result = ended.result()
        self._meter.settle(result.report)
        breach = self._breaches.tell(self._meter.counts(), full=False)
        told = self._reason or breach or result.error
        if not told:
            code = result.code - 128 if result.code > 128 else -result.code
            told = f"its first process was killed by signal {code}, from outside the sandbox"
            if not 0 < code < 65:
                told = f"its first process ended with status {result.code}"
        if not self._cause.done():
            self._cause.set_result(told)
        self._channel.close()

    def end(self, reason: str) -> None:
        """Kill it for that reason; ``wait_closed`` tells when it is gone."""
        self._reason = self._reason or reason
        if self.alive:
            self._meter.look()  # the last chance to see what it has stored
            self._zygote.kill(self._ticket)

    async def check_limits(self) -> None:
        """Look at what no control group or file system holds, and end the sandbox over it."""
        if not self.alive or not self._meter.needs_watching:
            return
        # A hostile tree of files may take long to look at; the loop must not wait for it.
        tree, storage = await asyncio.to_thread(self._meter.watch)
        limits = self._spec.limits
        if tree.memory > limits.memory and not self._meter.counts_memory:
            self.end(f"memory: over {_mib(limits.memory)}, killed")
        elif storage > limits.storage:
            self.end(f"storage: over {_mib(limits.storage)}, killed")

    async def wait_closed(self) -> str:
        """Wait until it has ended, and return the cause."""
        return await asyncio.shield(self._cause)

    async def close(self) -> None:
        """Kill everything inside and remove what it wrote.

        Raises:
            SandboxError: The kernel has not let go of it in time; the launcher keeps waiting.
        """
        self.end(_CLOSED)
        try:
            async with asyncio.timeout(_CLOSE_S):
                await self.wait_closed()
        except TimeoutError:
            raise SandboxError(
                f"the sandbox did not end within {_CLOSE_S:g} s", ids={"sandbox": self.name}
            ) from None

    async def _died(self) -> SandboxDied:
        cause = await self.wait_closed()
        return SandboxDied(f"the sandbox ended: {cause}", ids={"sandbox": self.name})

    # -- commands

    async def run(self, process: ProcessSpec, output: OutputSink) -> ProcessExit:
        """Run one command to its end. Commands queue in order."""
        config = self._spec.image.config if self._spec.image is not None else None
        # Not in the environment of the sandbox's first process: it is no program of the image.
        body = _encoded(process, config.env if config is not None else {})
        async with self._turn:
            ident = self._begin()
            try:
                await self._channel.send(wire.RUN, ident, body)
                self._command = ident
                return await self._follow(output)
            except ConnectionError:
                raise await self._died() from None
            except BaseException:
                self._channel.post(wire.KILL, ident)
                raise
            finally:
                self._command = 0
                self._channel.finish()

    def terminate(self) -> None:
        """Ask the running command to end."""
        if self._command:
            self._channel.post(wire.TERM, self._command)

    def _begin(self) -> int:
        self._next = self._next % 0xFFFFFFFF + 1
        self._channel.begin(self._next)
        return self._next

    async def _follow(self, output: OutputSink) -> ProcessExit:
        while True:
            kind, body = await self._channel.receive()
            if kind == wire.STDOUT:
                await output("stdout", body)
            elif kind == wire.STDERR:
                await output("stderr", body)
            elif kind == wire.EXIT:
                code = int.from_bytes(body[:4], "big", signed=True)
                return ProcessExit(return_code=code, breach=self._breach(failed=code != 0))
            elif kind == wire.FAILED:
                text = body.decode("utf-8", "replace").partition(":")[2]
                await output("stderr", f"the command could not be started: {text}\n".encode())
                return ProcessExit(return_code=_NOT_STARTED, breach=self._breach(failed=True))

    def _breach(self, *, failed: bool) -> str | None:
        full = failed and self._meter.storage_full()
        return self._breaches.tell(self._meter.counts(), full=full)

    # -- files

    async def write_file(
        self, path: str, chunks: AsyncIterator[bytes], *, mode: int = 0o644
    ) -> int:
        """Write a file inside; missing parent folders are made. Returns the bytes written."""
        async with self._turn:
            ident = self._begin()
            finished = False
            try:
                name = _encoded_path(path)
                await self._channel.send(wire.PUT, ident, mode.to_bytes(4, "big") + name)
                async for chunk in chunks:
                    for start in range(0, len(chunk), _CHUNK):
                        await self._channel.send(wire.DATA, ident, chunk[start : start + _CHUNK])
                    if self._channel.has_frame():
                        break  # it has failed already
                await self._channel.send(wire.END, ident)
                kind, body = await self._channel.receive()
                finished = True
                if kind == wire.DONE:
                    return int.from_bytes(body[:8], "big")
                raise self._failure(kind, body, f"write {path}")
            except ConnectionError:
                finished = True
                raise await self._died() from None
            finally:
                if not finished:
                    self._channel.post(wire.ABORT, ident)
                self._channel.finish()

    async def read_file(self, path: str) -> AsyncIterator[bytes]:
        """Read a regular file from inside, in chunks."""
        async with self._turn:
            ident = self._begin()
            finished, size = False, 0
            try:
                await self._channel.send(wire.GET, ident, _encoded_path(path))
                while True:
                    kind, body = await self._channel.receive()
                    if kind == wire.BYTES:
                        size += len(body)
                        self._check_size(size, path)
                        yield body
                        continue
                    finished = True
                    if kind == wire.DONE:
                        return
                    raise self._failure(kind, body, f"read {path}")
            except ConnectionError:
                finished = True
                raise await self._died() from None
            finally:
                if not finished:
                    self._channel.post(wire.KILL, ident)
                self._channel.finish()

    async def make_folder(self, path: str) -> None:
        """Make a folder inside, and those above it."""
        await self._ask(wire.MAKE, _encoded_path(path), f"make {path}", 0)

    async def list_files(self, path: str, *, limit: int) -> SandboxListing:
        """Tell of the regular files below a folder."""
        body = limit.to_bytes(4, "big") + _encoded_path(path)
        entries, left_out = await self._ask(wire.LIST, body, f"list {path}", limit)
        found: dict[str, int] = {}
        for entry in entries:
            name = os.fsdecode(entry[8:])
            if not _possible(name) or name in found:
                raise TransferRefused(
                    f"list {path}: a name that no file can have", ids={"sandbox": self.name}
                )
            found[name] = int.from_bytes(entry[:8], "big")
        files = tuple(SandboxFile(name=name, size=found[name]) for name in sorted(found))
        return SandboxListing(files=files, left_out=left_out)

    async def _ask(
        self, kind: int, body: bytes, command: str, limit: int
    ) -> tuple[list[bytes], int]:
        """Make a request that is answered by entries, so many at most, and a number."""
        async with self._turn:
            ident = self._begin()
            finished, entries = False, list[bytes]()
            try:
                await self._channel.send(kind, ident, body)
                while True:
                    answer, said = await self._channel.receive()
                    fits = len(entries) < limit and len(said) <= 8 + _NAME_MAX
                    if answer == wire.ENTRY and fits:
                        entries.append(said)
                        continue
                    finished = answer != wire.ENTRY
                    if answer == wire.DONE:
                        return entries, int.from_bytes(said[:8], "big")
                    if not finished:
                        answer, said = wire.REFUSED, f"has more than {limit} entries".encode()
                    raise self._failure(answer, said, command)
            except ConnectionError:
                finished = True
                raise await self._died() from None
            finally:
                if not finished:
                    self._channel.post(wire.KILL, ident)
                self._channel.finish()

    def _check_size(self, size: int, path: str) -> None:
        """Refuse what can be no real file: holes, or an init that makes its content up."""
        image = self._spec.image.size if self._spec.image is not None else 0
        if size > self._spec.limits.storage + image + _BASE_FILE:
            raise TransferRefused(
                f"read {path}: the file has more bytes than the sandbox can store",
                ids={"sandbox": self.name},
            )

    def _failure(self, kind: int, body: bytes, command: str) -> Exception:
        text = body.decode("utf-8", "replace")
        ids = {"sandbox": self.name}
        if kind == wire.REFUSED:
            return TransferRefused(f"{command}: the path {text}", ids=ids)
        code, _, said = text.partition(":")
        if code == "ENOSPC":
            said += f" (storage: {_mib(self._spec.limits.storage)})"
        return CommandFailed(f"{command}: {said}", command=command, stderr=said, ids=ids)

    def open_socket(self, path: str) -> int:
        """Return a descriptor of a unix socket inside."""
        return open_socket(Path(f"/proc/{self.pid}/root"), path)

    def usage(self) -> SandboxUsage:
        """Return what was used so far; still answers after the end."""
        return self._meter.usage()


def _mib(size: int) -> str:
    return f"{size / (1 << 20):g} MiB"


def _possible(name: str) -> bool:
    """Whether a sandbox can have a file of that name below a folder."""
    parts = name.split("/")
    return len(name) <= _NAME_MAX and "\0" not in name and not {"", ".", ".."} & set(parts)


def _encoded_path(path: str) -> bytes:
    if "\0" in path:
        raise TransferRefused("the path has a zero byte")
    return path.encode("utf-8", "surrogateescape")


def _encoded(process: ProcessSpec, given: Mapping[str, str]) -> bytes:
    env = [f"{name}={value}" for name, value in {**given, **process.env}.items()]
    fields = [process.cwd, str(len(process.argv)), *process.argv, *env, ""]
    body = "\0".join(fields).encode("utf-8", "surrogateescape")
    command = " ".join(process.argv)
    if not process.argv or body.count(0) != len(fields) - 1:
        raise CommandFailed(f"no command, or one with a zero byte: {command!r}", command=command)
    if len(body) > wire.MAX_FRAME - 5:
        raise CommandFailed("the argument list is too long", command=command[:200])
    return body
