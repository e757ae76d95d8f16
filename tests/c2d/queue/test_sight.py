"""What a provider's operator sees of a store, in memory, SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest
from c2d.queue.conftest import make_store
from support.queues import DONE, ROOM, SMALL, SPEC, Worker

from requestor_sdk.c2d._queue import DurableQueue
from requestor_sdk.c2d._sight import Lookout
from requestor_sdk.c2d._store.jobs import StoredJobs
from requestor_sdk.c2d._worker_tokens import WorkerTokens
from requestor_sdk.c2d.records import JobRecord
from requestor_sdk.model.errors import StoreFailed
from requestor_sdk.model.fields import to_json
from requestor_sdk.ports.worker import Completion, Demand, RunEvent, RunOutcome

OWNER = "0x" + "ab" * 20
SECRET = "s3cret-thing"


class Provider:
    """Jobs in a store, each with its run in the queue."""

    def __init__(self, store, queue, clock):
        self.jobs, self.queue, self.clock = StoredJobs(store), queue, clock
        self.lookout = Lookout(store)

    async def start(self, number, *, demand=SMALL, code=30, **facts):
        spec = replace(SPEC, env={"KEY": SECRET}, inputs={"n": SECRET}, command=(SECRET,))
        record = JobRecord(
            id=f"{number:032x}",
            owner=OWNER,
            dids=("did:op:1",),
            code=code,
            created=1000.0 + number,
            run_id=f"{number:032x}-1",
            facts={
                "environment": "free",
                "algorithm": "raw",
                "metadata": {"note": SECRET},
                **facts,
            },
        )
        await self.jobs.add_job(record, request={"rawcode": SECRET})
        await self.queue.submit(record.run_id, spec, demand)
        return record

    async def end(self, record, code=70, **facts):
        record = await self.jobs.job(record.id)
        facts = {**record.facts, "outcome": "succeeded", **facts}
        ended = replace(record, code=code, finished=2000.0, facts=facts, revision=1)
        assert await self.jobs.change_job(ended, at=2000.0, walked=[code])

    async def look(self):
        return await self.lookout.look(self.clock.now().timestamp())


@pytest.fixture
def provider(store, queue, clock):
    return Provider(store, queue, clock)


async def test_an_empty_store_has_nothing_to_see(provider):
    sight = await provider.look()
    assert (sight.jobs, sight.workers) == ([], ())
    assert (sight.queue.waiting, sight.queue.running, sight.queue.succeeded) == (0, 0, 0)


async def test_the_line_the_runs_and_what_is_over_are_seen_as_they_go(provider, worker):
    records = [await provider.start(number) for number in range(3)]
    seen = await provider.look()
    assert [(job.id[-1], job.text, job.line) for job in seen.jobs] == [
        ("2", "waits, 3. in line", 3),
        ("1", "waits, 2. in line", 2),
        ("0", "waits, 1. in line", 1),
    ]
    assert (seen.queue.waiting, dict(seen.queue.open_in)) == (3, {"free": 3})
    await worker.come()
    claim = await worker.claim()
    await provider.queue.event(claim.lease, RunEvent(seq=1, type="stage", message="running"))
    seen = await provider.look()
    (attempt,) = seen.jobs[2].attempts
    assert (attempt.worker, attempt.number, attempt.stage, attempt.ended) == (
        "w1",
        1,
        "running",
        None,
    )
    assert (attempt.cpu, attempt.ram_mb, attempt.gpus, attempt.vram_mb) == (1, 512, 0, 0)
    assert (seen.jobs[1].line, seen.queue.waiting, seen.queue.running) == (1, 2, 1)
    await provider.queue.complete(claim.lease, DONE)
    results = [{"name": "a", "size": 5, "type": "output", "kept": "outputs/a"}]
    await provider.end(records[0], results=results)
    seen = await provider.look()
    job = seen.jobs[2]
    assert (job.text, job.outcome, job.finished, job.size) == ("succeeded", "succeeded", 2000.0, 5)
    assert (job.attempts[0].ending, job.attempts[0].reason) == ("completed", "")
    assert (seen.queue.succeeded, seen.queue.running) == (1, 0)


async def test_attempts_that_were_lost_or_handed_back_are_told_with_their_workers(
    provider, clock, queue
):
    await provider.start(1)
    first = await Worker(queue, id="w1").come()
    await first.claim()
    clock.ahead = 60
    assert await queue.sweep()
    second = await Worker(queue, id="w2").come()
    claim = await second.claim()
    await queue.release(claim.lease, "no sandbox")
    (job,) = (await provider.look()).jobs
    assert [(one.worker, one.ending, one.reason) for one in job.attempts] == [
        ("w1", "lapsed", ""),
        ("w2", "released", "no sandbox"),
    ]
    assert job.text == "waits again, 1. in line"
    assert all(one.ended is not None for one in job.attempts)


async def test_workers_show_what_they_have_and_when_they_were_heard_of(provider, store, queue):
    await WorkerTokens(store).issue("never")
    await Worker(queue, id="w1", tags=("eu",)).come(draining=True)
    never, worker = (await provider.look()).workers
    assert (never.id, never.seen, never.cpu, never.gpus) == ("never", 0, 0, 0)
    assert (worker.cpu, worker.ram_mb, worker.disk_mb) == (4, 4096, 4096)
    assert (worker.gpus, worker.vram_mb, worker.tags) == (1, 8000, ("eu",))
    assert worker.draining
    assert worker.seen > 0


async def test_a_run_that_names_no_memory_of_its_gpu_holds_all_of_it(provider, queue):
    await provider.start(1, demand=Demand(cpu=1, ram_mb=1, disk_mb=1, gpus=1))
    await provider.start(2, demand=Demand(cpu=1, ram_mb=1, disk_mb=1, gpus=1, vram_mb=100))
    rooms = [await Worker(queue, id=name).come() for name in ("w1", "w2")]
    for worker in rooms:
        assert await worker.claim()
    held = {one.id[-1]: one.attempts[0] for one in (await provider.look()).jobs}
    assert [(held[name].gpus, held[name].vram_mb) for name in "12"] == [(1, 8000), (1, 100)]


async def test_nothing_of_a_jobs_content_and_no_secret_is_seen(provider, store, queue, worker):
    token = await WorkerTokens(store).issue("w1")
    record = await provider.start(1)
    await worker.come()
    claim = await worker.claim(free=ROOM)
    await queue.event(claim.lease, RunEvent(seq=1, type="INFO", message=SECRET))
    told = json.dumps(to_json(await provider.look()))
    await queue.complete(
        claim.lease, replace(DONE, outputs={"answer": SECRET}, reason="", message="")
    )
    await provider.end(record)
    told += json.dumps(to_json(await provider.look()))
    for secret in (SECRET, token, claim.lease.fence, worker.session + '"'):
        assert secret not in told


async def test_what_is_long_is_cut_and_what_is_odd_is_kept_as_text(provider, queue, worker):
    bad = "<img src=x>\0\ud800"
    await provider.start(1, environment=bad, algorithm="did:" + "x" * 10_000)
    await worker.come()
    claim = await worker.claim()
    await queue.release(claim.lease, "y" * 10_000)
    (job,) = (await provider.look()).jobs
    assert job.environment == bad
    assert json.loads(json.dumps(to_json(job)))["environment"] == bad
    assert max(len(job.runs), len(job.attempts[0].reason)) == 300


async def test_of_many_jobs_the_newest_are_seen_and_those_that_run_or_are_next(
    store, provider, queue
):
    provider.lookout = Lookout(store, newest=2, in_line=1)
    for number in range(8):
        await provider.start(number)
    worker = await Worker(queue).come()
    assert await worker.claim()
    seen = await provider.look()
    # The first runs, the second is next, the last two are the newest.
    assert [int(job.id, 16) for job in seen.jobs] == [7, 6, 1, 0]
    assert (seen.queue.waiting, seen.queue.running) == (7, 1)


async def test_what_is_over_is_read_once(store, provider, queue, worker, monkeypatch):
    record = await provider.start(1)
    await worker.come()
    await queue.complete((await worker.claim()).lease, DONE)
    await provider.end(record)
    assert (await provider.look()).jobs[0].attempts
    asked = []
    kind = type(await store.read(lambda tx: tx))
    attempts = kind.attempts
    monkeypatch.setattr(kind, "attempts", lambda tx, run: asked.append(run) or attempts(tx, run))
    again = await provider.look()
    assert again.jobs[0].attempts
    assert asked == []


async def test_a_failure_before_any_run_is_seen_with_its_reason(provider):
    record = JobRecord(
        id="a" * 32,
        owner=OWNER,
        code=31,
        created=1.0,
        finished=2.0,
        facts={
            "outcome": "failed",
            "error": "no file",
            "environment": "free",
            "results": [],
        },
    )
    await provider.jobs.add_job(record)
    (job,) = (await provider.look()).jobs
    assert (job.text, job.error, job.attempts, job.runs) == ("failed", "no file", (), "own code")


# A store that is only looked at -------------------------------------------------------------------


def looking(kind, folder, store):
    if kind == "sqlite":
        from requestor_sdk.c2d._store.sqlite import SqliteStore

        return SqliteStore(folder / "c2d.sqlite", looking=True)
    from requestor_sdk.c2d._store.postgres import PostgresStore

    address = store._address.set(drivername="postgresql")
    return PostgresStore(address.render_as_string(hide_password=False), looking=True)


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
async def test_who_looks_sees_what_is_written_and_writes_nothing(tmp_path, request, kind):
    store = make_store(kind, tmp_path, request)
    await store.open()
    looker = looking(kind, tmp_path, store)
    await looker.open()
    queue = DurableQueue(store, tmp_path / "runs")
    try:
        assert (await Lookout(looker).look(0.0)).workers == ()
        await Worker(queue).come()
        assert [one.id for one in (await Lookout(looker).look(0.0)).workers] == ["w1"]
        with pytest.raises(StoreFailed, match="not open"):
            await looker.write(lambda tx: tx.delete_run("r1"))
        with pytest.raises(StoreFailed, match=r"read-?\s?only|readonly"):
            await looker.read(lambda tx: tx.delete_run("r1"))
        assert (await Lookout(looker).look(0.0)).workers
    finally:
        await looker.close()
        await store.close()


async def test_a_long_look_keeps_nobody_from_writing(tmp_path, request):
    store = make_store("sqlite", tmp_path, request)
    await store.open()
    looker = looking("sqlite", tmp_path, store)
    await looker.open()
    began, ends = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def look(tx):
        found = tx.workers()
        loop.call_soon_threadsafe(began.set)
        asyncio.run_coroutine_threadsafe(ends.wait(), loop).result(30)
        return found, tx.workers()

    looked = asyncio.create_task(looker.read(look))
    await began.wait()
    await Worker(DurableQueue(store, tmp_path / "runs")).come()
    ends.set()
    assert await looked == ([], [])
    await looker.close()
    await store.close()


async def test_who_looks_makes_no_store_and_refuses_what_is_none(tmp_path):
    pytest.importorskip("sqlalchemy", reason="the extra `serve` is not installed")
    from requestor_sdk.c2d._store.sqlite import SqliteStore

    path = tmp_path / "none" / "c2d.sqlite"
    with pytest.raises(StoreFailed, match="there is no provider's store"):
        await SqliteStore(path, looking=True).open()
    assert not path.parent.exists()
    path.parent.mkdir()
    path.write_bytes(b"")
    with pytest.raises(StoreFailed, match="no provider's store in it"):
        await SqliteStore(path, looking=True).open()
    path.write_bytes(b"not a database at all" * 100)
    with pytest.raises(StoreFailed, match="not a database"):
        await SqliteStore(path, looking=True).open()


async def test_who_looks_brings_no_older_store_up_to_date(tmp_path, request):
    store = make_store("sqlite", tmp_path, request)
    await store.open()
    await store.close()
    import sqlite3

    with sqlite3.connect(tmp_path / "c2d.sqlite") as connection:
        connection.execute("UPDATE c2d_about SET value = 1 WHERE key = 'schema'")
    connection.close()
    with pytest.raises(StoreFailed, match="of version 1"):
        await looking("sqlite", tmp_path, store).open()


async def test_a_run_that_ended_badly_says_its_reason_in_a_word(provider, queue, worker):
    await provider.start(1)
    await worker.come()
    claim = await worker.claim()
    failed = Completion(outcome=RunOutcome.failed, reason="oom_killed", message=SECRET)
    await queue.complete(claim.lease, failed)
    sight = await provider.look()
    assert sight.jobs[0].attempts[0].reason == "oom_killed"
    assert sight.queue.failed == 1
    assert SECRET not in json.dumps(to_json(sight))
