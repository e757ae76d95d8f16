"""What a sandbox does for a payload that means well."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest
from sandboxing import MIB, Output, python, run, shell

from requestor_sdk.model.errors import (
    CommandFailed,
    SandboxDied,
    SandboxUnavailable,
    TransferRefused,
)
from requestor_sdk.ports.runtime import ProcessSpec
from requestor_sdk.sandbox import BubblewrapRuntime

pytestmark = pytest.mark.sandbox


async def chunks(*parts):
    for part in parts:
        yield part


async def read(box, path):
    return b"".join([part async for part in box.read_file(path)])


async def test_a_command_gives_its_output_and_its_exit_status(box):
    ran = await shell(box, "echo out; echo err >&2; exit 7")
    assert (ran.stdout, ran.stderr, ran.exit.return_code) == ("out\n", "err\n", 7)
    assert ran.exit.breach is None


async def test_a_command_sees_its_own_small_environment_and_what_is_given(box, monkeypatch):
    ran = await run(box, "env", env={"COLOUR": "blue"})
    names = {line.partition("=")[0] for line in ran.stdout.splitlines()}
    assert names <= {"PATH", "HOME", "USER", "LANG", "PWD", "COLOUR", "LC_CTYPE"}
    assert "COLOUR=blue" in ran.stdout


async def test_a_command_runs_in_the_working_directory_asked_for(box):
    assert (await run(box, "pwd", cwd="/tmp")).stdout == "/tmp\n"
    gone = await run(box, "pwd", cwd="/nowhere")
    assert gone.exit.return_code == 127
    assert "/nowhere" in gone.stderr


@pytest.mark.parametrize(("argv", "code"), [(("no-such",), 127), (("/etc/passwd",), 126)])
async def test_a_program_that_cannot_run_ends_as_under_a_shell(box, argv, code):
    assert (await run(box, *argv)).exit.return_code == code


async def test_the_running_python_is_inside_at_its_own_path(box):
    assert (await python(box, "import sqlite3, ssl; print(6 * 7)")).stdout == "42\n"


async def test_a_signal_that_ends_a_command_is_told_as_a_negative_status(box):
    assert (await shell(box, "kill -TERM $$")).exit.return_code == -signal.SIGTERM


async def test_what_runs_in_the_background_lives_on_and_its_pipe_holds_nobody_up(box):
    ran = await shell(
        box, "(while :; do echo tick; sleep 0.01; done) & echo $! > /tmp/pid; echo started"
    )
    assert "started" in ran.stdout
    assert (await shell(box, "sleep 0.1; kill -0 $(cat /tmp/pid)")).exit.return_code == 0


async def test_commands_queue_in_order(box):
    runs = [shell(box, f"echo {n} >> /tmp/order") for n in range(20)]
    await asyncio.gather(*runs)
    assert (await run(box, "cat", "/tmp/order")).stdout.split() == [str(n) for n in range(20)]


async def test_large_output_arrives_whole_and_a_slow_reader_slows_the_writer(box):
    seen = 0

    async def slow(stream, data):
        nonlocal seen
        seen += len(data)
        await asyncio.sleep(0)

    spec = ProcessSpec(argv=("head", "-c", str(20 * MIB), "/dev/zero"))
    assert (await box.run(spec, slow)).return_code == 0
    assert seen == 20 * MIB


async def test_cancelling_kills_the_command_but_not_the_sandbox_nor_the_background(box):
    await shell(box, "sleep 600 & echo $! > /tmp/pid")
    started = asyncio.Event()

    async def output(stream, data):
        started.set()

    line = "trap '' TERM INT; echo $$ > /tmp/mine; echo on; sleep 600; sleep 600"
    task = asyncio.create_task(box.run(ProcessSpec(argv=("/bin/sh", "-c", line)), output))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    after = await shell(
        box, "kill -0 $(cat /tmp/mine) || echo dead; kill -0 $(cat /tmp/pid) && echo alive"
    )
    assert after.stdout.split() == ["dead", "alive"]


async def test_a_sink_that_fails_kills_the_command_and_its_error_comes_through(box):
    async def broken(stream, data):
        raise ValueError("full")

    with pytest.raises(ValueError, match="full"):
        await box.run(ProcessSpec(argv=("sh", "-c", "echo a; sleep 600")), broken)
    assert (await run(box, "true")).exit.return_code == 0


async def test_files_go_in_and_out_whole(box):
    data = os.urandom(3 * MIB)
    assert await box.write_file("/golem/in/data", chunks(data[:5], data[5:]), mode=0o750) == len(
        data
    )
    assert await read(box, "/golem/in/data") == data
    assert (await run(box, "stat", "-c", "%a", "/golem/in/data")).stdout == "750\n"


async def test_a_relative_link_is_followed_inside(box):
    await shell(
        box, "mkdir -p /tmp/a/b; ln -s b /tmp/a/c; echo hello > /tmp/a/b/f; ln -s f /tmp/a/b/g"
    )
    assert await read(box, "/tmp/a/c/g") == b"hello\n"


ELSEWHERE = [
    "/tmp/../etc/passwd",
    "tmp/x",
    "/",
    "/tmp",
    "/tmp/abs/passwd",
    "/tmp/final",
    "/dev/null",
    "/tmp/fifo",
    "/tmp/climb/passwd",
    "/tmp/loop/x",
    "/tmp/x\0y",
]


async def test_a_path_that_leads_elsewhere_is_refused_both_ways(box):
    await shell(
        box,
        "cd /tmp; ln -s /etc abs; ln -s /etc/passwd final; mkfifo fifo; "
        "ln -s ../etc climb; ln -s loop loop",
    )
    for path in ELSEWHERE:
        with pytest.raises(TransferRefused):
            await box.write_file(path, chunks(b"x"))
        with pytest.raises(TransferRefused):
            await read(box, path)
    assert (await run(box, "true")).exit.return_code == 0


async def test_the_base_is_read_only(box):
    for path in ("/usr/bin/x", "/etc/passwd", "/bin/x"):
        with pytest.raises(CommandFailed):
            await box.write_file(path, chunks(b"x"))
    denied = await shell(
        box, "echo x >> /etc/passwd; rm -f /etc/hosts; mv /etc /other; touch /usr/x /lib/x"
    )
    assert denied.exit.return_code != 0
    assert (await shell(box, "grep -c x /etc/passwd; ls /etc/hosts")).stdout.split()[
        -1
    ] == "/etc/hosts"


async def test_a_missing_file_is_a_failed_command(box):
    with pytest.raises(CommandFailed, match="No such file"):
        await read(box, "/tmp/nothing")


async def test_a_source_that_fails_leaves_no_half_file(box):
    async def broken():
        yield b"x" * 100
        raise ValueError("gone")

    with pytest.raises(ValueError, match="gone"):
        await box.write_file("/tmp/half", broken())
    assert (await run(box, "ls", "-A", "/tmp")).stdout == ""


async def test_a_reader_that_gives_up_leaves_the_sandbox_usable(box):
    await shell(box, "head -c 8000000 /dev/zero > /tmp/big")
    stream = box.read_file("/tmp/big")
    async for _ in stream:
        break
    await stream.aclose()
    assert (await run(box, "echo", "on")).stdout == "on\n"


async def test_usage_is_counted_from_outside_and_still_answers_after_the_end(make):
    box = await make(memory=128 * MIB)
    await python(box, "import time\nx = b'x' * (40 << 20)\nwhile time.process_time() < 0.3: pass")
    await shell(box, "head -c 4000000 /dev/urandom > /tmp/f; sync")
    usage = box.usage()
    assert usage.cpu_sec >= 0.3
    assert usage.memory_peak is None or usage.memory_peak >= 40 * MIB
    assert usage.storage is None or 4_000_000 <= usage.storage < 8_000_000
    await box.close()
    assert box.usage().cpu_sec >= 0.3


async def test_closing_is_idempotent_and_wakes_who_waits(box):
    waiting = asyncio.create_task(box.wait_closed())
    running = asyncio.create_task(run(box, "sleep", "600"))
    await asyncio.sleep(0.05)
    await asyncio.gather(box.close(), box.close())
    assert await waiting == "closed"
    with pytest.raises(SandboxDied, match="closed"):
        await running
    await box.close()
    with pytest.raises(SandboxDied):
        await run(box, "true")
    assert not Path(f"/proc/{box.pid}").exists()


async def test_killing_its_first_process_ends_it_and_the_cause_is_told(box):
    running = asyncio.create_task(run(box, "sleep", "600"))
    await asyncio.sleep(0.05)
    os.kill(box.pid, signal.SIGKILL)
    assert "signal 9" in await box.wait_closed()
    with pytest.raises(SandboxDied, match="signal 9"):
        await running


async def test_two_living_sandboxes_do_not_share_a_name(make):
    first = await make("same")
    with pytest.raises(SandboxUnavailable, match="name"):
        await make("same")
    await first.close()
    await (await make("same")).close()


async def test_sandboxes_do_not_see_each_other(make):
    one, two = await asyncio.gather(make("one"), make("two"))
    await shell(one, "echo secret > /tmp/f; echo secret > /dev/shm/f; sleep 600 &")
    seen = await shell(two, "cat /tmp/f /dev/shm/f; ls /proc | grep -cE '^[0-9]+$'")
    assert "secret" not in seen.stdout
    assert int(seen.stdout.split()[-1]) <= 4


async def test_twenty_start_side_by_side(make):
    boxes = await asyncio.gather(*(make(f"b{n}") for n in range(20)))
    ran = await asyncio.gather(*(run(box, "id", "-u") for box in boxes))
    assert {result.stdout for result in ran} == {"1000\n"}


async def test_a_cancelled_creation_leaves_nothing(make):
    tasks = [asyncio.create_task(make(f"c{n}")) for n in range(4)]
    for pause in range(4):
        await asyncio.sleep(0.004 * pause)
        tasks[pause].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert (await run(await make("c0"), "true")).exit.return_code == 0


async def test_with_network_the_payload_sees_the_hosts_interfaces(make):
    box = await make(network=True)
    inside = await shell(box, "wc -l < /proc/net/dev; test -e /etc/resolv.conf")
    assert int(inside.stdout) == len(Path("/proc/net/dev").read_text().splitlines())


async def test_the_runtime_can_be_closed_with_living_sandboxes(tmp_path):
    runtime = BubblewrapRuntime(tmp_path)
    await runtime.open()
    from requestor_sdk.ports.runtime import SandboxLimits, SandboxSpec

    box = await runtime.create(
        SandboxSpec(name="x", limits=SandboxLimits(memory=64 * MIB, storage=32 * MIB))
    )
    await runtime.close()
    await runtime.close()
    assert await box.wait_closed() == "closed"
    with pytest.raises(SandboxUnavailable):
        await runtime.create(
            SandboxSpec(name="y", limits=SandboxLimits(memory=64 * MIB, storage=32 * MIB))
        )


async def test_the_arguments_reach_the_command_unchanged(box):
    odd = ("a b", "", "ü\n", "$HOME", "*", "x=y")
    out = Output()
    await box.run(ProcessSpec(argv=("printf", "%s|", *odd)), out)
    assert out.stdout.decode() == "".join(f"{word}|" for word in odd)
    with pytest.raises(CommandFailed):
        await run(box, "echo", "a\0b")
