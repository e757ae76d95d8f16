"""What nobody should send, and what handlers should not return."""

from __future__ import annotations

import asyncio
import datetime as dt
import gzip
import json
import logging
import sys
import uuid
from collections.abc import Iterator
from decimal import Decimal
from typing import Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, field_validator

from requestor_sdk.handlers import Handlers


class In(BaseModel):
    text: str = ""
    number: int = 0
    kind: Literal["a", "b"] = "a"

    @field_validator("text")
    @classmethod
    def check(cls, value):
        if value == "boom":
            raise KeyError(value)
        return value


class Out(BaseModel):
    text: str
    number: int = 0


class Other(BaseModel):
    text: str = "other"


class Rich(BaseModel):
    model_config = ConfigDict(populate_by_name=True)
    full_name: str = Field(alias="fullName")
    at: dt.datetime
    id: uuid.UUID
    price: Decimal
    raw: bytes

    def __bool__(self):
        return False


handlers = Handlers()


@handlers.expose()
def give(data: In) -> Out:
    match data.text:
        case "none":
            return None
        case "dict":
            return {"text": "from a dict", "number": 3}
        case "wrong dict":
            return {"text": "a", "number": "many"}
        case "other":
            return Other()
        case "list":
            return [1]
        case "unchecked":
            return Out.model_construct(text=5, number="many")
        case "exit":
            sys.exit(3)
        case "interrupt":
            raise KeyboardInterrupt
        case "nan":
            raise ValueError("\udcff" + "x" * 5000)
    return Out(text=data.text)


@handlers.expose()
def rich(data: In) -> Rich:
    return Rich(
        full_name="a",
        at=dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
        id=uuid.UUID(int=1),
        price=Decimal("1.10"),
        raw=b"raw",
    )


@handlers.expose()
def bad_stream(data: In) -> Iterator[Out]:
    yield Out(text="a")
    yield Other()


@pytest.fixture
async def site(serve):
    async with serve(handlers, body_limit=2000, output_limit=1000) as site:
        yield site


@pytest.mark.parametrize(
    ("raw", "kind", "loc"),
    [
        (b'{"number": "hunter2"}', "int_parsing", ["body", "number"]),
        (b'{"kind": "hunter2"}', "literal_error", ["body", "kind"]),
        (b'{"text": ["hunter2"]}', "string_type", ["body", "text"]),
        (b'["hunter2"]', "model_type", ["body"]),
        (b'{"text": "hunter2"', "json_invalid", ["body"]),
        (b"", "json_invalid", ["body"]),
        (b"\xff\xfe", "json_invalid", ["body"]),
        (b"[" * 1500, "json_invalid", ["body"]),
        (b'{"text": "boom"}', "validator", ["body"]),
    ],
)
async def test_a_body_that_does_not_fit_is_told_without_its_value(site, caplog, raw, kind, loc):
    caplog.set_level(logging.DEBUG)
    got = await site.post("/call/give", raw=raw)
    assert got.status == 422
    assert [(each["type"], each["loc"]) for each in got.detail] == [(kind, loc)]
    assert b"hunter2" not in got.body
    assert b"input" not in got.body.replace(b"Input", b"")
    assert "hunter2" not in caplog.text
    assert "boom" not in caplog.text


@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded"])
async def test_only_json_is_taken(site, kind):
    got = await site.post("/call/give", raw=b"{}", headers={"Content-Type": kind})
    assert (got.status, got.detail[0]["type"]) == (422, "content_type")


async def test_more_fields_than_the_model_has_are_ignored(site):
    assert (await site.post("/call/give", text="a", more=1)).json["text"] == "a"


