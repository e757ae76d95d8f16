"""The short way for plain calls answers as the long way does, and takes nothing but plain calls."""

from __future__ import annotations

import asyncio

import pytest
from pydantic import BaseModel

from requestor_sdk.handlers import Handlers
from requestor_sdk.handlers._plain import read_head


class In(BaseModel):
    text: str = ""
    number: float = 0


class Out(BaseModel):
    text: str


handlers = Handlers()


@handlers.expose()
def echo(data: In) -> Out:
    if data.text == "raise":
        raise ValueError("not good")
    return Out(text=data.text)


@handlers.expose()
async def later(data: In) -> Out:
    await asyncio.sleep(data.number)
    return Out(text=data.text)


@handlers.expose(concurrency=1, queue=0)
async def narrow(data: In) -> Out:
    await asyncio.sleep(data.number)
    return Out(text=data.text)


PLAIN = [
    b"POST /call/echo HTTP/1.1",
    b"Host: 127.0.0.1:5555",
    b"Content-Type: application/json",
    b"Content-Length: 13",
]


def test_the_plain_form_is_read():
    assert read_head(b"\r\n".join(PLAIN)) == ("echo", 13)
    more = [
        b"host: [::1]:80",
        b"accept: */*",
        b"content-type: application/json; charset=utf-8",
        b"User-Agent: a (b; c) d/1.0",
        b"Connection: keep-alive",
        b"Content-length:0",
    ]
    assert read_head(b"\r\n".join([PLAIN[0], *more])) == ("echo", 0)


@pytest.mark.parametrize(
    "lines",
    [
        [b"GET /call/echo HTTP/1.1", *PLAIN[1:]],
        [b"POST /call/echo HTTP/1.0", *PLAIN[1:]],
        [b"POST /call/echo?x HTTP/1.1", *PLAIN[1:]],
        [b"POST  /call/echo HTTP/1.1", *PLAIN[1:]],
        [b"POST /call/e%63ho HTTP/1.1", *PLAIN[1:]],
        [b"POST http://a/call/echo HTTP/1.1", *PLAIN[1:]],
        [*PLAIN, b"Content-Length: 13"],
        [*PLAIN, b"Transfer-Encoding: chunked"],
        [*PLAIN, b"Content-Encoding: gzip"],
        [*PLAIN, b"Expect: 100-continue"],
        [*PLAIN, b"Idempotency-Key: a"],
        [*PLAIN, b"Prefer: wait=1"],
        [*PLAIN, b"Connection: close"],
        [*PLAIN, b"Connection: upgrade"],
        [*PLAIN, b"Accept: a\nX: b"],
        [*PLAIN, b"Accept: a\rb"],
        [*PLAIN, b"Accept : a"],
        [*PLAIN, b" folded"],
        [*PLAIN, b"Accept: \xff"],
        [*PLAIN[:3], b"Content-Length: +13"],
        [*PLAIN[:3], b"Content-Length: 1 3"],
        [*PLAIN[:3], b"Content-Length: 99999999999"],
        [*PLAIN[:2], b"Content-Type: text/plain", PLAIN[3]],
        PLAIN[:3],
        [PLAIN[0], *PLAIN[2:]],
        [],
    ],
)
def test_any_other_form_is_not(lines):
    assert read_head(b"\r\n".join(lines)) is None


def request(body, name=b"echo", more=b""):
    head = [*PLAIN[:3], b"Content-Length: %d" % len(body)]
    head[0] = b"POST /call/%s HTTP/1.1" % name
    return b"\r\n".join(head) + b"\r\n" + more + b"\r\n" + body


@pytest.fixture
async def wire(serve):
    async with serve(handlers, body_limit=100_000) as site:
        host, port = site.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))

        async def answer():
            async with asyncio.timeout(10):
                head = await reader.readuntil(b"\r\n\r\n")
                start, *lines = head.decode().strip().split("\r\n")
                headers = dict(line.split(": ", 1) for line in lines)
                body = await reader.readexactly(int(headers["Content-Length"]))
            return int(start.split(" ")[1]), headers, body

        async def ask(data):
            writer.write(data)
            return await answer()

        ask.site, ask.writer, ask.answer = site, writer, answer
        yield ask
        writer.close()


