"""Ten thousand hostile requests at a provider that is a process of its own, over bare sockets.

None gets in, nothing of the victim is lost, and the provider serves on. `HOSTILE_SEED` and
`HOSTILE_COUNT` choose others than the usual ones.
"""

from __future__ import annotations

import asyncio
import os
import re
import resource
from collections import Counter
from pathlib import Path

import pytest
from peers import jobs
from support.bare_http import Line, Overheard, connected
from support.hostile_requests import API, Attacker, Known, Shot, request

from requestor_sdk.ocean.messages import Command

pytestmark = pytest.mark.sandbox

SEED = int(os.environ.get("HOSTILE_SEED", "5"))
COUNT = int(os.environ.get("HOSTILE_COUNT", "10000"))
AT_ONE_TIME = 12
SECRET = "the victim's own words"
MEMORY_MIB = 400


async def _overheard(victim: Overheard) -> tuple[str, str, Known]:
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


def _memory_mib(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize() >> 20


@pytest.mark.timeout(300)
async def test_ten_thousand_hostile_requests_get_in_nowhere_and_lose_nothing() -> None:
    with jobs.provider() as provider:
        port = int(provider.url.rpartition(":")[2])
        async with connected(port) as line:
            victim = Overheard(line)
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
