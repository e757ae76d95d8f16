"""The short way for plain calls answers as the long way does, and takes nothing but plain calls."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from requestor_sdk.handlers import Handlers, _http, _plain
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

        ask.site, ask.writer, ask.reader, ask.answer = site, writer, reader, answer
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


def as_aiohttp_reads(data):
    """Return name and body of a request as aiohttp's parser has them; ``None`` of any other."""
    from aiohttp.base_protocol import BaseProtocol
    from aiohttp.http_exceptions import HttpProcessingError
    from aiohttp.http_parser import HttpRequestParser

    loop = asyncio.new_event_loop()
    try:
        try:
            messages, upgraded, tail = HttpRequestParser(BaseProtocol(loop), loop, 2**16).feed_data(
                data
            )
        except HttpProcessingError:
            return None
        if len(messages) != 1 or upgraded or tail:
            return None
        ((message, payload),) = messages
        whole = payload.is_eof()
        odd = message.should_close or message.chunked or message.compression or not whole
        if message.method != "POST" or message.version != (1, 1) or odd:
            return None
        return message.path.removeprefix("/call/"), payload.read_nowait()
    finally:
        loop.close()


LINES = [
    *PLAIN[1:],
    b"Content-Length: 5",
    b"content-length:5",
    b"Content-Length: 05",
    b"Content-Length: 5, 5",
    b"Content-Length: 0x5",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding : chunked",
    b"Transfer-Encoding: identity",
    b"Connection: close",
    b"Connection: keep-alive",
    b"Connection: keep-alive, upgrade",
    b"Upgrade: h2c",
    b"Accept: */*",
    b"accept-encoding: gzip, deflate",
    b"User-Agent: a/1",
    b"Expect: 100-continue",
    b" folded: 5",
    b"Content-Encoding: gzip",
]
ODD = [
    b"",
    b" ",
    b"\t",
    b"\0",
    b"\n",
    b"\r",
    b"\r\n",
    b":",
    b",",
    b"\xff",
    b"\x0b",
    b"5",
    b"a",
    b"%",
]


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    lines=st.lists(st.sampled_from(LINES), max_size=3),
    spot=st.integers(0, 200),
    odd=st.sampled_from(ODD),
    cut=st.integers(0, 3),
)
def test_aiohttp_reads_all_that_is_taken_as_it_is_read_here(lines, spot, odd, cut):
    body = b"12345"
    plain = [*PLAIN[:3], b"Content-Length: 5"]
    head = b"\r\n".join([*plain[: 4 - cut], *lines])
    for each in (head, head[:spot] + odd + head[spot:], head[:spot] + odd + head[spot + 1 :]):
        read = None if b"\r\n\r\n" in each else read_head(each)
        if read is not None and read[1] == len(body):
            assert as_aiohttp_reads(each + b"\r\n\r\n" + body) == (read[0], body)


SMUGGLED = b"POST /call/echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}"


@pytest.mark.parametrize(
    "more",
    [
        b"Transfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: xchunked\r\n",
        b"Transfer-Encoding : chunked\r\n",
        b"Content-Length: 3\r\n",
        b"Content-Length : 3\r\n",
        b"Content-Length: 3\nX: a\r\n",
        b"X: CannotBeRead\0\r\n",
        b" X: folded\r\n",
        b"X: " + b"a" * 9000 + b"\r\n",
        b"".join(b"X-%d: a\r\n" % n for n in range(200)),
    ],
)
async def test_what_is_said_in_two_ways_is_refused_and_smuggles_nothing(wire, more, caplog):
    status, _, body = await wire(request(SMUGGLED, more=more))
    assert (status, body) == (400, b'{"detail": "the request cannot be read"}')
    async with asyncio.timeout(10):
        assert await wire.reader.read() == b""
    assert "CannotBeRead" not in caplog.text
    assert not any(record.exc_info for record in caplog.records)
    assert await wire.site.metric('handlers_accepted_total{function="echo"}') == 0


