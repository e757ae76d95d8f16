"""The names and the contract of gyoza's worker, item by item."""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from requestor_sdk.model.errors import ImageNotFound, LeaseLost, NetworkError
from requestor_sdk.worker._link import LINK, Link
from requestor_sdk.worker.execution_pipeline import (
    ExecutionContext,
    Pipeline,
    PrepareInputs,
    RunContainer,
    always,
    cleanup_op_dir,
    complete_oprun,
    execution_pipeline,
    pull_latest_image,
    start_oprun,
)
from requestor_sdk.worker.execution_pipeline.steps.complete_oprun import (
    MAX_OUTPUT_BYTES,
    OutputsInvalid,
    OutputsTooLarge,
)
from requestor_sdk.worker.execution_pipeline.steps.prepare_inputs import InputsInvalid
from requestor_sdk.worker.worker_context import (
    GPU,
    Resources,
    RunningOp,
    WorkerContext,
    detect_resources,
    worker_context,
)

PLACES = [
    ("", "ExecutionContext WorkerContext start"),
    ("runner", "start"),
    ("execution_pipeline", "ExecutionContext Step Pipeline execution_pipeline"),
    ("execution_pipeline", "pull_latest_image start_oprun complete_oprun cleanup_op_dir"),
    ("execution_pipeline", "PrepareInputs RunContainer"),
    ("execution_pipeline.pipeline", "Pipeline"),
    ("execution_pipeline.types", "ExecutionContext Step"),
    ("execution_pipeline.types.context", "ExecutionContext"),
    ("execution_pipeline.types.step", "Step"),
    ("execution_pipeline.steps.pull_latest_image", "pull_latest_image"),
    ("execution_pipeline.steps.prepare_inputs", "PrepareInputs"),
    ("execution_pipeline.steps.start_oprun", "start_oprun"),
    ("execution_pipeline.steps.run_container", "RunContainer"),
    ("execution_pipeline.steps.complete_oprun", "complete_oprun"),
    ("execution_pipeline.steps.cleanup_op_dir", "cleanup_op_dir"),
    ("worker_context", "GPU Resources RunningOp WorkerContext detect_resources worker_context"),
    ("worker_context.types", "GPU Resources RunningOp WorkerContext"),
]


@pytest.mark.parametrize(("module", "names"), PLACES)
def test_each_name_is_where_gyoza_has_it(module, names):
    found = importlib.import_module(f"requestor_sdk.worker.{module}".rstrip("."))
    for name in names.split():
        assert getattr(found, name) is not None


class Told(Link):
    """A link that notes what it is told."""

    def __init__(self, *, error=None, folder=None):
        self.said = []
        self._error = error
        self._folder = folder

    def __repr__(self):
        return "<told>"

    @property
    def folder(self):
        return self._folder

    def find_image(self, name):
        self.said.append(("image", name))

    def started(self):
        self.said.append(("started",))

    def run(self, ctx):
        self.said.append(("run",))
        ctx.exit_code = 0

    def complete(self, exit_code, outputs):
        self.said.append(("complete", exit_code, outputs))
        if self._error is not None:
            raise self._error

    def fail(self, error):
        self.said.append(("fail", error))
        if self._error is not None:
            raise self._error


# -- ExecutionContext


def test_a_context_has_gyozas_fields_and_defaults():
    fields = {field.name: field for field in dataclasses.fields(ExecutionContext)}
    assert list(fields) == [
        "oprun_id",
        "image",
        "constraints",
        "inputs",
        "outputs",
        "env_vars",
        "volumes",
        "logs",
        "exit_code",
        "extras",
    ]
    ctx = ExecutionContext()
    assert (ctx.oprun_id, ctx.image, ctx.logs, ctx.exit_code) == ("", "", "", None)
    assert ctx.constraints == ctx.inputs == ctx.outputs == ctx.env_vars == {}
    assert ctx.volumes == ctx.extras == {}
    ctx.logs = "changed"
    assert ctx.logs == "changed"


