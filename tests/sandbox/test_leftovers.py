"""When the host process dies, by whatever cause, nothing of its sandboxes is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sandboxing import loops

from requestor_sdk.sandbox import BubblewrapRuntime

pytestmark = pytest.mark.sandbox

HOST = """
import asyncio, json, signal, sys
from pathlib import Path
from requestor_sdk.ports.runtime import ProcessSpec, SandboxLimits, SandboxSpec
from requestor_sdk.sandbox import BubblewrapRuntime, RuncRuntime

async def quiet(stream, data): pass

async def main():
    make = {"bubblewrap": BubblewrapRuntime, "runc": RuncRuntime}[sys.argv[2]]
    runtime = make(Path(sys.argv[1]))
    await runtime.open()
    limits = SandboxLimits(memory=64 << 20, storage=16 << 20)
    boxes = [await runtime.create(SandboxSpec(name=f"b{n}", limits=limits)) for n in range(3)]
    for box in boxes:
        line = "trap '' TERM; setsid sleep 600 & sleep 600 & sleep 0.05"
        await box.run(ProcessSpec(argv=("/bin/sh", "-c", line)), quiet)
    print(json.dumps({"launcher": runtime._zygote.pid}), flush=True)
    await asyncio.sleep(600)

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
asyncio.run(main())
"""


@pytest.fixture
def host(tmp_path: Path, runtime: BubblewrapRuntime, kind: str):
    home = tmp_path / "other"
    process = subprocess.Popen(
        [sys.executable, "-c", HOST, str(home), kind], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    said = json.loads(process.stdout.readline())
    yield process, home, said
    process.kill()
    process.wait()
    process.stdout.close()


def tree(pid: int) -> list[int]:
    found, todo = [], [pid]
    while todo:
        pid = todo.pop()
        found.append(pid)
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        todo += map(int, children)
    return found


def of_host(pid: int) -> list[str]:
    found = []
    for root in Path("/sys/fs/cgroup").glob("*"):
        for path, folders, _ in os.walk(root):
            found += [f"{path}/{n}" for n in folders if n.startswith(f"requestor-sdk-{pid}-")]
    return found


def wait_until(condition, seconds=10.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def gone(pids):
    return not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_a_host_killed_outright_leaves_no_process_mount_device_group_or_folder(host):
    process, home, said = host
    pids = tree(said["launcher"])
    assert len(pids) >= 3 * 3
    if os.geteuid() == 0:
        assert of_host(process.pid)
        assert loops(home)
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_until(lambda: gone(pids))
    wait_until(lambda: not list((home / "run").iterdir()))
    assert not of_host(process.pid)
    assert not loops(home)
    assert str(home) not in Path("/proc/self/mountinfo").read_text()


def test_a_host_killed_by_ctrl_c_leaves_nothing_either(host):
    process, home, said = host
    pids = tree(said["launcher"])
    os.kill(process.pid, signal.SIGINT)
    process.wait()
    wait_until(lambda: gone(pids) and not list((home / "run").iterdir()))
    assert not of_host(process.pid)


async def test_what_a_killed_launcher_left_is_cleared_by_the_next_runtime(host, runtime):
    process, home, said = host
    pids = tree(said["launcher"])
    process.send_signal(signal.SIGSTOP)  # so that the host cannot clear up either
    os.kill(said["launcher"], signal.SIGKILL)
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_until(lambda: gone(pids))
    assert list((home / "run").iterdir())
    after = type(runtime)(home)
    await after.open()
    assert len(list((home / "run").iterdir())) == 1
    assert not of_host(process.pid)
    await after.close()
    assert not list((home / "run").iterdir())


async def test_sandboxes_learn_that_their_launcher_is_gone(tmp_path, runtime):
    from requestor_sdk.ports.runtime import SandboxLimits, SandboxSpec

    other = type(runtime)(tmp_path / "other")
    await other.open()
    limits = SandboxLimits(memory=64 << 20, storage=16 << 20)
    box = await other.create(SandboxSpec(name="x", limits=limits))
    os.kill(other._zygote.pid, signal.SIGKILL)
    assert "launcher" in await box.wait_closed()
    await other.close()
    assert not list((tmp_path / "other/run").iterdir())
