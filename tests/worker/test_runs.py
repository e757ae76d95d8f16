"""Runs in real sandboxes: what goes in, what comes out, how they end, what is told of them."""

from __future__ import annotations

import asyncio
import errno

import pytest
from working import SMALL, done, ended, log_of, output, put, python, shell, until

from requestor_sdk.ports.worker import Demand, InputFile, RunOutcome, RunState, Stage

pytestmark = pytest.mark.sandbox
OUT = ("/data/outputs",)


async def test_a_run_gets_its_files_and_its_outputs_and_log_are_kept(queue, hire):
    await hire()
    file = await put(queue, "run", "/data/inputs/abc/0", b"1 2 3")
    code = (
        "import os\nprint('here', os.environ['WHO'], flush=True)\n"
        "numbers = open('/data/inputs/abc/0').read().split()\n"
        "os.makedirs('/data/outputs/deep')\n"
        "open('/data/outputs/deep/sum', 'w').write(str(sum(map(int, numbers))))\n"
    )
    spec = python(code, files=(file,), outputs=OUT, folders=("/data/logs",), env={"WHO": "me"})
    end = await done(queue, "run", spec)
    assert (end.outcome, end.exit_code, end.reason) == (RunOutcome.succeeded, 0, "")
    assert [(kept.name, kept.size) for kept in end.files] == [("outputs/deep/sum", 1)]
    assert output(queue, "run", "outputs/deep/sum") == b"6"
    assert await log_of(queue, "run") == "here me\n"
    assert end.cpu_sec > 0
    assert end.duration_sec > 0
    stages = [event.message for event in await queue.events("run") if event.type == "stage"]
    assert stages == [Stage.preparing, Stage.running, Stage.publishing]


async def test_a_run_that_a_full_disk_ended_is_handed_back_and_done_once_there_is_room(
    queue, hire, monkeypatch
):
    from requestor_sdk.worker import _outputs

    take, full = _outputs._take, [True, True]

    async def taken(*arguments):
        if full:
            full.pop()
            raise OSError(errno.ENOSPC, "No space left on device")
        return await take(*arguments)

    monkeypatch.setattr(_outputs, "_take", taken)
    await hire()
    end = await done(queue, "run", shell("echo x > /data/outputs/a", outputs=OUT))
    assert (end.outcome, [file.name for file in end.files]) == (RunOutcome.succeeded, ["outputs/a"])
    attempts = await queue.attempts("run")
    assert [one.reason for one in attempts[:2]] == ["the worker's disk is full"] * 2


async def test_no_secret_of_a_runs_variables_is_in_its_log(queue, hire):
    await hire()
    line = 'echo "it is $API_TOKEN"; echo $API_TOKEN >&2; printf hunt; sleep 0.5; printf er22'
    await done(queue, "run", shell(line, env={"API_TOKEN": "hunter22"}))
    assert sorted((await log_of(queue, "run")).splitlines()) == ["***", "***", "it is ***"]


async def test_a_log_is_there_while_the_run_goes_on(queue, hire):
    await hire()
    await queue.submit("run", shell("echo first; sleep 60"), SMALL)
    lines = queue.follow_log("run")
    assert await asyncio.wait_for(anext(lines), 20) == b"first\n"
    await queue.cancel("run")
    await ended(queue, "run")
    await lines.aclose()


@pytest.mark.parametrize(
    ("line", "reason", "code", "told"),
    [
        ("exit 3", "exit_code", 3, "exit code 3"),
        ("kill -9 $$", "exit_code", -9, "signal 9"),
        ("/no/such/program", "exit_code", 127, "exit code 127"),
    ],
)
async def test_a_command_that_fails_is_told_by_how(queue, hire, line, reason, code, told):
    await hire()
    end = await done(queue, "run", shell(f"echo x > /data/outputs/part; {line}", outputs=OUT))
    assert (end.outcome, end.reason, end.exit_code) == (RunOutcome.failed, reason, code)
    assert told in end.message
    assert output(queue, "run", "outputs/part") == b"x\n"