@pytest.mark.parametrize("way", ["plain", "chunked", "gzip"])
async def test_a_body_that_is_too_large_is_refused(site, way):
    raw, headers = json.dumps({"text": "x" * 50_000}).encode(), {}
    if way == "gzip":
        raw, headers = gzip.compress(raw), {"Content-Encoding": "gzip"}
    if way == "chunked":

        async def pieces(content=raw):
            yield content

        async with site.session.post(
            site.url + "/call/give", data=pieces(), headers={"Content-Type": "application/json"}
        ) as got:
            assert got.status == 413
        return
    got = await site.post("/call/give", raw=raw, headers=headers)
    assert (got.status, got.json) == (413, {"detail": "the body is larger than 2000 bytes"})


async def test_what_is_not_encoded_as_it_says_is_refused(site):
    got = await site.post("/call/give", raw=b"{}", headers={"Content-Encoding": "gzip"})
    assert got.status == 400


@pytest.mark.parametrize("call_id", ["%00", "a%0Ab", "%7F", "x" * 201, "%E2%80%A8", ".."])
async def test_ids_that_can_be_no_ids_are_refused(site, call_id):
    got = await site.post(f"/run/give/{call_id}", text="a")
    assert got.status == 422
    assert got.detail[0]["loc"] == ["path", "task_address"]
    assert (await site.get(f"/tasks/{call_id}")).status == 404


@pytest.mark.parametrize(
    "path", ["/run/give/a/b", "/run/give/a%2Fb", "/run/give/", "/run/give/%FF"]
)
async def test_ids_with_slashes_have_no_route(site, path):
    assert (await site.post(path, text="a")).status == 404


@pytest.mark.parametrize("call_id", ["0xT", "a b", "ä", "a.b", "%", "a:b@c"])
async def test_other_ids_come_back_as_they_were(site, call_id):
    from urllib.parse import quote

    got = await site.post(f"/run/give/{quote(call_id, '')}", text="a")
    assert got.json["task_address"] == call_id
    assert (await site.end(quote(call_id, "")))["task_address"] == call_id


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        ("none", "WrongOutput", "returned NoneType, not Out"),
        ("other", "WrongOutput", "returned Other, not Out"),
        ("list", "WrongOutput", "returned list, not Out"),
        ("wrong dict", "ValidationError", "number: Input should be a valid integer"),
        ("unchecked", "WrongOutput", "text: expected str; number: expected int"),
        ("exit", "SystemExit", "3"),
        ("interrupt", "KeyboardInterrupt", ""),
        ("x" * 1500, "TooLarge", "the output has"),
    ],
)
async def test_what_a_handler_should_not_return_is_a_failure_with_the_field(site, text, kind, said):
    got = await site.post("/call/give", text=text)
    assert got.status == 500
    assert got.json["error"]["type"] == kind
    assert said in got.json["error"]["message"]
    assert "many" not in got.json["error"]["message"]
    assert (await site.post("/call/give", text="next")).status == 200


async def test_messages_that_are_long_or_no_text_still_pass(site):
    got = await site.post("/call/give", text="nan")
    assert got.status == 500
    assert len(got.json["error"]["message"]) <= 2001


async def test_a_dict_that_fits_is_taken(site):
    assert (await site.post("/call/give", text="dict")).json == {"text": "from a dict", "number": 3}


async def test_outputs_are_json_by_their_types_and_aliases_and_may_be_falsy(site):
    assert (await site.post("/call/rich")).json == {
        "fullName": "a",
        "at": "2026-01-01T00:00:00Z",
        "id": "00000000-0000-0000-0000-000000000001",
        "price": "1.10",
        "raw": "raw",
    }


async def test_a_stream_that_goes_wrong_keeps_its_parts_and_fails(site):
    got = await site.post("/call/bad_stream", headers={"Accept": "text/event-stream"})
    assert got.body.count(b"event: output") == 1
    assert b"event: failed" in got.body


async def test_a_last_event_id_that_is_none_starts_at_the_beginning(site):
    await site.post("/run/give/1", text="a")
    for last in ("x", "-1", "9" * 50, "²", ""):
        got = await site.get("/tasks/1/events", headers={"Last-Event-ID": last})
        assert got.status == 200


