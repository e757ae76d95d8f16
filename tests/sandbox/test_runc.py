"""The same sandboxes made by runc: what must hold for bubblewrap's must hold for these."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from sandbox.test_capabilities import (
    test_each_row_says_by_what_means_and_each_that_does_not_hold_names_its_fix,
    test_on_the_projects_ci_everything_is_enforced,
)
from sandbox.test_hostile import (
    test_all_that_is_of_the_host_is_mounted_read_only,
    test_eating_memory_is_ended_and_told,
    test_forking_without_end_is_refused_and_told,
    test_it_runs_as_a_private_user_without_any_privilege,
    test_memory_eaten_through_shared_memory_counts_too,
)
from sandbox.test_leftovers import (
    host,
    test_a_host_killed_outright_leaves_no_process_mount_device_group_or_folder,
    test_sandboxes_learn_that_their_launcher_is_gone,
    test_what_a_killed_launcher_left_is_cleared_by_the_next_runtime,
)
from sandboxing import MIB, python, run, shell

from requestor_sdk.model.errors import SandboxUnavailable, UsageError
from requestor_sdk.ports.runtime import ImageRef, SandboxLimits, SandboxSpec
from requestor_sdk.sandbox import BubblewrapRuntime, RuncRuntime, load_runtime, open_runtime
from requestor_sdk.sandbox._cgroups import Cgroups

pytestmark = pytest.mark.sandbox
__all__ = [
    "host",
    "test_a_host_killed_outright_leaves_no_process_mount_device_group_or_folder",
    "test_all_that_is_of_the_host_is_mounted_read_only",
    "test_each_row_says_by_what_means_and_each_that_does_not_hold_names_its_fix",
    "test_eating_memory_is_ended_and_told",
    "test_forking_without_end_is_refused_and_told",
    "test_it_runs_as_a_private_user_without_any_privilege",
    "test_memory_eaten_through_shared_memory_counts_too",
    "test_on_the_projects_ci_everything_is_enforced",
    "test_sandboxes_learn_that_their_launcher_is_gone",
    "test_what_a_killed_launcher_left_is_cleared_by_the_next_runtime",
]
LIMITS = SandboxLimits(memory=64 * MIB, storage=16 * MIB)


@pytest.fixture
def kind() -> str:
    return "runc"


async def test_runc_goes_away_and_the_sandbox_stays(make, runtime):
    box = await make()
    assert isinstance(runtime, RuncRuntime)
    assert (await shell(box, "sleep 600 & echo $$")).stdout
    parent = Path(f"/proc/{box.pid}/stat").read_text().rpartition(")")[2].split()[1]
    assert int(parent) == runtime._zygote.pid
    assert (await run(box, "cat", "/proc/1/cmdline")).stdout.count("inside.init")
    assert not list((runtime._home / "run").glob("*/state"))
    assert box.usage().cpu_sec > 0


async def test_a_sandbox_of_runc_that_is_killed_says_so_and_still_tells_its_usage(make):
    box = await make()
    await shell(box, "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done")
    os.kill(box.pid, 9)
    assert await box.wait_closed() == (
        "its first process was killed by signal 9, from outside the sandbox"
    )
    assert box.usage().cpu_sec > 0.01
    assert box.usage().memory_peak


@pytest.mark.parametrize("by_group", [True, False])
async def test_sandboxes_that_are_given_up_half_way_leave_nothing(runtime, by_group, tmp_path):
    if not by_group:  # as where the hierarchy of version 2 is not there, which kills all at once
        cgroups = Cgroups()
        cgroups.parents.pop("unified", None)
        runtime = RuncRuntime(tmp_path / "other", cgroups=cgroups)
        await runtime.open()
    await _give_up(runtime)
    await runtime.close()
    assert not _of_runc(runtime._stem)


def _of_runc(stem: str) -> list[str]:
    """What still runs of what runc has begun, also where it was killed meanwhile."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            said = (entry / "cgroup").read_text() + (entry / "cmdline").read_text()
        except OSError:
            continue
        if stem in said:
            found.append(said)
    return found


async def _give_up(runtime: RuncRuntime) -> None:
    async def one(number: int) -> None:
        try:
            async with asyncio.timeout(0.01 * number):
                box = await runtime.create(SandboxSpec(name=f"x{number}", limits=LIMITS))
        except TimeoutError:
            return
        await box.close()

    for number in range(0, 24, 2):
        await one(number)
    await asyncio.gather(*(one(number) for number in range(8)))


