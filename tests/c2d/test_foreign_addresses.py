"""What a consumer names on the web is fetched in bounds: its servers hold nobody else up."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator

import pytest

from requestor_sdk.c2d import _files
from requestor_sdk.c2d._files import FileFailed, Files, FileSource


@pytest.fixture
def silent_names(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Names that are looked up until the block ends."""
    ended = threading.Event()

    def looked_up(*args: object, **kwargs: object) -> list[object]:
        ended.wait(30)
        raise socket.gaierror("nobody knows")

    monkeypatch.setattr(socket, "getaddrinfo", looked_up)
    yield ended
    ended.set()


async def test_names_that_are_looked_up_for_ever_leave_the_disk_to_others(
    silent_names: threading.Event,
) -> None:
    files = Files()
    sources = [FileSource(url=f"http://n{n}.invalid/a", public_only=True) for n in range(64)]
    asked = [asyncio.create_task(files.info(source)) for source in sources]
    try:
        await asyncio.sleep(0.2)
        async with asyncio.timeout(5):
            await asyncio.to_thread(len, "")
    finally:
        silent_names.set()
        told = await asyncio.gather(*asked)
        await files.close()
    assert not any(one.valid for one in told)


async def test_a_server_that_sends_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_files, "_FOREIGN_SEC", 0.5)

    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        try:
            while True:
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.05)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(trickle, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    files = Files(allow_private=True)
    source = FileSource(url=f"http://127.0.0.1:{port}/", public_only=True)
    try:
        async with asyncio.timeout(10):
            with pytest.raises(FileFailed):
                await files.read_all(source, limit=1 << 20)
    finally:
        await files.close()
        server.close()
        await server.wait_closed()
