"""Several provider hosts over one database, and a database that goes away."""

from __future__ import annotations

import asyncio
import signal

import pytest
from support.queues import DONE, ROOM, SMALL, SPEC, Worker

from requestor_sdk.c2d._queue import DurableQueue
from requestor_sdk.c2d._store.jobs import StoredJobs
from requestor_sdk.model.errors import StoreFailed
from requestor_sdk.ports.worker import Demand, Room, RunState

pytest.importorskip("sqlalchemy", reason="the extra `serve` is not installed")

TINY = Demand(cpu=0.1, ram_mb=1, disk_mb=1)


class Host:
    """One host: a store and a queue of its own over what all share."""

    def __init__(self, url, folder):
        from requestor_sdk.c2d._store.postgres import PostgresStore

        self.changed = []
        self.store = PostgresStore(url)
        self.queue = DurableQueue(self.store, folder, on_change=self.changed.append)

    async def __aenter__(self):
        await self.store.open()
        await self.queue.open()
        return self

    async def __aexit__(self, *_):
        await self.queue.close()
        await self.store.close()


@pytest.fixture
async def hosts(postgres, tmp_path):
    url = postgres.empty_database()
    async with Host(url, tmp_path / "runs") as one, Host(url, tmp_path / "runs") as other:
        yield one, other


async def test_a_run_that_one_host_takes_wakes_a_worker_of_the_other(hosts):
    one, other = hosts
    worker = await Worker(other.queue).come()
    waiting = asyncio.create_task(worker.claim(wait=30))
    await asyncio.sleep(0.3)
    other.store.poll_sec = 3600
    await one.queue.submit("r1", SPEC, SMALL)
    async with asyncio.timeout(1.5):
        claim = await waiting
    assert claim.lease.run_id == "r1"
    await other.queue.complete(claim.lease, DONE)
    async with asyncio.timeout(5):
        while one.changed.count("r1") < 2:
            await asyncio.sleep(0.02)
    assert (await one.queue.run("r1")).completion == DONE


async def test_a_log_that_another_host_writes_is_followed(hosts):
    one, other = hosts
    worker = await Worker(other.queue).come()
    await one.queue.submit("r1", SPEC, SMALL)
    lease = (await worker.claim()).lease
    seen = []

    async def follow():
        async for data in one.queue.follow_log("r1"):
            seen.append(data)

    following = asyncio.create_task(follow())
    await other.queue.log(lease, 0, b"hello\n")
    await other.queue.complete(lease, DONE)
    async with asyncio.timeout(10):
        await following
    assert b"".join(seen) == b"hello\n"


async def test_workers_of_two_hosts_that_claim_at_once_share_the_runs_without_waste(hosts):
    queues = [host.queue for host in hosts]
    for n in range(60):
        await queues[n % 2].submit(f"r{n}", SPEC, TINY)
    workers = [await Worker(queues[n % 2], id=f"w{n}").come() for n in range(8)]
    taken = []

    async def work(worker):
        while (claim := await worker.claim()) is not None:
            taken.append(claim.lease.run_id)
            await worker.queue.complete(claim.lease, DONE)

    async with asyncio.timeout(90):
        await asyncio.gather(*(work(worker) for worker in workers))
    assert sorted(taken) == sorted(f"r{n}" for n in range(60))
    assert dict(await queues[0].counts()) == {RunState.completed: 60}


async def test_claims_of_one_worker_at_once_never_take_more_than_it_has(hosts):
    queues = [host.queue for host in hosts]
    for n in range(20):
        await queues[0].submit(f"r{n}", SPEC, Demand(cpu=1, ram_mb=1, disk_mb=1))
    worker = await Worker(queues[0], room=Room(cpu=3, ram_mb=100, disk_mb=100)).come()
    others = [Worker(queues[n % 2], room=ROOM) for n in range(8)]
    claims = await asyncio.gather(
        *(other.claim(claim_id=f"c{n}") for n, other in enumerate(others))
    )
    assert sum(claim is not None for claim in claims) == 3
    del worker


