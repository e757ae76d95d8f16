"""The worker API as workers meet it, and as those do who are none."""

from __future__ import annotations

import asyncio
import hashlib
import io
import logging
from dataclasses import fields, replace

import aiohttp
import pytest
from support.queues import DONE, SMALL, SPEC

from requestor_sdk.c2d import _worker_schemas as wire
from requestor_sdk.c2d._worker_tokens import WorkerTokens
from requestor_sdk.model.fields import from_json, to_json
from requestor_sdk.model.worker_token import digest_of, is_proof, new_challenge, new_token
from requestor_sdk.ports import worker as port
from requestor_sdk.ports.worker import Claim, RunState

pytest.importorskip("fastapi", reason="the extra `serve` is not installed")

DONE_BODY = to_json(DONE)


async def held(caller, queue, run_id="r1"):
    """Have a run, and hold it."""
    await caller.come()
    await queue.submit(run_id, SPEC, SMALL)
    return (await caller.claim())[1]["lease"]


async def test_a_run_goes_over_the_api_from_claim_to_completion(caller, queue):
    assert await caller.come() == (204, b"")
    assert (await caller.claim())[0] == 204
    queue.blobs.input("r1", "algorithm").write_bytes(b"print")
    await queue.submit("r1", SPEC, SMALL)

    status, told = await caller.claim()
    assert status == 200
    assert from_json(Claim, told).spec == SPEC
    lease = told["lease"]
    assert await caller.about("GET", lease, "inputs", name="algorithm") == (200, b"print")
    event = {"seq": 0, "type": "stage", "message": "running"}
    assert (await caller.about("POST", lease, "events", body=event))[0] == 204
    assert (await caller.about("POST", lease, "log", data=b"hello\n", offset=0))[0] == 204
    assert (await caller.about("POST", lease, "log", data=b"lo\nyou\n", offset=3))[0] == 204
    renewal = {"leases": [{"lease": lease, "progress": 0.5}]}
    told = await caller.call("POST", "/workers/w1/renewals", body=renewal)
    assert told == (200, {"states": ["ok"]})
    status, kept = await caller.about("PUT", lease, "outputs", data=b"42", name="a/../b.txt")
    assert (status, kept["size"]) == (200, 2)
    assert kept["sha256"] == hashlib.sha256(b"42").hexdigest()
    done = {**DONE_BODY, "files": [kept]}
    for _ in range(2):
        assert await caller.about("POST", lease, "complete", body=done) == (204, b"")
    assert await caller.call("GET", "/runs/r1/state") == (200, {"state": "COMPLETED"})
    assert queue.blobs.log("r1", 1).read_bytes() == b"hello\nyou\n"
    assert queue.blobs.output("r1", 1, "a/../b.txt").read_bytes() == b"42"


async def test_a_claim_and_a_stop_are_held_until_there_is_something(caller, queue):
    await caller.come()
    waiting = asyncio.create_task(caller.claim(wait=30))
    await asyncio.sleep(0.2)
    await queue.submit("r1", SPEC, SMALL)
    async with asyncio.timeout(5):
        status, claim = await waiting
    assert status == 200
    body = {"session": "s1", "known": [], "wait": 30}
    waiting = asyncio.create_task(caller.call("POST", "/workers/w1/stops", body=body))
    await asyncio.sleep(0.2)
    await queue.cancel("r1")
    async with asyncio.timeout(5):
        assert await waiting == (200, {"leases": [claim["lease"]]})


async def test_a_worker_that_went_away_while_it_waited_is_given_nothing(caller, queue):
    await caller.come()
    waiting = asyncio.create_task(caller.claim(wait=30))
    await asyncio.sleep(0.2)
    waiting.cancel()
    await asyncio.wait({waiting})
    await asyncio.sleep(0.3)
    await queue.submit("r1", SPEC, SMALL)
    await asyncio.sleep(0.2)
    assert await queue.run_state("r1") is RunState.pending


async def test_a_worker_hands_a_run_back(caller, queue):
    lease = await held(caller, queue)
    assert (await caller.about("POST", lease, "release", body={"reason": "drain"}))[0] == 204
    assert await queue.run_state("r1") is RunState.pending
    status, told = await caller.about("POST", lease, "release", body={"reason": "drain"})
    assert (status, told["error"]) == (409, "lease_lost")


