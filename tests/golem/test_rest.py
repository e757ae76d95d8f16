"""The REST client against daemons that misbehave; servers on loopback play them."""

import asyncio
import json
import logging
import time
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from golem.rude_server import dead_address, for_ever, read_request, serving, speaking

from requestor_sdk.golem import Daemon, GolemConfig, _rest
from requestor_sdk.model.errors import (
    BadAnswer,
    DaemonTooOld,
    NetworkError,
    NetworkInterrupted,
    NetworkTimeout,
    NetworkUnreachable,
    NotAvailable,
    RequestorError,
    WrongAppKey,
)

KEY = "a-very-secret-key"
ME = {"identity": "0x" + "Ab" * 20, "name": "requestor", "role": "manager"}
VERSION = {"current": {"version": "0.17.6", "name": "v"}, "pending": None}
HTML = "<html><body>502 Bad Gateway: nginx</body></html>"


def daemon(handler, *, me=ME, version=VERSION):
    """A handler that greets as a daemon does, and leaves the rest to another."""

    async def greeting(request):
        if request.headers.get("Authorization") != f"Bearer {KEY}":
            return web.json_response({"message": "unauthorized"}, status=401)
        match request.path:
            case "/me":
                return web.json_response(me)
            case "/version/get":
                return web.json_response(version)
        return await handler(request)

    return greeting


def saying(text, status=200, content_type="application/json", headers=None):
    async def handler(request):
        return web.Response(text=text, status=status, content_type=content_type, headers=headers)

    return handler


@asynccontextmanager
async def opened(handler):
    async with serving(daemon(handler)) as url:
        client = Daemon(GolemConfig(app_key=KEY, api_url=url))
        await client.open()
        try:
            yield client
        finally:
            await client.close()


@asynccontextmanager
async def unopened(url):
    """A client whose session is there without a greeting, for servers that cannot greet."""
    client = Daemon(GolemConfig(app_key=KEY, api_url=url))
    real, client.call = client.call, _greeted
    await client.open()
    client.call = real
    try:
        yield client
    finally:
        await client.close()


async def _greeted(method, path, **_):
    return ME if path == "/me" else VERSION


async def test_opening_tells_who_we_are_and_what_the_daemon_is():
    async with opened(saying("null")) as client:
        assert client.identity == "0x" + "ab" * 20
        assert client.version == "0.17.6"
        with pytest.raises(NotAvailable):
            await client.open()
    with pytest.raises(NotAvailable):
        await client.call("GET", "/anything")
    await client.close()


async def test_nothing_listens():
    client = Daemon(GolemConfig(app_key=KEY, api_url=dead_address()))
    with pytest.raises(NetworkUnreachable) as failure:
        await client.open()
    assert "yagna service run" in failure.value.hint
    assert client._session is None


async def test_a_daemon_that_closes_before_it_answers_may_have_done_what_was_asked():
    async def talk(reader, writer):
        await read_request(reader)

    async with speaking(talk) as url, unopened(url) as client:
        with pytest.raises(NetworkInterrupted):
            await client.call("POST", "/market-api/v1/demands", body={})