async def test_nonces_and_orders_count_once_over_all_hosts(hosts):
    from requestor_sdk.c2d.records import JobRecord

    jobs = [StoredJobs(host.store) for host in hosts]
    told = await asyncio.gather(
        *(jobs[n % 2].raise_nonce("0x1", 5) for n in range(10)), return_exceptions=True
    )
    assert told.count(None) == 1
    told = await asyncio.gather(
        *(
            jobs[n % 2].add_job(JobRecord(id=f"{n:032x}", owner="0x1"), orders=("a", "b"))
            for n in range(10)
        ),
        return_exceptions=True,
    )
    assert told.count(None) == 1
    assert len(await jobs[0].jobs()) == 1


async def test_a_server_that_crashes_loses_nothing_and_is_found_again(postgres, hosts):
    one, other = hosts
    worker = await Worker(other.queue).come()
    await one.queue.submit("r1", SPEC, SMALL)
    lease = (await worker.claim()).lease
    postgres.stop(signal.SIGQUIT)
    try:
        with pytest.raises(StoreFailed):
            await one.queue.submit("r2", SPEC, SMALL)
        with pytest.raises(StoreFailed):
            await other.queue.run("r1")
    finally:
        postgres.start()
    await other.queue.complete(lease, DONE)
    assert (await one.queue.run("r1")).completion == DONE
    waiting = asyncio.create_task(worker.claim(wait=30))
    await one.queue.submit("r3", SPEC, SMALL)
    async with asyncio.timeout(10):
        assert (await waiting).lease.run_id == "r3"


async def test_a_server_that_is_not_there_is_told_without_the_password(tmp_path):
    from requestor_sdk.c2d._store.postgres import PostgresStore

    store = PostgresStore(f"postgresql://user:hushhush@/none?host={tmp_path}")
    with pytest.raises(StoreFailed) as caught:
        await store.open()
    assert "hushhush" not in f"{caught.value!r} {caught.value} {store!r}"
    with pytest.raises(StoreFailed) as caught:
        PostgresStore("mysql://user:hushhush@host/none")
    assert "hushhush" not in f"{caught.value!r} {caught.value}"
    await store.close()


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
async def test_a_store_of_another_version_is_not_opened(kind, tmp_path, request):
    from sqlalchemy import update

    from requestor_sdk.c2d._store import tables
    from requestor_sdk.c2d._store.postgres import PostgresStore
    from requestor_sdk.c2d._store.sqlite import SqliteStore

    url = request.getfixturevalue("postgres").database() if kind == "postgres" else ""

    def make():
        return PostgresStore(url) if url else SqliteStore(tmp_path / "c2d.sqlite")

    store = make()
    await store.open()
    await store.write(lambda tx: tx._do(update(tables.about).values(value=99)))
    await store.close()
    again = make()
    with pytest.raises(StoreFailed, match="version 99"):
        await again.open()
    with pytest.raises(StoreFailed, match="not open"):
        await again.read(lambda tx: tx.workers())
    await again.close()


async def test_a_file_that_is_no_database_or_cannot_be_made_is_told(tmp_path):
    from requestor_sdk.c2d._store.sqlite import SqliteStore

    (tmp_path / "text").write_text("no database, and longer than its header would be " * 30)
    for path in (tmp_path / "text", tmp_path / "text" / "below", tmp_path):
        store = SqliteStore(path)
        with pytest.raises(StoreFailed):
            await store.open()
        await store.close()


async def test_the_file_of_the_store_is_its_users_alone(tmp_path):
    from requestor_sdk.c2d._store.sqlite import SqliteStore

    store = SqliteStore(tmp_path / "new" / "c2d.sqlite")
    await store.open()
    for path in (tmp_path / "new").iterdir():
        assert path.stat().st_mode & 0o077 == 0
    await store.close()
