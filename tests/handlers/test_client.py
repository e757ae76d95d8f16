"""The typed client: models in, models out, and errors by what happened."""

from __future__ import annotations

import asyncio
import datetime as dt
import sys
from collections.abc import AsyncIterator
from typing import Literal

import pytest
from pydantic import BaseModel, Field

from requestor_sdk.handlers import HandlerClient, Handlers, Status, generate
from requestor_sdk.handlers.generate import load
from requestor_sdk.model.errors import (
    CallCancelled,
    CallFailed,
    CallInterrupted,
    CallRefused,
    CallRejected,
    CallTimedOut,
    CallUnreachable,
    ExposeError,
    UsageError,
)


class Part(BaseModel):
    names: list[str] = []
    kind: Literal["big", "small"] = "big"


class In(BaseModel):
    text: str = Field(default="", max_length=100)
    at: dt.datetime | None = None
    parts: list[Part] = []
    class_: int = Field(default=0, alias="class")


class Out(BaseModel):
    text: str
    parts: list[Part] = []


handlers = Handlers()


@handlers.expose()
def predict(data: In) -> Out:
    if data.text == "raise":
        raise LookupError("no such model")
    return Out(text=data.text, parts=data.parts)


@handlers.expose(timeout=0.2)
async def hang(data: In) -> Out:
    await asyncio.get_running_loop().create_future()
    raise AssertionError


@handlers.expose(concurrency=1, queue=0)
async def narrow(data: In) -> Out:
    await asyncio.get_running_loop().create_future()
    raise AssertionError


@handlers.expose()
async def words(data: In) -> AsyncIterator[Out]:
    for word in data.text.split():
        if word == "raise":
            raise LookupError("no such word")
        yield Out(text=word)


@handlers.expose(batch=2)
def many(items: list[In]) -> list[Out]:
    return [Out(text=each.text) for each in items]


@pytest.fixture
async def site(serve):
    async with serve(handlers) as site:
        yield site


async def test_a_call_takes_and_returns_models(site):
    async with HandlerClient(site.url, predict) as client:
        assert await client(In(text="a", parts=[Part(names=["b"])])) == Out(
            text="a", parts=[Part(names=["b"])]
        )
    async with HandlerClient(site.serving, many) as client:
        assert await client(In(text="c")) == Out(text="c")


async def test_it_goes_by_a_unix_socket_too(tmp_path):
    path = tmp_path / "s"
    own = Handlers()
    own.expose()(predict)
    async with own.serving(uds=path) as serving:
        assert serving.url == f"unix:{path}"
        async with HandlerClient(f"unix:{path}", predict) as client:
            assert await client(In(text="a")) == Out(text="a")


async def test_errors_are_told_by_what_happened(site):
    async with HandlerClient(site.url, predict) as client:
        with pytest.raises(CallFailed, match="LookupError: no such model") as failed:
            await client(In(text="raise"), id="f1")
        assert failed.value.error_type == "LookupError"
        assert failed.value.ids == {"call": "f1"}
        with pytest.raises(CallRefused, match="takes In, not Out"):
            await client(Out(text=""))
        with pytest.raises(CallRefused, match="cannot be the id"):
            await client(In(), id="a\nb")
    async with HandlerClient(site.url, predict, name="nothing") as client:
        with pytest.raises(CallRefused, match="Not Found"):
            await client(In())
    async with HandlerClient(site.url, hang) as client:
        with pytest.raises(CallTimedOut):
            await client(In())
    async with HandlerClient(site.url, narrow) as client:
        submitted = await client.submit(In(), id="n1")
        with pytest.raises(CallRejected) as rejected:
            await client(In())
        assert rejected.value.retry_after >= 1
        assert await submitted.cancel() is Status.cancelled
        with pytest.raises(CallCancelled):
            await submitted.result()


async def test_input_that_does_not_fit_there_is_refused_with_the_field(site):
    class Loose(BaseModel):
        text: int

    def predict(data: Loose) -> Out: ...

    predict.__annotations__ = {"data": Loose, "return": Out}
    async with HandlerClient(site.url, predict) as client:
        with pytest.raises(CallRefused, match=r"body.text: Input should be a valid string"):
            await client(Loose(text=5))


async def test_an_output_that_does_not_fit_here_names_the_field(site):
    class Strict(BaseModel):
        text: str
        more: int

    def predict(data: In) -> Strict: ...

    predict.__annotations__ = {"data": In, "return": Strict}
    async with HandlerClient(site.url, predict) as client:
        with pytest.raises(CallFailed, match="does not fit its type here: more"):
            await client(In())


