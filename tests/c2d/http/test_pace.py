"""One address may make so many calls in a minute."""

from __future__ import annotations

import asyncio

import pytest
from c2d.http.conftest import ADDRESS
from support.serving import served

from requestor_sdk.c2d._http.app import create_app
from requestor_sdk.c2d._http.pace import Paced
from requestor_sdk.c2d.auth import Auth
from requestor_sdk.testing import VirtualTimeLoop


@pytest.fixture
async def slow_url(host):
    auth = Auth(host.jobs, host.clock)
    app = create_app(host.core, auth, address=ADDRESS, chain_id=8996, calls=3)
    async with served(app) as address:
        yield address


async def test_who_calls_too_often_is_told_when_to_come_again(slow_url, session):
    for _ in range(3):
        async with session.get(slow_url + "/") as answer:
            assert answer.status == 200
    async with session.get(slow_url + "/", headers={"Origin": "http://page"}) as answer:
        assert answer.status == 429
        assert 0 < int(answer.headers["Retry-After"]) <= 20
        assert (await answer.json())["error"].startswith("Rate limit exceeded. Try again in ")
        assert answer.headers["Access-Control-Allow-Origin"] == "*"


def test_calls_come_back_with_time_and_one_address_takes_none_of_another():
    answered = []

    async def app(scope, receive, send):
        answered.append(scope["client"][0])

    async def nothing(_=None):
        pass

    async def main():
        paced = Paced(app, calls=60, free=("/worker",))

        async def call(address, times, path="/"):
            before = len(answered)
            scope = {"type": "http", "path": path, "client": (address, 1), "method": "GET"}
            for _ in range(times):
                await paced(scope, nothing, nothing)
            return len(answered) - before

        assert await call("a", 100) == 60
        assert await call("b", 10) == 10
        await asyncio.sleep(5.5)
        assert await call("a", 100) == 5
        assert await call("a", 100, "/worker/v1/hello") == 100
        for number in range(10_001):
            await call(f"c{number}", 1)
        assert len(paced._full) == 10_000

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(main())
