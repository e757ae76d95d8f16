"""Tries a runtime, and tells what it really enforces.

Each row is the outcome of a payload that went for the limit, not of a look at the configuration.
Must leave nothing behind.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import tempfile
from typing import TYPE_CHECKING, Literal, Self

from requestor_sdk.model.errors import SandboxDied, SandboxUnavailable
from requestor_sdk.ports.runtime import (
    Capability,
    ProcessExit,
    ProcessSpec,
    SandboxLimits,
    SandboxSpec,
)
from requestor_sdk.sandbox._way_out import HINT, PROGRAM

if TYPE_CHECKING:
    from requestor_sdk.sandbox._bubblewrap import BubblewrapRuntime
    from requestor_sdk.sandbox._sandbox import BubblewrapSandbox

_MIB = 1 << 20
_LIMITS = SandboxLimits(memory=48 * _MIB, storage=24 * _MIB, cpu_threads=0.5, processes=24)
_TRY_S = 20.0
_EAT = "b=[]\nwhile True: b.append(bytearray(b'x'*(1<<20)))"
_FILL = "f=open('/tmp/f','wb')\nwhile True: f.write(b'x'*(1<<20)); f.flush()"
_FORK = """
import os,time,sys
for n in range(200):
    try: p = os.fork()
    except OSError: sys.exit(9)
    if p == 0: time.sleep(60); os._exit(0)
sys.exit(0)
"""
_SPIN = """
import time
end = time.monotonic() + 0.6
while time.monotonic() < end: pass
print(time.process_time())
"""
_SECRETS = """
import os,sys
bad = [p for p in sys.argv[1:] if os.path.exists(p)]
bad += [p for p in ('/etc/shadow', '/sys/kernel', '/var/lib', '/boot') if os.path.exists(p)]
bad += [v for v in os.environ if v.startswith('REQUESTOR_SDK_PROBE')]
print(bad); sys.exit(len(bad))
"""
_NETWORK = """
import os,sys
names = [line.split(':')[0].strip() for line in open('/proc/net/dev').readlines()[2:]]
print(names); sys.exit(names != ['lo'])
"""
_CAPS = """
import sys
s = dict(line.split(':', 1) for line in open('/proc/self/status'))
ok = all(int(s[n], 16) == 0 for n in ('CapPrm', 'CapEff', 'CapBnd', 'CapInh', 'CapAmb'))
sys.exit(not (ok and s['NoNewPrivs'].strip() == '1'))
"""
_FILTER = """
import sys
s = dict(line.split(':', 1) for line in open('/proc/self/status'))
sys.exit(s['Seccomp'].strip() != '2')
"""
_PROCESSES = """
import os,sys
pids = [int(n) for n in os.listdir('/proc') if n.isdigit()]
sys.exit(any(pid not in (1, os.getpid()) for pid in pids))
"""


async def make_one(runtime: BubblewrapRuntime) -> BubblewrapSandbox:
    """Make one sandbox, to see that it can be done; the caller closes it.

    Raises:
        SandboxUnavailable: It could not be made.
    """
    return await runtime.create(SandboxSpec(name=f"try-{secrets.token_hex(4)}", limits=_LIMITS))


async def capabilities(runtime: BubblewrapRuntime) -> tuple[Capability, ...]:
    """Try everything, side by side."""
    rows = (
        _isolation(runtime),
        _memory(runtime),
        _processes(runtime),
        _storage(runtime),
        _cpu(runtime),
        _public_only(runtime),
    )
    found: list[Capability] = []
    for part in await asyncio.gather(*rows):
        found.extend(part)
    return tuple(found)


class _Trial:
    """One sandbox to try something in."""

    def __init__(self, runtime: BubblewrapRuntime) -> None:
        self._runtime = runtime
        self.box: BubblewrapSandbox | None = None
        self.text = ""

    async def __aenter__(self) -> Self:
        name = f"try-{secrets.token_hex(4)}"
        self.box = await self._runtime.create(SandboxSpec(name=name, limits=_LIMITS))
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.box is not None:
            await self.box.close()

    async def _take(self, _: Literal["stdout", "stderr"], data: bytes) -> None:
        self.text = (self.text + data.decode("utf-8", "replace"))[-500:]

    async def python(self, code: str, *args: str) -> ProcessExit:
        """Run a few lines of Python; the sandbox's death counts as a breach."""
        assert self.box is not None
        self.text = ""
        python = self._runtime.interpreter
        spec = ProcessSpec(argv=(python, "-I", "-S", "-c", code, *args))
        try:
            async with asyncio.timeout(_TRY_S):
                return await self.box.run(spec, self._take)
        except TimeoutError:
            return ProcessExit(return_code=0, breach=None)
        except SandboxDied as error:
            return ProcessExit(return_code=-9, breach=error.message)


