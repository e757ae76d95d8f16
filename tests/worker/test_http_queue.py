"""The queue of another host: the same runs, over its worker API; and servers that are not as it."""

from __future__ import annotations

import asyncio
import socket

import pytest
from aiohttp import web
from support.serving import served
from working import SMALL, Hired, ended, log_of, output, put, python, shell, until

from requestor_sdk.c2d._worker_api import PREFIX, worker_app
from requestor_sdk.c2d._worker_tokens import WorkerTokens
from requestor_sdk.model.errors import (
    BadAnswer,
    LeaseLost,
    NetworkError,
    NetworkInterrupted,
    NetworkTimeout,
    NetworkUnreachable,
    UsageError,
    WorkerRefused,
)
from requestor_sdk.ports.worker import (
    Completion,
    Lease,
    Room,
    RunEvent,
    RunOutcome,
    RunState,
    WorkerInfo,
)
from requestor_sdk.worker._http_queue import HttpQueue

ROOM = Room(cpu=2, ram_mb=1024, disk_mb=1024)
INFO = WorkerInfo(id="w", session="s", total=ROOM, free=ROOM)
LEASE = Lease(run_id="r", attempt=1, fence="of-nobody")


@pytest.fixture
async def server(queue):
    """The worker API of the queue, and a token for the worker ``w``."""
    from fastapi import FastAPI

    app = FastAPI()
    app.mount(PREFIX, worker_app(queue, queue._store))
    token = await WorkerTokens(queue._store).issue("w")
    async with served(app) as url:
        yield url, token


@pytest.fixture
async def http(server):
    url, token = server
    queue = HttpQueue(url, worker_id="w", token=token)
    await queue.open()
    yield queue
    await queue.close()


@pytest.mark.sandbox
async def test_a_run_is_done_over_http_as_it_is_in_process(queue, http, runtime, images, tmp_path):
    hired = Hired(http, tmp_path / "w", runtime, images, "w", {"room": ROOM, "stop_grace": 0.3})
    file = await put(queue, "run", "/data/inputs/n", b"x" * 700_000)
    code = (
        "import sys\ndata = open('/data/inputs/n').read()\nprint(len(data), flush=True)\n"
        "open('/data/outputs/a b?&#%\\xe9', 'w').write(data)\n"
    )
    await queue.submit("run", python(code, files=(file,), outputs=("/data/outputs",)), SMALL)
    end = await ended(queue, "run")
    assert end.outcome is RunOutcome.succeeded, end.message
    (kept,) = end.files
    assert kept.name == "outputs/a b?&#%é"
    assert output(queue, "run", kept.name) == b"x" * 700_000
    assert await log_of(queue, "run") == "700000\n"
    await queue.submit("stop", shell("echo on; sleep 60"), SMALL)
    await until(lambda: hired.worker.running)
    log = queue.follow_log("stop")
    await anext(log)
    await queue.cancel("stop")
    assert (await ended(queue, "stop", 5)).outcome is RunOutcome.cancelled
    await log.aclose()
    await hired.stop()
    hired.check_nothing_left()


async def test_every_call_passes_and_an_attempt_that_is_nobodys_is_lost(queue, http):
    await http.heartbeat(INFO)
    assert await http.claim(worker_id="w", session="s", claim_id="c", free=ROOM, wait=0) is None
    assert await http.renew("w", [(LEASE, 0.5)]) == ["lost"]
    assert await http.stops(worker_id="w", session="s", known=["x"], wait=0) == []
    with pytest.raises(LeaseLost):
        await http.event(LEASE, RunEvent(seq=1, type="INFO"))
    with pytest.raises(LeaseLost):
        await http.log(LEASE, 0, b"x")
    with pytest.raises(LeaseLost):
        await http.release(LEASE, "no")
    with pytest.raises(LeaseLost):
        await http.complete(LEASE, Completion(outcome=RunOutcome.failed))
    with pytest.raises(LeaseLost):
        async for _ in http.fetch(LEASE, "a"):
            pass

    async def chunks():
        yield b"x"

    with pytest.raises(LeaseLost):
        await http.upload(LEASE, "a", chunks())


async def test_the_state_of_a_run_that_the_worker_had_is_told(queue, http):
    await http.heartbeat(INFO)
    await queue.submit("run", shell("true"), SMALL)
    claim = await http.claim(worker_id="w", session="s", claim_id="c", free=ROOM, wait=5)
    assert claim.spec == shell("true")
    assert await http.run_state("run") is RunState.assigned
    await http.complete(claim.lease, Completion(outcome=RunOutcome.succeeded))
    await http.complete(claim.lease, Completion(outcome=RunOutcome.succeeded))
    assert await http.run_state("run") is RunState.completed


