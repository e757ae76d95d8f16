"""Ops of the queue, done by the pipeline of steps in threads of their own."""

from __future__ import annotations

import asyncio
import threading

import pytest
from working import SMALL, done, ended, log_of, put, until

from requestor_sdk.ports.worker import Demand, RunOutcome, RunSpec
from requestor_sdk.worker._pipelined import by_pipeline
from requestor_sdk.worker.execution_pipeline import (
    Pipeline,
    PrepareInputs,
    RunContainer,
    cleanup_op_dir,
    complete_oprun,
    execution_pipeline,
    start_oprun,
)
from requestor_sdk.worker.worker_context import worker_context

pytestmark = pytest.mark.sandbox
HEAD = (
    "import json, os, sys\n"
    "inputs = json.load(open(os.environ['GYOZA_INPUT_PATH']))\n"
    "def put(text): open(os.environ['GYOZA_OUTPUT_PATH'], 'w').write(text)\n"
    "def event(**said): print(os.environ['GYOZA_EVENT_PREFIX'] + json.dumps(said), flush=True)\n"
)


def op(code, inputs=None, **spec):
    return RunSpec(
        image="python",
        command=("python3", "-c", HEAD + code),
        inputs={"n": 1} if inputs is None else inputs,
        **spec,
    )


@pytest.fixture
async def worker(hire):
    return await hire(work=by_pipeline(execution_pipeline))


async def test_an_op_gets_its_inputs_and_its_outputs_are_told(queue, worker):
    end = await done(queue, "op", op("print('hi'); put(json.dumps({'m': inputs['n'] + 1}))"))
    assert (end.outcome, end.exit_code, end.outputs) == (RunOutcome.succeeded, 0, {"m": 2})
    assert await log_of(queue, "op") == "hi\n"
    assert not worker_context.running_ops
    assert not list(worker.folder.glob("**/op-*"))


async def test_an_op_can_have_files_and_keep_some_as_a_job_does(queue, worker):
    file = await put(queue, "op", "/data/inputs/a", b"given")
    code = "open('/data/outputs/b', 'w').write(open('/data/inputs/a').read())"
    end = await done(queue, "op", op(code, files=(file,), outputs=("/data/outputs",)))
    assert [(kept.name, kept.size) for kept in end.files] == [("outputs/b", 5)]
    assert end.outputs == {}


async def test_events_are_told_and_lines_that_are_none_are_the_log(queue, worker):
    code = (
        "prefix = os.environ['GYOZA_EVENT_PREFIX']\n"
        "print('plain')\n"
        "event(type='INFO', message='half', payload={'a': [1]})\n"
        "event(type='PROGRESS', message=50)\n"
        "print(prefix + 'no json')\n"
        "print(prefix + '[1]')\n"
        "event(type='COMPLETED', message='forged')\n"
        "event(type='stage', message='publishing')\n"
        "event(type='PROGRESS', message='many')\n"
        "print('@0123456789abcdef01234567 ' + json.dumps({'type': 'ERROR'}))\n"
        "print(' ' + prefix + json.dumps({'type': 'ERROR'}))\n"
        "print(prefix + json.dumps({'type': 'INFO', 'message': 'x' * 70000}))\n"
        "print(prefix + json.dumps({'type': 'ERROR', 'message': 'last'}), end='')\n"
    )
    end = await done(queue, "op", op(code))
    assert end.outcome is RunOutcome.succeeded, end.message
    events = [e for e in await queue.events("op") if e.type != "stage"]
    assert [(e.type, e.message, e.payload) for e in events] == [
        ("INFO", "half", {"a": [1]}),
        ("PROGRESS", "50", {}),
        ("ERROR", "last", {}),
    ]
    lines = (await log_of(queue, "op")).splitlines()
    assert lines[0] == "plain"
    assert len(lines) == 9
    assert any("forged" in line for line in lines)


async def test_progress_is_told_with_the_lease(queue, worker):
    code = "event(type='PROGRESS', message=40)\nimport time\ntime.sleep(60)"
    await queue.submit("op", op(code), SMALL)
    await until(lambda: any(a.holding.progress == 0.4 for a in worker.worker._attempts.values()))
    await queue.cancel("op")
    assert (await ended(queue, "op", 10)).outcome is RunOutcome.cancelled


