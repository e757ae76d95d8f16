"""Plain processes, for one's own scripts: no isolation, but nothing is left behind."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest
from sandboxing import run, shell

from requestor_sdk.model.errors import CommandFailed, SandboxDied, TransferRefused
from requestor_sdk.ports.runtime import ProcessSpec, SandboxLimits, SandboxSpec
from requestor_sdk.sandbox import ImageStore, ProcessRuntime

LIMITS = SandboxLimits(memory=1 << 26, storage=1 << 26)


@pytest.fixture
async def runtime(tmp_path):
    made = ProcessRuntime(tmp_path / "home")
    await made.open()
    yield made
    await made.close()
    assert not list((tmp_path / "home/run").iterdir())


@pytest.fixture
async def box(runtime, tmp_path):
    root = tmp_path / "image/golem/run"
    root.mkdir(parents=True)
    (root / "hello").write_text("#!/bin/sh\necho hello from $REQUESTOR_SDK_ROOT\npwd\n")
    (root / "hello").chmod(0o755)
    image = ImageStore(tmp_path / "home").build(tmp_path / "image", "hello")
    return await runtime.create(SandboxSpec(name="box", limits=LIMITS, image=image))


async def chunks(*parts):
    for part in parts:
        yield part


async def test_it_says_that_it_isolates_nothing(runtime):
    assert not runtime.isolates
    assert not any(row.enforced for row in await runtime.capabilities())


async def test_a_program_of_the_image_is_found_in_the_scratch_folder(box):
    ran = await run(box, "/golem/run/hello")
    assert ran.exit.return_code == 0
    assert ran.stdout.split()[2] == ran.stdout.split()[3]
    assert (await run(box, "/bin/echo", "x")).stdout == "x\n"
    assert (await run(box, "/no/such")).exit.return_code == 127


async def test_files_go_in_and_out_and_never_elsewhere(box):
    assert await box.write_file("/a/b", chunks(b"12", b"3")) == 3
    assert [part async for part in box.read_file("/a/b")] == [b"123"]
    await shell(box, "ln -s /etc $REQUESTOR_SDK_ROOT/etc2")
    for path in ("/../x", "/etc2/passwd", "a", "/a"):
        with pytest.raises(TransferRefused):
            await box.write_file(path, chunks(b"x"))
    with pytest.raises(CommandFailed):
        [part async for part in box.read_file("/missing")]


async def test_closing_kills_daemons_too_and_removes_the_folder(box):
    ran = await shell(
        box, "setsid sleep 600 & echo $!; sleep 600 & echo $!; echo $REQUESTOR_SDK_ROOT"
    )
    *pids, root = ran.stdout.split()
    await box.close()
    assert await box.wait_closed() == "closed"
    assert not Path(root).exists()
    for pid in pids:
        state = Path(f"/proc/{pid}/stat")
        assert not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z"
    with pytest.raises(SandboxDied):
        await run(box, "true")


async def test_cancelling_kills_the_command_and_leaves_the_sandbox_usable(box):
    started = asyncio.Event()

    async def output(stream, data):
        started.set()

    task = asyncio.create_task(
        box.run(ProcessSpec(argv=("/bin/sh", "-c", "trap '' TERM; echo on; sleep 600")), output)
    )
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await run(box, "echo", "on")).stdout == "on\n"


async def test_killing_its_keeper_ends_it(box):
    task = asyncio.create_task(run(box, "sleep", "600"))
    await asyncio.sleep(0.05)
    os.kill(box.pid, signal.SIGKILL)
    assert "signal 9" in await box.wait_closed()
    with pytest.raises(SandboxDied, match="signal 9"):
        await task


async def test_usage_counts_what_commands_used(box):
    await shell(box, "n=0; while [ $n -lt 100000 ]; do n=$((n+1)); done")
    assert box.usage().cpu_sec > 0.01