async def test_a_stream_gives_parts_and_goes_on_where_it_was_left(site):
    async with HandlerClient(site.url, words) as client:
        assert [part.text async for part in client.stream(In(text="a b c"))] == ["a", "b", "c"]
        submitted = await client.submit(In(text="a b c"), id="w1")
        assert [part.text async for part in submitted.parts(after=1)] == ["b", "c"]
        got = []
        with pytest.raises(CallFailed, match="no such word"):
            async for part in client.stream(In(text="a raise")):
                got.append(part.text)
        assert got == ["a"]


async def test_what_was_handed_over_can_be_asked_for_later(site):
    async with HandlerClient(site.url, predict) as client:
        await client.submit(In(text="a"), id="p1")
        assert await client.submitted("p1").result() == Out(text="a")
        assert await client.submitted("p1").status() is Status.succeeded
        with pytest.raises(CallRefused, match="no such task"):
            await client.submitted("p2").result()


async def test_nobody_there_and_a_broken_connection_are_two_things(site, tmp_path):
    async with HandlerClient("http://127.0.0.1:9", predict) as client:
        with pytest.raises(CallUnreachable):
            await client(In())
    async with HandlerClient(f"unix:{tmp_path}/none", predict) as client:
        with pytest.raises(CallUnreachable):
            await client(In())

    async def rude(reader, writer):
        await reader.read(10)
        writer.close()

    server = await asyncio.start_server(rude, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, HandlerClient(f"http://127.0.0.1:{port}", predict) as client:
        with pytest.raises(CallInterrupted):
            await client(In())


@pytest.mark.parametrize("where", ["", "localhost", "ftp://a", 5, None])
def test_an_address_that_is_none_is_refused(where):
    with pytest.raises(UsageError):
        HandlerClient(where, predict)


def test_a_function_that_is_no_handler_is_refused():
    with pytest.raises(ExposeError):
        HandlerClient("http://a", lambda x: x)


async def test_a_client_can_be_made_of_the_openapi_document(site):
    there = load((await site.get("/openapi.json")).body)
    async with HandlerClient(site.url, there.predict) as client:
        part = there.Part(names=["b"], kind="small")
        got = await client(there.In(text="a", parts=[part], at="2026-01-01T00:00:00Z"))
        assert isinstance(got, there.Out)
        assert got.parts == [part]
        with pytest.raises(ValueError, match="at most 100"):
            there.In(text="x" * 101)
        with pytest.raises(ValueError, match="kind"):
            there.Part(kind="medium")
    async with HandlerClient(site.url, there.words) as client:
        assert [part.text async for part in client.stream(there.In(text="a b"))] == ["a", "b"]


def test_what_is_generated_is_what_was_exposed():
    made = Handlers()
    made.expose()(predict)
    text = generate(made.openapi())
    assert "def predict(data: In) -> Out:" in text
    assert "class_: int = Field(default=0, alias='class')" in text.replace("field_class", "class_")
    assert "kind: Literal['big', 'small'] = Field(default='big')" in text


async def test_the_module_is_printed_by_a_command(site, tmp_path):
    file = tmp_path / "openapi.json"
    file.write_bytes((await site.get("/openapi.json")).body)
    for where in (f"{site.url}/openapi.json", str(file)):
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "requestor_sdk.handlers.generate",
            where,
            stdout=asyncio.subprocess.PIPE,
        )
        printed, _ = await process.communicate()
        assert process.returncode == 0
        assert printed.decode() == generate(file.read_bytes())


@pytest.mark.parametrize(
    "document",
    [
        "",
        "[]",
        "{}",
        {"openapi": "3.0.0", "paths": {}},
        {"openapi": "3.1.0", "paths": {"/call/import os": {"post": {}}}},
        {"openapi": "3.1.0", "paths": {"/call/f": {"post": {}}}},
        {"openapi": "3.1.0", "paths": {}, "components": {"schemas": {"class": {"type": "object"}}}},
    ],
)
def test_a_document_that_is_none_is_refused(document):
    with pytest.raises(UsageError):
        generate(document)


def test_nothing_of_a_document_becomes_code(tmp_path):
    mark = tmp_path / "mark"
    evil = f"x'); open({str(mark)!r}, 'w'); ('"
    schema = {
        "type": "object",
        "properties": {
            evil: {"type": "string", "default": evil},
            "b": {"enum": [evil]},
            "c": {"const": evil},
            "d": {"type": evil},
            "e": {"$ref": evil},
            "f": {"type": "integer", "minimum": evil},
        },
    }
    document = {
        "openapi": "3.1.0",
        "info": {"title": evil},
        "paths": {},
        "components": {"schemas": {"In": schema, evil: {"type": "object", "properties": {}}}},
    }
    try:
        module = load(document)
    except UsageError:
        document["components"]["schemas"].pop(evil)
        module = load(document)
    assert module.In().b is None
    assert not mark.exists()
