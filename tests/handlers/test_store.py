"""Calls in a file: there before the answer, ended once, also over a death of the process."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sqlite3

import aiohttp
import pytest
from handlers.programs import Program
from handlers.storming import storm
from pydantic import BaseModel

from requestor_sdk.handlers import Handlers
from requestor_sdk.model.errors import StoreUnusable


class In(BaseModel):
    text: str = ""


class Out(BaseModel):
    text: str


def make():
    handlers = Handlers()

    @handlers.expose()
    def echo(data: In) -> Out:
        return Out(text=data.text)

    @handlers.expose()
    async def hang(data: In) -> Out:
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    @handlers.expose()
    async def nap(data: In) -> Out:
        await asyncio.sleep(0.5)
        return Out(text="rested")

    return handlers


async def test_ends_are_there_after_a_restart(serve, tmp_path):
    store = tmp_path / "calls.sqlite"
    async with serve(make(), store=store) as site:
        assert (await site.post("/run/echo/1", text="a")).status == 202
        await site.end("1")
        assert (await site.post("/call/echo", text="b")).json == {"text": "b"}
    async with serve(make(), store=store) as site:
        assert (await site.end("1"))["output"] == {"text": "a"}
        assert (await site.post("/run/echo/1", text="a")).status == 202
        assert (await site.post("/run/echo/1", text="other")).status == 409
        again = await site.post("/call/echo", text="a", headers={"Idempotency-Key": "1"})
        assert again.json == {"text": "a"}
        assert await site.metric('handlers_accepted_total{function="echo"}') == 0


async def test_a_call_that_was_stopped_by_the_end_says_so_afterwards(serve, tmp_path):
    store = tmp_path / "calls.sqlite"
    async with serve(make(), store=store) as site:
        await site.post("/run/hang/1")
    async with serve(make(), store=store) as site:
        end = await site.end("1")
        assert (end["status"], end["error"]["message"]) == ("cancelled", "the program ended")


async def test_a_store_belongs_to_one_program_at_a_time(serve, tmp_path):
    store = tmp_path / "calls.sqlite"
    async with serve(make(), store=store):
        with pytest.raises(StoreUnusable, match="belongs to a program that is alive"):
            async with serve(make(), store=store):
                pass


async def test_a_file_that_is_no_store_is_refused(serve, tmp_path):
    store = tmp_path / "calls.sqlite"
    store.write_bytes(b"no database at all" * 100)
    with pytest.raises(StoreUnusable, match="not a database"):
        async with serve(make(), store=store):
            pass
    later = sqlite3.connect(tmp_path / "later.sqlite")
    later.execute("PRAGMA user_version = 99")
    later.close()
    with pytest.raises(StoreUnusable, match="version 99"):
        async with serve(make(), store=tmp_path / "later.sqlite"):
            pass
    with pytest.raises(StoreUnusable, match="cannot be used"):
        async with serve(make(), store=tmp_path / "no" / "folder"):
            pass


async def test_a_store_that_cannot_be_written_makes_it_not_ready(serve, tmp_path, monkeypatch):
    async with serve(make(), store=tmp_path / "calls.sqlite") as site:
        store = site.serving.program._store
        monkeypatch.setattr(store, "_prune", full)
        assert (await site.post("/run/echo/1", text="a")).status == 503
        ready = await site.get("/readyz")
        assert (ready.status, ready.json["reason"]) == (503, "the store cannot be written")
        monkeypatch.undo()
        assert (await site.post("/run/echo/1", text="a")).status == 202
        assert (await site.get("/readyz")).status == 200


async def test_a_store_that_can_be_written_again_is_found_so_by_who_asks(
    serve, tmp_path, monkeypatch, caplog
):
    caplog.set_level(logging.INFO)
    path = tmp_path / "calls.sqlite"
    async with serve(make(), store=path) as site:
        store = site.serving.program._store
        monkeypatch.setattr(store, "_prune", full)
        assert (await site.get("/readyz")).status == 200
        assert (await site.post("/run/echo/1", text="a")).status == 503
        assert (await site.get("/readyz")).status == 503
        assert "the store cannot be written: database or disk is full" in caplog.text
        monkeypatch.undo()
        assert (await site.get("/readyz")).status == 200
        assert "the store can be written again" in caplog.text


async def test_an_end_that_could_not_be_written_is_written_later(serve, tmp_path, monkeypatch):
    path = tmp_path / "calls.sqlite"
    async with serve(make(), store=path) as site:
        store = site.serving.program._store
        waiting = asyncio.create_task(site.post("/call/nap", headers={"Idempotency-Key": "1"}))
        while (await site.get("/tasks/1")).status == 404 or (
            (await site.get("/tasks/1")).json["status"] != "running"
        ):
            await asyncio.sleep(0.01)
        monkeypatch.setattr(store, "_prune", full)
        assert (await waiting).status == 200
        assert (await site.get("/readyz")).status == 503
        monkeypatch.undo()
    async with serve(make(), store=path) as site:
        # What its caller was told, and not that it broke off.
        assert (await site.end("1"))["status"] == "succeeded"


def full(*_):
    raise sqlite3.OperationalError("database or disk is full")


CRASH = """
def begun(name):
    open(os.path.join(os.path.dirname(os.environ["GO"]), name), "w").close()