@pytest.mark.parametrize("kind", ["unknown worker", "wrong token", "another worker's"])
async def test_a_token_that_the_server_does_not_know_is_not_even_shown_to_it(queue, server, kind):
    url, token = server
    other = await WorkerTokens(queue._store).issue("other")
    worker, shown = {
        "unknown worker": ("nobody", token),
        "wrong token": ("w", token + "x"),
        "another worker's": ("w", other),
    }[kind]
    http = HttpQueue(url, worker_id=worker, token=shown)
    await http.open()
    with pytest.raises(WorkerRefused, match="does not know the token") as refused:
        await http.heartbeat(INFO)
    assert shown not in str(refused.value)
    assert shown not in repr(http)
    await http.close()


async def test_a_server_that_cannot_prove_itself_never_sees_the_token():
    seen = []

    async def anything(request):
        seen.append((request.path, dict(request.headers), await request.text()))
        return web.json_response({"version": 1, "proof": "0" * 64})

    async with other_server(anything) as url:
        http = HttpQueue(url, worker_id="w", token="rskw_secret")
        await http.open()
        with pytest.raises(WorkerRefused):
            await http.heartbeat(INFO)
        await http.close()
    assert [path for path, _, _ in seen] == ["/worker/v1/hello"]
    assert "rskw_secret" not in str(seen)


async def test_a_server_that_takes_the_place_of_another_has_to_prove_itself_anew(queue, server):
    url, token = server
    http = HttpQueue(url, worker_id="w", token=token)
    await http.open()
    await http.heartbeat(INFO)
    http._api._url = "http://127.0.0.1:1/worker/v1"
    with pytest.raises(NetworkUnreachable):
        await http.heartbeat(INFO)
    seen = []

    async def anything(request):
        seen.append(dict(request.headers))
        return web.json_response({"proof": "none"})

    async with other_server(anything) as other:
        http._api._url = f"{other}/worker/v1"
        with pytest.raises(WorkerRefused):
            await http.heartbeat(INFO)
    assert "Authorization" not in str(seen)
    await http.close()


def other_server(handler, ssl_context=None):
    from contextlib import asynccontextmanager

    @asynccontextmanager
    async def running():
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", handler)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=ssl_context)
        await site.start()
        try:
            scheme = "https" if ssl_context else "http"
            yield f"{scheme}://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()

    return running()


async def proven(handler):
    """Return a handler that proves itself for the token ``t``, then does as it is told."""
    from requestor_sdk.model.worker_token import digest_of, proof_of

    async def handle(request):
        if request.path.endswith("/hello"):
            said = await request.json()
            proof = proof_of(digest_of("t"), said["worker_id"], said["challenge"])
            return web.json_response({"proof": proof})
        return await handler(request)

    return handle


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (lambda: web.Response(text="no json"), BadAnswer),
        (lambda: web.json_response([]), BadAnswer),
        (lambda: web.json_response({"states": ["ok", "ok"]}), BadAnswer),
        (lambda: web.json_response({"states": ["fine"]}), BadAnswer),
        (
            lambda: web.Response(status=302, headers={"Location": "http://127.0.0.1:1/"}),
            NetworkError,
        ),
        (lambda: web.Response(status=500), NetworkError),
        (lambda: web.json_response({"message": "gone"}, status=409), LeaseLost),
        (lambda: web.Response(status=401), WorkerRefused),
    ],
)
async def test_an_answer_that_is_none_is_an_error_of_ours(answer, error):
    async def handler(_):
        return answer()

    async with other_server(await proven(handler)) as url:
        http = HttpQueue(url, worker_id="w", token="t")
        await http.open()
        with pytest.raises(error):
            await http.renew("w", [(LEASE, None)])
        await http.close()


async def test_a_connection_that_breaks_may_be_tried_again():
    async def handler(request):
        request.transport.abort()
        return web.Response()

    async with other_server(await proven(handler)) as url:
        http = HttpQueue(url, worker_id="w", token="t")
        await http.open()
        with pytest.raises(NetworkInterrupted) as broken:
            await http.renew("w", [(LEASE, None)])
        assert broken.value.may_pass
        await http.close()


async def test_an_output_of_which_nothing_moves_is_given_up(monkeypatch):
    monkeypatch.setattr("requestor_sdk.worker._http_queue.SILENCE_SEC", 0.3)
    released = asyncio.Event()

    async def handler(_):
        await released.wait()
        return web.Response()

    async def chunks():
        for _ in range(4):
            await asyncio.sleep(0.2)  # slower than that all together, but it moves
            yield b"x"

    async with other_server(await proven(handler)) as url:
        http = HttpQueue(url, worker_id="w", token="t")
        await http.open()
        began = asyncio.get_running_loop().time()
        with pytest.raises(NetworkTimeout) as late:
            await http.upload(LEASE, "a", chunks())
        assert asyncio.get_running_loop().time() - began > 0.8
        assert late.value.may_pass
        released.set()
        await http.close()


