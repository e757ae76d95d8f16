"""What a sandbox does to a payload that means harm: it is contained, and told on."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

import pytest
from sandboxing import MIB, python, run, shell

from requestor_sdk.model.errors import CommandFailed, SandboxDied
from requestor_sdk.ports.runtime import SandboxLimits, SandboxSpec
from requestor_sdk.sandbox import BubblewrapRuntime

pytestmark = pytest.mark.sandbox
CALLING = "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\n"


async def test_eating_memory_is_ended_and_told(make):
    box = await make(memory=64 * MIB)
    ran = await python(box, "b = []\nwhile True: b.append(bytearray(b'x' * (1 << 20)))")
    assert ran.exit.return_code == -9
    assert ran.exit.breach == "memory: over 64 MiB, killed"
    assert (await run(box, "echo", "on")).stdout == "on\n"


async def test_memory_eaten_through_shared_memory_counts_too(make):
    box = await make(memory=64 * MIB)
    await shell(box, "head -c 200000000 /dev/zero > /dev/shm/x")
    assert (await run(box, "stat", "-c", "%s", "/dev/shm/x")).stdout.strip() != "200000000"
    ran = await python(
        box,
        "import os\nfd = os.memfd_create('x')\nwhile True: os.write(fd, b'x' * (1 << 20))",
    )
    assert ran.exit.return_code != 0
    assert ran.exit.breach == "memory: over 64 MiB, killed"


async def test_memory_eaten_in_the_background_is_told_with_the_next_command(make):
    box = await make(memory=64 * MIB)
    ran = await shell(box, "head -c 500000000 /dev/zero | tail & wait; sleep 0.1")
    assert "memory" in (ran.exit.breach or "")


async def test_forking_without_end_is_refused_and_told(make):
    box = await make(processes=32)
    ran = await shell(box, "f() { f | f & }; f; exit 3")
    async with asyncio.timeout(10):
        while "processes: over 32" not in (ran.exit.breach or ""):
            ran = await shell(box, "sleep 0.1; exit 3")
    assert len(await _processes(box)) <= 34
    await asyncio.wait_for(box.close(), 5)


async def _processes(box):
    found, todo = [], [box.pid]
    while todo:
        pid = todo.pop()
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        except OSError:
            continue
        found.append(pid)
        todo += map(int, children)
    return found


async def test_a_command_that_cannot_be_forked_is_told_as_such(make):
    box = await make(processes=16)
    code = """
import os, time
if os.fork(): os._exit(0)
while True:
    try:
        if os.fork() == 0: time.sleep(600)
    except OSError: time.sleep(0.001)
