"""The worker API, served on loopback, and one that calls it."""

from __future__ import annotations

from dataclasses import dataclass, field

import aiohttp
import pytest
from support.queues import ROOM

from requestor_sdk.model.fields import to_json


@dataclass
class Caller:
    """Calls the API as one worker."""

    session: aiohttp.ClientSession
    base: str
    token: str = ""
    worker: str = "w1"
    claims: int = 0
    answers: list = field(default_factory=list)

    async def call(self, method, path, *, body=None, data=None, fence=None, token=None, **query):
        headers = {"Authorization": f"Bearer {self.token if token is None else token}"}
        if fence is not None:
            headers["Fence"] = fence
        async with self.session.request(
            method, self.base + path, json=body, data=data, headers=headers, params=query
        ) as answer:
            raw = await answer.read()
            told = await answer.json() if answer.content_type == "application/json" else raw
            self.answers.append(answer.status)
            return answer.status, told

    async def come(self, session="s1", **changes):
        room = to_json(ROOM)
        body = {"session": session, "total": room, "free": room, **changes}
        return await self.call("PUT", f"/workers/{self.worker}", body=body)

    async def claim(self, wait=0.0, claim_id=None, session="s1"):
        self.claims += 1
        claim_id = claim_id or f"{session}-{self.claims}"
        body = {"session": session, "claim_id": claim_id, "free": to_json(ROOM), "wait": wait}
        return await self.call("POST", f"/workers/{self.worker}/claims", body=body)

    async def about(self, method, lease, what, **arguments):
        path = f"/runs/{lease['run_id']}/attempts/{lease['attempt']}/{what}"
        return await self.call(method, path, fence=lease["fence"], **arguments)


@pytest.fixture
async def store(tmp_path):
    from requestor_sdk.c2d._store.sqlite import SqliteStore

    store = SqliteStore(tmp_path / "c2d.sqlite")
    await store.open()
    yield store
    await store.close()


@pytest.fixture
async def queue(store, tmp_path):
    from requestor_sdk.c2d._queue import DurableQueue

    queue = DurableQueue(store, tmp_path / "runs")
    await queue.open()
    yield queue
    await queue.close()


@pytest.fixture
async def base(store, queue):
    from fastapi import FastAPI
    from support.serving import served

    from requestor_sdk.c2d._worker_api import PREFIX, worker_app

    app = FastAPI()
    app.mount(PREFIX, worker_app(queue, store))
    async with served(app) as address:
        yield address + PREFIX


@pytest.fixture
async def callers(base, store):
    """Give one that calls as a worker of that name."""
    from requestor_sdk.c2d._worker_tokens import WorkerTokens

    async with aiohttp.ClientSession() as session:

        async def make(worker="w1"):
            token = await WorkerTokens(store).issue(worker)
            return Caller(session, base, token, worker)

        yield make


@pytest.fixture
async def caller(callers):
    return await callers()
