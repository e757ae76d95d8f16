"""Jobs are taken once, get their files, follow their runs, and go on after a crash."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from c2d.core.conftest import OWNER, ended, request_of
from support.jobs import ROOM, Doer, doer_of
from support.queues import Worker

from requestor_sdk.c2d._store.memory import MemoryStore
from requestor_sdk.c2d.catalogue import Catalogue
from requestor_sdk.c2d.environments import EnvironmentSpec
from requestor_sdk.model.errors import JobNotFound, JobRefused
from requestor_sdk.model.jobs import AlgorithmSpec, AssetRef, JobOutcome


class Lasting(MemoryStore):
    """A store that outlives a host that was closed, as a file would."""

    async def close(self):
        """Keep everything."""


async def test_a_file_of_the_web_comes_with_its_headers(host, files):
    files.answers["/data"] = b"from the web"
    await host.core.submit(OWNER, request_of("remote"))
    doer = doer_of(host.queue)
    claim = await doer.take()
    assert (await doer.inputs(claim))["/data/inputs/remote/0"] == b"from the web"
    assert files.asked[0].headers["Key"] == "secret"
    assert "secret" not in repr(claim)


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("remote", 404),
        ("remote", 302),
        ("remote", b"x" * 2_000_000),
        ("checked", b"another content"),
    ],
)
async def test_data_that_cannot_be_had_end_the_job_at_31(make_host, files, name, answer):
    files.answers |= {"/data": answer, "/again": 302}
    small = EnvironmentSpec(id="free", storage_gib=0.001)
    async with make_host(environments=(small,)) as host:
        record = await host.core.submit(OWNER, request_of(name))
        status = await ended(host.core, record.id)
        assert (status.code, status.outcome) == (31, JobOutcome.failed)
        assert f"did:op:{name}" in status.error
        assert files.url not in status.error
        codes = [code for code, _ in await host.core.statuses(OWNER, record.id)]
        assert codes == [1, 10, 20, 31]
        assert list(host.queue.blobs.root.iterdir()) == []


async def test_an_algorithm_that_cannot_be_had_ends_the_job_at_32(host, files):
    files.answers["/algo"] = 404
    algorithm = AlgorithmSpec(url=f"{files.url}/algo")
    record = await host.core.submit(OWNER, request_of("data", algorithm=algorithm))
    assert (await ended(host.core, record.id)).code == 32


async def test_a_consumer_s_address_of_a_private_network_is_not_asked(make_host, files):
    files.answers["/algo"] = b"print('the inside')"
    algorithm = AlgorithmSpec(url=f"{files.url}/algo")
    async with make_host() as host:
        record = await host.core.submit(OWNER, request_of("data", algorithm=algorithm))
        assert (await ended(host.core, record.id)).code == 32
    assert files.asked == []


async def test_a_file_of_the_disk_is_not_copied(host):
    await host.core.submit(OWNER, request_of("data"))
    doer = doer_of(host.queue)
    claim = await doer.take()
    assert (await doer.inputs(claim))["/data/inputs/data/0"] == b"a\n1\n"
    kept = [path for path in host.queue.blobs.root.rglob("*") if path.is_symlink()]
    assert len(kept) == 1


async def test_a_job_is_stopped_while_its_data_are_fetched(host, files):
    files.answers["/data"] = "hang"
    record = await host.core.submit(OWNER, request_of("remote"))
    while not files.asked:
        await asyncio.sleep(0)
    await host.core.stop(OWNER, record.id)
    status = await ended(host.core, record.id)
    assert (status.code, status.outcome) == (70, JobOutcome.stopped)
    assert await doer_of(host.queue).worker.claim() is None


async def test_a_job_is_deleted_while_its_data_are_fetched(host, files):
    files.answers["/data"] = "hang"
    record = await host.core.submit(OWNER, request_of("remote"))
    while not files.asked:
        await asyncio.sleep(0)
    await host.core.delete(OWNER, record.id)
    with pytest.raises(JobNotFound):
        await host.core.record(OWNER, record.id)
    assert [
        str(p.relative_to(host.queue.blobs.root)) for p in host.queue.blobs.root.rglob("*")
    ] == []


async def test_what_was_begun_goes_on_after_a_crash(make_host, files):
    store = Lasting()
    files.answers["/data"] = "hang"
    async with make_host(store) as host:
        waiting = await host.core.submit(OWNER, request_of("data"))
        assert await doer_of(host.queue).take()
        fetching = await host.core.submit(OWNER, request_of("remote"))
        while not files.asked:
            await asyncio.sleep(0)
    files.answers["/data"] = b"now"
    async with make_host(store) as host:
        doer = doer_of(host.queue)
        doer.worker.session = "s2"
        claims = {(await doer.take()).lease.run_id: None for _ in range(2)}
        assert {name.partition("-")[0] for name in claims} == {waiting.id, fetching.id}
        codes = [code for code, _ in await host.core.statuses(OWNER, fetching.id)]
        assert codes == [1, 10, 20, 30]


async def test_a_run_that_ended_while_nobody_followed_ends_its_job(make_host):
    store = Lasting()
    async with make_host(store) as host:
        record = await host.core.submit(OWNER, request_of("data"))
        doer = doer_of(host.queue)
        claim = await doer.take()
        host.queue.on_change = None
        await doer.finish(claim, outputs={"outputs/a": b"1"})
    async with make_host(store) as host:
        status = await ended(host.core, record.id)
        assert (status.code, [file.name for file in status.results]) == (70, ["a"])


async def test_a_job_whose_asset_left_the_catalogue_meanwhile_fails(make_host, files):
    store = Lasting()
    files.answers["/data"] = "hang"
    async with make_host(store) as host:
        record = await host.core.submit(OWNER, request_of("remote"))
    async with make_host(store, catalogue=Catalogue()) as host:
        assert (await ended(host.core, record.id)).code == 31


async def test_results_are_removed_when_their_time_is_over(host):
    record = await host.core.submit(OWNER, request_of("data"))
    doer = doer_of(host.queue)
    claim = await doer.do(outputs={"outputs/a": b"1"})
    await ended(host.core, record.id)
    assert (await host.core.result(OWNER, record.id, 0)).path.read_bytes() == b"1"
    for gone in await host.jobs.expired((host.clock.now() + timedelta(days=8)).timestamp()):
        await host.core._follower._expire(gone)
    with pytest.raises(JobNotFound):
        await host.core.result(OWNER, record.id, 0)
    assert not host.queue.blobs.folder(claim.lease.run_id).exists()
    assert (await host.core.status(OWNER, record.id)).outcome is JobOutcome.succeeded


async def test_what_a_job_was_started_with_goes_with_its_results_however_it_ended(host, files):
    files.answers["/data"] = 404
    failing = await host.core.submit(OWNER, request_of("remote"))
    assert (await ended(host.core, failing.id)).code == 31
    done = await host.core.submit(OWNER, request_of("data"))
    await doer_of(host.queue).do()
    await ended(host.core, done.id)
    for one in (failing, done):
        assert await host.jobs.request(one.id) is not None
    later = (host.clock.now() + timedelta(days=8)).timestamp()
    for gone in await host.jobs.expired(later):
        assert await host.core._follower._expire(gone)
    assert list(await host.jobs.expired(later)) == []
    for one in (failing, done):
        assert await host.jobs.request(one.id) is None
        assert (await host.core.status(OWNER, one.id)).over
        with pytest.raises(JobRefused) as refused:
            await host.core.restart(OWNER, one.id)
        assert refused.value.reasons == {"jobId": "expired"}


async def test_an_environment_takes_so_many_jobs_and_no_more(make_host):
    small = EnvironmentSpec(id="free", max_jobs=1, max_waiting=1)
    async with make_host(environments=(small,)) as host:
        first = await host.core.submit(OWNER, request_of("data"))
        await host.core.submit(OWNER, request_of("data"))
        with pytest.raises(JobRefused) as refused:
            await host.core.submit(OWNER, request_of("data"))
        assert refused.value.reasons == {"environment": "too_many_jobs"}
        await host.core.stop(OWNER, first.id)
        await ended(host.core, first.id)
        await host.core.submit(OWNER, request_of("data"))
        assert (await host.core.environments())[0].running_jobs == 2


async def test_a_second_attempt_takes_no_status_back(host):
    record = await host.core.submit(OWNER, request_of("data"))
    doer = doer_of(host.queue)
    claim = await doer.take()
    await doer.stage(claim, "running")
    await host.core.other_than(record, 1, attempt=0, timeout=5)
    await host.queue.release(claim.lease, "the worker went away")
    await doer.do(outputs={"outputs/a": b"1"})
    await ended(host.core, record.id)
    codes = [code for code, _ in await host.core.statuses(OWNER, record.id)]
    assert codes == sorted(codes)
    assert codes[-1] == 70


async def test_who_has_a_job_is_told_with_its_status_and_anew_with_each_attempt(host):
    record = await host.core.submit(OWNER, request_of("data"))

    async def told():
        status = await host.core.status(OWNER, record.id)
        return status.worker, status.attempt

    first = Doer(Worker(host.queue, id="w1", room=ROOM))
    claim = await first.take()
    assert await told() == ("", 0)
    await first.stage(claim, "running")
    known = record
    while known.code != 40:
        known = await host.core.other_than(known, known.code, attempt=0, timeout=10)
    assert await told() == ("w1", 1)
    # The status is the same after it: who waits wakes all the same.
    waiting = asyncio.create_task(host.core.other_than(known, 40, attempt=1, timeout=60))
    await host.queue.release(claim.lease, "the worker went away")
    second = Doer(Worker(host.queue, id="w2", room=ROOM))
    claim = await second.take()
    record = await asyncio.wait_for(waiting, 10)
    assert (record.code, await told()) == (40, ("w2", 2))
    await second.finish(claim, outputs={"outputs/a": b"12345"})
    status = await ended(host.core, record.id)
    assert (status.worker, status.attempt, status.size) == ("w2", 2, 5)
    again = await host.core.restart(OWNER, record.id)
    assert "worker" not in again.facts


async def test_consumer_parameters_are_checked_and_their_defaults_given(make_host, tmp_path):
    parameters = [
        {"name": "age", "type": "number", "required": True},
        {"name": "mode", "type": "select", "default": "mean", "options": [{"mean": "Mean"}]},
    ]
    spec = AlgorithmSpec(rawcode="x", consumer_parameters=parameters)
    async with make_host() as host:
        for given in ({}, {"age": "old"}, {"age": 1, "mode": "sum"}):
            with pytest.raises(JobRefused) as refused:
                await host.core.submit(OWNER, request_of("data", algorithm=spec, custom_data=given))
            assert set(refused.value.reasons) == {"algorithm.algocustomdata"}
        await host.core.submit(OWNER, request_of("data", algorithm=spec, custom_data={"age": 1}))
        doer = doer_of(host.queue)
        found = await doer.inputs(await doer.take())
        assert found["/data/inputs/algoCustomData.json"] == b'{"age": 1, "mode": "mean"}'


async def test_an_entrypoint_that_is_the_algorithm_itself_can_be_run(host):
    spec = AlgorithmSpec(rawcode="#!/bin/sh\necho hi", entrypoint="$ALGO --twice $ALGO")
    await host.core.submit(OWNER, request_of("data", algorithm=spec))
    command = (await doer_of(host.queue).take()).spec.command
    path = "/data/transformations/algorithm"
    assert command[2] == f"chmod +x {path} 2>/dev/null; {path} --twice {path}"


async def test_a_dataset_is_named_once_in_a_job(host):
    request = request_of("data", "data")
    with pytest.raises(JobRefused):
        await host.core.submit(OWNER, request)
    await host.core.submit(OWNER, replace(request, datasets=(AssetRef(did="did:op:data"),)))


async def test_of_two_restarts_at_one_time_one_is_taken(host):
    record = await host.core.submit(OWNER, request_of("data"))
    await doer_of(host.queue).do()
    await ended(host.core, record.id)
    made = await asyncio.gather(
        *(host.core.restart(OWNER, record.id) for _ in range(4)), return_exceptions=True
    )
    assert sum(isinstance(one, JobRefused) for one in made) == 3


async def test_inputs_are_removed_when_the_run_is_over_and_results_stay(host, files):
    files.answers["/data"] = b"large"
    record = await host.core.submit(OWNER, request_of("remote"))
    claim = await doer_of(host.queue).do(outputs={"outputs/a": b"1"})
    await ended(host.core, record.id)
    folder = host.queue.blobs.folder(claim.lease.run_id)
    while (folder / "inputs").exists():
        await asyncio.sleep(0.01)
    assert (await host.core.result(OWNER, record.id, 0)).path.read_bytes() == b"1"


async def test_nothing_is_taken_while_the_disk_is_full(host, monkeypatch):
    monkeypatch.setattr(host.queue.blobs, "free", lambda: 1 << 20)
    with pytest.raises(JobRefused) as refused:
        await host.core.submit(OWNER, request_of("data"))
    assert refused.value.reasons == {"environment": "no_room"}


async def test_an_algorithm_has_the_variables_of_its_owner_and_the_providers_own_before_them(host):
    given = {"API_TOKEN": "abc123", "DIDS": "mine"}
    await host.core.submit(OWNER, request_of("data", env=given))
    env = (await doer_of(host.queue).take()).spec.env
    assert env["API_TOKEN"] == "abc123"
    assert env["DIDS"] == '["data"]'


@pytest.mark.parametrize(
    "given", [{"1A": "x"}, {"A=B": "x"}, {"A": "a\0b"}, {"A": "x" * 70_000}, {"": "x"}]
)
async def test_what_is_no_variable_is_refused(host, given):
    with pytest.raises(JobRefused) as refused:
        await host.core.submit(OWNER, request_of("data", env=given))
    assert set(refused.value.reasons) == {"algorithm.envs"}