async def test_an_input_that_ends_early_is_told_as_such():
    async def handler(request):
        response = web.StreamResponse(headers={"Content-Length": "100"})
        await response.prepare(request)
        await response.write(b"short")
        request.transport.abort()
        return response

    async with other_server(await proven(handler)) as url:
        http = HttpQueue(url, worker_id="w", token="t")
        await http.open()
        with pytest.raises(NetworkInterrupted):
            async for _ in http.fetch(LEASE, "a"):
                pass
        await http.close()


@pytest.mark.parametrize("said", [b"", b"some"])
async def test_a_server_that_falls_silent_within_an_input_is_not_waited_for(monkeypatch, said):
    monkeypatch.setattr("requestor_sdk.worker._http_queue.SILENCE_SEC", 0.2)

    async def handler(request):
        response = web.StreamResponse()
        if said:
            await response.prepare(request)
            await response.write(said)
        await asyncio.sleep(0.6)
        return response

    async with other_server(await proven(handler)) as url:
        http = HttpQueue(url, worker_id="w", token="t")
        await http.open()
        async with asyncio.timeout(3):
            with pytest.raises(NetworkTimeout) as caught:
                async for _ in http.fetch(LEASE, "a"):
                    pass
        assert caught.value.may_pass
        await http.close()


async def test_a_server_that_is_not_there_may_come():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    http = HttpQueue(f"http://127.0.0.1:{port}", worker_id="w", token="t")
    await http.open()
    with pytest.raises(NetworkUnreachable) as away:
        await asyncio.wait_for(http.heartbeat(INFO), 5)
    assert away.value.may_pass
    await http.close()


@pytest.fixture
def authority(tmp_path):
    """A certificate for this host, and the file with the one that signed it."""
    import subprocess

    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], check=True, capture_output=True, cwd=tmp_path)

    name = ["-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    key = ["-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem"]
    openssl("req", "-x509", *key, "-out", "cert.pem", *name)
    return tmp_path / "cert.pem", tmp_path / "key.pem"


async def test_a_server_with_a_certificate_is_believed_only_if_that_is_known(authority):
    import ssl

    certificate, key = authority
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    seen = []

    async def fine(request):
        seen.append(request.path)
        return web.json_response({"states": ["ok"]})

    async with other_server(await proven(fine), ssl_context=context) as url:
        http = HttpQueue(url, worker_id="w", token="t", ca=certificate)
        await http.open()
        assert await http.renew("w", [(LEASE, None)]) == ["ok"]
        await http.close()
        seen.clear()
        http = HttpQueue(url, worker_id="w", token="t")
        await http.open()
        with pytest.raises(WorkerRefused, match="does not prove who it is"):
            await http.renew("w", [(LEASE, None)])
        await http.close()
    assert seen == []


async def test_certificates_that_are_none_are_refused(tmp_path):
    (tmp_path / "none.pem").write_text("no certificate")
    for file in (tmp_path / "none.pem", tmp_path / "missing.pem"):
        with pytest.raises(UsageError, match="no certificates"):
            await HttpQueue("https://h", worker_id="w", token="t", ca=file).open()


async def test_a_server_that_names_a_pause_is_obeyed():
    loop, asked = asyncio.get_running_loop(), []

    async def busy(_):
        asked.append(loop.time())
        if len(asked) == 1:
            return web.json_response({}, status=503, headers={"Retry-After": "1"})
        return web.json_response({"states": ["ok"]})

    async with other_server(await proven(busy)) as url:
        http = HttpQueue(url, worker_id="w", token="t")
        await http.open()
        with pytest.raises(NetworkError) as refused:
            await http.renew("w", [(LEASE, None)])
        assert refused.value.may_pass
        assert loop.time() - asked[0] >= 1
        await http.close()


@pytest.mark.parametrize("url", ["", "ftp://x", "http://", "localhost:80", "http://u:p@host"])
def test_an_address_that_is_none_is_refused(url):
    with pytest.raises(UsageError):
        HttpQueue(url, worker_id="w", token="t")


@pytest.mark.parametrize("token", ["", "with\nline", "ümlaut"])
def test_a_token_that_cannot_be_one_is_refused_and_not_shown(token):
    with pytest.raises(UsageError) as refused:
        HttpQueue("http://host", worker_id="w", token=token)
    assert not token or token not in str(refused.value)