def test_two_contexts_share_nothing():
    one, other = ExecutionContext(), ExecutionContext()
    for field in dataclasses.fields(ExecutionContext):
        value = getattr(one, field.name)
        if isinstance(value, dict):
            value["x"] = 1
            assert getattr(other, field.name) == {}


def test_positional_arguments_are_taken_in_gyozas_order():
    ctx = ExecutionContext("run", "image", {"cpu": 1}, {"n": 2})
    assert (ctx.oprun_id, ctx.image, ctx.constraints, ctx.inputs) == (
        "run",
        "image",
        {"cpu": 1},
        {"n": 2},
    )


# -- Pipeline


def test_a_pipeline_makes_a_context_where_there_is_none():
    assert Pipeline().run() == ExecutionContext()
    assert Pipeline(None).run().oprun_id == ""


def test_steps_run_in_order_and_each_gets_what_the_one_before_returned():
    other = ExecutionContext(oprun_id="other")
    seen = []

    class Second:
        def __call__(self, ctx):
            seen.append(ctx)
            return ctx

    def first(ctx):
        seen.append(ctx)
        return other

    ctx = ExecutionContext()
    assert Pipeline([first, Second()]).run(ctx) is other
    assert seen == [ctx, other]


def test_a_failing_step_is_told_of_and_its_own_error_raised():
    error = RuntimeError("mine")

    def failing(ctx):
        raise error

    link = Told()
    with pytest.raises(RuntimeError) as raised:
        Pipeline([failing, start_oprun]).run(ExecutionContext(extras={LINK: link}))
    assert raised.value is error
    assert link.said == [("fail", error)]


def test_that_a_failure_cannot_be_told_of_does_not_hide_it():
    def failing(ctx):
        raise KeyError("mine")

    link = Told(error=NetworkError("server away"))
    with pytest.raises(KeyError) as raised:
        Pipeline([failing]).run(ExecutionContext(extras={LINK: link}))
    assert "server away" in raised.value.__notes__[0]


def test_what_clears_up_runs_after_a_failure_too_and_cannot_hide_it():
    ran = []

    @always
    def clears(ctx):
        ran.append("clears")
        raise OSError("and this")

    @always
    def clears_more(ctx):
        ran.append("more")
        return ctx

    def failing(ctx):
        raise ValueError("first")

    def not_run(ctx):
        ran.append("never")
        return ctx

    with pytest.raises(ValueError, match="first") as raised:
        Pipeline([failing, not_run, clears, clears_more]).run()
    assert ran == ["clears", "more"]
    assert "and this" in raised.value.__notes__[0]


def test_the_pipeline_of_ops_has_gyozas_steps_in_its_order():
    names = [getattr(step, "__name__", type(step).__name__) for step in execution_pipeline.steps]
    assert names == [
        "pull_latest_image",
        "PrepareInputs",
        "start_oprun",
        "RunContainer",
        "complete_oprun",
        "cleanup_op_dir",
    ]


# -- the steps


def test_an_image_that_is_there_changes_nothing_and_one_that_is_not_is_an_error():
    ctx = ExecutionContext(image="python:3.12")
    before = dataclasses.replace(ctx)
    assert pull_latest_image(ctx) is ctx
    assert ctx == before
    with pytest.raises(ImageNotFound):
        pull_latest_image(ExecutionContext(image="geoiahub/product:latest"))
    link = Told()
    pull_latest_image(ExecutionContext(image="a", extras={LINK: link}))
    assert link.said == [("image", "a")]


