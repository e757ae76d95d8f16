"""Whatever a worker that holds a run sends, it is answered, and the queue's promises hold."""

from __future__ import annotations

import asyncio
import json
import logging
import math
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.queues import DONE, ROOM, SMALL, SPEC

from requestor_sdk.c2d._queue import DurableQueue
from requestor_sdk.c2d._store.memory import MemoryStore
from requestor_sdk.c2d._worker_tokens import WorkerTokens
from requestor_sdk.model.fields import to_json
from requestor_sdk.ports.worker import RunState

pytest.importorskip("fastapi", reason="the extra `serve` is not installed")

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["", "\0", "\ud800", "../..", "r1", "w1", "s1", 2**63, -(2**64), 1e308])
)
anything = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=8) | st.just("\ud800"), inner, max_size=4)
    ),
    max_leaves=12,
)
odd = st.sampled_from([{"\ud800": 1}, {"x": ["\ud800"]}, {"x": math.nan}, {"x": [math.inf]}])
ROOM_BODY = to_json(ROOM)


def bodies(lease):
    """Return a right body for each call."""
    about = f"/runs/r1/attempts/{lease['attempt']}"
    return {
        "/workers/w1": {"session": "s1", "total": ROOM_BODY, "free": ROOM_BODY},
        "/workers/w1/claims": {"session": "s1", "claim_id": "c", "free": ROOM_BODY, "wait": 0},
        "/workers/w1/renewals": {"leases": [{"lease": lease, "progress": 0.5}]},
        "/workers/w1/stops": {"session": "s1", "known": [], "wait": 0},
        f"{about}/events": {"seq": 1, "type": "INFO", "message": "", "payload": {}},
        f"{about}/complete": to_json(DONE),
        f"{about}/release": {"reason": "no"},
        "/hello": {"worker_id": "w1", "challenge": "x" * 40},
    }


async def ask(app, method, path, headers, body, query=""):
    """Call an app as uvicorn would; return the status and the answer."""
    answers = []
    sent = False

    async def receive():
        nonlocal sent
        if sent:
            await asyncio.Event().wait()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message):
        answers.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": quote(path).encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
    }
    async with asyncio.timeout(20):
        await app(scope, receive, send)
    told = b"".join(answer.get("body", b"") for answer in answers)
    return answers[0]["status"], told


def odd_body(choices, draw):
    """Return a call, and a body of it in which something is not as it should be."""
    path = draw(st.sampled_from(sorted(choices)))
    body = dict(choices[path])
    free = {"events": "payload", "complete": "outputs"}.get(path.rpartition("/")[2])
    if free is not None and draw(st.booleans()):
        return path, {**body, free: draw(odd | st.dictionaries(st.text(), anything, max_size=3))}
    if draw(st.integers(0, 9)) == 0:
        return path, draw(anything)
    for name in draw(st.lists(st.sampled_from(sorted(body)), min_size=1, max_size=2)):
        body[name] = draw(anything)
    return path, body


async def one(tmp_path, draw):
    """Send one odd body of one call, with a lease that is held; see what became of it."""
    from requestor_sdk.c2d._worker_api import worker_app

    store = MemoryStore()
    queue = DurableQueue(store, tmp_path)
    app = worker_app(queue, store)
    token = await WorkerTokens(store).issue("w1")
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    async def call(path, body):
        method = "PUT" if path == "/workers/w1" else "POST"
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await ask(app, method, path, headers, raw)

    assert (await call("/workers/w1", bodies({"attempt": 1})["/workers/w1"]))[0] == 204
    await queue.submit("r1", SPEC, SMALL)
    right = bodies({"attempt": 1})["/workers/w1/claims"]
    lease = json.loads((await call("/workers/w1/claims", right))[1])["lease"]
    headers["Fence"] = lease["fence"]

    path, body = odd_body(bodies(lease), draw)
    status, told = await call(path, body)
    assert status < 500, (path, body, told)
    if status != 204:
        json.loads(told.decode())
    run = await queue.run("r1")
    ended = path.endswith("/complete") and status == 204
    freed = (path.endswith("/release") or path == "/workers/w1") and status == 204
    expected = {RunState.assigned}
    if ended:
        expected = {RunState.completed, RunState.failed, RunState.cancelled}
    elif freed:
        expected = {RunState.assigned, RunState.pending}
    assert run.state in expected
    # What was kept can be shown, and read back.
    shown = json.dumps(to_json(run.completion), ensure_ascii=False, allow_nan=False)
    shown.encode()
    for event in await queue.events("r1"):
        json.dumps(to_json(event), ensure_ascii=False, allow_nan=False).encode()
    for attempt in await queue.attempts("r1"):
        assert attempt.progress is None or math.isfinite(attempt.progress)


@settings(
    max_examples=80,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(data=st.data())
def test_any_body_is_answered_and_breaks_nothing(tmp_path, caplog, data):
    caplog.set_level(logging.ERROR)
    asyncio.run(one(tmp_path / "runs", data.draw))
    assert not caplog.records
