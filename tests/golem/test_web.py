"""http(s) URLs that a stranger names, against servers on loopback."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, asynccontextmanager

import pytest
from aiohttp import web

from requestor_sdk.golem import gftp
from requestor_sdk.golem import web as module
from requestor_sdk.golem.web import Web
from requestor_sdk.model.errors import ActivityError, RequestorError, TransferRefused

CONTENT = bytes(range(256)) * 4000


async def _file(_request):
    return web.Response(body=CONTENT)


async def _unsized(request):
    response = web.StreamResponse()
    await response.prepare(request)
    for start in range(0, len(CONTENT), 100_000):
        await response.write(CONTENT[start : start + 100_000])
    return response


async def _broken(request):
    response = web.StreamResponse(headers={"Content-Length": str(len(CONTENT))})
    await response.prepare(request)
    await response.write(CONTENT[:1000])
    request.transport.abort()
    return response


def _to(location):
    async def redirect(_request):
        return web.Response(status=302, headers={"Location": location})

    return redirect


class _Server:
    def __init__(self):
        self.stored = {}
        self.asked = []

    async def put(self, request):
        self.stored[request.path] = await request.read()
        return web.Response(status=201)

    async def full(self, request):
        await request.content.read(10)
        return web.Response(status=507)

    @web.middleware
    async def note(self, request, handler):
        self.asked.append((request.method, request.path, dict(request.headers)))
        return await handler(request)


@asynccontextmanager
async def _serving():
    server = _Server()
    app = web.Application(middlewares=[server.note], client_max_size=1 << 30)
    app.router.add_get("/file", _file)
    app.router.add_get("/unsized", _unsized, allow_head=False)
    app.router.add_get("/broken", _broken)
    app.router.add_get("/there", _to("/file"))
    app.router.add_get("/round", _to("/round"))
    for name, location in {
        "local": "file:///etc/passwd",
        "gopher": "gopher://127.0.0.1/",
        "nothing": "http://",
        "rubbish": "http://[::1",
        "private": "http://10.0.0.1/secret",
    }.items():
        app.router.add_get(f"/to-{name}", _to(location))
    app.router.add_put("/put", server.put)
    app.router.add_put("/full", server.full)
    app.router.add_put("/moved", _to("/put"))
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"
    try:
        yield server
    finally:
        await runner.cleanup()


@pytest.fixture
async def server():
    async with _serving() as server:
        yield server


@pytest.fixture
async def client():
    async with Web(private=True) as client:
        yield client


async def _all(chunks):
    async with aclosing(chunks):
        return b"".join([chunk async for chunk in chunks])


@pytest.mark.parametrize("path", ["/file", "/unsized", "/there"])
async def test_a_file_is_fetched(server, client, path):
    assert await _all(client.fetch(server.url + path)) == CONTENT


async def test_a_file_is_fetched_by_the_same_call_as_by_gftp(server, client):
    url = server.url + "/file"
    assert await _all(gftp.fetch(None, url, web=client)) == CONTENT
    assert await gftp.size_of(None, url, web=client) == len(CONTENT)


@pytest.mark.parametrize(
    ("path", "size"), [("/file", len(CONTENT)), ("/there", len(CONTENT)), ("/unsized", None)]
)
async def test_the_size_is_told_where_the_server_tells_it(server, client, path, size):
    assert await client.size_of(server.url + path) == size


async def test_what_the_server_has_is_asked_for_as_it_is(server, client):
    await _all(client.fetch(server.url + "/file"))
    assert server.asked[0][2]["Accept-Encoding"] == "identity"


@pytest.mark.parametrize("path", ["/file", "/unsized"])
async def test_a_file_above_the_limit_is_refused(server, client, path):
    with pytest.raises(TransferRefused, match="limit of 1000"):
        await _all(client.fetch(server.url + path, limit=1000))
    assert len(await _all(client.fetch(server.url + path, limit=len(CONTENT)))) == len(CONTENT)


@pytest.mark.parametrize(
    ("path", "told"), [("/no-such", "404"), ("/broken", "GET"), ("/round", "more than 5")]
)
async def test_what_cannot_be_fetched_is_told(server, client, path, told):
    with pytest.raises(ActivityError, match=told):
        await _all(client.fetch(server.url + path))


@pytest.mark.parametrize("name", ["local", "gopher", "nothing", "rubbish"])
async def test_redirects_lead_to_nothing_but_http(server, client, name):
    with pytest.raises(RequestorError):
        await _all(client.fetch(f"{server.url}/to-{name}"))


async def test_https_is_not_redirected_to_http():
    client = Web()
    with pytest.raises(TransferRefused, match="from https to http"):
        client._redirected(client._checked("https://example.com/a"), "http://example.com/b")


async def test_a_file_is_brought(server, client):
    async def pieces():
        for start in range(0, len(CONTENT), 99_999):
            yield CONTENT[start : start + 99_999]

    assert await client.deliver(server.url + "/put", pieces()) == len(CONTENT)
    assert server.stored == {"/put": CONTENT}


@pytest.mark.parametrize(("path", "told"), [("/full", "507"), ("/moved", "redirected")])
async def test_what_is_not_taken_is_told(server, client, path, told):
    async def piece():
        yield b"x" * 1000

    with pytest.raises(RequestorError, match=told):
        await client.deliver(server.url + path, piece())
    assert server.stored == {}


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "127.1",
        "2130706433",
        "0x7f000001",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "10.1.2.3",
        "192.168.0.1",
        "169.254.169.254",
        "0.0.0.0",
        "[fe80::1]",
        "100.64.0.1",
        "224.0.0.1",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
    ],
)
async def test_addresses_that_are_not_public_are_not_reached(server, host):
    port = server.url.rpartition(":")[2]
    async with Web() as client:
        with pytest.raises(RequestorError, match=r"public address|canonical"):
            await _all(client.fetch(f"http://{host}:{port}/file"))
        assert await _refused(client, f"http://{host}:{port}/file")
    assert server.asked == []


async def _refused(client, url):
    try:
        return await client.size_of(url) is None
    except RequestorError:
        return True


async def test_a_public_server_does_not_lead_into_a_private_network(server, monkeypatch):
    """The guard lets one private address through, as if it were public."""
    monkeypatch.setattr(module, "_is_private", lambda host: host != "127.0.0.1")
    async with Web() as client:
        assert await _all(client.fetch(server.url + "/file")) == CONTENT
        with pytest.raises(TransferRefused, match=r"10\.0\.0\.1 is at no public address"):
            await _all(client.fetch(server.url + "/to-private"))


@pytest.mark.parametrize("url", ["ftp://x/y", "http://", "http://[::1", "http://x:99999/", "x"])
async def test_urls_that_are_none_are_refused(client, url):
    with pytest.raises(TransferRefused):
        await _all(client.fetch(url))


async def test_nothing_secret_of_a_url_is_in_an_error(client, server):
    port = server.url.rpartition(":")[2]
    url = f"http://user:hunter2@127.0.0.1:{port}/no-such?token=hunter2"
    with pytest.raises(ActivityError) as told:
        await _all(client.fetch(url))
    assert "hunter2" not in str(told.value)


async def test_a_server_that_is_not_there_is_told(client):
    with pytest.raises(ActivityError, match="GET"):
        await _all(client.fetch("http://127.0.0.1:9/file"))


async def test_a_server_that_falls_silent_is_told(monkeypatch):
    monkeypatch.setattr(module, "SILENCE_SEC", 0.05)
    silent = asyncio.Event()

    async def never(_reader, writer):
        await silent.wait()
        writer.close()

    server = await asyncio.start_server(never, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, Web(private=True) as client:
        with pytest.raises(ActivityError, match="GET"):
            await _all(client.fetch(f"http://127.0.0.1:{port}/"))
        silent.set()
