"""What the provider says of itself; tokens; assets and their files."""

from __future__ import annotations

import time

import pytest
from support.jobs import META, dataset

from requestor_sdk.ocean.messages import Command


async def test_the_first_page_suits_clients_of_both_generations(consumer):
    _, root = await consumer.call("GET", "/")
    assert root["software"] == "requestor-sdk"
    assert root["providerAddresses"] == {"8996": root["providerAddress"]}
    endpoints = root["serviceEndpoints"]
    assert endpoints["computeStart"] == ["POST", "/api/services/compute"]
    spellings = {"fileinfo", "fileInfo", "create_auth_token", "generateAuthToken", "nonce"}
    assert spellings <= set(endpoints)


async def test_environments_are_a_list_or_by_chain(consumer):
    _, plain = await consumer.call("GET", "computeEnvironments")
    assert [one["id"] for one in plain] == ["free"]
    for name in ("chainId", "chainID"):
        _, by_chain = await consumer.call("GET", "computeEnvironments", params={name: "8996"})
        assert [one["id"] for one in by_chain["8996"]] == ["free"]
    fields = {"nCPU", "nGPU", "cpuNumber", "gpuNumber", "ramGB", "diskGB", "priceMin", "desc"}
    fields |= {"namespace", "status", "chainId", "chainID", "lastSeen", "maxJobDuration"}
    fields |= {"feeToken", "consumerAddress", "currentJobs", "maxJobs", "storageExpiry", "free"}
    assert fields <= set(plain[0])


async def test_a_nonce_is_told_as_text_and_rises_with_each_call(consumer):
    async def told():
        _, answer = await consumer.call("GET", "nonce", params={"userAddress": consumer.address})
        return answer

    assert await told() == {"nonce": "0"}
    await consumer.start()
    assert await told() == {"nonce": "1"}
    assert await consumer.call("GET", "nonce") == (200, {"nonce": "0"})
    assert await consumer.call("GET", "nonce", params={"userAddress": "x"}) == (200, {"nonce": "0"})


async def test_an_asset_is_shown_without_where_its_files_are(consumer):
    _, shown = await consumer.call("GET", "/api/aquarius/assets/ddo/did:op:data")
    assert shown["services"][0]["files"] == "0x"
    assert shown["services"][0]["serviceEndpoint"] == consumer.url
    assert "data.csv" not in str(shown)
    status, _ = await consumer.call("GET", "/api/aquarius/assets/ddo/did:op:none")
    assert status == 404


async def test_files_of_an_asset_are_described_without_their_names(consumer):
    body = {"did": "did:op:data", "serviceId": "data-compute"}
    for path in ("fileinfo", "fileInfo"):
        _, found = await consumer.call("POST", path, json=body)
        assert [(one["index"], one["valid"], one["contentLength"]) for one in found] == [
            (0, True, "8"),
            (1, True, "4"),
        ]
        assert "data.csv" not in str(found)
    assert (await consumer.call("POST", "fileinfo", json={"did": "did:op:no"}))[0] == 404
    assert (await consumer.call("POST", "fileinfo", json={}))[0] == 400


@pytest.mark.parametrize(
    "target",
    [
        "http://127.0.0.1:PORT/",
        "http://localhost:PORT/",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]:PORT/",
        "http://169.254.169.254/latest",
        "http://10.0.0.1/",
        "file:///etc/passwd",
        "http://",
        "http://0:PORT/",
        "http://2130706433:PORT/",
        "http://127.1:PORT/",
        # What a client reads as 127.0.0.1, and other readers as a name.
        "http://\u2460\u2461\u2466.0.0.1:PORT/",
        "http://127\u30020\u30020\u30021:PORT/",
        "http://user@\uff11\uff12\uff17.0.0.1:PORT/",
        "http://a:b:c/",
    ],
)
async def test_addresses_of_private_networks_are_not_asked(consumer, target):
    target = target.replace("PORT", consumer.url.rpartition(":")[2])
    status, found = await consumer.call("POST", "fileinfo", json={"type": "url", "url": target})
    assert (status, found[0]["valid"]) == (200, False)


async def test_costs_are_told_before(consumer):
    body = {
        "datasets": [dataset("data")],
        "algorithm": {"meta": META},
        "compute": {"env": "free", "validUntil": int(time.time()) + 600},
        "consumerAddress": consumer.address,
    }
    status, told = await consumer.call("POST", "initializeCompute", json=body)
    assert status == 200, told
    assert told["datasets"][0]["providerFee"]["providerFeeAmount"] == "0"
    assert told["payment"]["amount"] == "0"
    body["datasets"] = [dataset("denied")]
    assert (await consumer.call("POST", "initializeCompute", json=body))[0] == 400


