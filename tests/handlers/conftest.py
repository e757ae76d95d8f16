"""Handlers served on any free port, and requests to them as a stranger makes them."""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import dataclass, field

import aiohttp
import pytest

from requestor_sdk.handlers import Handlers


@dataclass
class Answer:
    status: int
    headers: dict
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def detail(self):
        return self.json["detail"]


@dataclass
class Site:
    session: aiohttp.ClientSession
    url: str
    serving: object = None
    handlers: Handlers | None = None

    async def ask(self, method, path, *, raw=None, headers=None, **fields):
        from yarl import URL

        data = raw
        if raw is None and (fields or method == "POST"):
            data = json.dumps(fields).encode()
        if data is not None and len(data) > 500_000:
            data = io.BytesIO(data)
        sent = {"Content-Type": "application/json", **(headers or {})}
        sent = {name: value for name, value in sent.items() if value is not None}
        where = URL(self.url + path, encoded=True)
        async with self.session.request(method, where, data=data, headers=sent) as got:
            return Answer(got.status, dict(got.headers), await got.read())

    async def post(self, path, **rest):
        return await self.ask("POST", path, **rest)

    async def get(self, path, **rest):
        return await self.ask("GET", path, **rest)

    async def end(self, call_id, seconds=30):
        got = await self.get(f"/tasks/{call_id}", headers={"Prefer": f"wait={seconds}"})
        assert got.status == 200, got
        return got.json

    async def metric(self, name):
        for line in (await self.get("/metrics")).body.decode().splitlines():
            if line.startswith(name + " "):
                return float(line.rpartition(" ")[2])
        return None


@contextlib.asynccontextmanager
async def site_of(handlers, **options):
    options.setdefault("stop_grace", 0.5)
    options.setdefault("grace", 0.3)
    async with handlers.serving(port=0, **options) as serving, aiohttp.ClientSession() as session:
        yield Site(session, serving.url, serving, handlers)


@pytest.fixture
def serve():
    return site_of


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch):
    for name in ("CALLBACK_URL", "CALLBACK_SECRET"):
        monkeypatch.delenv(name, raising=False)


@dataclass
class Sink:
    """Takes callbacks, and answers them as it is told."""

    url: str = ""
    got: list = field(default_factory=list)
    targets: list = field(default_factory=list)
    answers: list = field(default_factory=list)
    hangs: bool = False

    async def __call__(self, request):
        import asyncio

        from aiohttp import web

        body = await request.read()
        self.targets.append(request.raw_path)
        self.got.append((request.path, dict(request.headers), body))
        if self.hangs:
            await asyncio.get_running_loop().create_future()
        status = self.answers.pop(0) if self.answers else 200
        return web.Response(status=status, headers={"Location": "/elsewhere"})

    async def count(self, number, seconds=10):
        import asyncio

        async with asyncio.timeout(seconds):
            while len(self.got) < number:
                await asyncio.sleep(0.01)


@pytest.fixture
async def sink():
    from aiohttp import web

    made = Sink()
    runner = web.ServerRunner(web.Server(made, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/answers"
    yield made
    await runner.cleanup()