async def test_the_filter_is_runcs_own_whatever_the_first_process_is(runtime, make):
    runtime._means = replace(runtime._means, seccomp=None)  # so that ours puts none on top
    box = await make()
    status = (await run(box, "cat", "/proc/self/status")).stdout
    assert "Seccomp:\t2" in status
    assert "Seccomp_filters:\t1" in status
    code = """
import ctypes, errno, os, socket
libc = ctypes.CDLL(None, use_errno=True)
def call(*numbers):
    return 0 if libc.syscall(*map(ctypes.c_long, numbers)) >= 0 else ctypes.get_errno()
print([call(165, 0, 0, 0, 0, 0), call(272, 0x10000000), call(101, 0, 0, 0, 0)])
print([call(56, 0x10000000 | 17, 0, 0, 0, 0), call(435, 0, 0), call(206, 1, 0)])
print([call(16, 0, 0x5412, 0), call(16, 0, (1 << 32) | 0x5412, 0)])
for family in range(46):
    try: socket.socket(family, socket.SOCK_STREAM if family != 16 else socket.SOCK_RAW).close()
    except OSError as error: print(family, error.errno == errno.EAFNOSUPPORT, end=' ')
    else: print(family, 'open', end=' ')
"""
    if os.uname().machine != "x86_64":
        pytest.skip("the numbers of the calls are those of x86-64")
    lines = (await python(box, code)).stdout.splitlines()
    assert lines[:3] == ["[1, 1, 1]", "[1, 38, 38]", "[1, 1]"]
    told = lines[3].split()
    opened = [family for family, how in zip(told[::2], told[1::2], strict=True) if how == "open"]
    assert opened == ["1", "2", "10", "16"]
    assert "False" not in told


HANGING = """#!/bin/sh
for name; do :; done
sleep 600 &
for folder in $(find /sys/fs/cgroup -type d -name "$name"); do echo $! > $folder/cgroup.procs; done
wait
"""


async def test_what_a_runc_that_hangs_has_begun_is_ended_with_it(runtime, tmp_path):
    fake = tmp_path / "programs/runc"
    fake.parent.mkdir()
    fake.write_text(HANGING)
    fake.chmod(0o755)
    cgroups = Cgroups()
    cgroups.parents.pop("unified", None)
    other = RuncRuntime(tmp_path / "other", cgroups=cgroups)
    await other.open()
    other._means = replace(other._means, base=replace(other._means.base, program=fake))
    making = asyncio.create_task(other.create(SandboxSpec(name="x", limits=LIMITS)))
    async with asyncio.timeout(20):
        while not [said for said in _of_runc(other._stem) if "sleep" in said]:
            await asyncio.sleep(0.02)
    making.cancel()
    with pytest.raises(asyncio.CancelledError):
        await making
    assert not _of_runc(other._stem)
    await other.close()


async def test_what_runc_says_of_a_sandbox_that_it_cannot_make_is_told(runtime, tmp_path):
    (tmp_path / "root/bin").mkdir(parents=True)
    (tmp_path / "root/proc").write_text("no folder")
    image = ImageRef(hash="0" * 56, path=tmp_path / "root", kind="rootfs")
    with pytest.raises(SandboxUnavailable, match="proc"):
        await runtime.create(SandboxSpec(name="x", limits=LIMITS, image=image))
    box = await runtime.create(SandboxSpec(name="x", limits=LIMITS))
    await box.close()


async def test_where_runc_is_not_the_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    with pytest.raises(SandboxUnavailable, match="not installed") as caught:
        await RuncRuntime(tmp_path).open()
    if os.geteuid() == 0:
        assert caught.value.hint == "apt install runc"


def test_without_root_runc_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(SandboxUnavailable, match="needs root"):
        asyncio.run(RuncRuntime(tmp_path).open())


async def test_runc_is_taken_where_bubblewrap_is_not(runtime, tmp_path, monkeypatch):
    def none() -> Path:
        raise SandboxUnavailable("bubblewrap is not installed", hint="install it")

    monkeypatch.setenv("REQUESTOR_SDK_HOME", str(tmp_path / "chosen"))
    first = await open_runtime()
    monkeypatch.setattr("requestor_sdk.sandbox._bubblewrap.find_bwrap", none)
    second = await open_runtime()
    third = await open_runtime("runc")
    assert [first.name, second.name, third.name] == ["bubblewrap", "runc", "runc"]
    for opened in (first, second, third):
        await opened.close()
    with pytest.raises(SandboxUnavailable, match="bubblewrap"):
        await open_runtime("bubblewrap")
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    with pytest.raises(SandboxUnavailable, match="bubblewrap is not installed") as caught:
        await open_runtime()
    assert "--unsandboxed" in caught.value.hint
    plain = await open_runtime(allow_unsandboxed=True)
    assert plain.name == "process"
    await plain.close()


def test_a_runtime_that_nobody_brings_is_told_with_those_that_there_are():
    with pytest.raises(UsageError, match="there is bubblewrap, process, runc"):
        load_runtime("moby")
    with pytest.raises(UsageError, match="keep nothing"):
        load_runtime("process")
    assert load_runtime("process", allow_unsandboxed=True).isolates is False
    assert type(load_runtime("bubblewrap")) is BubblewrapRuntime


def test_runc_itself_works_here_or_these_tests_say_why_not():
    if shutil.which("runc") is None:
        pytest.skip("runc is not installed: apt install runc")
    said = subprocess.run(["runc", "--version"], capture_output=True, text=True, check=True)
    assert said.stdout.startswith("runc version")
