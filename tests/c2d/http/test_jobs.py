"""Jobs over HTTP: started, followed, read, stopped, deleted, by clients of both generations."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing

import pytest
from support.jobs import META, dataset

from requestor_sdk.networks.ocean import OceanConfig, OceanJobs
from requestor_sdk.ocean.messages import Command
from requestor_sdk.ports.worker import RunOutcome


async def test_a_job_walks_all_statuses_each_with_its_time(consumer, doer):
    job_id = await consumer.started()
    claim = await doer.take()
    await doer.stage(claim, "running", seq=1)
    assert (await consumer.until(job_id, 40))["status"] == 40
    await doer.stage(claim, "publishing", seq=2)
    assert (await consumer.until(job_id, 50))["status"] == 50
    await doer.finish(claim, outputs={"outputs/a.csv": b"1"})
    assert (await consumer.until(job_id, 70))["status"] == 70
    told = (await consumer.status(job_id, history="true"))["statuses"]
    assert [one["status"] for one in told] == [1, 10, 20, 30, 40, 50, 60, 70]
    times = [float(one["date"]) for one in told]
    assert times == sorted(times)


async def test_a_start_answers_with_the_fields_of_the_documentation_and_of_real_servers(consumer):
    status, (job,) = await consumer.start()
    assert status == 200
    assert job["status"] == 1
    assert job["owner"] == consumer.address
    assert job["documentId"] == "did:op:data"
    assert job["inputDID"] == ["did:op:data"]
    assert job["algoDID"] == "raw"
    assert job["dateFinished"] is None
    assert job["dateCreated"]
    wanted = {"algorithmLogUrl", "resultsUrls", "resultsDid", "results", "stopreq", "removed"}
    assert wanted <= set(job)


async def test_a_run_finds_data_documents_custom_data_and_variables(consumer, doer):
    algorithm = {"meta": META, "algocustomdata": {"column": "a"}}
    await consumer.started(
        algorithm=algorithm, additionalDatasets=[dataset("other", userdata={"year": 2020})]
    )
    claim = await doer.take()
    found = await doer.inputs(claim)
    assert found["/data/inputs/data/0"] == b"a,b\n1,2\n"
    assert found["/data/inputs/data/1"] == b"c\n3\n"
    assert found["/data/inputs/other/0"] == b"c\n3\n"
    assert found["/data/transformations/algorithm"] == META["rawcode"].encode()
    assert json.loads(found["/data/inputs/algoCustomData.json"]) == {"column": "a"}
    assert json.loads(found["/data/inputs/userData.json"]) == {"did:op:other": {"year": 2020}}
    assert json.loads(found["/data/ddos/data"])["id"] == "did:op:data"
    assert b"data.csv" not in found["/data/ddos/data"]
    assert json.loads(claim.spec.env["DIDS"]) == ["data", "other"]
    assert claim.spec.env["TRANSFORMATION_DID"] == "raw"
    assert claim.spec.command[-1] == "python3 /data/transformations/algorithm"
    assert claim.spec.outputs == ("/data/outputs", "/data/logs")
    assert claim.spec.network is False


async def test_the_key_by_which_ocean_py_names_further_datasets_is_understood(consumer, doer):
    await consumer.started(additionalInputs=[dataset("other")])
    assert "/data/inputs/other/0" in await doer.inputs(await doer.take())


async def test_the_network_is_seen_where_every_dataset_allows_it(consumer, doer):
    await consumer.started("netted")
    assert (await doer.take()).spec.network is True
    await consumer.started("netted", additionalDatasets=[dataset("other")])
    assert (await doer.take()).spec.network is False


async def test_an_algorithm_of_the_catalogue_runs(consumer, doer):
    await consumer.started(algorithm={"documentId": "did:op:algo", "serviceId": "algo-access"})
    claim = await doer.take()
    found = await doer.inputs(claim)
    assert found["/data/transformations/algorithm"] == b"print('an asset')\n"
    assert "/data/ddos/algo" in found
    assert claim.spec.env["TRANSFORMATION_DID"] == "algo"


async def test_a_node_s_client_starts_without_a_dataset(consumer, doer):
    body = {"datasets": [], "algorithm": {"meta": META}, "environment": "free"}
    proof = consumer.modern(Command.free_start)
    status, answer = await consumer.call("POST", "freeCompute", json=body | proof)
    assert status == 200, answer
    assert answer[0]["isFree"] is True
    proof = consumer.modern(Command.start)
    status, answer = await consumer.call("POST", "compute", json=body | proof)
    assert status == 200, answer


async def test_an_absent_environment_is_the_first_free_one(consumer):
    status, answer = await consumer.start(environment="")
    assert status == 200
    assert answer[0]["environment"] == "free"


async def test_a_nonce_may_come_as_a_number(consumer):
    body = consumer.start_body() | consumer.classic("did:op:data")
    body["nonce"] = int(body["nonce"])
    assert (await consumer.call("POST", "compute", json=body))[0] == 200


async def test_results_come_with_their_name_and_length_whole_or_in_part(consumer, doer):
    job_id = await consumer.started()
    await doer.do(outputs={"outputs/tables/a.csv": b"0123456789"}, log=b"hello\n")
    job = await consumer.until(job_id, 70)
    assert [(r["filename"], r["filesize"], r["type"]) for r in job["results"]] == [
        ("tables/a.csv", 10, "output"),
        ("algorithm.log", 6, "algorithmLog"),
    ]
    params = {"jobId": job_id, "index": "0"} | consumer.classic(job_id, "0")
    url = f"{consumer.url}/api/services/computeResult"
    async with consumer.session.get(url, params=params) as answer:
        assert answer.status == 200
        assert answer.headers["Content-Length"] == "10"
        assert answer.headers["Content-Disposition"] == 'attachment;filename="a.csv"'
        assert await answer.read() == b"0123456789"
    for asked, status, told, body in (
        ("bytes=3-", 206, "bytes 3-9/10", b"3456789"),
        ("bytes=3-4", 206, "bytes 3-4/10", b"34"),
        ("bytes=-2", 206, "bytes 8-9/10", b"89"),
        ("bytes=0-99", 206, "bytes 0-9/10", b"0123456789"),
        ("bytes=10-", 416, "bytes */10", None),
        ("bytes=4-2", 200, None, b"0123456789"),
        ("lines=1-2", 200, None, b"0123456789"),
    ):
        params = {"jobId": job_id, "index": "0"} | consumer.modern(Command.result)
        async with consumer.session.get(url, params=params, headers={"Range": asked}) as answer:
            assert answer.status == status, asked
            assert answer.headers.get("Content-Range") == told
            assert body is None or await answer.read() == body


async def test_a_name_of_a_result_cannot_break_a_header(consumer, doer):
    job_id = await consumer.started()
    await doer.do(outputs={'outputs/a"\r\nX-Evil: 1\r\n.csv': b"1", "outputs/ä.csv": b"2"})
    await consumer.until(job_id, 70)
    url = f"{consumer.url}/api/services/computeResult"
    for index in ("0", "1"):
        params = {"jobId": job_id, "index": index} | consumer.classic(job_id, index)
        async with consumer.session.get(url, params=params) as answer:
            assert answer.status == 200
            assert "X-Evil" not in answer.headers
    assert answer.headers["Content-Disposition"].endswith("filename*=UTF-8''%C3%A4.csv")


async def test_logs_are_streamed_while_it_runs_and_whole_afterwards(consumer, doer):
    job_id = await consumer.started()
    claim = await doer.take()
    params = {"jobId": job_id} | consumer.modern(Command.logs)
    url = f"{consumer.url}/api/services/computeStreamableLogs"
    async with consumer.session.get(url, params=params) as answer:
        await doer.worker.queue.log(claim.lease, 0, b"one\n")
        assert await answer.content.readexactly(4) == b"one\n"
        await doer.worker.queue.log(claim.lease, 4, b"two\n")
        assert await answer.content.readexactly(4) == b"two\n"
        await doer.finish(claim)
        assert await answer.read() == b""
    params = {"jobId": job_id} | consumer.modern(Command.logs)
    assert await consumer.call("GET", "computeStreamableLogs", params=params) == (
        200,
        b"one\ntwo\n",
    )


async def test_a_stop_answers_7_and_ends_at_70_with_stopreq(consumer, doer):
    job_id = await consumer.started()
    claim = await doer.take()
    await doer.stage(claim, "running")
    params = {"jobId": job_id, "documentId": "did:op:data"}
    params |= consumer.classic(job_id, "did:op:data")
    status, (job,) = await consumer.call("PUT", "compute", params=params)
    assert (status, job["status"], job["statusText"]) == (200, 7, "Job stopped")
    await doer.finish(claim, outcome=RunOutcome.cancelled, reason="cancelled", exit_code=-15)
    job = await consumer.until(job_id, 70)
    assert (job["status"], job["stopreq"], job["outcome"]) == (70, 1, "stopped")


@pytest.mark.parametrize("place", ["params", "json"])
async def test_stop_and_delete_are_read_from_the_query_and_from_the_body(consumer, place):
    job_id = await consumer.started()
    proof = {"jobId": job_id} | consumer.classic(job_id)
    status, answer = await consumer.call("PUT", "compute", **{place: proof})
    assert (status, answer[0]["status"]) == (200, 7)
    assert (await consumer.until(job_id, 70))["stopreq"] == 1
    proof = {"jobId": job_id} | consumer.classic(job_id)
    status, answer = await consumer.call("DELETE", "compute", **{place: proof})
    assert (status, answer[0]["status"]) == (200, 8)
    assert answer[0]["statusText"] == "Job deleted successfully"


async def test_a_delete_stops_first_and_removes_everything(consumer, doer, host):
    job_id = await consumer.started()
    claim = await doer.take()
    await doer.worker.queue.log(claim.lease, 0, b"secret\n")
    folder = host.queue.blobs.folder(claim.lease.run_id)
    assert folder.is_dir()
    proof = {"jobId": job_id} | consumer.classic(job_id)
    assert (await consumer.call("DELETE", "compute", params=proof))[1][0]["status"] == 8
    assert await consumer.status(job_id) is None
    assert not folder.exists()
    states = await doer.worker.queue.renew("w1", [(claim.lease, None)])
    assert [state.value for state in states] == ["lost"]
    proof = {"jobId": job_id} | consumer.classic(job_id)
    assert await consumer.call("DELETE", "compute", params=proof) == (200, [])


async def test_an_own_job_that_is_over_is_started_once_more(consumer, doer):
    job_id = await consumer.started()
    await doer.do(outputs={"outputs/a": b"first"})
    await consumer.until(job_id, 70)
    body = {"jobId": job_id} | consumer.classic(job_id)
    status, (job,) = await consumer.call("POST", "compute", json=body)
    assert (status, job["jobId"], job["status"], job["results"]) == (200, job_id, 1, [])
    await doer.do(outputs={"outputs/a": b"second"})
    await consumer.until(job_id, 70)
    params = {"jobId": job_id, "index": "0"} | consumer.classic(job_id, "0")
    assert await consumer.call("GET", "computeResult", params=params) == (200, b"second")
    told = (await consumer.status(job_id, history="1"))["statuses"]
    assert [one["status"] for one in told] == [1, 10, 20, 30, 40, 50, 60, 70] * 2


async def test_a_job_that_is_not_over_is_not_started_once_more(consumer):
    job_id = await consumer.started()
    body = {"jobId": job_id} | consumer.classic(job_id)
    status, answer = await consumer.call("POST", "compute", json=body)
    assert (status, answer["error"]) == (400, {"jobId": "running"})


async def test_a_query_by_document_shows_the_owner_s_jobs_only(consumer, stranger):
    mine = await consumer.started()
    await consumer.started("other")
    await stranger.started()
    params = {"consumerAddress": consumer.address, "documentId": "did:op:data"}
    status, answer = await consumer.call("GET", "compute", params=params)
    assert [job["jobId"] for job in answer] == [mine]
    status, answer = await consumer.call("GET", "compute", params={"documentId": "did:op:data"})
    assert status == 400
    assert answer["errors"] == {"consumerAddress": ["The consumerAddress field is required."]}


async def test_another_s_job_is_as_if_it_was_not_there(consumer, stranger, doer):
    job_id = await consumer.started()
    await doer.do(outputs={"outputs/a": b"1"}, log=b"secret")
    await consumer.until(job_id, 70)
    assert await stranger.status(job_id) is None
    proof = {"jobId": job_id} | stranger.classic(job_id)
    assert await stranger.call("PUT", "compute", params=proof) == (200, [])
    proof = {"jobId": job_id} | stranger.classic(job_id)
    assert await stranger.call("DELETE", "compute", params=proof) == (200, [])
    params = {"jobId": job_id, "index": "0"} | stranger.classic(job_id, "0")
    status, answer = await stranger.call("GET", "computeResult", params=params)
    assert (status, answer) == (
        404,
        {"error": f"Owner {stranger.address} mismatch for job {job_id}"},
    )
    params = {"jobId": job_id} | stranger.modern(Command.logs)
    assert (await stranger.call("GET", "computeStreamableLogs", params=params))[0] == 404
    body = {"jobId": job_id} | stranger.classic(job_id)
    assert (await stranger.call("POST", "compute", json=body))[0] == 404
    assert (await consumer.status(job_id))["results"]


async def test_a_status_is_held_until_it_is_another(consumer, doer):
    job_id = await consumer.started()
    job = await consumer.until(job_id, 30)
    held = asyncio.create_task(consumer.status(job_id, wait="30", seen=str(job["status"])))
    claim = await doer.take()
    await doer.stage(claim, "running")
    assert (await asyncio.wait_for(held, 10))["status"] == 40


async def test_another_attempt_ends_the_waiting_and_is_told_to_who_follows_the_job(consumer, doer):
    job_id = await consumer.started()
    claim = await doer.take()
    await doer.stage(claim, "running")
    job = await consumer.until(job_id, 40)
    assert (job["worker"], job["attempt"]) == ("w1", 1)
    asked = {"wait": "30", "seen": "40", "attempt": "1"}
    held = asyncio.create_task(consumer.status(job_id, **asked))
    async with aclosing(followed(consumer, job_id)) as updates:
        assert [(await anext(updates)).attempt, held.done()] == [1, False]
        await doer.worker.queue.release(claim.lease, "the worker went away")
        claim = await doer.take()
        job = await asyncio.wait_for(held, 10)
        assert (job["status"], job["attempt"]) == (40, 2)
        # The status is what it was: without being told of attempts it would be held for long.
        update = await asyncio.wait_for(anext(updates), 10)
    assert (update.code, update.worker, update.attempt) == (40, "w1", 2)


async def followed(consumer, job_id):
    """Yield what this package's own client hears of a job."""
    jobs = OceanJobs(OceanConfig(url=consumer.url, wallet=consumer.signer))
    await jobs.open()
    try:
        async for status in jobs.updates(job_id):
            yield status
    finally:
        await jobs.close()


