"""Ends that are sent to the callback: signed, tried again, bounded in time, in nobody's way."""

from __future__ import annotations

import asyncio
import json
import logging
import time

import pytest
from pydantic import BaseModel

from requestor_sdk.handlers import Handlers, verify_signature
from requestor_sdk.handlers import _outbox as outbox
from requestor_sdk.model.errors import UsageError


class In(BaseModel):
    text: str = ""


class Out(BaseModel):
    text: str


def make():
    handlers = Handlers()

    @handlers.expose()
    def echo(data: In) -> Out:
        if data.text == "raise":
            raise ValueError("not good")
        return Out(text=data.text)

    @handlers.expose(timeout=0.1)
    async def hang(data: In) -> Out:
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    return handlers


@pytest.fixture(autouse=True)
def _soon(monkeypatch):
    monkeypatch.setattr(outbox, "_FIRST_SEC", 0.01)


async def test_the_output_is_sent_bare_and_signed(serve, sink):
    async with serve(make(), callback_url=sink.url, callback_secret="s3cret") as site:
        await site.post("/run/echo/0xT", text="a")
        await sink.count(1)
    path, headers, body = sink.got[0]
    assert (path, body) == ("/answers/0xT", b'{"text":"a"}')
    assert headers["X-Task-Status"] == "succeeded"
    assert headers["X-Task-Function"] == "echo"
    signed = {"call_id": "0xT", "status": "succeeded", "body": body}
    assert verify_signature(headers["X-Signature"], "s3cret", **signed)
    assert not verify_signature(headers["X-Signature"], "another", **signed)
    assert not verify_signature(headers["X-Signature"], "s3cret", **{**signed, "status": "failed"})
    assert not verify_signature(headers["X-Signature"], "s3cret", **{**signed, "body": b"{}"})
    old = outbox.signature("s3cret", at=1, **signed)
    assert not verify_signature(old, "s3cret", **signed)
    for bad in ("", "t=,v1=", "t=9" * 50, "v1=a,t=²", "\x00"):
        assert not verify_signature(bad, "s3cret", **signed)


async def test_every_end_is_sent_and_calls_that_were_waited_for_are_not(serve, sink):
    async with serve(make(), callback_url=sink.url) as site:
        await site.post("/call/echo", text="a")
        await site.post("/run/echo/1", text="raise")
        await site.post("/run/hang/2")
        await sink.count(2)
    ends = {path: (headers["X-Task-Status"], json.loads(body)) for path, headers, body in sink.got}
    assert ends == {
        "/answers/1": (
            "failed",
            {"status": "failed", "error": {"type": "ValueError", "message": "not good"}},
        ),
        "/answers/2": (
            "timed_out",
            {
                "status": "timed_out",
                "error": {"type": "Timeout", "message": "it took longer than 0.1 s"},
            },
        ),
    }


async def test_it_is_sent_again_until_it_is_taken(serve, sink):
    sink.answers = [500, 429, 503, 204]
    async with serve(make(), callback_url=sink.url) as site:
        await site.post("/run/echo/1", text="a")
        await sink.count(4)
        assert [headers["X-Delivery-Attempt"] for _, headers, _ in sink.got] == list("1234")
    assert len(sink.got) == 4


@pytest.mark.parametrize(("answers", "sent"), [([400], 1), ([302], 1), ([500] * 9, 3)])
async def test_it_is_given_up_where_that_is_no_use(serve, sink, answers, sent, caplog):
    sink.answers = answers
    async with serve(make(), callback_url=sink.url, callback_attempts=3) as site:
        await site.post("/run/echo/1", text="a")
        await sink.count(sent)
        async with asyncio.timeout(10):
            while await site.metric("handlers_callbacks_waiting"):
                await asyncio.sleep(0.01)
        assert (await site.end("1"))["output"] == {"text": "a"}
        assert await site.metric('handlers_callbacks_total{result="given_up"}') == 1
    assert len(sink.got) == sent
    assert f"[1] callback given up after attempt {sent}: status" in caplog.text


async def test_a_callback_that_hangs_holds_up_neither_calls_nor_the_end(serve, sink):
    sink.hangs = True
    began = time.monotonic()
    async with serve(
        make(), callback_url=sink.url, callback_timeout=0.2, callback_attempts=2, grace=0.3
    ) as site:
        for number in range(60):
            await site.post(f"/run/echo/{number}", text="a")
        assert (await site.post("/call/echo", text="b")).json == {"text": "b"}
        assert (await site.end("59"))["status"] == "succeeded"
    assert time.monotonic() - began < 10


async def test_a_program_ends_where_a_sending_takes_its_end_for_a_timeout(serve, sink, monkeypatch):
    taken = []

    async def send(*_):
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            if taken:
                raise
            taken.append("an end")
            return "TimeoutError"

    monkeypatch.setattr(outbox.Outbox, "_send", send)
    async with asyncio.timeout(10):
        async with serve(make(), callback_url=sink.url) as site:
            await site.post("/run/echo/1", text="a")
            await site.end("1")
    assert taken


async def test_what_was_not_delivered_is_sent_after_a_restart(serve, sink, tmp_path):
    store = tmp_path / "calls.sqlite"
    down = "http://127.0.0.1:9/answers"
    async with serve(make(), store=store, callback_url=down, callback_attempts=1) as site:
        await site.post("/run/echo/1", text="a")
        await site.end("1")
    async with serve(make(), store=store, callback_url=sink.url):
        await sink.count(1)
    async with serve(make(), store=store, callback_url=sink.url) as site:
        await site.post("/run/echo/2", text="b")
        await sink.count(2)
    assert [path for path, _, _ in sink.got] == ["/answers/1", "/answers/2"]


async def test_ids_are_escaped_in_the_path(serve, sink):
    async with serve(make(), callback_url=sink.url) as site:
        await site.post("/run/echo/a%3Fb%20c", text="a")
        await sink.count(1)
    assert sink.got[0][0] == "/answers/a?b c"


async def test_a_query_of_the_address_stays_behind_the_path(serve, sink):
    async with serve(make(), callback_url=sink.url + "/?token=a%26b") as site:
        await site.post("/run/echo/a%3Fb%23c", text="a")
        await sink.count(1)
    assert sink.targets == ["/answers/a%3Fb%23c?token=a%26b"]


async def test_the_address_comes_from_the_environment_at_the_start(serve, sink, monkeypatch):
    monkeypatch.setenv("CALLBACK_URL", sink.url)
    async with serve(make()) as site:
        await site.post("/run/echo/1", text="a")
        await sink.count(1)
    monkeypatch.setenv("CALLBACK_URL", "ftp://user:hunter2@host")
    with pytest.raises(UsageError) as caught:
        async with serve(make()):
            pass
    assert "hunter2" not in str(caught.value)


async def test_the_log_names_no_address_and_no_secret(serve, sink, caplog):
    caplog.set_level(logging.DEBUG)
    sink.answers = [400]
    url = sink.url + "?key=hunter2"
    async with serve(make(), callback_url=url, callback_secret="s3cret") as site:
        await site.post("/run/echo/1", text="payload")
        await sink.count(1)
    assert "hunter2" not in caplog.text
    assert "s3cret" not in caplog.text