async def test_bytes_of_any_kind_in_pieces_of_any_size_harm_nobody(serve):
    chance = random.Random(1)
    good = request(b'{"text":"a"}')
    async with serve(handlers) as site:
        host, port = site.url.removeprefix("http://").split(":")

        async def throw(data):
            reader, writer = await asyncio.open_connection(host, int(port))
            try:
                while data:
                    size = chance.choice((1, 7, 60, 5000))
                    writer.write(data[:size])
                    data = data[size:]
                    await asyncio.sleep(0)
                if chance.random() < 0.5:
                    writer.write_eof()
                    await reader.read()
            except OSError:
                pass  # shut out already
            finally:
                writer.transport.abort()

        async with asyncio.timeout(60):
            for _ in range(150):
                data = bytearray(good * chance.randint(1, 4))
                for _ in range(chance.randint(0, 4)):
                    data[chance.randrange(len(data))] = chance.randrange(256)
                await throw(bytes(data) + chance.randbytes(chance.choice((0, 0, 3, 300))))
        assert (await site.post("/call/echo", text="a")).json == {"text": "a"}
        assert (await site.get("/readyz")).json["working"] == 0


@pytest.fixture
def short_idle(monkeypatch):
    monkeypatch.setattr(_plain, "IDLE_SEC", 0.3)


async def test_who_sends_no_whole_head_is_shut_out(short_idle, wire):
    wire.writer.write(b"POST /call/echo HTTP/1.1\r\n")
    async with asyncio.timeout(10):
        with contextlib.suppress(ConnectionError):
            while not wire.reader.at_eof():
                # A byte now and then keeps nothing open.
                wire.writer.write(b"X")
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.05):
                        assert await wire.reader.read() == b""


async def test_who_is_silent_is_shut_out_and_who_works_or_waits_is_not(short_idle, wire):
    began = time.monotonic()
    while time.monotonic() - began < 0.7:
        assert (await wire(request(b'{"text":"a"}')))[0] == 200
        await asyncio.sleep(0.05)
    assert (await wire(request(b'{"text":"b","number":0.8}', name=b"later")))[0] == 200
    async with asyncio.timeout(10):
        assert await wire.reader.read() == b""


async def test_a_body_that_does_not_come_is_waited_for_so_long_only(wire, monkeypatch):
    monkeypatch.setattr(_http, "BODY_SEC", 0.1)
    status, _, body = await wire(b"\r\n".join([*PLAIN, b"", b'{"text"']))
    assert (status, body) == (408, b'{"detail": "the body did not come within 0.1 seconds"}')


class Unread(asyncio.Transport):
    """A connection whose client reads nothing."""

    def get_write_buffer_size(self):
        return 1 << 20

    def is_closing(self):
        return False

    def write(self, data):
        pass

    def close(self):
        pass


@pytest.mark.parametrize("reads_again", [True, False])
async def test_nothing_more_is_begun_for_who_reads_no_answers(serve, short_idle, reads_again):
    async with serve(handlers) as site:
        program = site.serving.program
        connection = _plain.make_server(_http.Face(program, "x"), program)()
        connection.connection_made(Unread())
        connection.pause_writing()
        connection.data_received(request(b"{}"))
        await asyncio.sleep(0.1)
        assert await site.metric('handlers_accepted_total{function="echo"}') == 0
        if reads_again:
            connection.resume_writing()
        await asyncio.sleep(0.5)
        began = await site.metric('handlers_accepted_total{function="echo"}')
        assert began == int(reads_again)
        assert reads_again or connection.transport is None
        connection.connection_lost(None)


async def test_who_says_no_more_before_the_answer_leaves_a_call_that_ends(wire):
    wire.writer.write(request(b'{"number":0.1}', name=b"later"))
    wire.writer.write_eof()
    async with asyncio.timeout(10):
        assert await wire.reader.read() == b""
        while (
            await wire.site.metric('handlers_calls_total{function="later",status="succeeded"}') < 1
        ):
            await asyncio.sleep(0.02)


async def test_no_end_is_missed_where_a_thread_is_done_just_when_patience_is(serve, monkeypatch):
    from requestor_sdk.handlers import _threads

    async with serve(handlers) as site:
        for patience in (0, 1e-5, 3e-5, 6e-5, 1e-4):
            monkeypatch.setattr(_threads, "_PATIENCE", patience)
            async with asyncio.timeout(20):
                for _ in range(150):
                    assert (await site.post("/call/echo", text="a")).status == 200


async def test_a_quick_thread_that_is_slow_once_holds_up_the_loop_for_a_moment_only(serve):
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
