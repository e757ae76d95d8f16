"""What the tests of sandboxes share: running things inside, and looking for what is left."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from requestor_sdk.model.errors import SandboxUnavailable
from requestor_sdk.ports.runtime import ProcessExit, ProcessSpec, Sandbox
from requestor_sdk.sandbox._bubblewrap import find_bwrap
from requestor_sdk.sandbox._cgroups import Cgroups

MIB = 1 << 20


@dataclass
class Output:
    stdout: bytes = b""
    stderr: bytes = b""
    chunks: list[bytes] = field(default_factory=list)

    async def __call__(self, stream: str, data: bytes) -> None:
        self.chunks.append(data)
        if stream == "stdout":
            self.stdout += data
        else:
            self.stderr += data


@dataclass
class Ran:
    exit: ProcessExit
    stdout: str
    stderr: str


async def run(box: Sandbox, *argv: str, **spec: object) -> Ran:
    output = Output()
    ended = await box.run(ProcessSpec(argv=argv, **spec), output)  # type: ignore[arg-type]
    return Ran(ended, output.stdout.decode(), output.stderr.decode())


async def shell(box: Sandbox, line: str) -> Ran:
    return await run(box, "/bin/sh", "-c", line)


async def python(box: Sandbox, code: str) -> Ran:
    return await run(
        box, str(Path(sys.base_prefix, "bin", f"python3.{sys.version_info[1]}")), "-c", code
    )


@functools.cache
def possible(kind: str = "bubblewrap") -> bool:
    """Whether that program by itself can make a sandbox on this machine."""
    if kind == "runc":
        return bool(shutil.which("runc")) and os.geteuid() == 0 and Cgroups().limits_memory
    try:
        bwrap = str(find_bwrap())
    except SandboxUnavailable:
        return False
    argv = [bwrap, "--unshare-all", "--ro-bind", "/", "/", "--proc", "/proc", "true"]
    return subprocess.run(argv, capture_output=True, check=False).returncode == 0


def groups() -> set[str]:
    found = set()
    for root in Path("/sys/fs/cgroup").glob("*"):
        for path, folders, _ in os.walk(root):
            found |= {
                f"{path}/{name}"
                for name in folders
                if name.startswith(f"requestor-sdk-{os.getpid()}-")
            }
    return found


def loops(below: Path) -> list[str]:
    backing = [
        path.read_text().strip() for path in Path("/sys/block").glob("loop*/loop/backing_file")
    ]
    return [name for name in backing if str(below) in name]
