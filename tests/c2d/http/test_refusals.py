"""What is refused, and in which shape: as the classic Provider and today's node refuse it."""

from __future__ import annotations

import io
import json

import pytest
from support.jobs import CONTAINER, META, dataset

from requestor_sdk.ocean.messages import Command

VALIDATION = {"message": "Validation error", "success": False}


def missing(*names):
    return {"errors": {n: [f"The {n} field is required."] for n in names}, **VALIDATION}


@pytest.mark.parametrize("name", ["consumerAddress", "nonce"])
async def test_a_missing_field_is_named(consumer, name):
    body = consumer.start_body() | consumer.classic("did:op:data")
    del body[name]
    assert await consumer.call("POST", "compute", json=body) == (400, missing(name))


async def test_a_missing_signature_is_told_as_the_classic_provider_tells_it(consumer):
    body = consumer.start_body() | consumer.classic("did:op:data")
    del body["signature"]
    reason = "Invalid signature provided. Please check the nonce or documentId."
    expected = {"errors": {"signature": [reason]}, **VALIDATION}
    assert await consumer.call("POST", "compute", json=body) == (400, expected)


@pytest.mark.parametrize("signature", ["0x00", "0x" + "ff" * 65, "garbage", "0x" + "1" * 130])
async def test_a_signature_that_is_none_is_refused_as_text_without_repeating_it(
    consumer, signature
):
    body = consumer.start_body() | consumer.classic("did:op:data") | {"signature": signature}
    status, answer = await consumer.call("POST", "compute", json=body)
    assert status == 400
    assert answer["errors"]["signature"].startswith("Invalid signature for ethereum address 0x")
    assert signature not in json.dumps(answer)


async def test_another_s_signature_is_refused_and_tells_whose_it_is(consumer, stranger):
    body = consumer.start_body() | consumer.classic("did:op:data")
    body["signature"] = stranger.sign(consumer.address + "did:op:data" + body["nonce"])
    status, answer = await consumer.call("POST", "compute", json=body)
    assert status == 400
    assert f"Got {stranger.signer.identity}" in answer["errors"]["signature"]
    assert await consumer.call("GET", "nonce", params={"userAddress": consumer.address}) == (
        200,
        {"nonce": "0"},
    )


@pytest.mark.parametrize("nonce", [5, 4])
async def test_a_nonce_that_does_not_rise_is_refused(consumer, nonce):
    await consumer.start()
    body = consumer.start_body() | consumer.classic("did:op:data", nonce=5)
    assert (await consumer.call("POST", "compute", json=body))[0] == 200
    body = consumer.start_body() | consumer.classic("did:op:data", nonce=nonce)
    reason = f"Invalid signature expected nonce ({nonce}) > current nonce (5)."
    expected = {"errors": {"signature": reason}, **VALIDATION}
    assert await consumer.call("POST", "compute", json=body) == (400, expected)


async def test_the_case_of_an_address_makes_no_second_nonce(consumer):
    body = consumer.start_body() | consumer.classic("did:op:data", nonce=5)
    assert (await consumer.call("POST", "compute", json=body))[0] == 200
    low = consumer.address.lower()
    proof = {"consumerAddress": low, "nonce": "5", "signature": consumer.sign(low + "did:op:data5")}
    status, answer = await consumer.call("POST", "compute", json=consumer.start_body() | proof)
    assert (status, "current nonce (5)" in answer["errors"]["signature"]) == (400, True)


