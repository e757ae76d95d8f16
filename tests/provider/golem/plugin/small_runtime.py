"""A runtime of one's own: programs are words that it knows, files a dictionary in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from requestor_sdk.model.errors import CommandFailed
from requestor_sdk.ports.runtime import (
    Capability,
    OutputSink,
    ProcessExit,
    ProcessSpec,
    SandboxSpec,
    SandboxUsage,
)


class SmallSandbox:
    """What a runtime makes: one an activity."""

    pid = 0

    def __init__(self, spec: SandboxSpec) -> None:
        self.name = spec.name
        self._files: dict[str, bytes] = {}
        self._ended = asyncio.Event()

    async def run(self, process: ProcessSpec, output: OutputSink) -> ProcessExit:
        if process.argv[0] == "shout":
            await output("stdout", " ".join(process.argv[1:]).upper().encode())
            return ProcessExit(return_code=0)
        if process.argv[0] == "wait":
            await asyncio.Event().wait()
        return ProcessExit(return_code=127)

    async def write_file(
        self, path: str, chunks: AsyncIterator[bytes], *, mode: int = 0o644
    ) -> int:
        self._files[path] = b"".join([chunk async for chunk in chunks])
        return len(self._files[path])

    async def read_file(self, path: str) -> AsyncIterator[bytes]:
        if path not in self._files:
            raise CommandFailed(f"{path}: no such file")
        yield self._files[path]

    def usage(self) -> SandboxUsage:
        return SandboxUsage(cpu_sec=0.0)

    async def wait_closed(self) -> str:
        await self._ended.wait()
        return "closed"

    async def close(self) -> None:
        self._ended.set()


class SmallRuntime:
    """The runtime."""

    name = "small"
    isolates = True

    async def open(self) -> None:
        pass

    async def capabilities(self) -> tuple[Capability, ...]:
        return ()

    async def create(self, spec: SandboxSpec) -> SmallSandbox:
        return SmallSandbox(spec)

    async def close(self) -> None:
        pass


def make() -> SmallRuntime:
    return SmallRuntime()


def make_open() -> SmallRuntime:
    """Return one that keeps payloads from nothing."""
    made = SmallRuntime()
    made.isolates = False
    return made
