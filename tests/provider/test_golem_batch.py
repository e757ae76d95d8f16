"""What an exe-unit keeps of a batch, and what it tells to whom."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from requestor_sdk.golem import flexbuffers
from requestor_sdk.golem.bus import Call
from requestor_sdk.model.errors import UsageError
from requestor_sdk.model.market import ActivityState
from requestor_sdk.model.script import (
    Capture,
    CaptureMode,
    CommandOutput,
    CommandProgress,
    CommandResult,
    CommandStarted,
    Deploy,
    Run,
    Start,
    Terminate,
    Transfer,
)
from requestor_sdk.provider.golem import _batch, _exeunit
from requestor_sdk.provider.golem._batch import Batch
from requestor_sdk.provider.golem._exeunit import ExeUnit
from requestor_sdk.provider.golem._wire import read_batch

STREAM = {"stdout": {"stream": {}}}


def make(*script):
    return Batch("b", list(script), *read_batch(list(script)))


def run(**capture):
    return {"run": {"entry_point": "x", "args": [], "capture": capture or None}}


async def collected(batch):
    return [event["kind"] async for event in batch.stream()]


def test_commands_are_read_as_requestors_write_them():
    commands, wanted = read_batch(
        [
            {"deploy": {"net": [], "hosts": {}, "hostname": "h", "volumes": None, "env": {}}},
            {"start": {"args": ["a"]}},
            {
                "run": {
                    "entry_point": "/bin/sh",
                    "args": ["-c", "x"],
                    "capture": {
                        "stdout": {"atEnd": {"tail": 5, "format": "bin"}},
                        "stderr": {"stream": {"limit": 7, "format": "str"}},
                    },
                }
            },
            {"transfer": {"from": "gftp://0x1/a", "to": "container:/b", "format": None}},
            {"transfer": {"from": "container:///b", "to": "http://c/d", "progress": {}}},
            {"terminate": {}},
        ]
    )
    assert commands == (
        Deploy(hostname="h", arguments={"net": [], "hosts": {}, "env": {}}),
        Start(args=("a",)),
        Run(
            argv=("/bin/sh", "-c", "x"),
            stdout=Capture(mode=CaptureMode.tail, limit=5),
            stderr=Capture(mode=CaptureMode.stream, limit=7),
        ),
        Transfer(source="gftp://0x1/a", target="container:/b"),
        Transfer(source="container:/b", target="http://c/d"),
        Terminate(),
    )
    assert wanted[2].captured == {"stdout"}
    assert wanted[2].binary == {"stdout"}


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.binary(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "run",
                    "deploy",
                    "start",
                    "transfer",
                    "entry_point",
                    "args",
                    "capture",
                    "stdout",
                    "atEnd",
                    "stream",
                    "head",
                    "limit",
                    "from",
                    "to",
                    "hostname",
                    "x",
                ]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=12,
)


@given(json_like)
def test_any_script_is_commands_or_a_typed_error(script):
    try:
        commands, wanted = read_batch(script)
    except UsageError:
        return
    assert len(commands) == len(wanted) == len(script)


async def test_results_are_told_when_the_command_is_done_and_not_before():
    batch = make(run(), run())
    waiting = asyncio.create_task(batch.results(0, 10))
    await asyncio.sleep(1)
    assert not waiting.done()
    await batch.add(CommandStarted(index=0))
    await batch.add(CommandResult(index=0, stdout="a"))
    assert [one["index"] for one in await waiting] == [0]
    assert await batch.results(1, 5) is None
    assert len(await batch.results(None, 0)) == 1
    assert not batch.read
    await batch.add(CommandResult(index=1))
    batch.end()
    last = await batch.results(None, 0)
    assert [one["isBatchFinished"] for one in last] == [False, True]
    assert batch.read


async def test_a_batch_that_ends_early_is_told_at_once_whatever_is_awaited():
    batch = make(run(), run(), run())
    waiting = asyncio.create_task(batch.results(2, 100))
    await batch.add(CommandResult(index=0, success=False, message="no"))
    batch.end()
    (only,) = await waiting
    assert (only["result"], only["isBatchFinished"], only["message"]) == ("Error", True, "no")


async def test_listeners_hear_all_from_the_beginning_each_at_its_own_pace():
    batch = make(run(**STREAM))
    early = asyncio.create_task(collected(batch))
    await batch.add(CommandStarted(index=0))
    await batch.add(CommandOutput(index=0, stream="stdout", data=b"a"))
    await batch.add(CommandProgress(index=0, done=1, total=2))
    await batch.add(CommandResult(index=0, return_code=0))
    batch.end()
    kinds = await early
    assert [next(iter(kind)) for kind in kinds] == ["started", "stdout", "progress", "finished"]
    assert await collected(batch) == kinds


async def test_output_that_nobody_hears_is_bounded(monkeypatch):
    monkeypatch.setattr(_batch, "STREAM_BYTES", 5000)
    batch = make(run(**STREAM))
    for _ in range(100):
        await batch.add(CommandOutput(index=0, stream="stdout", data=b"x" * 500))
    batch.end()
    assert sum(len(kind["stdout"]) for kind in await collected(batch)) <= 5000


async def test_output_waits_for_a_slow_listener_and_none_is_lost(monkeypatch):
    monkeypatch.setattr(_batch, "STREAM_BYTES", 5000)
    batch = make(run(**STREAM))
    stream = batch.stream()
    await batch.add(CommandOutput(index=0, stream="stdout", data=b"first"))
    heard = [await anext(stream)]

    async def write():
        for _ in range(100):
            await batch.add(CommandOutput(index=0, stream="stdout", data=b"x" * 500))
        batch.end()

    writing = asyncio.create_task(write())
    await asyncio.sleep(1)
    assert not writing.done()
    heard += [event async for event in stream]
    await writing
    assert sum(len(event["kind"]["stdout"]) for event in heard) == 50_005


async def test_a_listener_that_leaves_lets_the_program_go_on(monkeypatch):
    monkeypatch.setattr(_batch, "STREAM_BYTES", 2000)
    batch = make(run(**STREAM))
    stream = batch.stream()
    await batch.add(CommandOutput(index=0, stream="stdout", data=b"first"))
    await anext(stream)

    async def write():
        for _ in range(50):
            await batch.add(CommandOutput(index=0, stream="stdout", data=b"x" * 500))

    writing = asyncio.create_task(write())
    await asyncio.sleep(1)
    assert not writing.done()
    await stream.aclose()
    await asyncio.wait_for(writing, 1)


class Unit:
    def __init__(self) -> None:
        self.batches = []
        self.unit = ExeUnit("act", "agr", "0xabc", self._take)

    async def _take(self, batch) -> None:
        self.batches.append(batch)

    async def call(self, component, caller="0xABC", **fields):
        data = flexbuffers.encode({"activityId": "act", **fields})
        answer = await self.unit.answer(Call(caller, f"/x/{component}", component, data))
        return flexbuffers.decode(answer)


async def test_only_the_requestor_of_the_agreement_is_answered():
    unit = Unit()
    assert "forbidden" in (await unit.call("GetActivityState", caller="0xother"))["Err"]
    assert (await unit.call("GetActivityState"))["Ok"]["state"] == ["New", None]


async def test_batches_are_bounded_those_that_were_read_go_first(monkeypatch):
    monkeypatch.setattr(_exeunit, "BATCHES", 3)
    unit = Unit()
    for name in ("b1", "b2", "b3"):
        assert await unit.call("Exec", batchId=name, exeScript=[run()]) == {"Ok": name}
    full = await unit.call("Exec", batchId="b4", exeScript=[run()])
    assert "wait in this activity" in full["Err"]["service"]
    for name in ("b1", "b2"):
        await unit.unit.event(name, CommandResult(index=0))
        unit.unit.over(name)
    await unit.call("GetExecBatchResults", batchId="b2")
    assert "Ok" in await unit.call("Exec", batchId="b4", exeScript=[run()])
    assert "notFound" in (await unit.call("GetExecBatchResults", batchId="b2"))["Err"]
    assert len((await unit.call("GetExecBatchResults", batchId="b1"))["Ok"]) == 1
    assert [batch.batch_id for batch in unit.batches] == ["b1", "b2", "b3", "b4"]


async def test_captured_output_of_a_batch_is_bounded_and_what_is_dropped_is_told(monkeypatch):
    monkeypatch.setattr(_batch, "RESULT_BYTES", 100)
    both = {"stdout": {"atEnd": {}}, "stderr": {"atEnd": {}}}
    batch = make(run(**both), run(**both), run(**both))
    await batch.add(CommandResult(index=0, stdout="a" * 60))
    await batch.add(CommandResult(index=1, stdout="b" * 60, stderr="c" * 60, message="m"))
    await batch.add(CommandResult(index=2, success=False, stdout="d"))
    first, second, third = await batch.results(None, 0)
    assert (first["stdout"], first["message"]) == ("a" * 60, None)
    assert len(second["stdout"]) + len(second["stderr"]) == 40
    assert second["message"].startswith("m; output is dropped")
    assert (third["stdout"], third["result"]) == ("", "Error")
    assert batch.size == 100


async def test_results_of_an_activity_are_bounded_in_bytes(monkeypatch):
    monkeypatch.setattr(_exeunit, "KEPT_BYTES", 1000)
    unit = Unit()
    captured = run(stdout={"atEnd": {}})
    for number in range(10):
        await unit.call("Exec", batchId=f"b{number}", exeScript=[captured])
        await unit.unit.event(f"b{number}", CommandResult(index=0, stdout="x" * 300))
        unit.unit.over(f"b{number}")
    assert sum(batch.size for batch in unit.unit._batches.values()) <= 1300
    assert "notFound" in (await unit.call("GetExecBatchResults", batchId="b0"))["Err"]
    assert "Ok" in await unit.call("GetExecBatchResults", batchId="b9")


async def test_a_batch_that_is_here_already_is_refused():
    unit = Unit()
    await unit.call("Exec", batchId="b", exeScript=[run()])
    again = await unit.call("Exec", batchId="b", exeScript=[run()])
    assert "here already" in again["Err"]["badRequest"]
    assert len(unit.batches) == 1


async def test_an_empty_batch_is_over_at_once():
    unit = Unit()
    await unit.call("Exec", batchId="b", exeScript=[])
    assert await unit.call("GetExecBatchResults", batchId="b", timeout=5.0) == {"Ok": []}
    assert unit.batches == []


async def test_the_end_of_an_activity_answers_all_who_wait():
    unit = Unit()
    await unit.call("Exec", batchId="b", exeScript=[run()])
    waiting = asyncio.create_task(
        unit.call("GetExecBatchResults", batchId="b", timeout=30.0, commandIndex=0)
    )
    await asyncio.sleep(1)
    unit.unit.end("it died")
    assert await waiting == {"Ok": []}
    assert unit.unit.state is ActivityState.terminated
    refused = await unit.call("Exec", batchId="c", exeScript=[run()])
    assert "it died" in refused["Err"]["service"]


@pytest.mark.parametrize("index", [-1, "x", 1.5])
async def test_an_index_that_is_none_is_refused(index):
    unit = Unit()
    await unit.call("Exec", batchId="b", exeScript=[run()])
    told = await unit.call("GetExecBatchResults", batchId="b", commandIndex=index)
    assert "badRequest" in told["Err"]


@given(st.binary(max_size=100))
def test_any_payload_is_answered(data):
    async def main():
        unit = Unit()
        call = Call("0xabc", "/x/Exec", "Exec", data)
        answer = await unit.unit.answer(call)
        assert "Err" in flexbuffers.decode(answer)

    asyncio.run(main())
