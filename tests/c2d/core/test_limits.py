"""What one owner may take of a provider, and how long what is over is known."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from c2d.core.conftest import OWNER, ended, request_of
from c2d.queue.conftest import make_store
from support.jobs import doer_of
from support.postgres import a_server

from requestor_sdk.c2d import _follower
from requestor_sdk.c2d._clock import DateClock
from requestor_sdk.c2d._store.memory import MemoryStore
from requestor_sdk.c2d.environments import EnvironmentSpec
from requestor_sdk.c2d.records import TokenRecord
from requestor_sdk.model.errors import JobNotFound, JobRefused
from requestor_sdk.model.jobs import JobOutcome

OTHER = "0x" + "2" * 40


@pytest.fixture(scope="session")
def postgres():
    with a_server() as server:
        yield server


@pytest.mark.parametrize("kind", ["memory", "sqlite", "postgres"])
async def test_jobs_at_all_servers_of_a_store_count_for_their_owner(
    kind, make_host, tmp_path, request
):
    store = make_store(kind, tmp_path, request)
    async with make_host(store, owned=2) as host:
        record = await host.core.submit(OWNER, request_of("data"))
        # As another server of the store would have taken it.
        await host.jobs.add_job(replace(record, id="f" * 32))
        with pytest.raises(JobRefused) as refused:
            await host.core.submit(OWNER, request_of("data"))
        assert refused.value.reasons == {"consumerAddress": "too_many_jobs"}
        await host.core.submit(OTHER, request_of("data"))
        assert (await host.core.environments())[0].running_jobs == 3
        # And ended it.
        await host.jobs.change_job(replace(record, id="f" * 32, finished=1.0, revision=1), at=1.0)
        await host.core.submit(OWNER, request_of("data"))


@pytest.mark.parametrize("kind", ["memory", "sqlite", "postgres"])
async def test_starts_at_one_time_do_not_pass_the_bound(kind, make_host, tmp_path, request):
    store = make_store(kind, tmp_path, request)
    async with make_host(store, owned=3) as host:
        made = await asyncio.gather(
            *(host.core.submit(OWNER, request_of("data")) for _ in range(8)),
            return_exceptions=True,
        )
        assert sum(isinstance(one, JobRefused) for one in made) == 5


@pytest.mark.parametrize("kind", ["memory", "sqlite", "postgres"])
async def test_results_take_no_more_of_the_disk_than_their_owner_may_have(
    kind, make_host, tmp_path, request
):
    store = make_store(kind, tmp_path, request)
    async with make_host(store, kept=1000) as host:
        for _ in range(2):
            await host.core.submit(OWNER, request_of("data"))
        doer = doer_of(host.queue)
        claim = await doer.do(outputs={"outputs/a": b"x" * 600}, log=b"hi\n")
        first = claim.lease.run_id.partition("-")[0]
        assert (await ended(host.core, first)).outcome is JobOutcome.succeeded
        claim = await doer.do(outputs={"outputs/a": b"x" * 600}, log=b"hi\n")
        status = await ended(host.core, claim.lease.run_id.partition("-")[0])
        assert (status.outcome, status.code) == (JobOutcome.failed, 61)
        assert "delete jobs" in status.error
        assert [file.name for file in status.results] == ["algorithm.log"]
        blobs = host.queue.blobs
        path = blobs.output(claim.lease.run_id, claim.lease.attempt, "outputs/a")
        async with asyncio.timeout(10):
            while path.exists():
                await asyncio.sleep(0.01)
        assert (await host.core.result(OWNER, first, 0)).path.stat().st_size == 600
        # What is deleted makes room, and only then is more taken.
        third = await host.core.submit(OWNER, request_of("data"))
        await doer.do(outputs={"outputs/a": b"x" * 390}, log=b"hi\n")
        assert (await ended(host.core, third.id)).outcome is JobOutcome.succeeded
        assert await host.jobs.kept_of(OWNER) == 603 + 3 + 393
        await host.core.delete(OWNER, first)
        assert await host.jobs.kept_of(OWNER) == 3 + 393


async def test_who_has_as_much_as_it_may_starts_nothing_more(make_host):
    async with make_host(kept=500) as host:
        record = await host.core.submit(OWNER, request_of("data"))
        await doer_of(host.queue).do(outputs={"outputs/a": b"x" * 500})
        await ended(host.core, record.id)
        with pytest.raises(JobRefused) as refused:
            await host.core.submit(OWNER, request_of("data"))
        assert refused.value.reasons == {"consumerAddress": "too_much_kept"}
        with pytest.raises(JobRefused):
            await host.core.restart(OWNER, record.id)
        await host.core.submit(OTHER, request_of("data"))


async def test_a_job_that_is_long_over_is_forgotten_with_its_tokens_and_files(make_host):
    fleeting = EnvironmentSpec(id="free", results_days=0)
    store = MemoryStore()
    async with make_host(store, environments=(fleeting,), rows_sec=0.0) as host:
        record = await host.core.submit(OWNER, request_of("data"))
        now = host.clock.now().timestamp()
        await host.jobs.add_token(TokenRecord(digest="old", owner=OWNER, expires=now - 1))
        await host.jobs.add_token(TokenRecord(digest="new", owner=OWNER, expires=now + 999))
        claim = await doer_of(host.queue).do(outputs={"outputs/a": b"1"})
        await ended(host.core, record.id)
    async with make_host(store, environments=(fleeting,), rows_sec=0.0) as host:
        async with asyncio.timeout(10):
            while await host.jobs.job(record.id) is not None:
                await asyncio.sleep(0.01)
            while await host.jobs.token("old") is not None:
                await asyncio.sleep(0.01)
        assert await host.jobs.token("new") is not None
        assert not host.queue.blobs.folder(claim.lease.run_id).exists()
        with pytest.raises(JobNotFound):
            await host.core.record(OWNER, record.id)


async def test_a_job_that_is_over_is_known_for_as_long_as_is_said(make_host):
    fleeting = EnvironmentSpec(id="free", results_days=0)
    store = MemoryStore()
    async with make_host(store, environments=(fleeting,), rows_sec=3600.0) as host:
        record = await host.core.submit(OWNER, request_of("data"))
        await doer_of(host.queue).do(outputs={"outputs/a": b"1"})
        await ended(host.core, record.id)
    async with make_host(store, environments=(fleeting,), rows_sec=3600.0) as host:
        async with asyncio.timeout(10):
            while (await host.core.record(OWNER, record.id)).facts["results"]:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0)
        found = await host.core.record(OWNER, record.id)
        assert (found.code, found.kept, found.expires) == (70, 0, None)


async def test_what_only_a_jump_of_the_date_says_is_over_is_not_removed(make_host, monkeypatch):
    ahead = [1_700_000_000.0]
    clock = DateClock(lambda: ahead[0] + asyncio.get_running_loop().time())
    monkeypatch.setattr(_follower, "_JANITOR_SEC", 0.01)
    monkeypatch.setattr(_follower, "_AFTER_JUMP_SEC", 0.5)
    async with make_host(clock=clock) as host:
        record = await host.core.submit(OWNER, request_of("data"))
        await doer_of(host.queue).do(outputs={"outputs/a": b"1"})
        await ended(host.core, record.id)
        ahead[0] += 10 * 365 * 86_400
        for _ in range(10):
            await asyncio.sleep(0.01)
            assert (await host.core.record(OWNER, record.id)).facts["results"]
        ahead[0] -= 10 * 365 * 86_400
        await asyncio.sleep(0.7)
        assert (await host.core.record(OWNER, record.id)).facts["results"]