@pytest.mark.parametrize("prefer", ["wait=x", "wait=-1", "wait=", "wait=²", ",;=", "wait" * 50])
async def test_preferences_that_are_none_are_ignored(site, prefer):
    got = await site.post("/run/give/1", text="a", headers={"Prefer": prefer})
    assert got.status == 202


async def test_secrets_of_the_environment_do_not_come_back_in_messages(serve, monkeypatch):
    from requestor_sdk.handlers import _invoke

    monkeypatch.setenv("DB_PASSWORD", "hunter2-hunter2")
    _invoke._secrets.cache_clear()
    own = Handlers()

    @own.expose()
    def leaks(data: In) -> Out:
        raise ConnectionError("postgres://me:hunter2-hunter2@db: refused")

    async with serve(own) as site:
        got = await site.post("/call/leaks")
        assert got.json["error"]["message"] == "postgres://me:***@db: refused"
    _invoke._secrets.cache_clear()


async def test_neither_inputs_nor_messages_are_logged(site, caplog):
    caplog.set_level(logging.DEBUG)
    own = Handlers()

    @own.expose()
    def fails(data: In) -> Out:
        raise ValueError(f"cannot read {data.text}")

    from handlers.conftest import site_of

    async with site_of(own) as other:
        got = await other.post("/run/fails/0xT", text="hunter2", headers={"Prefer": "wait=9"})
        assert got.json["error"]["message"] == "cannot read hunter2"
    assert "hunter2" not in caplog.text
    assert "[0xT] `fails` failed: ValueError at " in caplog.text
    assert "test_bad_input.py" in caplog.text


async def test_rubbish_on_the_wire_does_no_harm(site):
    host, port = site.url.removeprefix("http://").split(":")
    for rubbish in (
        b"\x00" * 100,
        b"GET\r\n\r\n",
        b"POST /call/give HTTP/1.1\r\nContent-Length: 9",
    ):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(rubbish + b"\r\n\r\n")
        writer.write_eof()
        async with asyncio.timeout(10):
            await reader.read()
        writer.close()
        await writer.wait_closed()
    assert (await site.post("/call/give", text="a")).status == 200


async def send(site, data, more=b""):
    """Send bytes, then more once something has come; return all that comes until the end."""
    host, port = site.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    async with asyncio.timeout(20):
        writer.write(data)
        first = await reader.readuntil(b"\r\n\r\n")
        writer.write(more)
        rest = await reader.read()
    writer.close()
    return first, rest


POST = b"POST /call/give HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
CLOSE = b"Connection: close\r\n"


async def test_who_asks_before_sending_a_body_is_told_to_send_it(site):
    body = b'{"text":"a"}'
    head = POST + CLOSE + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n"
    first, rest = await send(site, head % len(body), body)
    assert first == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert rest.startswith(b"HTTP/1.1 200 OK")
    first, _ = await send(site, head % 10**9)
    assert first.startswith(b"HTTP/1.1 413")
    other = POST + CLOSE + b"Expect: much\r\nContent-Length: 2\r\n\r\n{}"
    assert (await send(site, other))[0].startswith(b"HTTP/1.1 417")


@pytest.mark.parametrize("path", ["/tasks/h", "/tasks/h/events", "/livez", "/metrics"])
async def test_head_gets_the_head_of_the_answer_to_get_and_no_more(site, path):
    await site.post("/run/give/h", text="a")
    await site.end("h")
    ask = f"HEAD {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
    first, rest = await send(site, ask)
    assert first.startswith(b"HTTP/1.1 200 OK")
    assert rest == b""


async def test_a_body_that_cannot_be_unpacked_leaves_no_trace_of_the_stack(site, caplog):
    caplog.set_level(logging.INFO)
    wrong = POST + CLOSE + b"Content-Encoding: gzip\r\nContent-Length: 12\r\n\r\n" + b"x" * 12
    assert (await send(site, wrong))[0].startswith(b"HTTP/1.1 400")
    assert "Traceback" not in caplog.text
    assert "a request broke off: RequestPayloadError" in caplog.text