@pytest.mark.parametrize(
    ("completion", "code", "outcome"),
    [
        ({"outcome": "failed", "reason": "exit_code", "exit_code": 3}, 70, "failed"),
        ({"outcome": "failed", "reason": "oom_killed", "exit_code": 137}, 70, "failed"),
        ({"outcome": "failed", "reason": "image_missing", "exit_code": None}, 11, "failed"),
        ({"outcome": "failed", "reason": "disk", "exit_code": 1}, 42, "failed"),
        ({"outcome": "failed", "reason": "input_failed", "exit_code": None}, 33, "failed"),
        ({"outcome": "failed", "reason": "outputs_too_large", "exit_code": 0}, 61, "failed"),
        ({"outcome": "failed", "reason": "sandbox", "exit_code": None}, 22, "failed"),
        ({"outcome": "failed", "reason": "lost", "exit_code": None}, 41, "failed"),
        ({"outcome": "timed_out", "reason": "timeout", "exit_code": -15}, 70, "timed_out"),
    ],
)
async def test_each_end_has_its_own_status(consumer, doer, completion, code, outcome):
    job_id = await consumer.started()
    completion["outcome"] = RunOutcome(completion["outcome"])
    claim = await doer.take()
    await doer.finish(claim, **completion, message="what happened")
    job = await consumer.until(job_id, 70)
    assert (job["status"], job["outcome"]) == (code, outcome)
    assert job["dateFinished"] is not None
    assert job["error"]
    assert job["terminationDetails"]["exitCode"] == completion["exit_code"]
    assert job["terminationDetails"]["OOMKilled"] is (completion["reason"] == "oom_killed")
    assert job["stopreq"] == (2 if outcome == "timed_out" else 0)


