"""Many calls at once on a program that is killed in the middle, and what became of each."""

from __future__ import annotations

import asyncio
import random
import signal
from collections import Counter
from dataclasses import dataclass, field

import aiohttp


@dataclass
class Told:
    accepted: int = 0
    ended: int = 0
    missing: list = field(default_factory=list)
    changed: list = field(default_factory=list)
    statuses: Counter = field(default_factory=Counter)


async def storm(program, *, calls, connections, functions=("mixed", "hard"), seed=1):
    """Send calls over connections; kill and start again when half are accepted; then look."""
    rng = random.Random(seed)
    told = Told()
    accepted = []
    early = {}
    waiting = [(rng.choices(functions, (19, 1))[0], f"c{n}") for n in range(calls)]
    waiting.reverse()
    killed = asyncio.Event()
    program.start()
    await asyncio.to_thread(program.wait_for)

    async def send(session):
        while waiting:
            function, call_id = waiting.pop()
            try:
                async with session.post(
                    f"{program.url}/run/{function}/{call_id}", json={"text": call_id}
                ) as got:
                    status = got.status
            except (aiohttp.ClientError, OSError):
                status = 0
            if status == 202:
                accepted.append(call_id)
            else:
                assert status in (0, 429, 503), status
                waiting.append((function, call_id))
                await asyncio.sleep(0.05)
            if len(accepted) >= calls // 2 and not killed.is_set():
                killed.set()
                for call in accepted[:: max(1, calls // 100)]:
                    early[call] = await _end(session, program, call, 0)
                program.signal(signal.SIGKILL)
                await asyncio.to_thread(program.ended)
                program.start()
                await asyncio.to_thread(program.wait_for)

    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=90)
    try:
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            await asyncio.gather(*(send(session) for _ in range(connections)))
            told.accepted = len(set(accepted))
            for place in range(0, len(accepted), connections):
                some = accepted[place : place + connections]
                ends = await asyncio.gather(*(_end(session, program, c, 60) for c in some))
                for call, end in zip(some, ends, strict=True):
                    _judge(told, call, end, early.get(call))
    finally:
        program.__exit__(None, None, None)
    return told


async def _end(session, program, call, wait):
    headers = {"Prefer": f"wait={wait}"}
    async with session.get(f"{program.url}/tasks/{call}", headers=headers) as got:
        return await got.json() if got.status == 200 else {"status": f"HTTP {got.status}"}


def _judge(told, call, end, before):
    status = end["status"]
    if status in ("succeeded", "failed", "timed_out", "cancelled", "rejected"):
        told.ended += 1
        told.statuses[status] += 1
    else:
        told.missing.append((call, status))
    over = before and before["status"] in ("succeeded", "failed", "timed_out")
    if over and (before["status"], before["output"]) != (status, end["output"]):
        told.changed.append(call)
