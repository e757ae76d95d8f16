"""Names that are served stay served, by either way, and are given back."""

from __future__ import annotations

import asyncio
import base64

import pytest
from aiohttp import WSMsgType, web
from golem.bus_server import BusServer
from golem.rude_server import serving

from requestor_sdk.golem import Daemon, GolemConfig, _served
from requestor_sdk.golem import _frames as frames
from requestor_sdk.golem._direct import Direct, Serving, SharedBus
from requestor_sdk.golem._served import Refusal, Served
from requestor_sdk.golem.flexbuffers import decode, encode
from requestor_sdk.model.errors import NetworkError

ME = {"identity": "0x" + "ab" * 20}
VERSION = {"current": {"version": "0.17.6"}}
ON = "/public/gftp/name"


class FakeDaemon:
    """The few calls of the REST API that bind a name; web sockets are handed to the test."""

    def __init__(self):
        self.bound = set()
        self.calls = []
        self.sockets = asyncio.Queue()
        self.refusing = False

    async def handle(self, request):
        if request.path == "/me":
            return web.json_response(ME)
        if request.path == "/version/get":
            return web.json_response(VERSION)
        self.calls.append(request.method)
        if self.refusing:
            raise web.HTTPInternalServerError
        if request.method == "POST":
            self.bound.add((await request.json())["listen"]["on"])
            return web.json_response({}, status=201)
        encoded = request.path.rpartition("/")[2]
        on = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode()
        if on not in self.bound:
            raise web.HTTPNotFound
        if request.method == "DELETE":
            self.bound.discard(on)
            return web.json_response({})
        socket = web.WebSocketResponse(protocols=("gsb+flexbuffers",))
        await socket.prepare(request)
        closed = asyncio.Event()
        await self.sockets.put((socket, closed))
        await closed.wait()
        return socket


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(_served, "FIRST_BACKOFF_SEC", 0.001)
    monkeypatch.setattr(_served, "LONGEST_BACKOFF_SEC", 0.01)


@pytest.fixture
async def fake():
    return FakeDaemon()


@pytest.fixture
async def daemon(fake):
    async with serving(fake.handle) as url:
        daemon = Daemon(GolemConfig(app_key="key", api_url=url, gsb_url="tcp://127.0.0.1:9"))
        await daemon.open()
        yield daemon
        await daemon.close()


async def _echo(component, payload):
    if component == "Fail":
        raise Refusal({"ReadError": "no"})
    return {"component": component, "payload": payload}


async def _asked(socket, component="GetMetadata"):
    await socket.send_bytes(encode({"id": "7", "component": component, "payload": {"a": 1}}))
    message = await asyncio.wait_for(socket.receive(), 5)
    assert message.type == WSMsgType.BINARY
    return decode(message.data)


async def test_requests_are_answered_and_the_name_is_given_back(fake, daemon):
    served = Served(daemon, ON, ["GetMetadata"], _echo)
    await served.open()
    assert fake.bound == {ON}
    socket, closed = await fake.sockets.get()
    value = {"component": "GetMetadata", "payload": {"a": 1}}
    assert await _asked(socket) == {"id": "7", "payload": value}
    assert await _asked(socket, "Fail") == {"id": "7", "error": {"ReadError": "no"}}
    await served.close()
    await served.close()
    closed.set()
    assert fake.bound == set()


@pytest.mark.parametrize("forgets", [False, True])
async def test_after_a_lost_socket_it_is_served_again(fake, daemon, forgets):
    served = Served(daemon, ON, ["GetMetadata"], _echo)
    await served.open()
    for _ in range(3):
        socket, closed = await fake.sockets.get()
        assert (await _asked(socket))["id"] == "7"
        if forgets:
            fake.bound.clear()
        await socket.close()
        closed.set()
    _, closed = await asyncio.wait_for(fake.sockets.get(), 5)
    assert fake.calls.count("POST") == (4 if forgets else 1)
    await served.close()
    closed.set()


@pytest.mark.parametrize("rubbish", [b"rubbish", encode([1]), encode({"no": "id"}), "text"])
async def test_rubbish_of_the_daemon_costs_the_socket_and_nothing_more(fake, daemon, rubbish):
    served = Served(daemon, ON, ["GetMetadata"], _echo)
    await served.open()
    socket, closed = await fake.sockets.get()
    await (socket.send_str if isinstance(rubbish, str) else socket.send_bytes)(rubbish)
    closed.set()
    socket, closed = await asyncio.wait_for(fake.sockets.get(), 5)
    assert (await _asked(socket))["id"] == "7"
    await served.close()
    closed.set()


async def test_a_name_that_is_refused_is_told(fake, daemon):
    fake.refusing = True
    served = Served(daemon, ON, ["GetMetadata"], _echo)
    with pytest.raises(NetworkError):
        await served.open()
    await served.close()


async def test_who_gives_up_while_it_is_bound_leaves_nothing(fake, daemon, monkeypatch):
    monkeypatch.setattr(Daemon, "websocket", None)

    async def never(self):
        await asyncio.Event().wait()

    monkeypatch.setattr(Served, "_serve", never)
    served = Served(daemon, ON, ["GetMetadata"], _echo)
    opening = asyncio.create_task(served.open())
    while not fake.bound:
        await asyncio.sleep(0)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert fake.bound == set()


async def _kind(daemon):
    """What serves a name of this daemon."""
    shared = SharedBus(daemon)
    made = Serving(daemon, shared, ON, ["GetMetadata"], lambda _: _echo)
    await made.open()
    kind = type(made._by)
    await made.close()
    assert shared._users == 0
    assert shared._opening is None
    return kind


async def test_without_a_bus_files_go_by_web_socket(fake, daemon):
    assert await _kind(daemon) is Served
    _, closed = await fake.sockets.get()
    closed.set()


@pytest.mark.parametrize("answer", [b"", encode(b"of another"), None])
async def test_the_bus_of_another_daemon_is_not_used(fake, daemon, answer, monkeypatch):
    monkeypatch.setattr("requestor_sdk.golem._direct.PROBE_SEC", 0.05)
    async with BusServer() as other:
        if answer is not None:
            other.on_call = lambda fields: frames.reply(fields[3].decode(), answer)
        object.__setattr__(daemon.config, "gsb_url", other.address)
        assert await _kind(daemon) is Served
    _, closed = await fake.sockets.get()
    closed.set()


async def test_more_than_is_bearable_at_a_time_is_refused(daemon):
    go = asyncio.Event()

    async def slow(_component, _payload):
        await go.wait()

    direct = Direct(None, ON, slow)

    class Call:
        component, data = "UploadChunk", encode({})

    calls = [asyncio.create_task(direct._handle(Call)) for _ in range(70)]
    while sum(call.done() for call in calls) < 6:
        await asyncio.sleep(0)
    go.set()
    answers = [decode(await call) for call in calls]
    assert sum("Err" in answer for answer in answers) == 6
    Call.data = bytes(5 * 1024 * 1024)
    assert "Err" in decode(await direct._handle(Call))
