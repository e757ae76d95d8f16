"""Two servers over one database and one folder of runs: what one takes, the other may have done."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest
from support.queues import ROOM, Worker

from requestor_sdk.c2d.catalogue import Catalogue
from requestor_sdk.client._job_host import JobHost
from requestor_sdk.model.jobs import AlgorithmSpec, JobOutcome, JobRequest
from requestor_sdk.ports.worker import Completion, RunEvent, RunOutcome

pytest.importorskip("sqlalchemy", reason="the extra `serve` is not installed")

OWNER = "0x" + "1" * 40
REQUEST = JobRequest(algorithm=AlgorithmSpec(rawcode="print(1)"))


@pytest.fixture
def make_host(postgres, tmp_path):
    from requestor_sdk.c2d._store.postgres import PostgresStore

    url = postgres.empty_database()

    @asynccontextmanager
    async def make(name):
        folder, runs = tmp_path / name, tmp_path / "runs"
        host = JobHost(PostgresStore(url), folder, catalogue=Catalogue(), workers=0, runs=runs)
        await host.open()
        try:
            yield host
        finally:
            await host.close()

    return make


async def done(queue, worker):
    """Do the next run; return its log."""
    claim = await worker.claim(wait=20)
    source = b"".join([chunk async for chunk in queue.fetch(claim.lease, claim.spec.files[0].name)])
    await queue.event(claim.lease, RunEvent(seq=0, type="stage", message="running"))
    await queue.log(claim.lease, 0, source)

    async def content():
        yield b"42"

    kept = await queue.upload(claim.lease, "answer.txt", content())
    await queue.complete(
        claim.lease, Completion(outcome=RunOutcome.succeeded, exit_code=0, files=(kept,))
    )


async def ended(core, job_id):
    async with asyncio.timeout(30):
        async for status in core.updates(OWNER, job_id):
            last = status
    return last


async def test_a_job_of_one_server_is_done_by_a_worker_of_the_other(make_host):
    async with make_host("one") as one, make_host("other") as other:
        worker = await Worker(other.queue, room=ROOM).come()
        record = await one.core.submit(OWNER, REQUEST)
        watching = asyncio.create_task(ended(one.core, record.id))
        async with asyncio.timeout(30):
            await done(other.queue, worker)
        for status in (await watching, await ended(other.core, record.id)):
            assert (status.code, status.outcome) == (70, JobOutcome.succeeded)
        codes = [code for code, _ in await other.core.statuses(OWNER, record.id)]
        assert codes == sorted(set(codes))


async def test_a_server_goes_on_with_what_another_began_and_left(make_host):
    async with make_host("one") as one:
        record = await one.core.submit(OWNER, REQUEST)
    async with make_host("other") as other:
        worker = await Worker(other.queue, room=ROOM).come()
        async with asyncio.timeout(30):
            await done(other.queue, worker)
        assert (await ended(other.core, record.id)).outcome is JobOutcome.succeeded
