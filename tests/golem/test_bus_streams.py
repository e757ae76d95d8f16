"""Answers of the service bus that come bit by bit, as whoever called reads them."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import pytest
from golem.bus_server import BusServer

from requestor_sdk.golem import _frames as frames
from requestor_sdk.golem import _parts
from requestor_sdk.golem.bus import Bus
from requestor_sdk.model.errors import NetworkError, NetworkInterrupted, NotAvailable


@asynccontextmanager
async def connected(
    *answers: tuple[bytes, dict[str, object]],
) -> AsyncIterator[tuple[BusServer, Bus]]:
    """Connect to a server that answers each call by all of these."""
    async with BusServer() as server:
        server.on_call = lambda f: b"".join(
            frames.reply(f[3].decode(), data, **options)  # type: ignore[arg-type]
            for data, options in answers
        )
        bus = Bus(server.address, name="test")
        await bus.open()
        try:
            yield server, bus
        finally:
            await bus.close()


PART = {"partial": True}


async def read(bus: Bus) -> list[bytes]:
    async with aclosing(bus.stream("/a", b"x", seconds=5)) as parts:
        return [part async for part in parts]


async def test_parts_come_in_order_and_end_with_the_answer() -> None:
    async with connected((b"one", PART), (zlib.compress(b"two"), PART), (b"", {})) as (_, bus):
        assert await read(bus) == [b"one", b"two"]
        assert bus._parts == {}


async def test_a_refusal_is_an_error_after_what_came_before_it() -> None:
    async with connected((b"one", PART), (b"no such batch", {"code": 400})) as (_, bus):
        seen = []
        with pytest.raises(NetworkError, match="no such batch") as caught:
            async for part in bus.stream("/a", b"x", seconds=5):
                seen.append(part)
        assert (seen, caught.value.status) == ([b"one"], 400)


async def test_it_breaks_with_the_connection() -> None:
    async with connected((b"one", PART)) as (server, bus):
        reading = asyncio.create_task(read(bus))
        await server.wait_for(6)
        server.cut()
        with pytest.raises(NetworkInterrupted):
            await reading


async def test_what_nobody_reads_any_more_is_dropped() -> None:
    async with connected((b"one", PART)) as (server, bus):
        async with aclosing(bus.stream("/a", b"x", seconds=5)) as parts:
            async for _ in parts:
                break
        assert bus._parts == {}
        (call,) = await server.wait_for(6)
        server.send(frames.reply(call[3].decode(), b"late", partial=True))
        server.on_call = lambda f: frames.reply(f[3].decode(), b"fine")
        assert await bus.call("/b", b"x", seconds=5) == b"fine"


async def test_what_is_read_too_slowly_is_given_up_and_not_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_parts, "MOST_BYTES", 1000)
    async with connected(*[(b"x" * 400, PART)] * 5, (b"", {})) as (_, bus):
        with pytest.raises(NetworkInterrupted, match="too slowly"):
            async with aclosing(bus.stream("/a", b"x", seconds=5)) as parts:
                async for _ in parts:
                    await asyncio.sleep(0.05)


async def test_a_bus_that_is_closed_is_not_listened_to() -> None:
    async with BusServer() as server:
        bus = Bus(server.address, name="test")
        with pytest.raises(NotAvailable):
            await read(bus)