def test_inputs_are_laid_out_as_json_in_a_folder_of_the_runs_own():
    ctx = PrepareInputs()(ExecutionContext(oprun_id="r/../1", inputs={"n": [1, 2.5, None, "ä"]}))
    other = PrepareInputs()(ExecutionContext(oprun_id="r/../1"))
    folder = Path(ctx.extras["gyoza_dir"])
    assert folder != Path(other.extras["gyoza_dir"])
    assert ".." not in folder.name
    assert ctx.volumes == {str(folder): "/gyoza"}
    assert ctx.env_vars["GYOZA_INPUT_PATH"] == "/gyoza/input.json"
    assert ctx.env_vars["GYOZA_OUTPUT_PATH"] == "/gyoza/output.json"
    assert json.loads((folder / "input.json").read_text()) == {"n": [1, 2.5, None, "ä"]}
    assert folder.stat().st_mode & 0o077 == 0
    cleanup_op_dir(ctx)
    cleanup_op_dir(other)


@pytest.mark.parametrize("asked", ["argument", "variable"])
def test_inputs_are_a_pickle_where_that_is_asked_for(asked):
    step = PrepareInputs("pickle") if asked == "argument" else PrepareInputs()
    variables = {"GYOZA_IO_FORMAT": "pickle"} if asked == "variable" else {}
    ctx = step(ExecutionContext(inputs={"n": [1]}, env_vars=variables))
    assert ctx.env_vars["GYOZA_INPUT_PATH"].endswith("/input.pickle")
    data = Path(ctx.extras["gyoza_dir"], "input.pickle").read_bytes()
    assert pickle.loads(data) == {"n": [1]}
    Path(ctx.extras["gyoza_dir"], "output.pickle").write_bytes(pickle.dumps({"m": (1, "x")}))
    ctx.exit_code = 0
    assert complete_oprun(ctx).outputs == {"m": [1, "x"]}
    cleanup_op_dir(ctx)


@pytest.mark.parametrize("inputs", [{"x": {1, 2}}, {"x": float("nan")}, {1: 2}, {"x": object()}])
def test_inputs_that_are_no_json_are_refused(inputs):
    with pytest.raises(InputsInvalid):
        PrepareInputs()(ExecutionContext(inputs=inputs))


def test_a_format_that_is_not_known_is_refused():
    with pytest.raises(InputsInvalid, match="can be json or pickle"):
        PrepareInputs()(ExecutionContext(env_vars={"GYOZA_IO_FORMAT": "yaml"}))


def test_a_start_is_told_and_changes_nothing():
    link = Told()
    ctx = ExecutionContext(oprun_id="r", extras={LINK: link})
    before = dataclasses.replace(ctx)
    assert start_oprun(ctx) is ctx
    assert ctx == before
    assert link.said == [("started",)]
    assert start_oprun(ExecutionContext()).oprun_id == ""


def finished(tmp_path, data=None, exit_code=0, **link):
    """Return the context of a command that has ended and left ``data`` as its outputs."""
    told = Told(**link)
    ctx = PrepareInputs()(ExecutionContext(oprun_id="r", exit_code=exit_code))
    ctx.extras[LINK] = told
    if data is not None:
        Path(ctx.extras["gyoza_dir"], "output.json").write_bytes(data)
    return ctx, told


def test_outputs_are_loaded_and_told_after_exit_code_0(tmp_path):
    ctx, told = finished(tmp_path, b'{"a": [1]}')
    assert complete_oprun(ctx) is ctx
    assert ctx.outputs == {"a": [1]}
    assert told.said == [("complete", 0, {"a": [1]})]


def test_another_exit_code_is_told_as_a_failure_without_outputs(tmp_path):
    ctx, told = finished(tmp_path, b'{"a": 1}', exit_code=3)
    assert complete_oprun(ctx).outputs == {}
    assert told.said == [("complete", 3, {})]


@pytest.mark.parametrize(
    "error", [LeaseLost("over"), NetworkError("x", status=400), NetworkError("x", status=409)]
)
def test_a_run_that_is_over_or_anothers_is_let_be(tmp_path, error):
    ctx, _ = finished(tmp_path, b"{}", error=error)
    assert complete_oprun(ctx) is ctx