@pytest.mark.parametrize("nonce", ["", "-1", "1e3", "0x5", "9" * 40, "x", "٣"])
async def test_a_nonce_that_is_none_is_refused(consumer, nonce):
    body = consumer.start_body() | consumer.classic("did:op:data")
    body |= {"nonce": nonce, "signature": consumer.sign(consumer.address + "did:op:data" + nonce)}
    assert (await consumer.call("POST", "compute", json=body))[0] == 400


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        ({"dataset": {"serviceId": "x"}}, {"dataset.documentId": "missing"}),
        ({"dataset": dataset("data", serviceId="")}, {"dataset.serviceId": "missing"}),
        ({"dataset": dataset("nowhere")}, {"dataset.documentId": "did_not_found"}),
        ({"dataset": dataset("data", serviceId="x")}, {"dataset.serviceId": "not_found"}),
        (
            {"dataset": dataset("download", serviceId="download-access")},
            {"dataset.serviceId": "main_service_compute"},
        ),
        (
            {"additionalDatasets": [dataset("nowhere")]},
            {"datasets[1].documentId": "did_not_found"},
        ),
        ({"dataset": dataset("closed")}, {"algorithm": "no_raw_algo_allowed"}),
        ({"algorithm": {}}, {"algorithm": "missing_meta_documentId"}),
        ({"algorithm": {"documentId": "did:op:data"}}, {"algorithm": "not_algo"}),
        ({"algorithm": {"documentId": "did:op:no"}}, {"algorithm.documentId": "did_not_found"}),
        (
            {"algorithm": {"documentId": "did:op:algo", "serviceId": "x"}},
            {"algorithm.serviceId": "not_found"},
        ),
        (
            {"algorithm": {"meta": {"container": CONTAINER}}},
            {"algorithm": "meta_oneof_url_rawcode_remote"},
        ),
        (
            {"algorithm": {"meta": META | {"container": {}}}},
            {"algorithm.container": "missing_entrypoint_image_checksum"},
        ),
        (
            {"algorithm": {"meta": META | {"container": CONTAINER | {"checksum": "md5:1"}}}},
            {"algorithm.container": "checksum_prefix"},
        ),
        (
            {
                "dataset": dataset("trusting"),
                "algorithm": {"documentId": "did:op:rogue", "serviceId": "rogue-access"},
            },
            {"algorithm": "not_trusted_algo"},
        ),
        (
            {
                "dataset": dataset("closed"),
                "algorithm": {"documentId": "did:op:algo", "serviceId": "algo-access"},
            },
            {"algorithm": "no_publisherTrustedAlgorithms"},
        ),
        ({"maxJobDuration": 1e9}, {"maxJobDuration": "invalid"}),
        ({"maxJobDuration": 1e9, "environment": ""}, {"maxJobDuration": "invalid"}),
        ({"algorithm": 5}, {"algorithm": "invalid"}),
        ({"dataset": "did:op:data"}, {"dataset": "invalid"}),
    ],
)
async def test_a_start_is_refused_by_resource_and_word(consumer, change, refusal):
    body = consumer.start_body() | change
    named = body["dataset"].get("documentId", "") if isinstance(body["dataset"], dict) else ""
    status, answer = await consumer.call("POST", "compute", json=body | consumer.classic(named))
    assert (status, answer["error"]) == (400, refusal)
    params = {"consumerAddress": consumer.address}
    assert await consumer.call("GET", "compute", params=params) == (200, [])


async def test_a_trusted_algorithm_is_taken(consumer):
    algorithm = {"documentId": "did:op:algo", "serviceId": "algo-access"}
    assert (await consumer.start("trusting", algorithm=algorithm))[0] == 200


async def test_an_asset_that_may_not_be_used_says_why(consumer):
    status, answer = await consumer.start("denied")
    told = (
        "Error: Access to asset did:op:denied was denied with code: "
        "ConsumableCodes.CREDENTIAL_NOT_IN_ALLOW_LIST."
    )
    assert (status, answer) == (400, {"error": {"dataset": told}})
    status, answer = await consumer.start("disabled")
    assert (status, answer) == (400, {"error": {"dataset": "Asset malformed or disabled."}})


async def test_an_environment_that_is_not_there_is_told_in_a_sentence(consumer):
    status, answer = await consumer.start(environment="none")
    assert (status, answer) == (400, {"error": "Environment invalid or does not exist"})
    body = {"algorithm": {"meta": META}, "consumerAddress": consumer.address}
    older = body | {"compute": {"env": "none", "validUntil": 2**33}}
    assert await consumer.call("POST", "initializeCompute", json=older) == (
        400,
        {"error": "Compute environment does not exist"},
    )
    past = body | {"compute": {"env": "free", "validUntil": 1}}
    assert await consumer.call("POST", "initializeCompute", json=past) == (
        400,
        {"error": "The validUntil value is not correct."},
    )