async def test_a_run_over_its_time_is_asked_to_end_and_keeps_what_it_has(queue, hire):
    await hire()
    line = "trap 'echo bye; exit 0' TERM; echo x > /data/outputs/part; while :; do sleep 0.01; done"
    end = await done(queue, "run", shell(line, outputs=OUT, timeout_sec=0.5))
    assert (end.outcome, end.reason) == (RunOutcome.timed_out, "timeout")
    assert "bye" in await log_of(queue, "run")
    assert [file.name for file in end.files] == ["outputs/part"]


async def test_a_run_that_ignores_its_end_is_killed(queue, hire):
    await hire()
    end = await done(queue, "run", shell("trap '' TERM; sleep 60", timeout_sec=0.3))
    assert (end.outcome, end.exit_code) == (RunOutcome.timed_out, -9)


async def test_a_run_is_cancelled_while_it_runs(queue, hire):
    hired = await hire()
    await queue.submit("run", shell("echo on; sleep 60"), SMALL)
    await until(lambda: hired.worker.running)
    log = queue.follow_log("run")
    await asyncio.wait_for(anext(log), 20)
    await queue.cancel("run")
    end = await ended(queue, "run", 5)
    assert (end.outcome, end.reason) == (RunOutcome.cancelled, "cancelled")
    assert (await queue.run("run")).state is RunState.cancelled
    await log.aclose()


async def test_an_image_that_is_not_there_is_told(queue, hire):
    await hire()
    spec = shell("true")
    spec = type(spec)(image="nobody/nothing:1", command=spec.command)
    end = await done(queue, "run", spec)
    assert (end.outcome, end.reason) == (RunOutcome.failed, "image_missing")
    assert "nobody/nothing:1" in end.message


async def test_any_tag_of_the_base_is_the_base(queue, hire):
    await hire()
    spec = shell("true")
    end = await done(queue, "run", type(spec)(image="python:3.9-slim", command=spec.command))
    assert end.outcome is RunOutcome.succeeded


async def test_an_input_that_is_not_there_is_told(queue, hire):
    await hire()
    end = await done(queue, "run", shell("true", files=(InputFile(name="gone", path="/data/x"),)))
    assert (end.outcome, end.reason) == (RunOutcome.failed, "input_failed")
    assert "gone" in end.message


async def test_an_input_of_another_size_is_told(queue, hire):
    await hire()
    file = await put(queue, "run", "/data/x", b"12345")
    file = InputFile(name=file.name, path=file.path, size=99)
    end = await done(queue, "run", shell("true", files=(file,)))
    assert (end.outcome, end.reason) == (RunOutcome.failed, "input_failed")


async def test_what_a_run_was_given_is_not_what_it_wrote(queue, hire):
    await hire()
    file = await put(queue, "run", "/data/inputs/large", bytes(40 << 20))
    spec = shell("head -c 20000000 /dev/zero > /data/mine", files=(file,))
    end = await done(queue, "run", spec, Demand(cpu=1, ram_mb=128, disk_mb=32))
    assert end.outcome is RunOutcome.succeeded, end.message


async def test_as_many_runs_go_on_at_once_as_there_is_room_for(queue, hire):
    hired = await hire()
    for number in range(6):
        await queue.submit(f"run-{number}", shell("sleep 0.3"), SMALL)
    seen = set()
    for number in range(6):
        seen.add(len(hired.worker.running))
        await ended(queue, f"run-{number}")
    assert max(seen) <= 4
    assert (await queue.attempts("run-0"))[0].number == 1


async def test_a_run_that_does_not_see_the_network_has_none(queue, hire):
    await hire()
    end = await done(
        queue, "run", python("import socket; socket.create_connection(('1.1.1.1', 1))")
    )
    assert end.exit_code == 1
    assert "unreachable" in await log_of(queue, "run")


async def test_a_log_over_its_limit_is_cut_and_says_so(queue, hire):
    await hire()
    end = await done(queue, "run", shell("head -c 300000 /dev/zero | tr '\\0' x", log_limit=5000))
    assert end.outcome is RunOutcome.succeeded
    log = await log_of(queue, "run")
    assert len(log) <= 5000
    assert log.startswith("xxxx")
    assert "bytes more were left out]" in log
