"""The worker API as a worker meets it."""

from __future__ import annotations

import hashlib

from support.queues import DONE, SMALL, SPEC

from requestor_sdk.model.fields import from_json, to_json
from requestor_sdk.ports.worker import Claim


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
    done = {**to_json(DONE), "files": [kept]}
    for _ in range(2):
        assert await caller.about("POST", lease, "complete", body=done) == (204, b"")
    assert await caller.call("GET", "/runs/r1/state") == (200, {"state": "COMPLETED"})
    assert queue.blobs.log("r1", 1).read_bytes() == b"hello\nyou\n"
    assert queue.blobs.output("r1", 1, "a/../b.txt").read_bytes() == b"42"