async def test_what_is_large_streams_both_ways(caller, queue):
    data = bytes(range(256)) * 20_000
    queue.blobs.input("r1", "big").write_bytes(data)
    await caller.come()
    await queue.submit("r1", replace(SPEC, output_limit=len(data)), SMALL)
    lease = (await caller.claim())[1]["lease"]
    assert (await caller.about("GET", lease, "inputs", name="big"))[1] == data
    status, kept = await caller.about("PUT", lease, "outputs", data=io.BytesIO(data), name="big")
    assert (status, kept["size"]) == (200, len(data))
    status, told = await caller.about("PUT", lease, "outputs", data=b"x", name="more")
    assert (status, told["error"]) == (413, "too_large")


REFUSED = {"error": "refused", "message": "this needs the token of a worker"}
PATHS = [
    ("PUT", "/workers/w1"),
    ("POST", "/workers/w1/claims"),
    ("POST", "/workers/w1/renewals"),
    ("POST", "/workers/w1/stops"),
    ("GET", "/runs/r1/state"),
    ("POST", "/runs/r1/attempts/1/release"),
    ("POST", "/runs/r1/attempts/1/events"),
    ("POST", "/runs/r1/attempts/1/log"),
    ("GET", "/runs/r1/attempts/1/inputs"),
    ("PUT", "/runs/r1/attempts/1/outputs"),
    ("POST", "/runs/r1/attempts/1/complete"),
    ("GET", "/openapi.json"),
    ("GET", "/"),
    ("GET", "/nothing"),
    ("DELETE", "/workers/w1"),
]


async def test_one_without_the_right_token_sees_nothing(caller, queue, store):
    lease = await held(caller, queue)
    taken_back = await WorkerTokens(store).issue("w3")
    await WorkerTokens(store).revoke("w3")
    for token in ("", "x", new_token(), taken_back, digest_of(caller.token), "\xff", "a b"):
        for method, path in PATHS:
            told = await caller.call(method, path, token=token, fence=lease["fence"])
            assert told == (
                401,
                {"error": "refused", "message": "this needs the token of a worker"},
            )
    async with caller.session.get(f"{caller.base}/runs/r1/state") as bare:
        assert bare.status == 401
    assert await queue.run_state("r1") is RunState.assigned


async def test_a_token_that_was_replaced_or_taken_back_is_worth_nothing(caller, store):
    tokens = WorkerTokens(store)
    former = caller.token
    caller.token = await tokens.issue("w1")
    assert (await caller.come())[0] == 204
    assert (await caller.call("GET", "/runs/x/state", token=former))[0] == 401
    assert await tokens.revoke("w1")
    assert not await tokens.revoke("w1")
    # What was known stays so for some seconds, and no longer.
    fresh = WorkerTokens(store)
    assert await fresh.worker_of(caller.token) is None


async def test_a_worker_keeps_its_token_through_its_heartbeats(caller, store):
    for session in ("s1", "s2"):
        await caller.come(session)
    assert await WorkerTokens(store).worker_of(caller.token) == "w1"


async def test_a_worker_sees_and_touches_nothing_of_anothers(callers, queue):
    owner, other = await callers("w1"), await callers("w2")
    lease = await held(owner, queue)
    await other.come()
    for method, path in PATHS[:4]:
        assert (await other.call(method, path, body=_valid(path)))[0] == 403
    calls = [
        ("POST", "release", {"body": {}}),
        ("POST", "events", {"body": {"seq": 0, "type": "INFO"}}),
        ("POST", "log", {"data": b"x", "offset": 0}),
        ("GET", "inputs", {"name": "algorithm"}),
        ("PUT", "outputs", {"data": b"x", "name": "a"}),
        ("POST", "complete", {"body": DONE_BODY}),
    ]
    for method, what, arguments in calls:
        status, told = await other.about(method, lease, what, **arguments)
        assert (status, told["error"]) == (409, "lease_lost")
        wrong = {**lease, "fence": "x"}
        status, told = await owner.about(method, wrong, what, **arguments)
        assert (status, told["error"]) == (409, "lease_lost")
    assert (await other.call("GET", "/runs/r1/state"))[0] == 404
    renewal = {"leases": [{"lease": lease}]}
    told = await other.call("POST", "/workers/w2/renewals", body=renewal)
    assert told == (200, {"states": ["lost"]})
    (attempt,) = await queue.attempts("r1")
    assert (attempt.ending, attempt.progress) == (None, None)
    assert list(await queue.events("r1")) == []


