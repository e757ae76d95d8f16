"""The provider's core over a store in memory or in SQLite; tests do the runs themselves."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from support.jobs import CONTAINER, ddo, local

from requestor_sdk.c2d._store.memory import MemoryStore
from requestor_sdk.c2d.catalogue import Catalogue
from requestor_sdk.client._job_host import JobHost
from requestor_sdk.model.jobs import AlgorithmSpec, AssetRef, JobRequest

OWNER = "0x" + "1" * 40


def request_of(*names, rawcode="print(1)", **more):
    """Return a request on datasets of the catalogue."""
    datasets = tuple(AssetRef(did=f"did:op:{name}") for name in names)
    more.setdefault("algorithm", AlgorithmSpec(rawcode=rawcode))
    return JobRequest(datasets=datasets, **more)


class Web:
    """A server of files: each path answers as it was told to."""

    def __init__(self):
        self.answers = {}
        self.asked = []
        self.hold = asyncio.Event()

    async def answer(self, request):
        self.asked.append(request)
        made = self.answers[request.path]
        if made == "hang":
            response = web.StreamResponse()
            await response.prepare(request)
            await response.write(b"x")
            await self.hold.wait()
            return response
        if isinstance(made, int):
            # Of its own each time: an answer of aiohttp's can be given once.
            raise web.HTTPFound("/again") if made == 302 else web.HTTPNotFound()
        return web.Response(body=made)


@pytest.fixture
async def files():
    served = Web()
    app = web.Application()
    app.router.add_get("/{name:.*}", served.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    served.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield served
    served.hold.set()
    await runner.cleanup()


@pytest.fixture
def catalogue(tmp_path, files):
    (tmp_path / "data.csv").write_text("a\n1\n")
    (tmp_path / "algo.py").write_text("print(2)\n")
    about = {"container": CONTAINER}
    remote = [{"type": "url", "url": f"{files.url}/data", "headers": {"Key": "secret"}}]
    checked = [{"type": "url", "url": f"{files.url}/data", "sha256": "0" * 64}]
    return Catalogue.of(
        [
            ddo("data", local("data.csv")),
            ddo("remote", remote),
            ddo("checked", checked),
            ddo("algo", local("algo.py"), kind="access", algorithm=about),
        ],
        folder=tmp_path,
    )


@pytest.fixture
def make_host(tmp_path, catalogue):
    @asynccontextmanager
    async def make(store=None, **more):
        more.setdefault("catalogue", catalogue)
        host = JobHost(store or MemoryStore(), tmp_path / "host", workers=0, **more)
        await host.open()
        try:
            yield host
        finally:
            await host.close()

    return make


@pytest.fixture
async def host(make_host):
    async with make_host(allow_private=True) as host:
        yield host


async def ended(core, job_id, owner=OWNER):
    """Return a job's last status."""
    async with asyncio.timeout(20):
        async for status in core.updates(owner, job_id):
            last = status
    return last