@pytest.mark.parametrize("status", [404, 500, 503, None])
def test_any_other_error_of_the_server_is_raised(tmp_path, status):
    ctx, _ = finished(tmp_path, b"{}", error=NetworkError("x", status=status))
    with pytest.raises(NetworkError):
        complete_oprun(ctx)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", OutputsInvalid),
        (b"[1]", OutputsInvalid),
        (b"\xff\xfe", OutputsInvalid),
        (b'{"a": NaN}', OutputsInvalid),
        (b'{"a": ' + b"[" * 100_000, OutputsInvalid),
        (b'{"a": ' + b"[" * 60 + b"]" * 60 + b"}", OutputsInvalid),
        (b'{"a": 1' + b"0" * 3000 + b"}", OutputsInvalid),
        (b'{"a": "' + b"x" * MAX_OUTPUT_BYTES + b'"}', OutputsTooLarge),
    ],
)
def test_outputs_that_cannot_be_told_are_refused(tmp_path, data, error):
    ctx, told = finished(tmp_path, data)
    with pytest.raises(error):
        complete_oprun(ctx)
    assert told.said == []


def test_no_outputs_are_none_and_a_link_in_their_place_is_not_followed(tmp_path):
    ctx, _ = finished(tmp_path)
    assert complete_oprun(ctx).outputs == {}
    Path(ctx.extras["gyoza_dir"], "output.json").symlink_to("/etc/passwd")
    with pytest.raises(OSError):
        complete_oprun(ctx)


def test_the_folder_is_removed_and_one_that_is_not_there_is_fine():
    ctx = PrepareInputs()(ExecutionContext())
    folder = Path(ctx.extras["gyoza_dir"])
    assert cleanup_op_dir(ctx) is ctx
    assert not folder.exists()
    assert cleanup_op_dir(ctx) is ctx
    assert cleanup_op_dir(ExecutionContext()).extras == {}


def test_the_folder_is_removed_after_a_failure_too():
    folders = []

    def failing(ctx):
        folders.append(Path(ctx.extras["gyoza_dir"]))
        raise RuntimeError

    with pytest.raises(RuntimeError):
        Pipeline([PrepareInputs(), failing, cleanup_op_dir]).run()
    assert not folders[0].exists()


# -- hostile pickles


class Evil:
    def __reduce__(self):
        return os.system, ("touch /tmp/requestor-evil",)


def laughs():
    """A few bytes that would be 2**45 values."""
    value = [1, 2]
    for _ in range(45):
        value = [value, value]
    return pickle.dumps({"x": value})


@pytest.mark.parametrize(
    "data",
    [
        pickle.dumps({"x": Evil()}),
        pickle.dumps({"x": Evil()}, protocol=0),
        pickle.dumps({"x": {1}}),
        pickle.dumps({"x": b"bytes"}, protocol=2),
        pickle.dumps([1]),
        pickle.dumps({"x": 10**2000}),
        laughs(),
        b"\x80\x04r\xff\xff\xff\x7f.",  # a memo of two thousand million places
        b"\x80\x04]\x94h\x00a.",  # a list that holds itself
        b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7fx.",
        b"(" * 100_000 + b".",
        b"I1\n",
        b"0.",
        b".",
        b"",
        b"cos\nsystem\n.",
    ],
)
def test_a_pickle_of_anything_but_plain_data_is_refused(data):
    ctx = PrepareInputs("pickle")(ExecutionContext(exit_code=0))
    Path(ctx.extras["gyoza_dir"], "output.pickle").write_bytes(data)
    with pytest.raises(OutputsInvalid):
        complete_oprun(ctx)
    cleanup_op_dir(ctx)
    assert not Path("/tmp/requestor-evil").exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_data_of_every_protocol_is_read(protocol):
    value = {"a": [1, -1, 2**40, 1.5, "ä" * 300, None, True, False, [], {}], "b": {"c": {"d": "e"}}}
    value["again"] = value["b"]
    ctx = PrepareInputs("pickle")(ExecutionContext(exit_code=0))
    output = Path(ctx.extras["gyoza_dir"], "output.pickle")
    output.write_bytes(pickle.dumps(value, protocol=protocol))
    assert complete_oprun(ctx).outputs == value
    cleanup_op_dir(ctx)


