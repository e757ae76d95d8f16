"""Jobs through a fleet whose parts are killed, and the check that each ended once, and right."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
import time
from collections import Counter

from fleet.machines import Fleet

from requestor_sdk.c2d._queue import DurableQueue
from requestor_sdk.c2d._store.jobs import StoredJobs
from requestor_sdk.c2d._store.rows import Ending
from requestor_sdk.c2d._store.sqlite import SqliteStore
from requestor_sdk.model.errors import NetworkError
from requestor_sdk.model.jobs import AlgorithmSpec, JobOutcome, JobRequest
from requestor_sdk.networks.ocean import OceanConfig, OceanJobs

FAILS = 10
"""Each so-manieth job ends with exit code 3."""
CODE = """
import json, sys, time
n = {n}
for line in range(5):
    print(f'job {{n}} line {{line}}', flush=True)
    time.sleep({pause})
json.dump({{'n': n, 'sum': sum(i * i for i in range(n * 100))}},
          open('/data/outputs/result.json', 'w'))
sys.exit(3 if n % {fails} == 9 else 0)
"""


def request(number, pause):
    code = CODE.format(n=number, pause=pause, fails=FAILS)
    return JobRequest(algorithm=AlgorithmSpec(rawcode=code), environment="storm")


async def storm(folder, *, jobs, workers, kill_every, pause=0.1, away=1.0, tell=print, seed=0):
    """Do so many jobs; the server is killed after a third and after two thirds of them.

    Raises:
        AssertionError: A job did not end once and right, or something is left.
    """
    fleet = Fleet(folder, workers, seed=seed)
    began = time.monotonic()
    killing = None
    ids = []
    try:
        await fleet.open()
        consumer = OceanJobs(OceanConfig(url=fleet.url))
        await consumer.open()
        try:
            ids = [(await consumer.submit(request(n, pause))).id for n in range(jobs)]
            tell(f"{jobs} jobs submitted after {time.monotonic() - began:.1f} s")
            killing = asyncio.create_task(fleet.kill_workers(kill_every))
            await _until_over(fleet, consumer, ids, away, tell)
            took = time.monotonic() - began
            tell(
                f"{jobs} jobs over after {took:.1f} s; workers killed {fleet.kills} times, "
                f"the server {fleet.server_kills} times"
            )
            killing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await killing
            killing = None
            for worker in fleet.workers:
                if not worker.living:
                    worker.start()
            await _check_results(consumer, ids)
        finally:
            await consumer.close()
    finally:
        if killing is not None:
            killing.cancel()
            await asyncio.wait({killing})
        await fleet.close()
    endings = await _check_store(fleet, ids)
    lost = f"{endings[Ending.released]} handed back, {endings[Ending.lapsed]} lost"
    tell(f"{endings.total()} attempts at {jobs} jobs, {lost}: each job ended once")
    for _ in range(100):
        if not fleet.left():
            break
        await asyncio.sleep(0.1)
    left = fleet.left()
    assert not left, "\n".join(left)
    return fleet


async def _until_over(fleet, consumer, ids, away, tell):
    kill_at = [len(ids) // 3, 2 * len(ids) // 3]
    shown = 0
    while True:
        await asyncio.sleep(0.5)
        try:
            over = sum(status.over for status in await consumer.jobs())
        except NetworkError:
            continue
        if over - shown >= 25:
            shown = over
            tell(f"{over} of {len(ids)} jobs are over; {fleet.kills} workers killed")
        if over == len(ids):
            return
        if kill_at and over >= kill_at[0]:
            kill_at.pop(0)
            await fleet.kill_server(away)


async def _check_results(consumer, ids):
    statuses = {status.id: status for status in await _patiently(consumer.jobs)}
    assert set(statuses) == set(ids)
    for number, job_id in enumerate(ids):
        status = statuses[job_id]
        fails = number % FAILS == 9
        wanted = JobOutcome.failed if fails else JobOutcome.succeeded
        assert status.outcome is wanted, f"job {number}: {status}"
        assert status.exit_code == (3 if fails else 0), f"job {number}: {status}"
        files = {file.name: file for file in status.results}
        assert set(files) == {"result.json", "algorithm.log"}, f"job {number}: {status}"
        result = await _patiently(lambda: _read(consumer, job_id, files["result.json"]))  # noqa: B023
        right = {"n": number, "sum": sum(i * i for i in range(number * 100))}
        assert json.loads(result) == right, f"job {number}: {result}"
        log = await _patiently(lambda: _read(consumer, job_id, files["algorithm.log"]))  # noqa: B023
        lines = "".join(f"job {number} line {line}\n" for line in range(5))
        assert log.decode() == lines, f"job {number}: {log}"


async def _read(consumer, job_id, file):
    return b"".join([chunk async for chunk in consumer.result(job_id, file)])


async def _patiently(call):
    for _ in range(5):
        with contextlib.suppress(NetworkError):
            return await call()
        await asyncio.sleep(1)
    return await call()


async def _check_store(fleet, ids):
    """Look at what the store has kept; return how attempts ended."""
    store = SqliteStore(fleet.data / "c2d.sqlite")
    await store.open()
    try:
        jobs, queue = StoredJobs(store), DurableQueue(store, fleet.data / "runs")
        total = Counter()
        for job_id in ids:
            record = await jobs.job(job_id)
            codes = [code for code, _ in await jobs.statuses(job_id)]
            assert codes == sorted(codes), f"{job_id}: {codes}"
            assert codes.count(70) == 1, f"{job_id}: {codes}"
            assert codes[-1] == 70, f"{job_id}: {codes}"
            attempts = await queue.attempts(record.run_id)
            endings = [attempt.ending for attempt in attempts]
            total.update(endings)
            assert endings.count(Ending.completed) == 1, f"{job_id}: {endings}"
            assert endings[-1] is Ending.completed, f"{job_id}: {endings}"
            _check_files(queue, record.run_id, attempts)
        return total
    finally:
        await store.close()
        _check_journals(fleet)


def _check_files(queue, run_id, attempts):
    for attempt in attempts[:-1]:
        kept = queue.blobs.output(run_id, attempt.number, "x").parent
        assert not list(kept.glob("*")), f"outputs of a lost attempt are left: {kept}"


def _check_journals(fleet):
    for worker in fleet.workers:
        with contextlib.closing(sqlite3.connect(fleet.folder / worker.name / "worker.db")) as db:
            assert db.execute("select count(*) from attempts").fetchone() == (0,), worker.name