"""
    await python(box, code)
    async with asyncio.timeout(10):
        while (ran := await run(box, "true")).exit.return_code == 0:
            pass
    assert ran.exit.return_code == 126
    assert "processes: over 16" in (ran.exit.breach or "")
    assert "could not be started" in ran.stderr


async def test_filling_the_disk_is_stopped_and_told(make):
    box = await make(storage=32 * MIB)
    ran = await python(
        box, "f = open('/tmp/f', 'wb')\nwhile True: f.write(b'x' * (1 << 20)); f.flush()"
    )
    assert ran.exit.return_code != 0
    assert ran.exit.breach == "storage: 32 MiB full"
    assert 30 * MIB < (box.usage().storage or 0) < 40 * MIB
    with pytest.raises(CommandFailed, match="storage: 32 MiB"):
        await box.write_file("/tmp/more", _endless())


async def _endless():
    for _ in range(1000):
        yield b"x" * MIB


async def test_more_storage_than_memory_can_be_written(make):
    box = await make(memory=32 * MIB, storage=256 * MIB)
    ran = await shell(box, "head -c 200000000 /dev/zero > /tmp/f && stat -c %s /tmp/f")
    assert ran.stdout == "200000000\n"
    assert ran.exit.breach is None


async def test_making_files_without_end_is_stopped_and_told(make):
    box = await make(storage=16 * MIB)
    ran = await python(box, "n = 0\nwhile True: open(f'/tmp/{n}', 'w').close(); n += 1")
    assert ran.exit.breach == "storage: 16 MiB full"


async def test_ignoring_sigterm_and_leaving_daemons_does_not_outlive_the_sandbox(make):
    box = await make()
    daemon = "setsid sh -c \"trap '' TERM; sleep 600 & sleep 600\" &"
    line = f"trap '' TERM HUP INT; {daemon} (sleep 600 &) ; sleep 0.1; exit 0"
    assert (await shell(box, line)).exit.return_code == 0
    pids = await _processes(box)
    assert len(pids) >= 4
    await asyncio.wait_for(box.close(), 5)
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


async def test_killing_everything_inside_does_not_reach_the_init(make):
    box = await make()
    ran = await shell(box, "kill -9 1; kill -9 -1; exit 0")
    assert ran.exit.return_code in (0, -9)
    assert (await run(box, "echo", "on")).stdout == "on\n"


async def test_the_processor_is_rationed(make):
    box = await make(cpu_threads=0.25)
    ran = await python(
        box,
        "import time\nend = time.monotonic() + 0.8\nwhile time.monotonic() < end: pass\n"
        "print(time.process_time())",
    )
    assert float(ran.stdout) < 0.5


HOST_FILES = [
    "/etc/shadow",
    "/root/.bashrc",
    "/root/.ssh",
    "/home/user/../../boot",
    "/sys",
    "/var/lib",
    "/proc/1/root/boot",
    "/proc/kcore",
    "/dev/vda",
    "/dev/mem",
    "/dev/loop-control",
    "/skeleton",
    "/rw",
    "/image",
]


async def test_the_hosts_files_are_not_there(box):
    for path in HOST_FILES:
        assert (await run(box, "cat", path)).exit.return_code != 0
        assert (await run(box, "ls", path + "/")).exit.return_code != 0


async def test_the_hosts_secrets_are_in_no_environment_and_no_mount(box, tmp_path, monkeypatch):
    monkeypatch.setenv("HOST_SECRET", "hush")
    ran = await shell(
        box,
        "cat /proc/*/environ /proc/*/cmdline /proc/mounts /proc/self/mountinfo | tr '\\0' '\\n'",
    )
    assert "hush" not in ran.stdout
    assert str(tmp_path) not in ran.stdout


async def test_all_that_is_of_the_host_is_mounted_read_only(box):
    lines = [line.split() for line in (await run(box, "cat", "/proc/mounts")).stdout.splitlines()]
    flags = {where: options.split(",") for _, where, _, options, *_ in lines}
    writable = {where for where, options in flags.items() if "rw" in options}
    nodes = {f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom", "tty")}
    assert writable <= {"/", "/proc", "/dev/pts", "/dev/shm", *nodes}
    assert "/usr" in flags
    assert all("nosuid" in options for options in flags.values())


async def test_it_runs_as_a_private_user_without_any_privilege(box):
    status = (await run(box, "cat", "/proc/self/status")).stdout
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert {fields[name] for name in ("CapPrm", "CapEff", "CapBnd", "CapInh", "CapAmb")} == {
        "0" * 16
    }
    assert (fields["NoNewPrivs"], fields["Seccomp"]) == ("1", "2")
    outside = Path(f"/proc/{box.pid}/status").read_text()
    uid = int(outside.split("Uid:")[1].split()[0])
    if os.geteuid() == 0:
        assert uid > 60000
    for kind in ("user", "pid", "net", "ipc", "uts", "mnt", "cgroup"):
        assert _namespace(box.pid, kind) != _namespace(os.getpid(), kind), kind


def _namespace(pid, kind):
    return str(Path(f"/proc/{pid}/ns/{kind}").readlink())


WAYS_OUT = [
    "libc.mount(b'none', b'/tmp', b'tmpfs', 0, None)",
    "libc.umount2(b'/proc', 2)",
    "libc.unshare(0x10000000)",
    "libc.unshare(0x40000000)",
    "libc.setns(os.open('/proc/1/ns/net', 0), 0)",
    "libc.ptrace(16, 1, 0, 0)",
    "libc.chroot(b'/tmp')",
    "libc.syscall(56 if os.uname().machine == 'x86_64' else 220, 0x10000000 | 17, 0, 0, 0, 0)",
    "libc.syscall(438, 0, 0, 0)",
    "libc.syscall(425, 1, 0)",
    "libc.syscall(321 if os.uname().machine == 'x86_64' else 280, 0, 0, 0)",
    "libc.syscall(250 if os.uname().machine == 'x86_64' else 219, 0, 0, 0)",
    "libc.process_vm_readv(1, 0, 0, 0, 0, 0)",
    "libc.sethostname(b'evil', 4)",
    "libc.ioctl(0, 0x5412, b'x')",
    "libc.ioctl(0, ctypes.c_ulong(0x100005412), b'x')",
]


async def test_a_system_call_that_leads_out_is_denied(box):
    for call in WAYS_OUT:
        code = f"{CALLING}print({call}, ctypes.get_errno())"
        assert (await python(box, code)).stdout == "-1 1\n", call


async def test_clone3_is_not_there_so_that_its_flags_cannot_be_hidden(box):
    code = f"{CALLING}print(libc.syscall(435, 0, 0), ctypes.get_errno())"
    assert (await python(box, code)).stdout == "-1 38\n"


async def test_set_user_id_programs_give_nothing(box):
    assert (
        await shell(box, "cp /bin/sh /tmp/s; chmod 4755 /tmp/s; /tmp/s -p -c 'id -u'")
    ).stdout == "1000\n"


async def test_listening_is_seen_by_nobody_outside(box):
    code = (
        "import socket, subprocess, sys, time\n"
        "s = socket.create_server(('0.0.0.0', 48123)); print('listening', flush=True); "
        "c = socket.create_connection(('127.0.0.1', 48123)); print('looped'); time.sleep(60)"
    )
    task = asyncio.create_task(python(box, code))
    await asyncio.sleep(0.3)
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", 48123)) != 0
    await box.close()
    with pytest.raises(SandboxDied):
        await task


async def test_the_host_cannot_be_reached(box):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        code = (
            f"import socket\ntry: socket.create_connection(('127.0.0.1', {port}), 1); print('in')\n"
            "except OSError: print('out')"
        )
        assert (await python(box, code)).stdout == "out\n"


async def test_a_payload_cannot_speak_for_the_init(box):
    ran = await shell(
        box, "ls -l /proc/self/fd; for n in 3 4 5 6 7 8 9 10 11; do echo x >&$n; done 2>/dev/null"
    )
    assert "socket" not in ran.stdout
    assert (await run(box, "echo", "on")).stdout == "on\n"


async def test_output_without_end_is_not_kept_by_the_host(box):
    seen = 0

    async def count(stream, data):
        nonlocal seen
        seen += len(data)
        if seen > 64 * MIB:
            raise BufferError

    from requestor_sdk.ports.runtime import ProcessSpec

    with pytest.raises(BufferError):
        await box.run(ProcessSpec(argv=("cat", "/dev/zero")), count)
    assert (await run(box, "echo", "on")).stdout == "on\n"


async def test_where_no_file_system_can_be_mounted_a_watchdog_holds_the_storage(
    monkeypatch, tmp_path
):
    monkeypatch.setattr("requestor_sdk.sandbox._bubblewrap._find_mkfs", lambda: "/bin/false")
    runtime = BubblewrapRuntime(tmp_path)
    await runtime.open()
    assert not runtime.storage_is_mounted
    limits = SandboxLimits(memory=64 * MIB, storage=16 * MIB)
    box = await runtime.create(SandboxSpec(name="x", limits=limits))
    fill = "for n in $(seq 20); do head -c 4000000 /dev/zero > /tmp/$n; done; sleep 60"
    with pytest.raises(SandboxDied, match="storage: over 16 MiB, killed"):
        await shell(box, fill)
    box = await runtime.create(SandboxSpec(name="y", limits=limits))
    with pytest.raises(SandboxDied, match="storage: over 16 MiB, killed"):
        await python(box, "n = 0\nwhile True: open(f'/tmp/{n}', 'w').close(); n += 1")
    box = await runtime.create(SandboxSpec(name="z", limits=limits))
    hold = "fs = [open(f'/tmp/{n}', 'wb') for n in range(6)]\n"
    hold += (
        "for n, f in enumerate(fs): os.unlink(f'/tmp/{n}'); f.write(b'x' * (4 << 20)); f.flush()"
    )
    with pytest.raises(SandboxDied, match="storage: over 16 MiB, killed"):
        await python(box, f"import os, time\n{hold}\ntime.sleep(60)")
    box = await runtime.create(SandboxSpec(name="deep", limits=limits))
    nest = "import os\nos.chdir('/tmp')\n"
    nest += "for n in range(1500): os.mkdir('d'); os.chdir('d')\nos.chmod('.', 0)"
    assert (await python(box, nest)).exit.return_code == 0
    await runtime.close()
    assert not list((tmp_path / "run").iterdir())
