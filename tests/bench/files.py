"""A file from requestor to provider and back, by gftp through the real daemon, in one process.

Ours is the whole of it: from disk to disk, checked on both sides. The peer is a straightforward
program with the reference library for FlexBuffers, the web socket of the daemon's REST API and the
customary chunks of 40 KiB, in memory and unchecked. The floor sends messages that were made before,
as large as ours, by the service bus, and looks at none.
"""

from __future__ import annotations

import asyncio
import base64
import os
import tempfile
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from statistics import median

from flatbuffers import flexbuffers as reference
from measure import Result

from requestor_sdk.devnet import Devnet
from requestor_sdk.golem import Daemon, gftp
from requestor_sdk.golem._chunks import chunk_reply, chunk_request, chunk_upload
from requestor_sdk.golem.bus import Bus, Call
from requestor_sdk.golem.flexbuffers import encode
from requestor_sdk.networks.golem import GolemTransfers

_SIZE = 96 * 1024 * 1024
_TIMES = 5
_CUSTOMARY = 40 * 1024
_COMPONENTS = ["GetMetadata", "GetChunk", "UploadChunk", "UploadFinished"]

Answer = Callable[[bytes], bytes]
Ask = Callable[[int], Awaitable[object]]


def gftp_mb_s(name: str) -> Result:
    """Return the megabytes a second that a file goes down and up again with."""
    network = Devnet(providers=0)
    network.start()
    try:
        values = asyncio.run(_measured(network))
    finally:
        network.stop()
    ours, floor, peer = (2 * _SIZE / 1e6 / median(one) for one in values)
    return Result(name=name, value=ours, unit="MB/s", n=_TIMES, floor=floor, peer=peer)


async def _measured(network: Devnet) -> tuple[list[float], list[float], list[float]]:
    ours, floor, peer = [], [], []
    async with AsyncExitStack() as stack:
        daemon, bus = Daemon(network.config), Bus(network.config.gsb_url, name="bench")
        await daemon.open()
        stack.push_async_callback(daemon.close)
        await bus.open()
        stack.push_async_callback(bus.close)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "file").write_bytes(os.urandom(_SIZE))
        for _ in range(_TIMES):
            ours.append(await _timed(_ours(GolemTransfers(daemon), bus, folder)))
            floor.append(await _timed(_floor(daemon, bus)))
            peer.append(await _timed(_peer(daemon, bus)))
    return ours, floor, peer


async def _timed(work: Awaitable[object]) -> float:
    began = time.perf_counter()
    await work
    return time.perf_counter() - began


async def _ours(transfers: GolemTransfers, bus: Bus, folder: Path) -> None:
    async with transfers.publish(folder / "file") as url:
        with (folder / "there").open("wb") as file:
            async for piece in gftp.fetch(bus, url):
                file.write(piece)
    async with transfers.receive(folder / "back") as incoming:
        await gftp.deliver(bus, incoming.url, _read(folder / "there"))
        await incoming.content()


async def _read(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(gftp.LARGEST_CHUNK):
            yield piece


async def _floor(daemon: Daemon, bus: Bus) -> None:
    size = gftp.LARGEST_CHUNK
    reply = chunk_reply(bytes(size), 1 << 20)
    request, upload = chunk_request(1 << 20, size), chunk_upload(bytes(size), 1 << 20)
    done = encode({"Ok": None})

    async def answer(call: Call) -> bytes:
        return reply if call.component == "GetChunk" else done

    name = os.urandom(16).hex()
    base = f"/transfer/net/{daemon.identity}/gftp/{name}/"
    other = Bus(daemon.config.gsb_url, name="floor")
    await other.open()
    try:
        await other.register(f"/public/gftp/{name}", answer)
        await _all(size, lambda _: bus.call(base + "GetChunk", request, seconds=20))
        await _all(size, lambda _: bus.call(base + "UploadChunk", upload, seconds=20))
    finally:
        await other.close()


async def _peer(daemon: Daemon, bus: Bus) -> None:
    content = os.urandom(_CUSTOMARY)

    def answer(request: bytes) -> bytes:
        asked = reference.Loads(request)
        payload = None
        if asked["component"] == "GetChunk":
            payload = {"content": content, "offset": asked["payload"]["offset"]}
        return bytes(reference.Dumps({"id": asked["id"], "payload": payload}))

    async def call(component: str, message: object) -> object:
        data = bytes(reference.Dumps(message))
        return reference.Loads(await bus.call(base + component, data, seconds=20))["Ok"]

    async def get(offset: int) -> None:
        await call("GetChunk", {"offset": offset, "size": _CUSTOMARY})

    async def put(offset: int) -> None:
        await call("UploadChunk", {"chunk": {"offset": offset, "content": content}})

    async with _served(daemon, answer) as base:
        await _all(_CUSTOMARY, get)
        await _all(_CUSTOMARY, put)


async def _all(size: int, ask: Ask) -> None:
    """Ask for all chunks, as many at a time as ours does."""
    under_way: deque[asyncio.Task[object]] = deque()
    for offset in range(0, _SIZE, size):
        if len(under_way) >= gftp.IN_FLIGHT:
            await under_way.popleft()
        under_way.append(asyncio.create_task(ask(offset)))
    await asyncio.gather(*under_way)


@asynccontextmanager
async def _served(daemon: Daemon, answer: Answer) -> AsyncIterator[str]:
    """Serve a name by a bare web socket; the value is its address on the bus."""
    name = os.urandom(16).hex()
    on = f"/public/gftp/{name}"
    path = "/gsb-api/v1/services"
    await daemon.call("POST", path, body={"listen": {"on": on, "components": _COMPONENTS}})
    path += "/" + base64.urlsafe_b64encode(on.encode()).decode().rstrip("=")
    async with daemon.websocket(path, protocols=("gsb+flexbuffers",)) as socket:

        async def serve() -> None:
            async for message in socket:
                await socket.send_bytes(answer(message.data))

        task = asyncio.create_task(serve())
        try:
            yield f"/transfer/net/{daemon.identity}/gftp/{name}/"
        finally:
            task.cancel()
            await asyncio.wait({task})
            await daemon.call("DELETE", path)
