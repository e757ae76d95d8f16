"""What consumers send is large in one place at most: each look at a job stays cheap."""

from __future__ import annotations

import asyncio

import pytest
from support.jobs import META, dataset

LARGE = 1_000_000


async def test_a_job_s_code_is_in_none_of_its_answers_and_records(consumer, host):
    meta = {**META, "rawcode": "#" * LARGE + "\nprint('large')"}
    job_id = await consumer.started(meta=meta)
    record = await host.core.record(consumer.address.lower(), job_id)
    assert len(str(record)) < 5_000
    assert len(str(await consumer.status(job_id))) < 5_000


async def test_a_job_that_is_started_once_more_has_its_code_again(consumer, doer):
    meta = {**META, "rawcode": "print('again')"}
    job_id = await consumer.started(meta=meta)
    await doer.do()
    await consumer.until(job_id, 70)
    again = {"jobId": job_id, **consumer.classic(job_id)}
    status, answer = await consumer.call("POST", "compute", json=again)
    assert status == 200, answer
    claim = await doer.take()
    assert (await doer.inputs(claim))["/data/transformations/algorithm"] == b"print('again')"


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        ({"metadata": {"a": "x" * LARGE}}, {"metadata": "too_large"}),
        ({"metadata": {"a": "x" * 1025}}, {"metadata": "too_large"}),
        (
            {"dataset": dataset("data", transferTxId="x" * LARGE)},
            {"dataset.transferTxId": "invalid"},
        ),
    ],
)
async def test_what_is_told_of_a_job_each_time_has_to_be_short(consumer, change, refusal):
    status, answer = await consumer.start(**change)
    assert (status, answer["error"]) == (400, refusal)


async def test_metadata_that_is_short_comes_back(consumer):
    job_id = await consumer.started(metadata={"a": "x" * 900})
    assert (await consumer.status(job_id))["metadata"] == {"a": "x" * 900}


async def test_code_that_a_slow_server_has_keeps_no_other_job_waiting(consumer, doer, host):
    host.core.files._allow_private = True
    asked = asyncio.Event()

    async def silent(reader, writer):
        asked.set()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    meta = {**META, "rawcode": "", "url": f"http://127.0.0.1:{port}/a.py"}
    slow = [await consumer.started(meta=meta) for _ in range(8)]
    await asked.wait()
    job_id = await consumer.started()
    async with asyncio.timeout(10):
        await doer.do()
        assert (await consumer.until(job_id, 70))["status"] == 70
    for one in slow:
        assert (await consumer.status(one))["status"] < 40
        proof = consumer.classic(one)
        assert (await consumer.call("DELETE", "compute", json={"jobId": one, **proof}))[0] == 200
    server.close()
    await server.wait_closed()


async def test_a_list_of_jobs_is_as_long_as_it_may_be(consumer, doer, host, monkeypatch):
    monkeypatch.setattr("requestor_sdk.c2d.core._PAGE", 2)
    started = [await consumer.started() for _ in range(5)]
    for _ in started:
        await doer.do(outputs={f"outputs/{n}": b"x" for n in range(3)})
    for job_id in started:
        await consumer.until(job_id, 70)
    owner = consumer.address.lower()
    everything = [one.id for one in await host.core.jobs(owner)]
    assert sorted(everything) == sorted(started)
    assert [one.id for one in await host.core.jobs(owner, limit=3)] == everything[:3]
    assert [one.id for one in await host.core.jobs(owner, results=5)] == everything[:2]
    assert [one.id for one in await host.core.jobs(owner, results=7)] == everything[:4]
