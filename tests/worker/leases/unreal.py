"""A runtime without processes, and a queue that is away, slow, or loses its answers."""

from __future__ import annotations

import asyncio

from requestor_sdk.model.errors import (
    CommandFailed,
    ImageNotFound,
    NetworkInterrupted,
    NetworkUnreachable,
    SandboxDied,
)
from requestor_sdk.ports.runtime import (
    ProcessExit,
    SandboxFile,
    SandboxListing,
    SandboxUsage,
)

CALLS = frozenset(
    {"heartbeat", "claim", "renew", "stops", "release", "event", "log", "upload", "complete"}
)


class NoImages:
    """Knows the base only."""

    def find(self, name, *, checksum=""):
        if name.partition(":")[0] != "python":
            raise ImageNotFound(f"there is no image {name!r}")


class UnrealSandbox:
    """Its commands: ``sleep SECONDS``, ``print TEXT``, ``write PATH TEXT``, ``exit CODE``."""

    def __init__(self, runtime, spec):
        self.runtime = runtime
        self.spec = spec
        self.name = spec.name
        self.files = {}
        self.asked = asyncio.Event()
        self.died = asyncio.Event()

    async def run(self, process, output):
        for line in process.argv[2].split(";"):
            what, *words = line.split()
            if what == "sleep":
                async with asyncio.TaskGroup() as group:
                    ends = [group.create_task(e.wait()) for e in (self.asked, self.died)]
                    await asyncio.wait(
                        ends, timeout=float(words[0]), return_when=asyncio.FIRST_COMPLETED
                    )
                    for end in ends:
                        end.cancel()
                if self.died.is_set():
                    raise SandboxDied("the sandbox ended: memory: over 1 MiB, killed")
                if self.asked.is_set():
                    return ProcessExit(return_code=-15)
            elif what == "print":
                await output("stdout", f"{' '.join(words)}\n".encode())
            elif what == "write":
                self.files[words[0]] = " ".join(words[1:]).encode()
            elif what == "exit":
                return ProcessExit(return_code=int(words[0]))
        return ProcessExit(return_code=0)

    def terminate(self):
        self.asked.set()

    async def write_file(self, path, chunks, *, mode=0o644):
        self.files[path] = b"".join([chunk async for chunk in chunks])
        return len(self.files[path])

    async def read_file(self, path):
        if path not in self.files:
            raise CommandFailed(f"{path}: not there")
        yield self.files[path]

    async def make_folder(self, path):
        pass

    async def list_files(self, path, *, limit):
        await asyncio.sleep(self.runtime.list_sec)
        found = [
            SandboxFile(name=name[len(path) + 1 :], size=len(data))
            for name, data in self.files.items()
            if name.startswith(f"{path}/")
        ]
        return SandboxListing(files=tuple(found))

    def usage(self):
        return SandboxUsage(cpu_sec=1.0)

    async def close(self):
        self.runtime.living.discard(self)


class UnrealRuntime:
    name = "unreal"
    isolates = True

    def __init__(self):
        self.living = set()
        self.made = []
        self.list_sec = 0.0

    async def create(self, spec):
        assert spec.name not in {box.name for box in self.living}
        box = UnrealSandbox(self, spec)
        self.living.add(box)
        self.made.append(box)
        return box


class Faulty:
    """A queue whose calls can be made to fail, by name; ``calls`` notes each that got through.

    ``away``: they do not get there. ``lost``: they get there, and the answer does not come back.
    ``silent``: nothing comes back at all.
    """

    def __init__(self, queue):
        self._queue = queue
        self.away = set()
        self.lost = set()
        self.silent = set()
        self.calls = []

    def mend(self):
        for faults in (self.away, self.lost, self.silent):
            faults.clear()

    def cut(self, *names):
        """Make calls not get there; all of them where none is named."""
        self.away |= set(names or CALLS)

    def __getattr__(self, name):
        real = getattr(self._queue, name)
        if name in CALLS:

            async def call(*arguments, **named):
                if name in self.away:
                    raise NetworkUnreachable("away")
                if name in self.silent:
                    await asyncio.Event().wait()
                self.calls.append(name)
                result = await real(*arguments, **named)
                if name in self.lost:
                    raise NetworkInterrupted("lost")
                return result

            return call
        return real
