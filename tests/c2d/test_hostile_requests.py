"""Ten thousand hostile requests at a provider that is a process of its own, over bare sockets.

None gets in, nothing of the victim is lost, and the provider serves on. `HOSTILE_SEED` and
`HOSTILE_COUNT` choose others than the usual ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import resource
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from peers import jobs
from support.hostile_requests import (
    API,
    Attacker,
    Caller,
    Known,
    Shot,
    request,
    start_body,
)

from requestor_sdk.ocean.messages import Command, job_text, result_text

pytestmark = pytest.mark.sandbox

SEED = int(os.environ.get("HOSTILE_SEED", "5"))
COUNT = int(os.environ.get("HOSTILE_COUNT", "10000"))
AT_ONE_TIME = 12
PATIENCE_SEC = 10.0
SECRET = "the victim's own words"
MEMORY_MIB = 400


class Answer:
    """What came back; a status of 0 where the connection was closed without one."""

    def __init__(self, status: int, body: bytes) -> None:
        self.status, self.body = status, body

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
        return Answer(status, body)

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


class Victim:
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

    async def result(self, job_id: str, index: int) -> bytes:
        signed = self.caller.says(lambda a, n: result_text(a, job_id, str(index), n))
        query = {**signed, "jobId": job_id, "index": index}
        answer = await self.says(request("GET", f"{API}/computeResult", query=query))
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


async def _overheard(victim: Victim) -> tuple[str, str, Known]:
    """Have the victim use every call, and return its finished job, one that runs, and the rest."""
    code = (
        f"open('/data/outputs/a', 'w').write({SECRET!r})\nopen('/data/outputs/b', 'w').write('b')"
    )
    finished = await victim.start(code)
    await victim.until(finished, 70)
    running = await victim.start("import time; print('runs', flush=True); time.sleep(3000)")
    await victim.until(running, 40)
    for index in (0, 1):
        await victim.result(finished, index)
    gone = await victim.start("print('soon gone')")
    for method in ("PUT", "DELETE"):
        assert (await victim.stop(gone, method)).status == 200
    signed = victim.caller.commands(Command.create_token)
    made = {**signed, "address": signed["consumerAddress"]}
    token = await victim.says(request("POST", f"{API}/auth/token", body=made))
    assert token.status == 200
    known = Known(
        victim=victim.caller.address,
        jobs=(finished, running),
        nonce=await victim.nonce(),
        sent=victim.sent,
        assets=(("did:op:" + "0" * 64, "0"),),
    )
    return finished, running, known


async def _fire(port: int, shots: list[Shot], found: list[str], seen: Counter[str]) -> None:
    line = Line(port)
    while shots:
        shot = shots.pop()
        try:
            answer = await line.ask(shot.raw, half=shot.half)
        except TimeoutError:
            found.append(f"no answer to {shot.kind}: {shot.raw[:300]!r}")
            line = Line(port)
            continue
        seen[f"{shot.kind} {answer.status}"] += 1
        # A call on jobs that are not the caller's is one on no jobs: that is no refusal.
        in_it = shot.acts and 200 <= answer.status < 300 and answer.body != b"[]"
        if in_it or answer.status >= 500 or SECRET.encode() in answer.body:
            told = f"{answer.status} {answer.body[:200]!r}"
            found.append(f"{shot.kind} got {told} for {shot.raw[:1000]!r}")
    await line.close()


@contextlib.asynccontextmanager
async def _line(port: int) -> AsyncIterator[Line]:
    line = Line(port)
    try:
        yield line
    finally:
        await line.close()


def _memory_mib(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize() >> 20


@pytest.mark.timeout(300)
async def test_ten_thousand_hostile_requests_get_in_nowhere_and_lose_nothing() -> None:
    with jobs.provider() as provider:
        port = int(provider.url.rpartition(":")[2])
        async with _line(port) as line:
            victim = Victim(line)
            finished, running, known = await _overheard(victim)
            before = await victim.status(finished), await victim.all_jobs()
            attacker = Attacker(SEED, known)
            shots = [attacker.shot() for _ in range(COUNT)]
            found: list[str] = []
            seen: Counter[str] = Counter()
            fired = (_fire(port, shots, found, seen) for _ in range(AT_ONE_TIME))
            await asyncio.gather(*fired)
            told = "\n".join(found[:10])
            assert not found, f"seed {SEED}: {len(found)} of {COUNT}, such as\n{told}\n{seen}"
            assert (await victim.status(finished), await victim.all_jobs()) == before
            assert await victim.nonce() == known.nonce
            assert await victim.result(finished, 0) == SECRET.encode()
            assert (await victim.status(running))["status"] == 40
            assert (await victim.stop(running)).status == 200
            await victim.until(running, 70)
            assert _memory_mib(provider.pid) < MEMORY_MIB
        log = provider.log.read_text()
        assert "Traceback" not in log, log[:5000]
        for raw in known.sent:
            signature = re.search(rb"0x[0-9a-f]{130}", raw)
            assert signature is not None
            assert signature[0].decode() not in log