async def test_plain_calls_and_others_follow_each_other_on_one_connection(wire):
    for number in range(3):
        status, headers, body = await wire(request(b'{"text":"%d"}' % number))
        assert (status, body) == (200, b'{"text":"%d"}' % number)
        assert headers["Content-Type"] == "application/json"
        assert "Server" not in headers
        end = await wire.site.end(headers["X-Task-Address"])
        assert end["status"] == "succeeded"
    status, headers, body = await wire(request(b'{"text":5}'))
    assert status == 422
    assert "Server" in headers
    status, headers, body = await wire(request(b'{"text":"a"}'))
    assert (status, body) == (200, b'{"text":"a"}')


async def test_failures_are_answered_as_on_the_long_way(wire):
    short = await wire(request(b'{"text":"raise"}'))
    long = await wire(request(b'{"text":"raise"}', more=b"X-More: 1\r\n"))
    assert short[0] == long[0] == 500
    assert short[2] == long[2]
    assert "Server" not in short[1]
    assert "Server" in long[1]


async def test_a_request_in_pieces_or_several_at_once_are_all_answered(wire):
    whole = request(b'{"text":"a"}')
    for at in (5, 60, len(whole) - 3):
        wire.writer.write(whole[:at])
        await asyncio.sleep(0.02)
        assert (await wire(whole[at:]))[2] == b'{"text":"a"}'


async def test_what_comes_while_a_call_is_under_way_waits_for_it(wire):
    first = request(b'{"text":"first","number":0.1}', name=b"later")
    wire.writer.write(first)
    await asyncio.sleep(0.03)
    wire.writer.write(request(b'{"text":"second"}'))
    await asyncio.sleep(0.01)
    wire.writer.write(request(b'{"text":"third"}'))
    got = [(await wire.answer())[2] for _ in range(3)]
    assert got == [b'{"text":"first"}', b'{"text":"second"}', b'{"text":"third"}']


async def test_many_at_once_in_one_piece_are_answered_in_order(wire):
    many = b"".join(request(b'{"text":"%d"}' % n) for n in range(20))
    wire.writer.write(many)
    assert [(await wire.answer())[2] for _ in range(20)] == [
        b'{"text":"%d"}' % n for n in range(20)
    ]


async def test_who_leaves_before_the_answer_does_no_harm(wire):
    wire.writer.write(request(b'{"number":0.1}', name=b"later"))
    await asyncio.sleep(0.03)
    wire.writer.transport.abort()
    await asyncio.sleep(0.15)
    assert (await wire.site.post("/call/echo", text="a")).json == {"text": "a"}


async def test_too_many_and_too_much_are_refused_by_the_long_way(wire):
    wire.writer.write(request(b'{"number":0.3}', name=b"narrow"))
    await asyncio.sleep(0.05)
    assert (await wire.site.post("/call/narrow")).status == 429
    assert (await wire.answer())[0] == 200
    status, _, body = await wire(request(b'{"text":"%s"}' % (b"x" * 150_000)))
    assert (status, body) == (413, b'{"detail": "the body is larger than 100000 bytes"}')


async def test_no_end_is_missed_where_a_thread_is_done_just_when_patience_is(serve, monkeypatch):
    from requestor_sdk.handlers import _threads

    async with serve(handlers) as site:
        for patience in (0, 1e-5, 3e-5, 6e-5, 1e-4):
            monkeypatch.setattr(_threads, "_PATIENCE", patience)
            async with asyncio.timeout(20):
                for _ in range(150):
                    assert (await site.post("/call/echo", text="a")).status == 200


async def test_a_quick_thread_that_is_slow_once_holds_up_the_loop_for_a_moment_only(serve):
    import time

    own = Handlers()

    @own.expose()
    def mostly(data: In) -> Out:
        if data.number:
            time.sleep(data.number)
        return Out(text=data.text)

    async with serve(own) as site:
        for _ in range(60):
            await site.post("/call/mostly")
        lane = site.serving.program.desk.lanes["mostly"]
        slow = asyncio.create_task(site.post("/call/mostly", number=0.5, text="slow"))
        began, worst = time.monotonic(), 0.0
        while not slow.done():
            before = time.monotonic()
            await asyncio.sleep(0)
            worst = max(worst, time.monotonic() - before)
        assert (await slow).json == {"text": "slow"}
        assert time.monotonic() - began >= 0.5
        assert worst < 0.3
        assert not lane.metrics.quick