async def _isolation(runtime: BubblewrapRuntime) -> list[Capability]:
    with tempfile.NamedTemporaryFile(prefix="requestor-sdk-probe-") as secret:
        async with _Trial(runtime) as trial:
            files = await trial.python(_SECRETS, secret.name)
            seen = trial.text.strip()
            network = await trial.python(_NETWORK)
            caps = await trial.python(_CAPS)
            processes = await trial.python(_PROCESSES)
            filtered = await trial.python(_FILTER)
    root = os.geteuid() == 0
    user = "a private user of the host" if root else "a user namespace of this user"
    return [
        _row("file system", files.return_code == 0, f"own root, read-only base, {user}", seen),
        _row("no network", network.return_code == 0, "own network namespace", trial.text),
        _row("no privileges", caps.return_code == 0, "no capabilities, no new privileges", ""),
        _row("processes hidden", processes.return_code == 0, "own process namespace", ""),
        _row(
            "system-call filter",
            filtered.return_code == 0,
            "seccomp",
            "no filter is known for this processor",
            "use x86-64 or AArch64",
        ),
    ]


async def _public_only(runtime: BubblewrapRuntime) -> list[Capability]:
    spec = SandboxSpec(
        name=f"try-{secrets.token_hex(4)}", limits=_LIMITS, network=True, public_only=True
    )
    try:
        box = await runtime.create(spec)
    except SandboxUnavailable as error:
        return [_row("public network", False, PROGRAM, error.message, error.hint or HINT)]
    await box.close()
    return [_row("public network", True, f"{PROGRAM}, routes that lead nowhere", "")]


async def _memory(runtime: BubblewrapRuntime) -> list[Capability]:
    async with _Trial(runtime) as trial:
        end = await trial.python(_EAT)
    held = end.return_code != 0
    if runtime.cgroup_version:
        return [
            _row("memory limit", held and bool(end.breach), f"cgroup v{runtime.cgroup_version}", "")
        ]
    return [_row("memory limit", held, "RLIMIT_AS a process, a watchdog for their sum", "")]


async def _processes(runtime: BubblewrapRuntime) -> list[Capability]:
    async with _Trial(runtime) as trial:
        end = await trial.python(_FORK)
    how = f"cgroup v{runtime.cgroup_version}" if runtime.cgroup_version else "RLIMIT_NPROC"
    return [_row("process limit", end.return_code == 9, how, "forks were not refused")]


async def _storage(runtime: BubblewrapRuntime) -> list[Capability]:
    async with _Trial(runtime) as trial:
        end = await trial.python(_FILL)
    how = (
        "a file system of its own" if runtime.storage_is_mounted else "RLIMIT_FSIZE and a watchdog"
    )
    return [_row("storage limit", end.return_code != 0, how, "the disk could be filled")]


async def _cpu(runtime: BubblewrapRuntime) -> list[Capability]:
    async with _Trial(runtime) as trial:
        end = await trial.python(_SPIN)
        text = trial.text
    version = runtime.cgroup_version
    held = bool(version) and end.return_code == 0 and float(text or "9") < 0.5
    why = "no control group can be written" if not version else f"it had {text.strip()} s of 0.6 s"
    counted = "cgroup" if version else "the processes' own counters"
    return [
        _row("cpu limit", held, f"cgroup v{version}", why, _CGROUP_FIX),
        Capability(name="usage counted", enforced=True, how=f"{counted}, from outside"),
    ]


_CGROUP_FIX = "run as root, or in a systemd unit or container with delegated cgroups"


def _row(name: str, held: bool, how: str, why: str, fix: str = "") -> Capability:
    if held:
        return Capability(name=name, enforced=True, how=how)
    told = f"{how}: {why}" if why else f"{how}: it did not hold"
    return Capability(name=name, enforced=False, how=told, fix=fix or _CGROUP_FIX)
