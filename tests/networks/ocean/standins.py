"""Stand-ins of the two real servers: they answer as these were seen to, mistakes included.

Signatures are checked with eth_account, not with this package's own code.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import tarfile
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from eth_account import Account
from eth_account.messages import encode_defunct
from eth_utils import keccak

PROVIDER = "0x00bd138aBD70e2F00903268F3Db08f2D25677C9e"


def recovered(text: str, signature: str, *, strip: bool = False) -> str:
    """Who signed a text as Ocean does; ``strip`` cuts zero bytes off the hash, as nodes do."""
    digest = keccak(text=text)
    if strip:
        digest = digest.lstrip(b"\0")
    try:
        signable = encode_defunct(primitive=digest)
        return Account.recover_message(signable, signature=signature).lower()
    except Exception:
        return "nobody"


def a_tar(files: dict[str, bytes]) -> bytes:
    """The archive of outputs that a node makes."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"outputs/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return made.getvalue()


def frames(text: bytes, stream: int = 1) -> bytes:
    """A log as Docker multiplexes it: a frame a line."""
    return b"".join(
        bytes([stream, 0, 0, 0]) + len(line).to_bytes(4, "big") + line
        for line in text.splitlines(keepends=True)
    )


def found(body: Any, status: int = 200) -> web.Response:
    return web.json_response(body, status=status)


