"""Connections on which a test says byte by byte what it sends."""

from __future__ import annotations

import asyncio
import contextlib
import time


def plain(body=b"{}", name=b"echo"):
    """Return a call of the plain form."""
    return (
        b"POST /call/%s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%s" % (name, len(body), body)
    )


class Wire:
    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    async def answer(self):
        async with asyncio.timeout(20):
            head = await self.reader.readuntil(b"\r\n\r\n")
            start, *lines = head.decode().strip().split("\r\n")
            headers = dict(line.split(": ", 1) for line in lines)
            body = await self.reader.readexactly(int(headers["Content-Length"]))
        return int(start.split(" ")[1]), headers, body

    async def __call__(self, data):
        self.writer.write(data)
        return await self.answer()


@contextlib.asynccontextmanager
async def wire_to(site):
    host, port = site.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def until(holds, seconds=20):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        await asyncio.sleep(0.002)
