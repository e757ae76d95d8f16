"""A consumer of jobs over bare sockets: it signs as it should, and all that it sends is kept."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator

from support.hostile_requests import API, Caller, request, start_body

from requestor_sdk.ocean.messages import Command, job_text, result_text

PATIENCE_SEC = 10.0


class Answer:
    """What came back; a status of 0 where the connection was closed without one."""

    def __init__(self, status: int, body: bytes, head: str = "") -> None:
        self.status, self.body, self.head = status, body, head

    def json(self) -> object:
        return json.loads(self.body)


class Line:
    """One connection; a new one is made where the other side closed it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def ask(self, raw: bytes, *, half: bool = False) -> Answer:
        async with asyncio.timeout(PATIENCE_SEC):
            if self._reader is None or self._writer is None:
                self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
            try:
                self._writer.write(raw)
                if half:
                    self._writer.write_eof()
                # Who is refused half-way reads no further: its answer is what counts.
                with contextlib.suppress(ConnectionError):
                    await self._writer.drain()
                return await self._answer(self._reader, half=half)
            except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                await self.close()
                return Answer(0, b"")

    async def _answer(self, reader: asyncio.StreamReader, *, half: bool) -> Answer:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        status = int(head.split()[1])
        length = re.search(r"^content-length: *(\d+)\r$", head, re.MULTILINE)
        if half or (length is None and "transfer-encoding: chunked" not in head):
            body = await reader.read()
            await self.close()
        elif length is not None:
            body = await reader.readexactly(int(length[1]))
        else:
            body = await self._chunks(reader)
        if "connection: close" in head:
            await self.close()
        return Answer(status, body, head)

    @staticmethod
    async def _chunks(reader: asyncio.StreamReader) -> bytes:
        body = b""
        while size := int(await reader.readline(), 16):
            body += await reader.readexactly(size)
            await reader.readexactly(2)
        await reader.readline()
        return body

    async def close(self) -> None:
        writer, self._reader, self._writer = self._writer, None, None
        if writer is not None:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


class Overheard:
    """Uses the provider as it should be; all that it sends is overheard."""

    def __init__(self, line: Line) -> None:
        self.caller = Caller()
        self.sent: list[bytes] = []
        self._line = line

    async def says(self, raw: bytes) -> Answer:
        self.sent.append(raw)
        return await self._line.ask(raw)

    async def start(self, code: str) -> str:
        body = start_body(self.caller.commands(Command.free_start))
        body["algorithm"]["meta"]["rawcode"] = code
        answer = await self.says(request("POST", f"{API}/freeCompute", body=body))
        assert answer.status == 200, answer.body
        return answer.json()[0]["jobId"]

    async def status(self, job_id: str) -> dict[str, object]:
        query = {"consumerAddress": self.caller.address, "jobId": job_id}
        answer = await self._line.ask(request("GET", f"{API}/compute", query=query))
        assert answer.status == 200, answer.body
        (job,) = answer.json()
        return job

    async def until(self, job_id: str, code: int) -> dict[str, object]:
        async with asyncio.timeout(60):
            while (job := await self.status(job_id))["status"] != code:
                await asyncio.sleep(0.05)
        return job

    async def over(self, job_id: str) -> dict[str, object]:
        async with asyncio.timeout(60):
            while (job := await self.status(job_id))["dateFinished"] is None:
                await asyncio.sleep(0.05)
        return job

    async def fetch(self, job_id: str, index: int) -> Answer:
        signed = self.caller.says(lambda a, n: result_text(a, job_id, str(index), n))
        query = {**signed, "jobId": job_id, "index": index}
        return await self.says(request("GET", f"{API}/computeResult", query=query))

    async def result(self, job_id: str, index: int) -> bytes:
        answer = await self.fetch(job_id, index)
        assert answer.status == 200, answer.body
        return answer.body

    async def stop(self, job_id: str, method: str = "PUT") -> Answer:
        signed = self.caller.says(lambda a, n: job_text(a, job_id, "", n))
        query = {**signed, "jobId": job_id}
        return await self.says(request(method, f"{API}/compute", query=query))

    async def nonce(self) -> int:
        query = {"userAddress": self.caller.address}
        answer = await self._line.ask(request("GET", f"{API}/nonce", query=query))
        return int(answer.json()["nonce"])

    async def all_jobs(self) -> list[str]:
        query = {"consumerAddress": self.caller.address}
        answer = await self._line.ask(request("GET", f"{API}/compute", query=query))
        return sorted(job["jobId"] for job in answer.json())


@contextlib.asynccontextmanager
async def connected(port: int) -> AsyncIterator[Line]:
    """Have a connection while the block lasts."""
    line = Line(port)
    try:
        yield line
    finally:
        await line.close()
