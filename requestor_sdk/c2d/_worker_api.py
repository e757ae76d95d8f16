"""The worker API: the queue of runs over HTTP, for workers on other hosts.

It is an app of its own with one versioned OpenAPI document, to be mounted at ``/worker/v1``.
Whoever shows no worker's token sees nothing of it, not even which paths there are; a worker sees
its own attempts alone. One call needs no token: ``hello``, by which the server proves itself first.
"""

from __future__ import annotations

import asyncio
import secrets
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

from fastapi import APIRouter, FastAPI, Header, Path, Query, Request, Response, Security
from fastapi.exceptions import HTTPException
from fastapi.responses import JSONResponse, StreamingResponse
from fastapi.security import HTTPBearer

from requestor_sdk.c2d import _worker_schemas as wire
from requestor_sdk.c2d._http.held import held
from requestor_sdk.c2d._worker_guard import Guard, install
from requestor_sdk.c2d._worker_tokens import WorkerTokens
from requestor_sdk.model.errors import JobNotFound, WorkerRefused
from requestor_sdk.model.fields import from_json, to_json
from requestor_sdk.model.worker_token import proof_of
from requestor_sdk.ports.worker import (
    WORKER_API,
    Completion,
    Lease,
    Room,
    RunEvent,
    WorkerInfo,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from requestor_sdk.c2d._queue import DurableQueue
    from requestor_sdk.c2d._store.port import Store

T = TypeVar("T")

PREFIX: Final = f"/worker/v{WORKER_API}"
"""Where the app is mounted."""

FENCE: Final = "Fence"
"""The header that every call about an attempt carries."""

LOG_LIMIT: Final = 4 << 20
"""Bytes of a log that one call may bring."""

_OCTETS: Final = "application/octet-stream"
_BYTES: Final = {"type": "string", "format": "binary"}
_BODY: Final[dict[str, Any]] = {
    "requestBody": {"required": True, "content": {_OCTETS: {"schema": _BYTES}}}
}

WorkerId = Annotated[str, Path(description="The worker that the token is of.", max_length=128)]
RunId = Annotated[str, Path(max_length=128)]
Number = Annotated[int, Path(description="The attempt's number.", ge=0, le=1 << 31)]
Fence = Annotated[str, Header(description="The attempt's fence.", max_length=256)]
FileName = Annotated[str, Query(min_length=1, max_length=4096)]


def worker_app(
    queue: DurableQueue, store: Store, *, ending: asyncio.Event | None = None
) -> FastAPI:
    """Return the app over a queue; who made that opens and closes it.

    Args:
        queue: What is given out.
        store: The store that the queue has; the tokens are in it, too.
        ending: Set once the server is to end: calls that are held are answered then.
    """
    app = FastAPI(
        title="requestor_sdk: worker API",
        version=f"{WORKER_API}.0.0",
        description=str(__doc__).partition("\n\n")[2],
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        openapi_url="/openapi.json",
    )
    tokens = WorkerTokens(store)
    install(app)
    app.include_router(WorkerCalls(queue, tokens, ending or asyncio.Event()).router())
    app.add_middleware(Guard, tokens=tokens, json_limit=LOG_LIMIT)
    return app


class WorkerCalls:
    """The handlers, over a queue."""

    def __init__(self, queue: DurableQueue, tokens: WorkerTokens, ending: asyncio.Event) -> None:
        self._queue = queue
        self._tokens = tokens
        self._ending = ending

    def router(self) -> APIRouter:
        """Return the routes."""
        refused: dict[int | str, dict[str, Any]] = {
            status: {"model": wire.Refusal} for status in (400, 401, 403, 404, 413, 422, 503)
        }
        lost: dict[int | str, dict[str, Any]] = {
            409: {"model": wire.Refusal, "description": "The attempt is lost."}
        }
        none: dict[str, Any] = {"status_code": 204, "response_class": Response}
        whole = APIRouter(responses=refused)
        whole.post("/hello", response_model=wire.HelloAnswer)(self.hello)
        # The guard has looked at the token by then: this is for the document.
        router = APIRouter(dependencies=[Security(HTTPBearer(auto_error=False))])
        router.put("/workers/{worker_id}", **none)(self.heartbeat)
        router.post(
            "/workers/{worker_id}/claims",
            response_model=wire.ClaimAnswer,
            responses={204: {"description": "Nothing that fits came in time."}},
        )(self.claim)
        router.post("/workers/{worker_id}/renewals", response_model=wire.RenewAnswer)(self.renew)
        router.post("/workers/{worker_id}/stops", response_model=wire.StopsAnswer)(self.stops)
        router.get("/runs/{run_id}/state", response_model=wire.StateAnswer)(self.run_state)

        attempt = APIRouter(prefix="/runs/{run_id}/attempts/{attempt}", responses=lost)
        attempt.post("/release", **none)(self.release)
        attempt.post("/events", **none)(self.event)
        attempt.post("/log", **none, openapi_extra=_BODY)(self.log)
        attempt.get(
            "/inputs",
            response_class=Response,
            responses={200: {"content": {_OCTETS: {"schema": _BYTES}}}},
        )(self.fetch)
        attempt.put("/outputs", response_model=wire.FileBody, openapi_extra=_BODY)(self.upload)
        attempt.post("/complete", **none)(self.complete)
        router.include_router(attempt)
        whole.include_router(router)
        return whole

    async def hello(self, body: wire.HelloBody) -> JSONResponse:
        """Prove that this server knows the token of a worker, before the worker shows it.

        The answer for a worker that is not known here is as good as a random one.
        """
        digest = await self._tokens.digest(body.worker_id) or secrets.token_hex(32)
        proof = proof_of(digest, body.worker_id, body.challenge)
        return JSONResponse({"version": WORKER_API, "proof": proof})

    async def heartbeat(
        self, request: Request, worker_id: WorkerId, body: wire.WorkerBody
    ) -> Response:
        """Register a worker, or show that it lives.

        A session that is new takes from the worker what its former one held.
        """
        _check(request, worker_id)
        info = {**body.model_dump(mode="json"), "id": worker_id}
        await self._queue.heartbeat(from_json(WorkerInfo, info))
        return Response(status_code=204)

    async def claim(self, request: Request, worker_id: WorkerId, body: wire.ClaimBody) -> Response:
        """Take the first run that fits, waiting for one."""
        _check(request, worker_id)
        claim = await held(
            request,
            self._queue.claim(
                worker_id=worker_id,
                session=body.session,
                claim_id=body.claim_id,
                free=body.free.to(Room),
                wait=body.wait,
            ),
            ending=self._ending,
        )
        return Response(status_code=204) if claim is None else JSONResponse(to_json(claim))

    async def renew(
        self, request: Request, worker_id: WorkerId, body: wire.RenewBody
    ) -> JSONResponse:
        """Hold leases on."""
        _check(request, worker_id)
        leases = [(held.lease.to(Lease), held.progress) for held in body.leases]
        states = await self._queue.renew(worker_id, leases)
        return JSONResponse({"states": to_json(states)})

    async def stops(
        self, request: Request, worker_id: WorkerId, body: wire.StopsBody
    ) -> JSONResponse:
        """Wait for leases whose end is asked for."""
        _check(request, worker_id)
        leases = await held(
            request,
            self._queue.stops(
                worker_id=worker_id, session=body.session, known=body.known, wait=body.wait
            ),
            ending=self._ending,
        )
        return JSONResponse({"leases": to_json(leases or ())})

    async def release(
        self,
        request: Request,
        run_id: RunId,
        attempt: Number,
        fence: Fence,
        body: wire.ReleaseBody,
    ) -> Response:
        """Hand a run back undone."""
        lease = Lease(run_id=run_id, attempt=attempt, fence=fence)
        await self._queue.release(lease, body.reason, worker_id=_worker(request))
        return Response(status_code=204)

    async def event(
        self,
        request: Request,
        run_id: RunId,
        attempt: Number,
        fence: Fence,
        body: wire.EventBody,
    ) -> Response:
        """Tell of something; one of a number that was told before counts once."""
        lease = Lease(run_id=run_id, attempt=attempt, fence=fence)
        await self._queue.event(lease, body.to(RunEvent), worker_id=_worker(request))
        return Response(status_code=204)

    async def log(
        self,
        request: Request,
        run_id: RunId,
        attempt: Number,
        fence: Fence,
        offset: Annotated[int, Query(ge=0, le=1 << 53)],
    ) -> Response:
        """Append to the log what begins at an offset of it; what is there stays."""
        lease = Lease(run_id=run_id, attempt=attempt, fence=fence)
        data = await request.body()
        await self._queue.log(lease, offset, data, worker_id=_worker(request))
        return Response(status_code=204)

    async def fetch(
        self, request: Request, run_id: RunId, attempt: Number, fence: Fence, name: FileName
    ) -> Response:
        """Stream an input file."""
        lease = Lease(run_id=run_id, attempt=attempt, fence=fence)
        chunks = self._queue.fetch(lease, name, worker_id=_worker(request))
        try:
            # What is wrong is known with the first piece: it can still be answered.
            first = await anext(chunks)
        except StopAsyncIteration:
            first = b""
        return StreamingResponse(_after(first, chunks), media_type=_OCTETS)

    async def upload(
        self, request: Request, run_id: RunId, attempt: Number, fence: Fence, name: FileName
    ) -> JSONResponse:
        """Keep an output file; the same name replaces what came before."""
        lease = Lease(run_id=run_id, attempt=attempt, fence=fence)
        kept = await self._queue.upload(lease, name, request.stream(), worker_id=_worker(request))
        return JSONResponse(to_json(kept))

    async def complete(
        self,
        request: Request,
        run_id: RunId,
        attempt: Number,
        fence: Fence,
        body: wire.CompletionBody,
    ) -> Response:
        """End an attempt. Told twice with the same fence, it counts once."""
        lease = Lease(run_id=run_id, attempt=attempt, fence=fence)
        try:
            await self._queue.complete(lease, body.to(Completion), worker_id=_worker(request))
        except ValueError as error:
            raise HTTPException(400, str(error)) from None
        return Response(status_code=204)

    async def run_state(self, request: Request, run_id: RunId) -> JSONResponse:
        """Tell how a run stands that the worker has, or had, an attempt at."""
        attempts = await self._queue.attempts(run_id)
        if not any(each.worker_id == _worker(request) for each in attempts):
            raise JobNotFound("this worker has no such run", ids={"run": run_id})
        return JSONResponse({"state": to_json(await self._queue.run_state(run_id))})


def _worker(request: Request) -> str:
    """Return the worker whose token came with a request."""
    worker: str = request.state.worker
    return worker


def _check(request: Request, worker_id: str) -> None:
    if worker_id != _worker(request):
        raise WorkerRefused("the token is another worker's")


async def _after(first: bytes, rest: AsyncGenerator[bytes]) -> AsyncIterator[bytes]:
    async with aclosing(rest):
        if first:
            yield first
        async for chunk in rest:
            yield chunk
