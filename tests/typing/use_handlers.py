"""Right use of handlers, as the type checkers see it. Checked, never run."""

# pyright: strict, reportUnusedFunction=false

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import assert_type

from pydantic import BaseModel

from requestor_sdk import Cluster, Compute, HandlerCluster, HandlerService, handlers
from requestor_sdk.handlers import HandlerClient, Handlers, Status, Submitted


class Ask(BaseModel):
    text: str


class Said(BaseModel):
    text: str


own = Handlers()


@own.init()
def init() -> None: ...


@own.expose(timeout=3)
def plain(data: Ask) -> Said:
    return Said(text=data.text)


@handlers.expose()
async def is_async(data: Ask) -> Said:
    return Said(text=data.text)


@own.expose()
async def streams(data: Ask) -> AsyncIterator[Said]:
    yield Said(text=data.text)


@own.expose()
def iterates(data: Ask) -> Iterator[Said]:
    yield Said(text=data.text)


class Model:
    @own.expose()
    def method(self, data: Ask) -> Said:
        return Said(text=data.text)


class Served(HandlerService):
    program = Path("program.py")


async def client() -> None:
    assert_type(plain(Ask(text="")), Said)
    async with HandlerClient("http://127.0.0.1:5555", plain) as to_plain:
        assert_type(to_plain, HandlerClient[Ask, Said])
        assert_type(await to_plain(Ask(text="")), Said)
        later = await to_plain.submit(Ask(text=""), id="1")
        assert_type(later, Submitted[Said])
        assert_type(await later.result(), Said)
        assert_type(await later.cancel(), Status)
    assert_type(await HandlerClient("unix:/s", is_async)(Ask(text="")), Said)
    assert_type(await HandlerClient("unix:/s", Model.method)(Ask(text="")), Said)
    async for part in HandlerClient("unix:/s", streams).stream(Ask(text="")):
        assert_type(part, Said)
    async for part in HandlerClient("unix:/s", iterates).stream(Ask(text="")):
        assert_type(part, Said)


async def rented(compute: Compute) -> None:
    cluster = await compute.run_service(Served)
    assert_type(cluster, Cluster[Served])
    service = cluster.instances[0]
    assert_type(await service.call(plain, Ask(text="")), Said)
    assert_type(await service.call(is_async, Ask(text="")), Said)
    balanced = HandlerCluster(cluster)
    assert_type(await balanced.call(plain, Ask(text="")), Said)
    await balanced.retire(service)


async def wrong(service: Served, balanced: HandlerCluster[Served]) -> None:
    await service.call(plain, Said(text=""))  # type: ignore[arg-type]
    await HandlerClient("unix:/s", plain)(Said(text=""))  # type: ignore[arg-type]
    await balanced.call(plain, {"text": ""})  # type: ignore[call-overload]
