"""A runtime without processes: programs are Python functions, files are a dictionary."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from requestor_sdk.model.errors import CommandFailed, SandboxDied, TransferRefused
from requestor_sdk.ports.runtime import (
    Capability,
    OutputSink,
    ProcessExit,
    ProcessSpec,
    SandboxSpec,
    SandboxUsage,
)

Program = Callable[["FakeSandbox", ProcessSpec, OutputSink], Awaitable[ProcessExit]]


async def _echo(sandbox, process, output):
    await output("stdout", " ".join(process.argv[1:]).encode() + b"\n")
    return ProcessExit(return_code=0)


async def _env(sandbox, process, output):
    for name, value in process.env.items():
        await output("stdout", f"{name}={value}\n".encode())
    return ProcessExit(return_code=0)


async def _false(sandbox, process, output):
    await output("stderr", b"no\n")
    return ProcessExit(return_code=1)


async def _true(sandbox, process, output):
    return ProcessExit(return_code=0)


async def _killed(sandbox, process, output):
    return ProcessExit(return_code=-9)


async def _greedy(sandbox, process, output):
    return ProcessExit(return_code=-9, breach="memory: over 64 MiB, killed")


async def _forever(sandbox, process, output):
    await asyncio.Event().wait()
    raise AssertionError


async def _pieces(sandbox, process, output):
    for piece in process.argv[1:]:
        await output("stdout", bytes.fromhex(piece))
    return ProcessExit(return_code=0)


PROGRAMS: dict[str, Program] = {
    "echo": _echo,
    "env": _env,
    "false": _false,
    "true": _true,
    "killed": _killed,
    "greedy": _greedy,
    "forever": _forever,
    "pieces": _pieces,
}


class FakeSandbox:
    def __init__(self, spec: SandboxSpec, programs: dict[str, Program]) -> None:
        self.spec = spec
        self.files: dict[str, bytes] = {}
        self.cpu_sec = 0.0
        self.closed = 0
        self._programs = programs
        self._ended = asyncio.Event()
        self._cause = ""

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def pid(self) -> int:
        return 2**31 - 7

    async def run(self, process, output):
        program = self._programs.get(process.argv[0])
        if program is None:
            raise CommandFailed(f"{process.argv[0]}: not found")
        running = asyncio.create_task(program(self, process, output))
        ended = asyncio.create_task(self._ended.wait())
        try:
            await asyncio.wait({running, ended}, return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                return running.result()
            raise SandboxDied(self._cause)
        finally:
            running.cancel()
            ended.cancel()
            await asyncio.wait({running, ended})

    async def write_file(self, path, chunks, *, mode=0o644):
        if ".." in path or not path.startswith("/"):
            raise TransferRefused(f"{path} leaves the activity")
        self.files[path] = b"".join([chunk async for chunk in chunks])
        return len(self.files[path])

    async def read_file(self, path) -> AsyncIterator[bytes]:
        if path not in self.files:
            raise CommandFailed(f"{path}: no such file")
        data = self.files[path]
        for start in range(0, len(data), 65536):
            yield data[start : start + 65536]

    def usage(self) -> SandboxUsage:
        return SandboxUsage(cpu_sec=self.cpu_sec)

    async def wait_closed(self) -> str:
        await self._ended.wait()
        return self._cause

    def die(self, cause: str) -> None:
        self._cause = cause
        self._ended.set()

    async def close(self) -> None:
        self.closed += 1
        self.die("closed")


class FakeRuntime:
    name = "fake"

    def __init__(self, *, isolates: bool = True) -> None:
        self.isolates = isolates
        self.programs = dict(PROGRAMS)
        self.made: list[FakeSandbox] = []
        self.opened = self.closed = 0

    async def open(self) -> None:
        self.opened += 1

    async def capabilities(self) -> tuple[Capability, ...]:
        return ()

    async def create(self, spec: SandboxSpec) -> FakeSandbox:
        sandbox = FakeSandbox(spec, self.programs)
        self.made.append(sandbox)
        return sandbox

    async def close(self) -> None:
        self.closed += 1