@handlers.expose(concurrency=1)
async def once(data: In) -> Out:
    if os.path.exists(os.environ["GO"]):
        return Out(text="after")
    begun("once")
    await asyncio.sleep(600)

@handlers.expose(idempotent=True)
async def again(data: In) -> Out:
    if os.path.exists(os.environ["GO"]):
        return Out(text=f"attempt {handlers.current_call().attempt}")
    begun("again")
    await asyncio.sleep(600)

@handlers.expose(idempotent=True)
def poison(data: In) -> Out:
    os._exit(9)

handlers.start(store=os.environ["STORE"])
"""


async def ask(session, method, url, **fields):
    headers = {"Prefer": "wait=30"} if method == "GET" else {}
    async with session.request(method, url, json=fields or None, headers=headers) as got:
        return got.status, await got.json()


async def test_a_killed_program_goes_on_with_what_waited_and_tells_of_what_ran(tmp_path):
    go = tmp_path / "go"
    program = Program(tmp_path, CRASH, GO=str(go), STORE=str(tmp_path / "calls.sqlite"))
    async with aiohttp.ClientSession() as session:
        with program:
            await asyncio.to_thread(program.wait_for)
            for path in ("once/ran", "once/waited", "again/ran-again"):
                got = await ask(session, "POST", f"{program.url}/run/{path}", text="a")
                assert got[0] == 202
            # A call is accepted before its handler begins: without this the kill may come first.
            await asyncio.to_thread(program.wait_until, (tmp_path / "once").exists)
            await asyncio.to_thread(program.wait_until, (tmp_path / "again").exists)
            program.signal(signal.SIGKILL)
            program.ended()
        go.touch()
        with program:
            await asyncio.to_thread(program.wait_for)
            ends = {}
            for call in ("ran", "waited", "ran-again"):
                _, ends[call] = await ask(session, "GET", f"{program.url}/tasks/{call}")
    assert (ends["ran"]["status"], ends["ran"]["error"]["type"]) == ("failed", "Interrupted")
    assert ends["waited"]["output"] == {"text": "after"}
    assert ends["ran-again"]["output"] == {"text": "attempt 2"}


async def test_a_call_that_kills_its_program_does_so_three_times_at_most(tmp_path):
    program = Program(tmp_path, CRASH, GO=str(tmp_path), STORE=str(tmp_path / "calls.sqlite"))
    async with aiohttp.ClientSession() as session:
        with program:
            await asyncio.to_thread(program.wait_for)
            await ask(session, "POST", f"{program.url}/run/poison/1", text="a")
            assert program.ended() == 9
        for _ in range(2):
            with program:
                assert program.ended() == 9
        with program:
            await asyncio.to_thread(program.wait_for)
            _, end = await ask(session, "GET", f"{program.url}/tasks/1")
    assert (end["status"], end["error"]["type"], end["attempt"]) == ("failed", "Interrupted", 3)


LOAD = """
@handlers.expose(concurrency=32, queue=2000, timeout=0.5)
async def mixed(data: In) -> Out:
    chance = random.random()
    if chance < 0.02:
        raise ValueError("by chance")
    if chance < 0.03:
        await asyncio.sleep(600)
    return Out(text=data.text)

@handlers.expose(concurrency=2, queue=2000, timeout=0.3)
def hard(data: In) -> Out:
    chance = random.random()
    if chance < 0.02:
        os._exit(1)
    if chance < 0.03:
        time.sleep(600)
    if chance < 0.05:
        sys.exit("by chance")
    return Out(text=data.text)

handlers.start(store=os.environ["STORE"], grace=2)
"""


CALLS = 10_000


@pytest.mark.timeout(600)
async def test_under_load_and_a_kill_in_the_middle_each_accepted_call_ends_once(tmp_path):
    program = Program(tmp_path, LOAD, STORE=str(tmp_path / "calls.sqlite"))
    told = await storm(program, calls=CALLS, connections=64)
    assert told.accepted == CALLS
    assert told.ended == told.accepted, json.dumps(told.missing[:5])
    assert told.changed == []
    # Those that hang when the program is killed are interrupted, which can be all of them.
    assert {"succeeded", "failed"} <= set(told.statuses) <= {"succeeded", "failed", "timed_out"}