class StandIn:
    """What both have: jobs, nonces, and a record of the calls."""

    def __init__(self) -> None:
        self.jobs: dict[str, dict[str, Any]] = {}
        self.files: dict[tuple[str, int], bytes] = {}
        self.nonces: dict[str, int] = {}
        self.calls: list[tuple[str, str]] = []
        self.bodies: list[dict[str, Any]] = []
        self.fail: list[web.Response | str] = []
        """What the next calls answer instead; ``break`` cuts the connection."""
        self.changed = asyncio.Event()
        self.url = ""

    def set(self, job_id: str, **fields: Any) -> None:
        self.jobs[job_id].update(fields)
        self.changed.set()

    def count(self, method: str, path: str) -> int:
        return self.calls.count((method, path))

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Any]:
        app = web.Application(middlewares=[self._record], client_max_size=100_000)
        self.routes(app)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            yield self
        finally:
            await runner.cleanup()

    def routes(self, app: web.Application) -> None:
        raise NotImplementedError

    @web.middleware
    async def _record(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.calls.append((request.method, request.path))
        quiet = ("/", "/api/services/nonce", "/api/services/computeEnvironments")
        if self.fail and request.path not in quiet:
            answer = self.fail.pop(0)
            if answer == "break":
                assert request.transport is not None
                request.transport.close()
            elif isinstance(answer, web.Response):
                return answer
        return await handler(request)


class ClassicProvider(StandIn):
    """The Provider of API v4, before an operator."""

    def __init__(self) -> None:
        super().__init__()
        self.environments: list[dict[str, Any]] = [
            {
                "id": "ocean-compute",
                "cpuNumber": "2",
                "ramGB": "1",
                "diskGB": 2,
                "priceMin": 0,
                "currentJobs": 0,
                "maxJobs": 10,
                "maxJobDuration": 60,
                "desc": "a",
                "lastSeen": str(time.time()),
                "feeToken": "0x0000000000000000000000000000000000000000",
            }
        ]
        self.assets: dict[str, dict[str, Any]] = {}
        self.valid = True

    def routes(self, app: web.Application) -> None:
        add = app.router.add_route
        add("GET", "/", self._root)
        add("GET", "/api/services/nonce", self._nonce)
        add("GET", "/api/services/computeEnvironments", self._environments)
        add("POST", "/api/services/compute", self._start)
        add("GET", "/api/services/compute", self._status)
        add("PUT", "/api/services/compute", self._stop)
        add("DELETE", "/api/services/compute", self._delete)
        add("GET", "/api/services/computeResult", self._result)
        add("POST", "/api/services/fileinfo", self._fileinfo)
        add("POST", "/api/services/initializeCompute", self._initialize)
        add("GET", "/api/aquarius/assets/ddo/{did}", self._ddo)

    async def _root(self, request: web.Request) -> web.Response:
        paths = {
            "computeStart": ["POST", "/api/services/compute"],
            "computeStop": ["PUT", "/api/services/compute"],
            "computeStatus": ["GET", "/api/services/compute"],
            "computeDelete": ["DELETE", "/api/services/compute"],
            "computeResult": ["GET", "/api/services/computeResult"],
            "computeEnvironments": ["GET", "/api/services/computeEnvironments"],
            "initializeCompute": ["POST", "/api/services/initializeCompute"],
            "nonce": ["GET", "/api/services/nonce"],
            "fileinfo": ["POST", "/api/services/fileinfo"],
        }
        return found(
            {
                "software": "Provider",
                "version": "2.1.6",
                "providerAddresses": {"8996": PROVIDER},
                "chainIds": [8996],
                "serviceEndpoints": paths,
            }
        )

    async def _nonce(self, request: web.Request) -> web.Response:
        address = request.query["userAddress"]
        return found({"nonce": str(self.nonces.setdefault(address, 1))})

    async def _environments(self, request: web.Request) -> web.Response:
        return found({"8996": self.environments})

    def _missing(self, params: Any, *names: str) -> web.Response | None:
        errors = {n: [f"The {n} field is required."] for n in names if not params.get(n)}
        if not errors:
            return None
        return found({"errors": errors, "message": "Validation error", "success": False}, 400)

    def _refused(self, params: Any, text: str) -> web.Response | None:
        """The checks of the signature; the hash's 32 bytes only, and a nonce that is not lower."""
        address, nonce, given = params["consumerAddress"], params["nonce"], params["signature"]
        current = self.nonces.get(address, 1)
        told = ""
        if float(nonce) < current:
            told = f"Invalid signature expected nonce ({current}) > current nonce ({nonce})."
        elif (signer := recovered(text, given)) != address.lower():
            told = (
                f"Invalid signature {given} for ethereum address {address}, "
                f"message {text} and nonce {nonce}. Got {signer}"
            )
        if not told:
            return None
        body = {"errors": {"signature": told}, "message": "Validation error", "success": False}
        return found(body, 400)

    def _keep_nonce(self, params: Any) -> web.Response | None:
        """It is kept after the act; the same one twice is an error of the database then."""
        address, nonce = params["consumerAddress"], int(params["nonce"])
        current = self.nonces.get(address, 1)
        if nonce == current and isinstance(params["nonce"], str):
            told = (
                "Cannot create duplicates in the database. "
                f"Existing nonce: {current} vs. new nonce: {nonce}"
            )
            return found({"context": dict(params), "error": told}, 503)
        self.nonces[address] = nonce
        return None

    async def _start(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.bodies.append(body)
        if refused := self._missing(
            body, "dataset", "algorithm", "consumerAddress", "nonce", "signature"
        ):
            return refused
        did = body["dataset"]["documentId"]
        if refused := self._refused(body, f"{body['consumerAddress']}{did}{body['nonce']}"):
            return refused
        if not any(e["id"] == body["environment"] for e in self.environments):
            return found({"error": "Environment invalid or does not exist"}, 400)
        if did == "did:op:denied":
            code = "ConsumableCodes.CREDENTIAL_IN_DENY_LIST"
            told = f"Error: Access to asset {did} was denied with code: {code}."
            return found({"error": {"dataset": told}}, 400)
        if not self.assets.get(did):
            return found({"error": {"dataset.documentId": "did_not_found"}}, 400)
        if body["algorithm"].get("documentId") == "did:op:untrusted":
            return found({"error": {"dataset": "not_trusted_algo"}}, 400)
        job_id = uuid.uuid4().hex
        self.jobs[job_id] = {
            "agreementId": body["dataset"]["transferTxId"],
            "jobId": job_id,
            "owner": body["consumerAddress"],
            "status": 1,
            "statusText": "Warming up",
            "dateCreated": f"{time.time():.2f}",
            "dateFinished": None,
            "results": "",
            "stopreq": 0,
            "removed": 0,
            "algoDID": body["algorithm"].get("documentId") or "raw",
            "inputDID": [did],
        }
        return self._keep_nonce(body) or found([self.jobs[job_id]])

    def _own(self, params: Any) -> list[dict[str, Any]]:
        wanted = params.get("jobId")
        return [
            job
            for job in self.jobs.values()
            if job["owner"] == params["consumerAddress"] and wanted in (None, job["jobId"])
        ]

    async def _status(self, request: web.Request) -> web.Response:
        return self._missing(request.query, "consumerAddress") or found(self._own(request.query))

    async def _params(self, request: web.Request) -> Any:
        return request.query or await request.json()

    async def _stop(self, request: web.Request) -> web.Response:
        params = await self._params(request)
        if refused := self._missing(params, "consumerAddress", "nonce", "signature"):
            return refused
        text = f"{params['consumerAddress']}{params.get('jobId', '')}"
        text += f"{params.get('documentId', '')}{params['nonce']}"
        if refused := self._refused(params, text):
            return refused
        jobs = self._own(params)
        for job in jobs:
            job["stopreq"] = 1
        return self._keep_nonce(params) or found(jobs)

    async def _delete(self, request: web.Request) -> web.Response:
        params = await self._params(request)
        text = f"{params['consumerAddress']}{params.get('jobId', '')}"
        text += f"{params.get('documentId', '')}{params['nonce']}"
        return self._refused(params, text) or self._keep_nonce(params) or found("")

    async def _result(self, request: web.Request) -> web.StreamResponse:
        params = request.query
        if refused := self._missing(params, "jobId", "index", "consumerAddress", "nonce"):
            return refused
        text = f"{params['consumerAddress']}{params['jobId']}{params['index']}{params['nonce']}"
        if refused := self._refused(params, text):
            return refused
        job = self.jobs.get(params["jobId"])
        if job is None or job["owner"] != params["consumerAddress"]:
            told = f"Owner {params['consumerAddress']} mismatch for job {params['jobId']}"
            return found({"error": told}, 404)
        if not job["results"]:
            return found({"error": "No results for job"}, 404)
        content = self.files.get((params["jobId"], int(params["index"])))
        if content is None:
            return found({"error": "No such index"}, 404)
        if (refused := self._keep_nonce(params)) is not None:
            return refused
        name = job["results"][int(params["index"])]["filename"]
        headers = {"Content-Disposition": f"attachment;filename={name}"}
        if request.http_range.start:
            start = request.http_range.start
            end = f"bytes {start}-{len(content) - 1}/{len(content)}"
            headers["Content-Range"] = end
            return web.Response(body=content[start:], status=206, headers=headers)
        return web.Response(body=content, headers=headers)

    async def _fileinfo(self, request: web.Request) -> web.Response:
        return found([{"index": 0, "valid": self.valid, "contentType": "text/csv"}])

    async def _initialize(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.bodies.append(body)
        return found({"datasets": [{"datatoken": "0x1", "providerFee": {}}]})

    async def _ddo(self, request: web.Request) -> web.Response:
        ddo = self.assets.get(request.match_info["did"])
        return found(ddo) if ddo else found({"error": "not there"}, 404)

    def finish(self, job_id: str, files: dict[str, tuple[str, bytes]], **fields: Any) -> None:
        """Let a job be over with results: a type and the content by name."""
        for index, (_, content) in enumerate(files.values()):
            self.files[job_id, index] = content
        listed = [
            {"filename": name, "filesize": len(content), "type": kind}
            for name, (kind, content) in files.items()
        ]
        ended = {"status": 70, "statusText": "Job finished", "dateFinished": f"{time.time():.2f}"}
        self.set(job_id, results=listed, **(ended | fields))


class OceanNodeStandIn(StandIn):
    """ocean-node 1.0 to 3.2."""

    CLUSTER = "0xc1"

    def __init__(self) -> None:
        super().__init__()
        self.environments: list[dict[str, Any]] = [
            {
                "id": f"{self.CLUSTER}-0xe1",
                "description": "free",
                "consumerAddress": PROVIDER,
                "platform": {"architecture": "x86_64", "os": "linux"},
                "fees": {"8996": [{"feeToken": "0xt", "prices": [{"id": "cpu", "price": 1}]}]},
                "resources": [
                    {"id": "cpu", "type": "cpu", "total": 4, "min": 1, "max": 4, "inUse": 0},
                    {"id": "ram", "total": 8, "min": 1, "max": 8, "inUse": 0},
                    {"id": "disk", "total": 9, "min": 0, "max": 9, "inUse": 0},
                ],
                "free": {
                    "maxJobs": 2,
                    "maxJobDuration": 60,
                    "resources": [{"id": "cpu", "max": 1}],
                },
                "maxJobDuration": 3600,
                "runningJobs": 0,
                "runningfreeJobs": 0,
            }
        ]
        self.logs: dict[str, asyncio.Queue[bytes | None]] = {}
        self.written: dict[str, bytes] = {}

    def routes(self, app: web.Application) -> None:
        add = app.router.add_route
        add("GET", "/", self._root)
        add("GET", "/api/services/nonce", self._nonce)
        add("GET", "/api/services/computeEnvironments", self._environments)
        add("POST", "/api/services/compute", self._start)
        add("POST", "/api/services/freeCompute", self._start)
        add("GET", "/api/services/compute", self._status)
        add("PUT", "/api/services/compute", self._stop)
        add("DELETE", "/api/services/compute", self._delete)
        add("GET", "/api/services/computeResult", self._result)
        add("GET", "/api/services/computeStreamableLogs", self._stream)
        add("POST", "/directCommand", self._direct)
        add("POST", "/api/services/initializeCompute", self._initialize)

    async def _root(self, request: web.Request) -> web.Response:
        return found(
            {
                "nodeId": "16Uiu2HAm",
                "chainIds": ["8996"],
                "providerAddress": PROVIDER,
                "serviceEndpoints": {
                    "computeStart": ["POST", "/api/services/compute"],
                    "fileInfo": ["POST", "/api/services/fileInfo"],
                    "getComputeEnvironments": ["GET", "/api/services/computeEnvironments"],
                },
                "software": "Ocean-Node",
                "version": "0.0.1",
                "nodePublicKey": {"0": 2, "1": 60},
            }
        )

    async def _nonce(self, request: web.Request) -> web.Response:
        return found({"nonce": str(self.nonces.get(request.query.get("userAddress", ""), 0))})

    async def _environments(self, request: web.Request) -> web.Response:
        return found(self.environments)

    def _refused(self, params: Any, command: str) -> str | None:
        """The checks of the signature: a nonce that is higher, the hash without leading zeros."""
        address, nonce = params.get("consumerAddress", ""), params.get("nonce", "")
        if not params.get("signature"):
            return (
                "Invalid authentication, you need to provide either a token or an address, "
                "signature, message and nonce"
            )
        if int(nonce) <= self.nonces.get(address, 0):
            return f"nonce: {nonce} is not a valid nonce"
        if recovered(f"{address}{nonce}{command}", params["signature"], strip=True) != (
            address.lower()
        ):
            return "consumer address and nonce signature mismatch"
        self.nonces[address] = int(nonce)
        return None

    async def _start(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.bodies.append(body)
        is_free = request.path.endswith("freeCompute")
        for name in ("consumerAddress", "environment", "algorithm", "datasets"):
            if name not in body:
                told = f'Missing one ( "{name}" ) or more required field(s) for command: x'
                return found(told, 400)
        if refused := self._refused(body, "freeStartCompute" if is_free else "startCompute"):
            return found(refused, 401)
        if body["environment"] != self.environments[0]["id"]:
            return web.Response(text="Invalid C2D Environment", status=500)
        if not is_free and "payment" not in body:
            return found('Missing one ( "payment" ) or more required field(s)', 400)
        own = uuid.uuid4().hex * 2
        job_id = f"{self.CLUSTER}-{own}"
        self.jobs[own] = {
            "owner": body["consumerAddress"],
            "jobId": own,
            "dateCreated": str(time.time()),
            "dateFinished": None,
            "status": 1,
            "statusText": "Job queued",
            "results": None,
            "environment": body["environment"],
            "maxJobDuration": body.get("maxJobDuration", 60),
            "stopRequested": False,
            "isFree": is_free,
            "algoStartTimestamp": None,
            "algoStopTimestamp": None,
            "terminationDetails": {"exitCode": None, "OOMKilled": None},
        }
        self.logs[own] = asyncio.Queue()
        self.written[own] = b""
        return found([self.jobs[own] | {"jobId": job_id}])

    def _own_id(self, params: Any) -> str | None:
        given = params.get("jobId") or ""
        prefix, dash, own = given.partition("-")
        return own if dash and prefix == self.CLUSTER else None

    def _found(self, params: Any) -> list[dict[str, Any]]:
        own = self._own_id(params)
        # An id that is not known is ignored: then it is all jobs of the owner.
        return [
            job
            for job in self.jobs.values()
            if params.get("consumerAddress") in (None, job["owner"])
            and (own not in self.jobs or job["jobId"] == own)
        ]

    async def _status(self, request: web.Request) -> web.Response:
        if not request.query.get("consumerAddress") and not request.query.get("jobId"):
            return web.Response(text="Internal Server Error", status=500)
        return found(self._found(request.query))

    async def _stop(self, request: web.Request) -> web.Response:
        # Whatever is wrong is hidden behind this; the body of the call is not read.
        own = self._own_id(request.query)
        if own is None or self._refused(request.query, "stopCompute"):
            return web.Response(text="Internal Server Error", status=500)
        return found([job | {"results": None} for job in self._stopped(request.query)])

    def _stopped(self, params: Any) -> list[dict[str, Any]]:
        own = self._own_id(params)
        mine = [
            job
            for job in self.jobs.values()
            if job["jobId"] == own and job["owner"] == params["consumerAddress"]
        ]
        for job in mine:
            job["stopRequested"] = True
        return mine

    async def _delete(self, request: web.Request) -> web.Response:
        return web.Response(text="Not yet implemented!", status=404)

    async def _initialize(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.bodies.append(body)
        for name in ("datasets", "algorithm", "environment", "payment", "consumerAddress"):
            if name not in body:
                return web.Response(text=f'Missing one ( "{name}" ) or more', status=400)
        return found({"algorithm": {}, "datasets": [], "payment": {"amount": "5"}})

    async def _direct(self, request: web.Request) -> web.Response:
        body = await request.json()
        if body["command"] == "getComputeStatus":
            return found(self._found(body))
        if refused := self._refused(body, body["command"]):
            return found(refused, 401)
        if self._own_id(body) is None:
            return found("Invalid C2D Environment", 500)
        return found(self._stopped(body))

    async def _result(self, request: web.Request) -> web.StreamResponse:
        if refused := self._refused(request.query, "getComputeResult"):
            return web.Response(text=refused, status=401)
        own = self._own_id(request.query)
        if own is None:
            return web.Response(text="Invalid C2D Environment", status=500)
        job = self.jobs.get(own)
        if job is None:
            told = f"Cannot find job with id {own}"
            return web.Response(text=told, status=500)
        if job["owner"] != request.query["consumerAddress"]:
            told = f"{request.query['consumerAddress']} is not authorized to get results for job"
            return web.Response(text=told, status=500)
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        # No Range, no length; nothing for a number that there is not.
        await response.write(self.files.get((own, int(request.query["index"])), b""))
        await response.write_eof()
        return response

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        if refused := self._refused(request.query, "getComputeStreamableLogs"):
            return web.Response(text=refused, status=401)
        own = self._own_id(request.query)
        if own not in self.jobs or self.jobs[own]["status"] != 40:
            return web.Response(text="Job not found or not running", status=404)
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        self.logs[own] = asyncio.Queue()
        await response.write(self.written[own])
        with contextlib.suppress(ConnectionError):
            while (chunk := await self.logs[own].get()) is not None:
                await response.write(chunk)
            await response.write_eof()
        return response

    def write(self, own: str, text: bytes) -> None:
        """Let a job's algorithm write something."""
        framed = frames(text)
        self.written[own] += framed
        self.logs[own].put_nowait(framed)

    def finish(
        self, own: str, outputs: dict[str, bytes], *, exit_code: int = 0, **fields: Any
    ) -> None:
        """Let a job be over: its log is listed first, the archive of outputs after it."""
        log, archive = self.written[own], a_tar(outputs)
        self.files[own, 0], self.files[own, 1] = log, archive
        self.logs[own].put_nowait(None)
        listed = [
            {"filename": "algorithm.log", "filesize": len(log), "type": "algorithmLog", "index": 0},
            {"filename": "outputs.tar", "filesize": len(archive), "type": "output", "index": 1},
        ]
        ended = {
            "status": 71,
            "statusText": "Job settling",
            "dateFinished": str(time.time()),
            "results": listed,
            "terminationDetails": {"exitCode": exit_code, "OOMKilled": False},
        }
        self.set(own, **(ended | fields))


def parsed(response: web.Response) -> Any:
    assert response.text is not None
    return json.loads(response.text)