@pytest.mark.parametrize(
    ("index", "status", "error"),
    [("9", 404, "No such index"), ("-1", 404, "Negative index"), ("x", 400, None)],
)
async def test_a_result_that_is_not_there_says_so(consumer, doer, index, status, error):
    job_id = await consumer.started()
    params = {"jobId": job_id, "index": "0"} | consumer.classic(job_id, "0")
    assert await consumer.call("GET", "computeResult", params=params) == (
        404,
        {"error": "No results for job"},
    )
    await doer.do(outputs={"outputs/a": b"1"})
    await consumer.until(job_id, 70)
    params = {"jobId": job_id, "index": index} | consumer.classic(job_id, index)
    found, answer = await consumer.call("GET", "computeResult", params=params)
    assert found == status
    if error is None:
        assert answer["errors"] == {"index": ["The index field must be an integer."]}
    else:
        assert answer == {"error": error}


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
async def test_stop_and_delete_need_a_nonce_and_a_job(consumer, method):
    job_id = await consumer.started()
    proof = {"jobId": job_id} | consumer.classic(job_id)
    del proof["nonce"]
    assert await consumer.call(method, "compute", params=proof) == (400, missing("nonce"))
    assert await consumer.call(method, "compute", params=consumer.classic()) == (
        400,
        missing("jobId"),
    )
    assert (await consumer.status(job_id))["dateFinished"] is None


async def test_what_a_node_alone_has_is_refused_as_a_node_refuses_it(consumer, stranger):
    body = {"datasets": [], "algorithm": {"meta": META}} | consumer.modern(Command.free_start)
    body["signature"] = stranger.sign("x")
    assert await consumer.call("POST", "freeCompute", json=body) == (
        401,
        {"error": "consumer address and nonce signature mismatch"},
    )
    body |= consumer.modern(Command.free_start, nonce=0)
    assert await consumer.call("POST", "freeCompute", json=body) == (
        401,
        {"error": "nonce: 0 is not a valid nonce"},
    )


async def test_a_signature_for_one_thing_is_good_for_no_other(consumer):
    job_id = await consumer.started()
    proof = {"jobId": job_id} | consumer.modern(Command.stop)
    status, _ = await consumer.call("DELETE", "compute", params=proof)
    assert status == 400
    proof = {"jobId": job_id, "index": "0"} | consumer.classic(job_id)
    assert (await consumer.call("GET", "computeResult", params=proof))[0] == 400
    token = consumer.classic()
    body = {"datasets": [], "algorithm": {"meta": META}} | token
    assert (await consumer.call("POST", "compute", json=body))[0] == 400


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"text"',
        b"5",
        b"\xff\xfe",
        b'{"a": NaN}',
        b"[" * 100_000,
        b'{"consumerAddress": "\\ud800"}',
        b'{"nonce": ' + b"9" * 5000 + b"}",
    ],
)
async def test_a_body_that_is_no_json_object_is_refused(consumer, body):
    status, answer = await consumer.call("POST", "compute", data=body)
    assert status == 400
    assert isinstance(answer, dict)


async def test_a_body_that_is_too_large_is_refused_however_it_comes(consumer):
    async def pieces():
        for _ in range(6):
            yield b" " * (1 << 20)

    for body in (io.BytesIO(b" " * (5 << 20)), pieces()):
        status, answer = await consumer.call("POST", "compute", data=body)
        assert (status, "error" in answer) == (413, True)


async def test_what_there_is_not_is_refused_in_json(consumer):
    assert (await consumer.call("GET", "nothing"))[0] == 404
    status, answer = await consumer.call("PATCH", "compute")
    assert (status, answer["error"]) == (405, "Method Not Allowed")


async def test_a_failure_of_the_server_tells_nothing_of_it(consumer, host, monkeypatch, caplog):
    async def broken(_):
        raise RuntimeError("the password is 1234")

    monkeypatch.setattr(host.jobs, "job", broken)
    params = {"jobId": "0" * 32, "signature": "0x" + "ab" * 65}
    status, answer = await consumer.call("GET", "compute", params=params)
    assert (status, answer["error"]) == (503, "the server failed at this call")
    assert "1234" not in json.dumps(answer)
    assert "abab" not in caplog.text
