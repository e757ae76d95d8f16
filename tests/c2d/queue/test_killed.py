"""A server that is killed at any moment has lost nothing of what it had acknowledged."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.queue_victim import make_store

from requestor_sdk.c2d import _rules as rules
from requestor_sdk.c2d._queue import DurableQueue
from requestor_sdk.c2d._store.jobs import StoredJobs
from requestor_sdk.c2d.records import NonceTaken, OrderTaken
from requestor_sdk.ports.worker import RunState

pytest.importorskip("sqlalchemy", reason="the extra `serve` is not installed")

TESTS = Path(__file__).parents[2]
LIVES = 4


def live_and_die(where, folder, life, seconds):
    """Run a server for a while, kill it, and return what it had told by then."""
    line = [sys.executable, "-m", "support.queue_victim", where, str(folder), str(life)]
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    process = subprocess.Popen(line, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout.readline() == "ready\n"
    time.sleep(seconds)
    process.kill()
    told, _ = process.communicate(timeout=30)
    # The last line may be cut.
    return [line.split() for line in told.rpartition("\n")[0].splitlines()]


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
async def test_what_was_acknowledged_survives_being_killed(kind, tmp_path, request):
    where = str(tmp_path / "c2d.sqlite")
    if kind == "postgres":
        where = request.getfixturevalue("postgres").empty_database()
    chance = random.Random(5)
    told = []
    for life in range(LIVES):
        seconds = chance.uniform(0.3, 0.8)
        folder = tmp_path / "runs"
        told += await asyncio.to_thread(live_and_die, where, folder, life, seconds)
    assert sum(words[0] == "done" for words in told) > LIVES

    store = make_store(where)
    await store.open()
    queue = DurableQueue(store, tmp_path / "runs", lease_sec=0.5)
    await queue.open()
    await check(told, queue, StoredJobs(store))
    await queue.close()
    await store.close()


async def check(told, queue, jobs):
    ended = {}
    for what, name, *rest in told:
        match what:
            case "nonce":
                with pytest.raises(NonceTaken):
                    await jobs.raise_nonce(name, int(rest[0]))
            case "job":
                job = await jobs.job(name)
                assert job is not None
                assert len(await jobs.statuses(name)) == 1
                with pytest.raises(OrderTaken):
                    await jobs.add_job(job, orders=(name,))
            case "run":
                assert await queue.run(name) is not None
            case "log":
                assert queue.blobs.log(name, int(rest[0])).read_bytes() == name.encode()
            case "done":
                assert name not in ended, "a run ended twice"
                ended[name] = int(rest[0])
                run = await queue.run(name)
                assert (run.state, run.attempt) == (RunState.completed, ended[name])
    for name in (words[1] for words in told if words[0] == "run"):
        run = await queue.run(name)
        holding = [each for each in await queue.attempts(name) if each.ending is None]
        assert len(holding) == (run.state in {RunState.assigned, RunState.running})
        assert (run.completion is not None) == (run.state in rules.OVER)