async def test_an_agreement_is_an_order_or_a_document(consumer):
    job_id = await consumer.started()
    assert (await consumer.status(job_id, agreementId="0x0"))["jobId"] == job_id
    assert (await consumer.status(job_id, agreementId="did:op:data"))["jobId"] == job_id
    assert await consumer.status(job_id, agreementId="0x1") is None
    params = {"consumerAddress": consumer.address, "agreementId": "0x1"}
    assert await consumer.call("GET", "compute", params=params) == (200, [])


async def test_more_than_an_environment_gives_is_refused(consumer):
    resources = [{"id": "cpu", "amount": 1}, {"id": "ram", "amount": 99}]
    status, answer = await consumer.start(resources=resources)
    assert (status, answer["message"]) == (
        400,
        "Not enough ram resources. Requested 99, but max is 1",
    )
    assert (await consumer.start(resources=resources[:1]))[0] == 200


async def test_pages_of_a_browser_may_be_clients(consumer):
    url = f"{consumer.url}/api/services/compute"
    asked = {"Origin": "https://page.example", "Access-Control-Request-Method": "PUT"}
    async with consumer.session.options(url, headers=asked) as answer:
        assert answer.status == 200
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert "Access-Control-Allow-Credentials" not in answer.headers


async def test_a_result_is_read_no_further_once_its_reader_went_away(consumer, doer, monkeypatch):
    from requestor_sdk.c2d._http import streaming

    job_id = await consumer.started()
    await doer.do(outputs={"outputs/large": bytes(64 << 20)})
    await consumer.until(job_id, 70)
    reads, real = 0, streaming.os.pread

    def counted(*arguments):
        nonlocal reads
        reads += 1
        return real(*arguments)

    send, ended = streaming.FileAnswer._send_part, asyncio.Event()

    async def to_the_end(*arguments):
        await send(*arguments)
        ended.set()

    monkeypatch.setattr(streaming.os, "pread", counted)
    monkeypatch.setattr(streaming.FileAnswer, "_send_part", to_the_end)
    params = {"jobId": job_id, "index": "0"} | consumer.classic(job_id, "0")
    url = f"{consumer.url}/api/services/computeResult"
    async with consumer.session.get(url, params=params) as answer:
        await answer.content.readexactly(1 << 16)
        answer.close()
    await asyncio.wait_for(ended.wait(), 20)
    assert 0 < reads < (64 << 20) // streaming._CHUNK // 2