async def test_a_daemon_that_closes_in_the_middle_of_an_answer():
    async def talk(reader, writer):
        await read_request(reader)
        writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n["half of')
        await writer.drain()

    async with speaking(talk) as url, unopened(url) as client:
        with pytest.raises(NetworkInterrupted):
            await client.call("GET", "/me")


async def test_what_is_no_http_is_a_bad_answer():
    async def talk(reader, writer):
        await read_request(reader)
        writer.write(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")
        await writer.drain()

    async with speaking(talk) as url, unopened(url) as client:
        with pytest.raises(BadAnswer, match="no HTTP") as failure:
            await client.call("GET", "/me")
    assert "another program" in failure.value.hint


async def test_a_wrong_key_is_told_with_the_fix_and_nothing_stays_open():
    async with serving(daemon(saying("null"))) as url:
        client = Daemon(GolemConfig(app_key="not-that-key", api_url=url))
        with pytest.raises(WrongAppKey) as failure:
            await client.open()
    assert failure.value.status == 401
    assert not failure.value.may_pass
    assert "yagna app-key list" in failure.value.hint
    assert client._session is None


@pytest.mark.parametrize("empty", [saying("{}", status=408), saying("[]")])
async def test_an_empty_poll_is_no_error_and_a_loop_over_polls_does_not_spin(empty):
    async with opened(empty) as client:
        began = time.monotonic()
        for _ in range(2):
            assert await client.poll("/market-api/v1/demands/d/events", seconds=5) == []
        assert time.monotonic() - began >= 2 * _rest.EMPTY_SEC * 0.9


async def test_a_look_without_waiting_is_not_held_up():
    async with opened(saying("[]")) as client:
        began = time.monotonic()
        for _ in range(20):
            await client.poll("/events", seconds=0)
        assert time.monotonic() - began < 2


async def test_a_timeout_in_another_call_than_a_poll_is_an_error():
    async with opened(saying('{"message": "late"}', status=408)) as client:
        with pytest.raises(NetworkError, match="late") as failure:
            await client.call("POST", "/activity-api/v1/activity")
    assert failure.value.status == 408
    assert failure.value.may_pass


@pytest.mark.parametrize("body", ["{}", "null", "", '"text"', "[1, 2]", '[{"a": 1}, null]'])
async def test_events_that_are_no_list_of_objects_are_a_bad_answer(body):
    async with opened(saying(body)) as client:
        with pytest.raises(BadAnswer, match="no list of events"):
            await client.poll("/events", seconds=1)


async def test_events_come_with_the_time_that_the_poll_may_take():
    asked = []

    async def handler(request):
        asked.append(dict(request.query))
        return web.json_response([{"eventType": "x"}])

    async with opened(handler) as client:
        found = await client.poll("/events", seconds=7, params={"after": None, "flag": True})
    assert found == [{"eventType": "x"}]
    assert asked == [{"timeout": "7", "flag": "true"}]


@pytest.mark.parametrize(
    ("handler", "said"),
    [
        (saying('{"message": "no such agreement"}', status=500), "no such agreement"),
        (saying('["not", "an object"]', status=500), "not"),
        (saying(HTML, status=500, content_type="text/html"), ": 502 Bad Gateway: nginx (HTTP"),
        (saying("", status=500), "no reason given"),
        (saying("[" * 50_000, status=500), "[["),
        (saying("x" * 10_000_000, status=500), "xxx"),
    ],
)
async def test_an_error_of_the_daemon_is_told_in_short_with_its_status(handler, said):
    async with opened(handler) as client:
        with pytest.raises(NetworkError, match="HTTP 500") as failure:
            await client.call("GET", "/payment-api/v1/invoices")
    assert failure.value.status == 500
    assert said in failure.value.message
    assert len(str(failure.value)) < 1000


@pytest.mark.parametrize("body", [HTML, "{", "\x00\xff", "[" * 50_000, "1" * 5000])
async def test_an_answer_that_is_no_json_is_a_bad_answer(body):
    async with opened(saying(body, content_type="text/html")) as client:
        with pytest.raises(BadAnswer, match="no JSON") as failure:
            await client.call("GET", "/x")
    assert "another program" in failure.value.hint
    assert len(str(failure.value)) < 1000


@pytest.mark.parametrize("body", ["", "  \n"])
async def test_an_answer_without_a_body_is_none(body):
    async with opened(saying(body)) as client:
        assert await client.call("DELETE", "/x") is None


async def test_a_redirection_is_not_followed_with_the_key():
    async def thief(request):
        stolen.append(request.headers.get("Authorization"))
        return web.json_response({})

    stolen = []
    async with serving(thief) as elsewhere:
        moved = saying("", status=307, headers={"Location": elsewhere + "/"})
        async with opened(moved) as client:
            with pytest.raises(BadAnswer, match="HTTP 307"):
                await client.call("GET", "/x")
    assert stolen == []


@pytest.mark.parametrize("told_length", [True, False])
async def test_a_huge_answer_is_given_up_and_not_kept_in_memory(monkeypatch, told_length):
    monkeypatch.setattr(_rest, "ANSWER_BYTES", 100_000)
    sent = []

    async def handler(request):
        response = web.StreamResponse()
        if told_length:
            response.content_length = 50_000_000
        await response.prepare(request)
        for _ in range(1000):
            await response.write(b" " * 50_000)
            sent.append(1)
        return response

    async with opened(handler) as client:
        with pytest.raises(BadAnswer, match="longer than 100000 bytes"):
            await client.call("GET", "/x")
    assert len(sent) < 1000


async def test_a_packed_answer_counts_by_what_it_unpacks_to(monkeypatch):
    monkeypatch.setattr(_rest, "ANSWER_BYTES", 100_000)

    async def handler(request):
        response = web.json_response(" " * 10_000_000)
        response.enable_compression()
        return response

    async with opened(handler) as client:
        with pytest.raises(BadAnswer, match="longer"):
            await client.call("GET", "/x")


async def silent(request):
    await for_ever()


async def test_silence_ends_in_a_time_out_that_says_how_long_it_was():
    async with opened(silent) as client:
        with pytest.raises(NetworkTimeout, match=r"0\.1 s"):
            await client.call("GET", "/x", seconds=0.1)


async def test_silence_in_the_middle_of_an_answer_ends_likewise():
    async def talk(reader, writer):
        await read_request(reader)
        writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n["half of')
        await for_ever()

    async with speaking(talk) as url, unopened(url) as client:
        with pytest.raises(NetworkTimeout):
            await client.call("GET", "/x", seconds=0.1)


async def test_a_poll_waits_for_its_time_and_a_margin_and_no_longer(monkeypatch):
    monkeypatch.setattr(_rest, "POLL_MARGIN_SEC", 0.1)
    async with opened(silent) as client:
        with pytest.raises(NetworkTimeout, match=r"0\.2 s"):
            await client.poll("/events", seconds=0.1)


async def test_a_time_out_of_the_caller_stays_the_callers():
    async with opened(silent) as client:
        with pytest.raises(TimeoutError) as failure:
            async with asyncio.timeout(0.05):
                await client.call("GET", "/x")
    assert not isinstance(failure.value, RequestorError)


def streaming(then):
    async def handler(request):
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"data: one\n\n")
        await then(request, response)
        return response

    return handler


async def end_well(request, response):
    pass


async def break_off(request, response):
    request.transport.abort()
    await for_ever()


async def say_no_more(request, response):
    await for_ever()


async def test_a_stream_is_read_bit_by_bit_to_its_end():
    async with opened(streaming(end_well)) as client, client.stream("/s") as content:
        assert [line async for line in content] == [b"data: one\n", b"\n"]


async def test_a_stream_that_breaks_off_is_interrupted():
    async with opened(streaming(break_off)) as client:
        with pytest.raises(NetworkInterrupted):
            async with client.stream("/s") as content:
                async for _ in content:
                    pass


async def test_a_stream_that_falls_silent_is_bounded_by_its_reader_not_by_its_opening():
    async with opened(streaming(say_no_more)) as client:
        async with client.stream("/s", seconds=0.1) as content:
            assert await content.readline() == b"data: one\n"
            assert await content.readline() == b"\n"
            with pytest.raises(TimeoutError) as failure:
                async with asyncio.timeout(0.3):
                    await content.readline()
        assert not isinstance(failure.value, RequestorError)


async def test_a_stream_that_does_not_begin_runs_into_its_time_out():
    async with opened(silent) as client:
        with pytest.raises(NetworkTimeout):
            async with client.stream("/s", seconds=0.1):
                pass


async def test_a_stream_that_is_refused_is_an_error_with_its_status():
    async with opened(saying('{"message": "no"}', status=404)) as client:
        with pytest.raises(NetworkError, match="no") as failure:
            async with client.stream("/s"):
                pass
    assert failure.value.status == 404


async def test_an_error_of_ours_inside_a_stream_stays_what_it_is():
    async with opened(streaming(say_no_more)) as client:
        with pytest.raises(NetworkUnreachable, match="not sent"):
            async with client.stream("/s"):
                raise NetworkUnreachable("not sent")


async def test_a_web_socket_carries_messages_both_ways():
    async def handler(request):
        socket = web.WebSocketResponse(protocols=("gsb+flexbuffers",))
        await socket.prepare(request)
        async for message in socket:
            await socket.send_bytes(message.data[::-1])
        return socket

    async with (
        opened(handler) as client,
        client.websocket("/gsb", protocols=("gsb+flexbuffers",)) as socket,
    ):
        assert socket.protocol == "gsb+flexbuffers"
        await socket.send_bytes(b"abc")
        assert await socket.receive_bytes() == b"cba"


@pytest.mark.parametrize(
    ("handler", "kind", "status"),
    [
        (saying("no", status=404), NetworkError, 404),
        (saying("no", status=500), NetworkError, 500),
        (saying("no", status=401), WrongAppKey, 401),
        (saying("fine"), BadAnswer, 200),
    ],
)
async def test_a_refused_handshake_of_a_web_socket_is_an_error_with_its_status(
    handler, kind, status
):
    async with opened(handler) as client:
        with pytest.raises(kind) as failure:
            async with client.websocket("/gsb"):
                pass
    assert type(failure.value) is kind
    assert failure.value.status == status


async def test_a_web_socket_that_is_never_opened_runs_into_its_time_out():
    async with opened(silent) as client:
        with pytest.raises(NetworkTimeout):
            async with client.websocket("/gsb", seconds=0.1):
                pass


async def test_a_web_socket_that_breaks_off_tells_its_reader():
    async def handler(request):
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        request.transport.abort()
        await for_ever()

    async with opened(handler) as client, client.websocket("/gsb") as socket:
        assert [message async for message in socket] == []


async def test_a_message_that_is_too_long_closes_the_web_socket():
    async def handler(request):
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_bytes(b"x" * 10_000)
        await socket.receive()
        return socket

    async with opened(handler) as client, client.websocket("/gsb", max_size=1000) as socket:
        with pytest.raises(TypeError):
            await socket.receive_bytes()
        assert socket.closed


@pytest.mark.parametrize("version", ["0.15.2", "0.9.0", "0.0.1"])
async def test_a_daemon_that_is_too_old_is_refused_with_the_fix(version):
    old = {"current": {"version": version}}
    async with serving(daemon(saying("null"), version=old)) as url:
        with pytest.raises(DaemonTooOld, match=version) as failure:
            await Daemon(GolemConfig(app_key=KEY, api_url=url)).open()
    assert "golem-node" in failure.value.hint
    assert not failure.value.may_pass


@pytest.mark.parametrize("version", ["0.16.0", "0.17.6-rc3", "1.0.0", "0.100.0"])
async def test_a_daemon_that_is_new_enough_is_taken(version):
    async with serving(daemon(saying("null"), version={"current": {"version": version}})) as url:
        client = Daemon(GolemConfig(app_key=KEY, api_url=url))
        await client.open()
        assert client.version == version
        await client.close()


@pytest.mark.parametrize(
    "told",
    [None, [], {}, {"current": None}, {"current": {"version": 17}}]
    + [{"current": {"version": text}} for text in ("", "new", "0.17", "9" * 5000 + ".0.0")],
    ids=lambda told: str(told)[:40],
)
async def test_a_version_that_cannot_be_read_is_a_bad_answer(told):
    async with serving(daemon(saying("null"), version=told)) as url:
        with pytest.raises(BadAnswer, match="version"):
            await Daemon(GolemConfig(app_key=KEY, api_url=url)).open()


async def test_a_daemon_that_knows_no_version_at_all_is_too_old():
    async def handler(request):
        if request.path == "/me":
            return web.json_response(ME)
        return web.Response(status=404)

    async with serving(handler) as url:
        with pytest.raises(DaemonTooOld):
            await Daemon(GolemConfig(app_key=KEY, api_url=url)).open()


@pytest.mark.parametrize("me", [None, {}, {"identity": 7}, {"identity": "0x12"}, [ME]])
async def test_a_daemon_that_does_not_say_who_we_are_is_none(me):
    async with serving(daemon(saying("null"), me=me)) as url:
        with pytest.raises(BadAnswer, match="who we are"):
            await Daemon(GolemConfig(app_key=KEY, api_url=url)).open()


@pytest.mark.parametrize("status", [400, 403, 404, 405, 501])
async def test_another_program_at_the_address_is_told_from_a_daemon(status):
    async with serving(saying(HTML, status=status, content_type="text/html")) as url:
        client = Daemon(GolemConfig(app_key=KEY, api_url=url))
        with pytest.raises(BadAnswer, match="no Golem daemon") as failure:
            await client.open()
    assert url in failure.value.message
    assert "YAGNA_API_URL" in failure.value.hint
    assert failure.value.status == status


async def test_no_proxy_of_the_environment_stands_between_a_program_and_its_daemon(monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, dead_address())
    async with opened(saying("[]")) as client:
        assert await client.call("GET", "/a") == []


async def test_a_server_that_speaks_no_tls_is_no_daemon_that_answers():
    async def talk(reader, writer):
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with speaking(talk) as url:
        client = Daemon(GolemConfig(app_key=KEY, api_url=url.replace("http:", "https:")))
        with pytest.raises(NetworkUnreachable, match="no Golem daemon answers"):
            await client.open()


async def test_the_key_is_in_no_text_even_where_the_other_side_repeats_it(caplog):
    caplog.set_level(logging.DEBUG)

    async def parrot(request):
        echo = json.dumps(dict(request.headers))
        match request.path:
            case "/error":
                return web.Response(text=json.dumps({"message": echo}), status=500)
            case "/denied":
                return web.Response(text=echo, status=401)
            case "/ws":
                return web.Response(text=echo, status=403, reason=f"no {KEY}")
        return web.Response(text="not json " + request.headers["Authorization"])

    failures = []
    async with opened(parrot) as client:
        for path in ("/error", "/denied", "/text"):
            with pytest.raises(NetworkError) as failure:
                await client.call("GET", path)
            failures.append(failure.value)
        with pytest.raises(NetworkError) as failure:
            async with client.websocket("/ws"):
                pass
        failures.append(failure.value)
        texts = [str(client), repr(client), repr(client.config), str(client.config), caplog.text]
    for failure in failures:
        texts += [str(failure), repr(failure), repr(failure.__context__), repr(failure.__cause__)]
    assert len(failures) == 4
    assert not any(KEY in text for text in texts)


async def test_an_idle_connection_that_the_daemon_closed_costs_a_post_and_no_get():
    """The race itself: the other side closes just when the connection is used again."""
    seen = []

    async def talk(reader, writer):
        # Answers one request and promises to keep the connection, then closes on the next.
        head = await read_request(reader)
        seen.append(head.split()[0])
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnull")
        await writer.drain()
        await read_request(reader)

    async with speaking(talk) as url, unopened(url) as client:
        await client.call("GET", "/x")
        await client.call("GET", "/x")
        with pytest.raises(NetworkInterrupted):
            await client.call("POST", "/x")
    assert seen == [b"GET", b"GET"]


async def test_a_connection_is_let_go_before_the_daemon_closes_it(monkeypatch):
    monkeypatch.setattr(_rest, "_KEEPALIVE_SEC", 0.05)
    connections = set()

    async def handler(request):
        connections.add(request.transport)
        return web.json_response(None)

    async with opened(handler) as client:
        await client.call("POST", "/x")
        await client.call("POST", "/x")
        assert len(connections) == 1
        await asyncio.sleep(0.1)
        await client.call("POST", "/x")
        assert len(connections) == 2


def test_the_client_lets_go_well_before_the_five_seconds_of_the_daemon():
    assert _rest._KEEPALIVE_SEC <= 5.0 / 2