@pytest.mark.parametrize(
    ("code", "reason", "told"),
    [
        ("put('no json')", "outputs_invalid", "no json"),
        ("put('[1]')", "outputs_invalid", "must be an object"),
        ("put(json.dumps({'x': 'y' * 3000000}))", "outputs_too_large", "over"),
        ("os.symlink('/etc/passwd', os.environ['GYOZA_OUTPUT_PATH'])", "outputs_invalid", "link"),
        ("os.mkfifo(os.environ['GYOZA_OUTPUT_PATH'])", "outputs_invalid", "no regular file"),
        ("put('{}'); sys.exit(3)", "exit_code", "exit code 3"),
        ("b = []\nwhile True: b.append(bytearray(1 << 20))", "oom_killed", "memory"),
    ],
)
async def test_an_op_that_fails_is_told_by_why(queue, worker, code, reason, told):
    end = await done(queue, "op", op(code))
    assert (end.outcome, end.reason) == (RunOutcome.failed, reason), end.message
    assert told in end.message
    assert end.outputs == {}


async def test_inputs_that_no_file_can_hold_are_told(queue, worker):
    deep = value = {}
    for _ in range(60):
        value["x"] = value = {}
    end = await done(queue, "op", op("", inputs=deep))
    assert (end.outcome, end.reason) == (RunOutcome.failed, "inputs_invalid")


async def test_an_image_that_is_not_there_is_told(queue, worker):
    end = await done(queue, "op", RunSpec(image="nobody/none", inputs={}))
    assert (end.outcome, end.reason) == (RunOutcome.failed, "image_missing")


async def test_the_images_own_program_is_run_where_no_command_is_named(
    queue, worker, images, tmp_path
):
    folder = tmp_path / "image"
    folder.mkdir()
    (folder / "run").write_text("#!/bin/sh\necho own; echo '{\"a\": 1}' > $GYOZA_OUTPUT_PATH\n")
    (folder / "run").chmod(0o755)
    images.build(folder, "own:1")
    end = await done(queue, "op", RunSpec(image="own:1", inputs={}))
    assert (end.outcome, end.outputs) == (RunOutcome.succeeded, {"a": 1}), end.message


async def test_an_op_over_its_time_is_told_as_such(queue, worker):
    end = await done(queue, "op", op("import time; time.sleep(60)", timeout_sec=0.5))
    assert (end.outcome, end.reason) == (RunOutcome.timed_out, "timeout")


async def test_a_step_of_ones_own_that_fails_is_told_and_hurts_no_other_run(queue, hire):
    def fails(ctx):
        if ctx.inputs["n"] == 1:
            raise RuntimeError("a secret of the step")
        return ctx

    steps = [PrepareInputs(), start_oprun, fails, RunContainer(), complete_oprun, cleanup_op_dir]
    worker = await hire(work=by_pipeline(Pipeline(steps)))
    await queue.submit("good", op("put('{}')", inputs={"n": 2}), SMALL)
    end = await done(queue, "bad", op("put('{}')"))
    assert (end.outcome, end.reason) == (RunOutcome.failed, "step")
    assert "RuntimeError" in end.message
    assert "secret" not in end.message
    assert (await ended(queue, "good")).outcome is RunOutcome.succeeded
    assert not list(worker.folder.glob("**/op-*"))


async def test_a_pipeline_that_never_says_how_it_ended_is_a_failure(queue, hire):
    await hire(work=by_pipeline(Pipeline([start_oprun])))
    end = await done(queue, "op", op("put('{}')"))
    assert (end.outcome, end.reason) == (RunOutcome.failed, "step")


async def test_steps_alone_can_do_an_op(queue, hire):
    def answer(ctx):
        ctx.outputs, ctx.exit_code = {"thread": threading.current_thread().name}, 0
        return ctx

    await hire(work=by_pipeline(Pipeline([answer, complete_oprun])))
    end = await done(queue, "mine", op(""))
    assert end.outputs == {"thread": "op mine"}


async def test_more_ops_than_a_pool_of_threads_has_go_on_beside_each_other(queue, hire):
    together = threading.Barrier(12)

    def meet(ctx):
        together.wait(20)
        ctx.exit_code = 0
        return ctx

    await hire(work=by_pipeline(Pipeline([meet, complete_oprun])))
    tiny = Demand(cpu=0.1, ram_mb=16, disk_mb=16)
    for number in range(12):
        await queue.submit(f"op-{number}", op(""), tiny)
    for number in range(12):
        assert (await ended(queue, f"op-{number}")).outcome is RunOutcome.succeeded


async def test_a_worker_that_is_killed_hands_an_op_back_and_removes_its_folder(queue, hire):
    worker = await hire(work=by_pipeline(execution_pipeline))
    await queue.submit("op", op("import time\nprint('on', flush=True)\ntime.sleep(60)"), SMALL)
    log = queue.follow_log("op")
    assert await asyncio.wait_for(anext(log), 30) == b"on\n"
    await log.aclose()
    worker.worker.kill()
    await asyncio.wait_for(worker.task, 20)
    assert (await queue.run("op")).state == "PENDING"
    assert not list(worker.folder.glob("**/op-*"))
    assert not worker_context.running_ops