def _valid(path):
    room = {"cpu": 1, "ram_mb": 1, "disk_mb": 1}
    return {
        "/workers/w1": {"session": "s9", "total": room, "free": room},
        "/workers/w1/claims": {"session": "s1", "claim_id": "c", "free": room},
        "/workers/w1/renewals": {"leases": []},
        "/workers/w1/stops": {"session": "s1"},
    }[path]


async def test_a_server_proves_that_it_knows_the_token_before_it_is_shown(caller, store):
    challenge = new_challenge()
    body = {"worker_id": "w1", "challenge": challenge}
    status, told = await caller.call("POST", "/hello", body=body, token="")
    assert (status, told["version"]) == (200, 1)
    assert is_proof(told["proof"], caller.token, "w1", challenge)
    assert not is_proof(told["proof"], caller.token, "w1", new_challenge())
    assert not is_proof(told["proof"], new_token(), "w1", challenge)
    assert caller.token not in str(told)
    assert digest_of(caller.token) not in str(told)
    for worker in ("nobody", "w2"):
        body = {"worker_id": worker, "challenge": challenge}
        status, told = await caller.call("POST", "/hello", body=body, token="")
        assert status == 200
        assert len(told["proof"]) == 64
        assert not is_proof(told["proof"], caller.token, worker, challenge)


BAD = [
    b"",
    b"{",
    b"[]",
    b'"x"',
    b"\xff\xfe",
    b'{"session": 1}',
    b'{"seq": 1e400, "type": "INFO"}',
    b'{"seq": NaN, "type": "INFO"}',
    b'{"seq": -1, "type": "INFO"}',
    b'{"seq": 99999999999999999999, "type": "INFO"}',
    b'{"seq": 0, "type": "INFO", "payload": {"x": NaN}}',
    b'{"seq": 0, "type": "INFO", "payload": []}',
    b'{"seq": 0, "type": "INFO", "message": 5}',
    b'{"seq": 0, "type": "INFO", "message": "\\ud800"}',
    b'{"seq": 0, "type": "INFO", "payload": {"\\ud800": 1}}',
    b'{"seq": 0, "type": "INFO", "payload": ' + b'{"a":' * 80 + b"1" + b"}" * 80 + b"}",
    b'{"seq": 0, "type": "INFO", "payload": {"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}",
    b'{"seq": 0, "type": "INFO", "payload": {"a": ' + b"9" * 10_000 + b"}}",
    b'{"outcome": "odd"}',
    b'{"outcome": "succeeded", "files": [{"name": "a", "size": 1, "sha256": "x"}]}',
    b'{"outcome": "succeeded", "cpu_sec": -1}',
    b'{"outcome": "succeeded", "outputs": {"x": Infinity}}',
]


@pytest.mark.parametrize("body", BAD, ids=range(len(BAD)))
async def test_a_body_that_is_none_is_refused_and_changes_nothing(caller, queue, caplog, body):
    caplog.set_level(logging.WARNING)
    lease = await held(caller, queue)
    kind = "complete" if b"outcome" in body else "events"
    path = f"/runs/r1/attempts/1/{kind}"
    headers = {"Authorization": f"Bearer {caller.token}", "Fence": lease["fence"]}
    headers["Content-Type"] = "application/json"
    url = caller.base + path
    async with caller.session.post(url, data=body, headers=headers) as answer:
        told = await answer.json()
        assert answer.status in {400, 422}, told
        assert told["error"] == "invalid"
    assert await queue.run_state("r1") is RunState.assigned
    assert list(await queue.events("r1")) == []
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_bodies_that_are_too_large_are_refused(caller, queue):
    lease = await held(caller, queue)
    large = io.BytesIO(b"x" * (5 << 20))
    status, told = await caller.about("POST", lease, "log", data=large, offset=0)
    assert (status, told["error"]) == (413, "too_large")

    async def endless():
        for _ in range(64):
            yield b"x" * (1 << 20)

    try:
        status, _ = await caller.about("POST", lease, "log", data=endless(), offset=0)
        assert status == 413
    except (aiohttp.ClientConnectionError, ConnectionError):
        pass
    assert queue.blobs.log("r1", 1).exists() is False


