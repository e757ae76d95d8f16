"""Calls from the outside: asked for, waited for, streamed, cancelled; by threads and the loop."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import AsyncIterator, Iterator

import pytest
from pydantic import BaseModel

from requestor_sdk.handlers import Handlers, current_call


class In(BaseModel):
    text: str = ""
    number: int = 0


class Out(BaseModel):
    text: str


handlers = Handlers()
gate = threading.Event()
seen: list[str] = []


@handlers.expose()
def echo(data: In) -> Out:
    """Say it again."""
    return Out(text=data.text)


@handlers.expose()
async def async_echo(data: In) -> Out:
    await asyncio.sleep(0)
    return Out(text=data.text)


@handlers.expose()
def count(data: In) -> Iterator[Out]:
    for number in range(data.number):
        yield Out(text=str(number))


@handlers.expose()
async def async_count(data: In) -> AsyncIterator[Out]:
    for number in range(data.number):
        yield Out(text=str(number))


@handlers.expose()
async def hang(data: In) -> Out:
    try:
        await asyncio.get_running_loop().create_future()
    finally:
        seen.append(data.text)
    raise AssertionError


@handlers.expose()
def who(data: In) -> Out:
    call = current_call()
    return Out(text=f"{call.id} {call.function} {call.attempt}")


@handlers.expose()
def blocked(data: In) -> Out:
    gate.wait(30)
    return Out(text="")


@handlers.expose(batch=4, batch_wait=0.2)
def batched(items: list[In]) -> list[Out]:
    return [Out(text=f"{each.text} of {len(items)}") for each in items]


@handlers.expose(batch=4, batch_wait=0.05)
async def wrong_batch(items: list[In]) -> list[Out]:
    return []


@pytest.fixture
async def site(serve):
    gate.clear()
    async with serve(handlers) as site:
        yield site
        gate.set()


@pytest.mark.parametrize("name", ["echo", "async_echo"])
async def test_a_call_returns_the_output(site, name):
    got = await site.post(f"/call/{name}", text="a")
    assert (got.status, got.json) == (200, {"text": "a"})
    end = await site.end(got.headers["X-Task-Address"])
    assert (end["status"], end["output"], end["error"]) == ("succeeded", {"text": "a"}, None)


async def test_a_run_is_accepted_and_its_end_is_kept(site):
    got = await site.post("/run/echo/0xT", text="a")
    assert (got.status, got.json) == (202, {"task_address": "0xT", "status": "accepted"})
    end = await site.end("0xT")
    assert (end["function"], end["status"], end["output"]) == ("echo", "succeeded", {"text": "a"})
    assert end["accepted_at"] <= end["started_at"] <= end["finished_at"]


async def test_a_run_can_be_waited_for(site):
    got = await site.post("/run/echo/w1", text="a", headers={"Prefer": "wait=10"})
    assert (got.status, got.json["output"]) == (200, {"text": "a"})
    assert got.headers["Preference-Applied"] == "wait=10"
    got = await site.post("/run/hang/w2", text="a", headers={"Prefer": "wait=0"})
    assert (got.status, got.json["status"]) == (202, "accepted")
    got = await site.get("/tasks/w2", headers={"Prefer": "wait=0"})
    assert got.json["status"] == "running"


async def test_a_call_can_be_left_to_itself(site):
    got = await site.post(
        "/call/hang", text="a", headers={"Prefer": "respond-async", "Idempotency-Key": "k"}
    )
    assert (got.status, got.json["task_address"]) == (202, "k")
    assert got.headers["Location"] == "/tasks/k"


async def test_the_same_id_is_the_same_call(site):
    first = await site.post("/run/who/same", text="a")
    again = await site.post("/run/who/same", text="a")
    assert (first.status, again.status) == (202, 202)
    assert (await site.end("same"))["attempt"] == 1
    assert await site.metric('handlers_accepted_total{function="who"}') == 1
    other = await site.post("/run/who/same", text="b")
    assert other.status == 409
    assert (await site.post("/run/echo/same", text="a")).status == 409
    called = await site.post("/call/who", text="a", headers={"Idempotency-Key": "same"})
    assert called.json == {"text": "same who 1"}


async def events_of(site, path, *, last=None, method="GET", **fields):
    headers = {"Accept": "text/event-stream"}
    if last is not None:
        headers["Last-Event-ID"] = str(last)
    got = await site.ask(method, path, headers=headers, **fields)
    assert got.headers["Content-Type"] == "text/event-stream"
    found = []
    for block in got.body.decode().strip().split("\n\n"):
        rows = dict(row.split(": ", 1) for row in block.split("\n"))
        found.append((int(rows["id"]), rows["event"], rows["data"]))
    return found


@pytest.mark.parametrize("name", ["count", "async_count"])
async def test_a_generator_streams_and_can_be_read_again_from_any_event(site, name):
    found = await events_of(site, f"/call/{name}", method="POST", number=3)
    assert [event for _, event, _ in found] == ["accepted", "started"] + ["output"] * 3 + [
        "succeeded"
    ]
    assert [data for _, event, data in found if event == "output"] == [
        '{"text":"0"}',
        '{"text":"1"}',
        '{"text":"2"}',
    ]
    await site.post(f"/run/{name}/s-{name}", number=3)
    assert (await site.end(f"s-{name}"))["output"] == [{"text": str(n)} for n in range(3)]
    again = await events_of(site, f"/tasks/s-{name}/events", last=4)
    assert [(number, event) for number, event, _ in again] == [(5, "output"), (6, "succeeded")]


async def test_a_generator_that_is_called_plainly_returns_the_list(site):
    got = await site.post("/call/count", number=2)
    assert got.json == [{"text": "0"}, {"text": "1"}]
    assert (await site.post("/call/count", number=0)).json == []


async def test_the_events_of_a_plain_call_carry_its_output(site):
    await site.post("/run/echo/e1", text="a")
    found = await events_of(site, "/tasks/e1/events")
    assert [event for _, event, _ in found] == ["accepted", "started", "succeeded"]
    assert '"output": {"text":"a"}' in found[-1][2]


async def test_cancelling_an_async_call_runs_its_finally(site):
    seen.clear()
    await site.post("/run/hang/c1", text="tidied")
    got = await site.ask("DELETE", "/tasks/c1")
    assert (got.json["status"], seen) == ("cancelled", ["tidied"])
    got = await site.post("/tasks/c1/cancel")
    assert got.json["status"] == "cancelled"


async def test_cancelling_a_call_that_waits_takes_it_out(serve):
    own = Handlers()
    began = []

    @own.expose(concurrency=1)
    async def one(data: In) -> Out:
        began.append(data.text)
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    async with serve(own, grace=0.1) as site:
        await site.post("/run/one/a", text="a")
        await site.post("/run/one/b", text="b")
        assert (await site.get("/tasks/b")).json["status"] == "queued"
        assert (await site.ask("DELETE", "/tasks/b")).json["status"] == "cancelled"
        found = await events_of(site, "/tasks/b/events")
        assert [event for _, event, _ in found] == ["accepted", "cancelled"]
    assert began == ["a"]


async def test_a_thread_that_is_cancelled_is_over_for_its_caller_and_told(serve):
    own, stopped = Handlers(), threading.Event()

    @own.expose(concurrency=1)
    def loops(data: In) -> Out:
        while not current_call().stopped:
            time.sleep(0.001)
        stopped.set()
        return Out(text="")

    async with serve(own) as site:
        await site.post("/run/loops/a", text="a")
        assert (await site.ask("DELETE", "/tasks/a")).json["status"] == "cancelled"
        assert await asyncio.to_thread(stopped.wait, 10)
        assert (await site.end("a"))["status"] == "cancelled"


async def test_batches_are_handed_over_together(site):
    got = await asyncio.gather(*(site.post("/call/batched", text=str(n)) for n in range(4)))
    assert sorted(each.json["text"] for each in got) == [f"{n} of 4" for n in range(4)]
    alone = await site.post("/call/batched", text="alone")
    assert alone.json == {"text": "alone of 1"}
    got = await asyncio.gather(*(site.post("/call/wrong_batch") for n in range(2)))
    assert {each.status for each in got} == {500}
    assert "0 outputs for 2 inputs" in got[0].json["error"]["message"]


async def test_one_of_a_batch_can_be_cancelled_and_the_others_go_on(serve):
    own, release = Handlers(), asyncio.Event()

    @own.expose(batch=2, batch_wait=5)
    async def both(items: list[In]) -> list[Out]:
        await release.wait()
        return [Out(text=item.text) for item in items]

    async with serve(own) as site:
        await site.post("/run/both/a", text="a")
        await site.post("/run/both/b", text="b")
        assert (await site.ask("DELETE", "/tasks/a")).json["status"] == "cancelled"
        release.set()
        assert (await site.end("b"))["output"] == {"text": "b"}
        end = await site.end("a")
        assert (end["status"], end["output"]) == ("cancelled", None)
        metrics = (await site.get("/metrics")).body.decode()
        assert 'handlers_calls_total{function="both",status="succeeded"} 1' in metrics
        assert 'handlers_calls_total{function="both",status="cancelled"} 1' in metrics


async def test_too_many_are_told_to_come_later(serve):
    own = Handlers()
    release = asyncio.Event()

    @own.expose(concurrency=2, queue=3)
    async def waits(data: In) -> Out:
        await release.wait()
        return Out(text=data.text)

    async with serve(own) as site:
        codes = [(await site.post(f"/run/waits/{n}")).status for n in range(7)]
        assert codes == [202] * 5 + [429] * 2
        refused = await site.post("/call/waits")
        assert refused.status == 429
        assert int(refused.headers["Retry-After"]) >= 1
        assert (await site.get("/tasks/6")).status == 404
        release.set()
        assert [(await site.end(n))["status"] for n in range(5)] == ["succeeded"] * 5
        assert (await site.post("/run/waits/6")).status == 202
        assert (await site.end(6))["status"] == "succeeded"


async def test_a_blocked_thread_blocks_nobody_else(site):
    await asyncio.gather(*(site.post(f"/run/blocked/b{n}") for n in range(20)))
    got = await asyncio.gather(*(site.post("/call/echo", text=str(n)) for n in range(50)))
    assert [each.json["text"] for each in got] == [str(n) for n in range(50)]
    gate.set()
    assert (await site.end("b19"))["status"] == "succeeded"


async def test_it_tells_what_it_is(site):
    document = (await site.get("/openapi.json")).json
    assert document["openapi"] == "3.1.0"
    call = document["paths"]["/call/echo"]["post"]
    assert (call["operationId"], call["summary"]) == ("echo", "Say it again.")
    given = call["responses"]["200"]["content"]["application/json"]["schema"]
    assert given == {"$ref": "#/components/schemas/Out"}
    page = await site.get("/docs")
    assert page.status == 200
    assert b"POST /call/echo" in page.body
    assert b"//" not in page.body.replace(b"</", b"")


async def test_unknown_paths_and_wrong_methods_are_told(site):
    assert (await site.get("/")).status == 404
    assert (await site.post("/call/nothing")).status == 404
    assert (await site.post("/run/nothing/1")).status == 404
    got = await site.get("/run/echo/1")
    assert (got.status, got.headers["Allow"]) == (405, "POST")
    got = await site.ask("PUT", "/tasks/1")
    assert (got.status, got.headers["Allow"]) == (405, "GET, DELETE")
    assert (await site.get("/tasks/never")).status == 404


async def test_inputs_that_wait_take_so_much_memory_only(serve, monkeypatch):
    from requestor_sdk.handlers import _desk

    monkeypatch.setattr(_desk, "INPUTS", 100_000)
    handlers = Handlers()

    @handlers.expose(concurrency=1)
    async def waits(data: In) -> Out:
        await asyncio.sleep(30 if data.number else 0)
        return Out(text="")

    async with serve(handlers) as site:
        large = {"text": "x" * 60_000}
        assert (await site.post("/run/waits/1", number=1, **large)).status == 202
        full = await site.post("/run/waits/2", **large)
        assert (full.status, full.headers["Retry-After"]) == (429, "1")
        assert (await site.post("/run/waits/3", text="small")).status == 202
        await site.ask("DELETE", "/tasks/1")
        for number in range(5):
            # One alone may have more, and what is over counts no more.
            assert (await site.post("/call/waits", text="x" * 200_000)).status == 200, number


async def test_a_clock_that_is_set_holds_up_no_batch_and_forgets_no_end(site, monkeypatch):
    await site.post("/run/echo/before", text="a")
    await site.end("before")
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 100_000)
    assert (await site.post("/call/echo")).status == 200
    calls = [asyncio.create_task(site.post("/call/batched", text="a")) for _ in range(2)]
    while (await site.get("/readyz")).json["queued"] < 1 and not calls[0].done():
        pass
    monkeypatch.setattr(time, "time", lambda: now() - 100_000)
    async with asyncio.timeout(10):
        assert [each.status for each in await asyncio.gather(*calls)] == [200, 200]
    assert (await site.end("before"))["status"] == "succeeded"


async def test_an_async_handler_that_computes_is_named_while_it_holds_up_the_others(serve, caplog):
    handlers, told = Handlers(), []

    @handlers.expose()
    async def computes(data: In) -> Out:
        end = time.monotonic() + 20
        while "all calls wait" not in caplog.text and time.monotonic() < end:
            time.sleep(0.01)
        told.append(caplog.text)
        return Out(text="")

    async with serve(handlers) as site:
        assert (await site.post("/call/computes")).status == 200
        assert re.search(r"stood still for \d+\.\d s at .*test_calls\.py:\d+ in computes", told[0])
        while not await site.metric("handlers_stalls_total"):
            await asyncio.sleep(0.05)