# -- WorkerContext


def test_the_types_of_a_worker_have_gyozas_fields():
    assert Resources() == Resources(cpu_cores=0, ram_mb=0, gpus=[])
    assert GPU(0, 8000) == GPU(id=0, vram_mb=8000, tags=[])
    op = RunningOp("r", "image")
    assert (op.inputs, op.constraints, op.state) == ({}, {}, None)
    context = WorkerContext()
    assert (context.worker_id, context.tags, context.running_ops) == ("", [], [])
    assert WorkerContext().running_ops is not context.running_ops


def test_runs_are_added_known_and_removed():
    context = WorkerContext(worker_id="w")
    context.add_running_op("a", "image", {"n": 1}, {"cpu": 2})
    context.add_running_op("b", "image", {})
    assert [op.id for op in context.running_ops] == ["a", "b"]
    assert context.running_ops[0].constraints == {"cpu": 2}
    assert context.get_run_state("a") is None
    assert context.get_run_state("unknown") is None
    context.set_run_state("a", "RUNNING")
    assert context.get_run_state("a") == "RUNNING"
    assert not context.is_run_cancelled("a")
    context.set_run_state("a", "CANCELLED")
    assert context.is_run_cancelled("a")
    assert not context.is_run_cancelled("b")
    assert not context.is_run_cancelled("unknown")
    context.set_run_state("unknown", "CANCELLED")
    context.remove_running_op("a")
    context.remove_running_op("a")
    assert [op.id for op in context.running_ops] == ["b"]


def test_who_waits_for_a_cancellation_is_told_once_it_is_known():
    context, told = WorkerContext(), []
    context.add_running_op("a", "image", {})
    stop = context.watch_cancelled("a", lambda: told.append("a"))
    context.set_run_state("a", "RUNNING")
    assert told == []
    context.set_run_state("a", "CANCELLED")
    assert told == ["a"]
    stop()
    stop()
    context.set_run_state("a", "CANCELLED")
    assert told == ["a"]


def test_a_heartbeat_says_who_what_and_which_but_no_inputs():
    context = WorkerContext("w", Resources(2, 100, [GPU(0, 8)]), ["fast"])
    context.add_running_op("a", "image", {"secret": "hush"})
    payload = context.to_heartbeat_payload()
    assert json.loads(json.dumps(payload)) == {
        "worker_id": "w",
        "resources": {
            "cpu_cores": 2,
            "ram_mb": 100,
            "gpus": [{"id": 0, "vram_mb": 8, "tags": []}],
        },
        "tags": ["fast"],
        "running_ops": ["a"],
    }


def test_nothing_is_detected_and_little_loaded_by_an_import():
    code = (
        "import subprocess, sys\n"
        "subprocess.run = subprocess.Popen = None\n"
        "from requestor_sdk.worker.worker_context import worker_context\n"
        "from requestor_sdk.worker.execution_pipeline import execution_pipeline\n"
        "assert worker_context._resources is None and worker_context._worker_id is None\n"
        "loaded = {'aiohttp', 'pydantic', 'fastapi', 'eth_account', 'pynvml'} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
        "assert 'requestor_sdk.worker.worker_context.detect' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60)


def test_the_context_of_this_process_finds_out_when_it_is_asked(monkeypatch):
    monkeypatch.setenv("GYOZA_WORKER_ID", "mine")
    monkeypatch.setattr(worker_context, "_worker_id", None)
    monkeypatch.setattr(worker_context, "_resources", None)
    assert worker_context.worker_id == "mine"
    assert worker_context.resources.cpu_cores >= 1
    assert worker_context.resources is worker_context.resources
    assert worker_context.to_heartbeat_payload()["worker_id"] == "mine"
    monkeypatch.setattr(worker_context, "resources", Resources())
    assert worker_context.resources == Resources()


def test_what_is_detected_is_what_this_process_may_use():
    found = detect_resources()
    assert 1 <= found.cpu_cores <= (os.cpu_count() or 1)
    assert found.ram_mb > 0
    mine = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(mine)})
        assert detect_resources().cpu_cores == 1
    finally:
        os.sched_setaffinity(0, mine)