async def test_a_completion_of_files_that_are_not_there_is_refused(caller, queue):
    lease = await held(caller, queue)
    file = {"name": "../../etc/passwd", "size": 1, "sha256": "0" * 64}
    status, told = await caller.about(
        "POST", lease, "complete", body={**DONE_BODY, "files": [file]}
    )
    assert (status, told["error"]) == (400, "invalid")
    assert await queue.run_state("r1") is RunState.assigned


async def test_an_upload_that_breaks_off_leaves_nothing(caller, queue):
    lease = await held(caller, queue)

    async def breaking():
        yield b"half"
        await asyncio.sleep(0.1)
        raise RuntimeError("gone")

    with pytest.raises((RuntimeError, aiohttp.ClientError)):
        await caller.about("PUT", lease, "outputs", data=breaking(), name="a")
    async with asyncio.timeout(10):
        folder = queue.blobs.output("r1", 1, "a").parent
        while list(folder.iterdir()):
            await asyncio.sleep(0.05)


async def test_a_server_that_ends_answers_what_is_held(store, queue, tmp_path):
    from support.serving import served

    from requestor_sdk.c2d._worker_api import worker_app

    ending = asyncio.Event()
    token = await WorkerTokens(store).issue("w1")
    room = {"cpu": 1, "ram_mb": 1, "disk_mb": 1}
    body = {"session": "s1", "claim_id": "c1", "free": room, "wait": 60}
    headers = {"Authorization": f"Bearer {token}"}
    async with (
        served(worker_app(queue, store, ending=ending)) as base,
        aiohttp.ClientSession(headers=headers) as session,
    ):

        async def claim():
            async with session.post(f"{base}/workers/w1/claims", json=body) as answer:
                return answer.status

        waiting = asyncio.create_task(claim())
        await asyncio.sleep(0.3)
        ending.set()
        async with asyncio.timeout(5):
            assert await waiting == 204


async def test_a_store_that_fails_is_no_refusal(caller, store):
    await store.close()
    async with aiohttp.ClientSession() as session:
        headers = {"Authorization": f"Bearer {new_token()}"}
        async with session.get(f"{caller.base}/runs/x/state", headers=headers) as answer:
            assert answer.status == 503
            assert answer.headers["Retry-After"] == "2"
            assert (await answer.json())["error"] == "unavailable"


SAME = [
    (wire.Gpu, port.GpuRoom, set()),
    (wire.RoomBody, port.Room, set()),
    (wire.WorkerBody, port.WorkerInfo, {"id"}),
    (wire.LeaseBody, port.Lease, set()),
    (wire.EventBody, port.RunEvent, set()),
    (wire.FileBody, port.KeptFile, set()),
    (wire.CompletionBody, port.Completion, set()),
    (wire.InputBody, port.InputFile, set()),
    (wire.SpecBody, port.RunSpec, set()),
    (wire.DemandBody, port.Demand, set()),
    (wire.ClaimAnswer, port.Claim, set()),
]


@pytest.mark.parametrize(("model", "value", "without"), SAME, ids=lambda each: str(each)[-20:])
def test_the_document_has_the_fields_of_the_port(model, value, without):
    assert set(model.model_fields) == {field.name for field in fields(value)} - without


async def test_the_document_is_one_and_versioned(caller):
    status, document = await caller.call("GET", "/openapi.json")
    assert status == 200
    assert document["info"]["version"] == "1.0.0"
    assert {path.removeprefix("/worker/v1") for path in document["paths"]} == {
        "/hello",
        "/workers/{worker_id}",
        "/workers/{worker_id}/claims",
        "/workers/{worker_id}/renewals",
        "/workers/{worker_id}/stops",
        "/runs/{run_id}/state",
        *(
            f"/runs/{{run_id}}/attempts/{{attempt}}/{what}"
            for what in ("release", "events", "log", "inputs", "outputs", "complete")
        ),
    }
    for path, calls in document["paths"].items():
        for call in calls.values():
            assert bool(call.get("security")) == (not path.endswith("/hello"))
            assert {"400", "401", "413", "422", "503"} <= set(call["responses"])
