"""A small service bus: speaks the frames, does what a test says."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from typing import Self

from requestor_sdk.golem import _frames as frames


class BusServer:
    """Registers every name, records what comes, and lets a test answer."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, dict[int, int | bytes]]] = []
        self.changed = asyncio.Condition()
        self.on_call: Callable[[dict[int, int | bytes]], bytes | None] = lambda _: None
        self.register_code = 0
        self.writers: list[asyncio.StreamWriter] = []
        self.port = 0
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def address(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self.cut()
            await self._server.wait_closed()
            self._server = None

    def cut(self) -> None:
        for writer in self.writers:
            writer.close()
        self.writers.clear()

    def send(self, frame: bytes) -> None:
        self.writers[-1].write(frame)

    async def wait_for(self, number: int, count: int = 1) -> list[dict[int, int | bytes]]:
        async with self.changed:
            await self.changed.wait_for(lambda: len(self.of(number)) >= count)
        return self.of(number)

    def of(self, number: int) -> list[dict[int, int | bytes]]:
        return [fields for seen, fields in self.seen if seen == number]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        try:
            while True:
                (length,) = struct.unpack(">I", await reader.readexactly(4))
                body = await reader.readexactly(length)
                ((number, value),) = frames._fields(body)
                fields = dict(frames._fields(value))
                await self._note(number, fields)
                answer = self._answer(number, fields)
                if answer:
                    writer.write(answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _note(self, number: int, fields: dict[int, int | bytes]) -> None:
        async with self.changed:
            self.seen.append((number, fields))
            self.changed.notify_all()

    def _answer(self, number: int, fields: dict[int, int | bytes]) -> bytes | None:
        if number == 2:
            code = frames._varint(self.register_code)
            return frames._frame(3, b"\x08" + code if self.register_code else b"")
        if number == 4:
            return frames._frame(5)
        if number == 6:
            return self.on_call(fields)
        return None


def calling(address: str, data: bytes, request_id: str = "r1") -> bytes:
    """Return the frame of a call that somebody makes of us."""
    return frames._frame(
        6,
        frames._text(1, "0xcaller"),
        frames._text(2, address),
        frames._text(3, request_id),
        frames._field(4, data),
    )