@pytest.mark.parametrize("version", [1, 2])
def test_control_groups_make_what_is_detected_less(tmp_path, monkeypatch, version):
    from requestor_sdk.worker.worker_context import detect

    if version == 2:
        group = tmp_path / "a"
        group.mkdir()
        (group / "cpu.max").write_text("150000 100000\n")
        (group / "memory.max").write_text("max\n")
        (tmp_path / "memory.max").write_text(f"{64 << 20}\n")
        membership = "0::/a\n"
    else:
        for name in ("cpu", "memory"):
            (tmp_path / name / "a").mkdir(parents=True)
        (tmp_path / "cpu/a/cpu.cfs_quota_us").write_text("100000\n")
        (tmp_path / "cpu/a/cpu.cfs_period_us").write_text("100000\n")
        (tmp_path / "memory/memory.limit_in_bytes").write_text(f"{64 << 20}\n")
        membership = "4:memory:/a\n3:cpu:/a\n"
    (tmp_path / "self").write_text(membership)
    monkeypatch.setattr(detect, "_CGROUPS", tmp_path)
    monkeypatch.setattr(detect, "_MEMBERSHIP", tmp_path / "self")
    found = detect_resources()
    assert found.cpu_cores == 1
    assert found.ram_mb == 64


def test_gpus_are_told_by_the_vendors_program_and_nonsense_of_it_is_none(tmp_path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    for script, gpus in [
        ("echo '0, 24576, Some GPU'; echo '1, 8, Other, with comma'", [(0, 24576), (1, 8)]),
        ("echo nonsense; echo 'a, b, c'", []),
        ("exit 9", []),
    ]:
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        assert [(gpu.id, gpu.vram_mb) for gpu in detect_resources().gpus] == gpus


# -- alone, with no server


@pytest.mark.sandbox
def test_the_documents_example_runs_by_itself_in_a_sandbox(tmp_path, monkeypatch):
    from requestor_sdk.sandbox import ImageStore

    image = tmp_path / "image"
    image.mkdir()
    (image / "run").write_text(
        "#!/usr/bin/env python3\n"
        "import json, os\n"
        "n = json.load(open(os.environ['GYOZA_INPUT_PATH']))['param']\n"
        "print('got', n)\n"
        "json.dump({'twice': n * 2}, open(os.environ['GYOZA_OUTPUT_PATH'], 'w'))\n"
    )
    (image / "run").chmod(0o755)
    monkeypatch.setenv("REQUESTOR_SDK_HOME", str(tmp_path / "home"))
    ImageStore().build(image, "geoiahub/product:latest")
    ctx = ExecutionContext(
        oprun_id="run_abc123", image="geoiahub/product:latest", inputs={"param": "value"}
    )
    result = execution_pipeline.run(ctx)
    assert result.exit_code == 0, result.logs
    assert result.logs == "got value\n"
    assert result.outputs == {"twice": "valuevalue"}
    assert not Path(result.extras["gyoza_dir"]).exists()


@pytest.mark.sandbox
def test_a_run_that_is_noted_as_cancelled_is_ended(monkeypatch):
    import threading
    import time

    ctx = ExecutionContext(oprun_id="alone", image="python")
    ctx.extras["command"] = ("/bin/sh", "-c", "echo on; sleep 60")
    worker_context.add_running_op("alone", "python", {})
    timer = threading.Timer(1.0, worker_context.set_run_state, ("alone", "CANCELLED"))
    timer.start()
    began = time.monotonic()
    RunContainer()(ctx)
    assert time.monotonic() - began < 30
    assert ctx.exit_code != 0
    assert ctx.logs == "on\n"
    worker_context.remove_running_op("alone")
    timer.join()
