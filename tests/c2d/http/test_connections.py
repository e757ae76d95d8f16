"""One who holds connections open keeps nobody else out for long, and takes no files from jobs."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest
from support.serving import served

from requestor_sdk.c2d._http import reading
from requestor_sdk.c2d._http.app import create_app
from requestor_sdk.c2d._http.connections import bounded
from requestor_sdk.c2d.auth import Auth

MOST = 8
HEAD_SEC = 0.5
ASK = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture
async def port(host):
    app = create_app(host.core, Auth(host.jobs, host.clock), address="0x", chain_id=1)
    async with served(app, http=bounded(most=MOST, head_sec=HEAD_SEC)) as url:
        yield int(url.rpartition(":")[2])


@asynccontextmanager
async def opened(port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def closed(reader):
    """Wait until the other side closed; return what it said."""
    async with asyncio.timeout(10):
        try:
            return await reader.read()
        except ConnectionError:
            return b""


@pytest.mark.parametrize("begun", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: a\r\n"])
async def test_a_connection_that_says_nothing_whole_is_closed(port, begun):
    async with opened(port) as (reader, writer):
        writer.write(begun)
        await closed(reader)


async def test_dripping_keeps_no_connection_open(port):
    async with opened(port) as (reader, writer):
        writer.write(ASK)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")

        async def drip():
            writer.write(b"GET / HTTP/1.1\r\nX: ")
            while not writer.is_closing():
                writer.write(b"x")
                await asyncio.sleep(0.05)

        dripping = asyncio.create_task(drip())
        await closed(reader)
        dripping.cancel()


async def test_so_many_connections_and_no_more_until_one_is_closed(port):
    held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(MOST)]
    async with opened(port) as (reader, writer):
        writer.write(ASK)
        assert await closed(reader) == b""
    for reader, writer in held:
        await closed(reader)
        writer.close()
    async with opened(port) as (reader, writer):
        writer.write(ASK)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")


async def test_who_is_answered_slowly_is_not_taken_for_one_who_asks_slowly(port, consumer, url):
    job_id = await consumer.started()
    asked = f"GET /api/services/compute?jobId={job_id}&wait=1.5&seen=30 HTTP/1.1\r\nHost: a\r\n\r\n"
    async with opened(port) as (reader, writer):
        writer.write(asked.encode())
        async with asyncio.timeout(20):
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")


async def test_a_body_that_does_not_come_is_not_waited_for(port, monkeypatch):
    monkeypatch.setattr(reading, "BODY_SEC", 0.3)
    async with opened(port) as (reader, writer):
        head = "POST /api/services/compute HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n"
        writer.write(head.encode() + b"{")
        async with asyncio.timeout(10):
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 408")
        await closed(reader)


async def test_nobody_is_waited_for_who_went_away(port, consumer, host):
    job_id = await consumer.started()
    await consumer.until(job_id, 30)
    asked = f"GET /api/services/compute?jobId={job_id}&wait=30 HTTP/1.1\r\nHost: a\r\n\r\n"
    bells = host.core._follower._bells
    async with opened(port) as (_, writer):
        writer.write(asked.encode())
        async with asyncio.timeout(10):
            while job_id not in bells:
                await asyncio.sleep(0.01)
    async with asyncio.timeout(10):
        while job_id in bells:
            await asyncio.sleep(0.01)