def as_address(proof):
    return {("address" if k == "consumerAddress" else k): v for k, v in proof.items()}


async def classic_token(consumer, **more):
    params = as_address(consumer.classic()) | more
    return await consumer.call("GET", "createAuthToken", params=params)


async def node_token(consumer, **more):
    body = as_address(consumer.modern(Command.create_token)) | more
    return await consumer.call("POST", "auth/token", json=body)


@pytest.mark.parametrize(
    ("make", "header"), [(classic_token, "AuthToken"), (node_token, "Authorization")]
)
async def test_a_token_stands_for_signatures_of_its_owner_alone(
    consumer, stranger, doer, make, header
):
    status, answer = await make(consumer)
    assert status == 200
    headers = {header: answer["token"]}
    body = consumer.start_body() | {"consumerAddress": consumer.address}
    status, started = await consumer.call("POST", "compute", json=body, headers=headers)
    assert status == 200, started
    body["consumerAddress"] = stranger.address
    assert await consumer.call("POST", "compute", json=body, headers=headers) == (
        401,
        {"error": "Invalid token"},
    )
    job_id = started[0]["jobId"]
    await doer.do(outputs={"outputs/a": b"1"})
    await consumer.until(job_id, 70)
    params = {"jobId": job_id, "index": "0", "consumerAddress": consumer.address}
    assert await consumer.call("GET", "computeResult", params=params, headers=headers) == (
        200,
        b"1",
    )
    params["consumerAddress"] = stranger.address
    assert (await consumer.call("GET", "computeResult", params=params, headers=headers))[0] == 401


async def test_a_token_that_was_taken_back_is_worth_nothing(consumer, stranger):
    _, answer = await node_token(consumer)
    token = answer["token"]
    body = as_address(stranger.classic()) | {"token": token}
    assert (await stranger.call("POST", "auth/invalidateToken", json=body))[0] == 404
    body = as_address(consumer.classic()) | {"token": token}
    assert (await consumer.call("POST", "auth/invalidateToken", json=body))[0] == 200
    headers = {"Authorization": token}
    body = consumer.start_body() | {"consumerAddress": consumer.address}
    assert (await consumer.call("POST", "compute", json=body, headers=headers))[0] == 401


async def test_a_classic_client_takes_its_token_back(consumer):
    _, answer = await classic_token(consumer, expiration=str(int(time.time()) + 60))
    body = as_address(consumer.classic()) | {"token": answer["token"]}
    assert (await consumer.call("DELETE", "deleteAuthToken", json=body))[0] == 200


async def test_a_token_is_not_made_for_the_past_nor_by_another(consumer, stranger):
    assert (await classic_token(consumer, expiration="5"))[0] == 400
    assert (await node_token(consumer, validUntil=5))[0] == 400
    body = as_address(consumer.modern(Command.create_token))
    body["signature"] = stranger.sign("x")
    assert (await consumer.call("POST", "auth/token", json=body))[0] == 401


async def test_a_token_ends_with_its_time(consumer, host):
    _, answer = await node_token(consumer)
    now = host.clock.now()
    from datetime import timedelta

    host.clock.now = lambda: now + timedelta(days=2)
    headers = {"AuthToken": answer["token"]}
    body = consumer.start_body() | {"consumerAddress": consumer.address}
    assert (await consumer.call("POST", "compute", json=body, headers=headers))[0] == 401


async def test_the_openapi_document_names_every_call(consumer):
    _, document = await consumer.call("GET", "/openapi.json")
    assert set(document["paths"]) == {
        "/",
        "/api/aquarius/assets/ddo/{did}",
        "/api/services/auth/invalidateToken",
        "/api/services/auth/token",
        "/api/services/compute",
        "/api/services/computeEnvironments",
        "/api/services/computeResult",
        "/api/services/computeStreamableLogs",
        "/api/services/createAuthToken",
        "/api/services/deleteAuthToken",
        "/api/services/fileInfo",
        "/api/services/fileinfo",
        "/api/services/freeCompute",
        "/api/services/initializeCompute",
        "/api/services/nonce",
    }
    assert set(document["paths"]["/api/services/compute"]) == {"get", "post", "put", "delete"}
