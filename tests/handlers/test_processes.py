"""Handlers in processes of their own: stopped for real, replaced, and never left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from requestor_sdk.handlers import Handlers, StartFailed
from requestor_sdk.handlers._signature import HAS_PROCESSES

pytestmark = pytest.mark.skipif(not HAS_PROCESSES, reason="there are handler processes on Linux")


class In(BaseModel):
    text: str = ""
    number: float = 0


class Out(BaseModel):
    text: str


def alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


async def gone(pid, seconds=10):
    async with asyncio.timeout(seconds):
        while alive(pid):
            await asyncio.sleep(0.01)


def make(**options):  # noqa: C901 - a handler for each way to end
    handlers = Handlers()
    marks = []

    @handlers.init()
    def init():
        marks.append(os.getpid())

    @handlers.expose(isolation="process", **options)
    def work(data: In) -> Out:
        if data.text == "exit":
            os._exit(7)
        if data.text == "sys.exit":
            sys.exit("bye")
        if data.text == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if data.text == "raise":
            raise ValueError("not good")
        if data.text == "pids":
            return Out(text=f"{os.getpid()} {marks}")
        end = time.monotonic() + data.number
        try:
            while time.monotonic() < end:
                time.sleep(0.01)
        finally:
            if data.text.startswith("/"):
                Path(data.text).write_text("tidied")
        return Out(text=data.text)

    @handlers.expose(isolation="process", timeout=1)
    def stubborn(data: In) -> Out:
        child = subprocess.Popen(["sleep", "600"])
        Path(data.text).write_text(f"{os.getpid()} {child.pid}")
        while True:
            try:
                time.sleep(600)
            except BaseException:
                continue

    @handlers.expose(isolation="process")
    def numbers(data: In) -> Iterator[Out]:
        for number in range(int(data.number)):
            yield Out(text=str(number))

    @handlers.expose(isolation="process", timeout=1)
    async def waits(data: In) -> Out:
        try:
            await asyncio.sleep(data.number)
        except asyncio.CancelledError:
            Path(data.text).write_text("cancelled")
            raise
        return Out(text="waited")

    return handlers


@pytest.fixture
async def site(serve):
    async with serve(make()) as site:
        yield site


async def test_init_runs_in_each_process_and_processes_are_kept(site):
    first = (await site.post("/call/work", text="pids")).json["text"]
    again = (await site.post("/call/work", text="pids")).json["text"]
    pid = first.split()[0]
    assert first == again == f"{pid} [{pid}]"
    assert int(pid) != os.getpid()


async def test_where_memory_runs_out_a_handler_goes_before_the_program(site):
    pid = (await site.post("/call/work", text="pids")).json["text"].split()[0]
    score = Path(f"/proc/{pid}/oom_score_adj")
    assert int(score.read_text()) >= 500


async def test_a_timeout_stops_the_work_and_lets_it_tidy_up(serve, tmp_path):
    mark = tmp_path / "mark"
    async with serve(make(timeout=0.4)) as site:
        got = await site.post("/call/work", text=str(mark), number=60)
        assert (got.status, got.json["status"]) == (504, "timed_out")
        assert got.json["error"]["message"] == "it took longer than 0.4 s"
        assert mark.read_text() == "tidied"
        assert (await site.post("/call/work", text="a")).json == {"text": "a"}


async def test_what_does_not_stop_is_killed_with_its_children(site, tmp_path):
    told = tmp_path / "pids"
    got = await site.post("/call/stubborn", text=str(told))
    assert got.json["status"] == "timed_out"
    for pid in told.read_text().split():
        await gone(int(pid))


async def test_an_async_handler_in_a_process_is_cancelled(site, tmp_path):
    mark = tmp_path / "mark"
    got = await site.post("/call/waits", text=str(mark), number=60)
    assert got.json["status"] == "timed_out"
    assert mark.read_text() == "cancelled"
    assert (await site.post("/call/waits", number=0)).json == {"text": "waited"}


async def test_a_cancelled_call_is_stopped(site, tmp_path):
    mark = tmp_path / "mark"
    await site.post("/run/work/c1", text=str(mark), number=60)
    async with asyncio.timeout(10):
        while (await site.get("/tasks/c1")).json["status"] != "running":
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    got = await site.ask("DELETE", "/tasks/c1")
    assert got.json["status"] == "cancelled"
    assert mark.read_text() == "tidied"


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        ("exit", "WorkerDied", "the handler's process ended with status 7"),
        ("kill", "WorkerDied", "the handler's process was killed by signal 9"),
        ("sys.exit", "SystemExit", "bye"),
        ("raise", "ValueError", "not good"),
    ],
)
async def test_however_a_process_ends_its_call_has_an_outcome(site, text, kind, said):
    got = await site.post("/call/work", text=text)
    assert got.status == 500
    assert got.json == {"status": "failed", "error": {"type": kind, "message": said}}
    assert (await site.post("/call/work", text="next")).json == {"text": "next"}


async def test_a_generator_streams_out_of_a_process(site):
    got = await site.post("/call/numbers", number=3, headers={"Accept": "text/event-stream"})
    assert got.body.count(b"event: output") == 3
    assert (await site.post("/call/numbers", number=2)).json == [{"text": "0"}, {"text": "1"}]


async def test_large_inputs_and_outputs_pass(site):
    text = "x" * 3_000_000
    assert (await site.post("/call/work", text=text)).json == {"text": text}


async def test_as_many_work_at_a_time_as_there_may(serve):
    async with serve(make(concurrency=3)) as site:
        await site.post("/call/work", text="warm")
        began = time.monotonic()
        await asyncio.gather(*(site.post("/call/work", number=0.5, text="a") for _ in range(3)))
        assert time.monotonic() - began < 1.4
        assert await site.metric("handlers_processes") == 3


async def test_leaving_ends_all_processes(serve):
    async with serve(make()) as site:
        pid = int((await site.post("/call/work", text="pids")).json["text"].split()[0])
        zygote = site.serving.program._zygote.pid
        assert alive(pid)
        assert alive(zygote)
    assert not alive(pid)
    assert not alive(zygote)


async def test_init_that_fails_in_a_process_fails_the_start(serve):
    own = Handlers()

    @own.init()
    def broken():
        raise OSError("no weights at s3://secret")

    @own.expose(isolation="process")
    def work(data: In) -> Out: ...

    with pytest.raises(StartFailed, match="init failed in a handler process: OSError"):
        async with serve(own):
            pass


async def test_an_object_is_entered_in_the_process_and_left_at_its_end(serve, tmp_path):
    own = Handlers()

    class Model:
        def __enter__(self):
            self.pid = os.getpid()
            return self

        def __exit__(self, *_):
            (tmp_path / str(self.pid)).write_text("left")

        @own.expose(isolation="process")
        def work(self, data: In) -> Out:
            return Out(text=str(self.pid))

    async with serve(own) as site:
        pid = (await site.post("/call/work")).json["text"]
    assert (tmp_path / pid).read_text() == "left"
