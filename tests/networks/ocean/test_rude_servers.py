"""Servers that answer what no provider would: typed errors, no spin, no hang, no secret sent on."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from golem.rude_server import serving
from networks.ocean.conftest import WALLET

from requestor_sdk.errors import BadAnswer, JobError, NetworkError, NetworkTimeout, RequestorError
from requestor_sdk.model.jobs import AlgorithmSpec, JobRequest, ResultFile
from requestor_sdk.networks.ocean import OceanConfig, OceanJobs

REQUEST = JobRequest(algorithm=AlgorithmSpec(rawcode="x"))
ROOT = {"software": "Ocean-Node", "nodeId": "n", "serviceEndpoints": {"a": ["GET", "/a"]}}
FREE = {"id": "0xc1-e", "free": {}}


@asynccontextmanager
async def at(answer):
    """A node whose calls, but for the first page, nonces and environments, answer this."""

    async def handler(request):
        if request.path == "/":
            return web.json_response(ROOT)
        if request.path.endswith("/nonce"):
            return web.json_response({"nonce": "1"})
        if request.path.endswith("/computeEnvironments"):
            return web.json_response([FREE])
        return await answer(request)

    async with serving(handler) as url:
        jobs = OceanJobs(OceanConfig(url=url, wallet=WALLET, call_sec=2))
        await jobs.open()
        try:
            yield jobs
        finally:
            await jobs.close()


def answering(body, status=200):
    async def answer(request):
        if isinstance(body, bytes):
            return web.Response(body=body, status=status)
        return web.json_response(body, status=status)

    return answer


async def all_of(stream):
    return [chunk async for chunk in stream]


FILE = ResultFile(index=0, name="a", size=3)
CALLS = {
    "status": lambda jobs: jobs.status("0xc1-a"),
    "jobs": lambda jobs: jobs.jobs(),
    "submit": lambda jobs: jobs.submit(REQUEST),
    "stop": lambda jobs: jobs.stop("0xc1-a"),
    "result": lambda jobs: all_of(jobs.result("0xc1-a", FILE)),
    "logs": lambda jobs: all_of(jobs.logs("0xc1-a")),
    "updates": lambda jobs: all_of(jobs.updates("0xc1-a")),
}
BODIES = [
    b"<html>",
    b"\xff\xfe",
    b"[" * 100_000,
    3,
    "text",
    [3],
    [[]],
    [{}],
    [{"jobId": "a"}],
    [{"jobId": "a", "status": "soon"}],
    b'[{"jobId": "a", "status": Infinity}]',
    b'[{"jobId": "a", "status": 1' + b"0" * 400 + b"}]",
    b'[{"jobId": "a", "status": 70, "results": [{"index": 1e999, "filesize": NaN}]}]',
    b'[{"jobId": "a", "status": 70, "dateFinished": 1e300}]',
    [{"jobId": {}, "status": []}],
    {"jobId": None},
]


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
@pytest.mark.parametrize("status", [200, 400, 404, 500])
async def test_whatever_comes_is_an_error_of_ours(call, body, status):
    async with at(answering(body, status)) as jobs:
        try:
            await call(jobs)
        except RequestorError:
            pass


async def test_odd_fields_of_a_job_do_no_harm():
    job = {
        "jobId": "a",
        "status": "40",
        "results": [3, {}, {"index": "x", "filesize": -1, "filename": None, "type": 5}],
        "dateCreated": {},
        "dateFinished": [],
        "terminationDetails": [],
        "statusText": None,
        "environment": 5,
        "owner": None,
    }
    async with at(answering([job])) as jobs:
        status = await jobs.status("0xc1-a")
    assert (status.code, status.over, len(status.results)) == (40, False, 2)
    assert all(file.size >= 0 for file in status.results)


async def test_a_redirect_is_not_followed_with_the_signature():
    went = []

    async def elsewhere(request):
        went.append(request.path)
        return web.Response()

    async with serving(elsewhere) as other:

        async def answer(request):
            raise web.HTTPTemporaryRedirect(other + "/stolen")

        async with at(answer) as jobs:
            with pytest.raises(BadAnswer, match="elsewhere"):
                await jobs.stop("0xc1-a")
            with pytest.raises(BadAnswer, match="elsewhere"):
                await jobs.submit(REQUEST)
    assert went == []


async def test_a_first_page_cannot_send_calls_elsewhere():
    calls = []

    async def handler(request):
        calls.append(request.path)
        if request.path == "/":
            ends = {
                "computeStatus": ["GET", "http://127.0.0.1:1/stolen"],
                "computeStop": ["PUT", "//127.0.0.1:1/stolen"],
                "nonce": ["GET", 5],
                "computeResult": "x",
            }
            return web.json_response(ROOT | {"serviceEndpoints": ends})
        return web.json_response([])

    async with serving(handler) as url:
        jobs = OceanJobs(OceanConfig(url=url, wallet=WALLET))
        await jobs.open()
        assert await jobs.jobs() == []
        await jobs.close()
    assert calls == ["/", "/api/services/compute"]


async def test_silence_ends_a_call():
    async def answer(request):
        await asyncio.sleep(3600)

    async with at(answer) as jobs:
        with pytest.raises(NetworkTimeout):
            await jobs.status("0xc1-a")
        with pytest.raises(NetworkTimeout):
            await jobs.submit(REQUEST)


async def test_an_answer_without_an_end_is_not_taken_into_memory(monkeypatch):
    from requestor_sdk.networks.ocean import _http

    monkeypatch.setattr(_http, "ANSWER_BYTES", 1 << 20)

    async def answer(request):
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x" * 65536)
        except ConnectionError:
            return response

    async with at(answer) as jobs:
        with pytest.raises(BadAnswer, match="longer"):
            await jobs.jobs()


async def test_our_own_server_that_does_not_hold_is_not_asked_again_at_once():
    asked = []

    async def handler(request):
        if request.path == "/":
            return web.json_response({"software": "requestor-sdk"})
        asked.append(request.path)
        over = len(asked) > 20
        return web.json_response([{"jobId": "a", "status": 70 if over else 40}])

    async with serving(handler) as url:
        jobs = OceanJobs(OceanConfig(url=url, wallet=WALLET))
        await jobs.open()
        began = asyncio.get_running_loop().time()
        _ = [update async for update in jobs.updates("a")]
        assert asyncio.get_running_loop().time() - began > 15
        await jobs.close()


@pytest.mark.parametrize("status", [502, 503, 504])
async def test_a_server_that_fails_may_pass(status):
    async with at(answering(b"", status)) as jobs:
        with pytest.raises(NetworkError) as caught:
            await jobs.jobs()
    assert caught.value.may_pass
    assert not isinstance(caught.value, JobError)
