"""The calls about jobs: start, status, stop, delete, results, logs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from requestor_sdk.c2d import _walk
from requestor_sdk.c2d._http import schemas
from requestor_sdk.c2d._http.held import held
from requestor_sdk.c2d._http.reading import (
    BadRequest,
    claimed,
    json_body,
    number,
    parameters,
    required,
    text,
    whole,
)
from requestor_sdk.c2d._http.streaming import FileAnswer
from requestor_sdk.c2d.environments import choose
from requestor_sdk.model.errors import JobNotFound, JobRefused
from requestor_sdk.model.jobs import JobCode
from requestor_sdk.ocean.extensions import ATTEMPT, LONGEST_WAIT_SEC, SEEN, WAIT
from requestor_sdk.ocean.messages import (
    Command,
    command_text,
    is_address,
    job_text,
    result_text,
    start_text,
)
from requestor_sdk.ocean.requests import request_in
from requestor_sdk.ocean.statuses import job_object, text_of
from requestor_sdk.ocean.statuses import number as numeric

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from requestor_sdk.c2d.auth import Auth
    from requestor_sdk.c2d.core import JobCore
    from requestor_sdk.c2d.records import JobRecord
    from requestor_sdk.model.jobs import JobRequest

_SHORTENED: Final = 16
_MOST: Final = 1000
_MOST_RESULTS: Final = 10_000
"""An answer that lists jobs goes not much further once it has so many results of them."""


class JobCalls:
    """The handlers, over a core."""

    def __init__(self, core: JobCore, auth: Auth) -> None:
        self._core = core
        self._auth = auth

    def router(self) -> APIRouter:
        """Return the routes."""
        router = APIRouter(prefix="/api/services", tags=["jobs"])
        start = schemas.described(
            body=schemas.START, answer=schemas.JOBS, errors=(400, 401, 404, 413, 429, 503)
        )
        signed = ("consumerAddress", "nonce", "signature")
        router.post("/compute", name="computeStart", openapi_extra=start)(self.start)
        router.post("/freeCompute", name="freeCompute", openapi_extra=start)(self.start_free)
        router.get(
            "/compute",
            name="computeStatus",
            openapi_extra=schemas.described(
                "consumerAddress",
                "jobId",
                "documentId",
                "agreementId",
                WAIT,
                SEEN,
                ATTEMPT,
                "history",
                answer=schemas.JOBS,
            ),
        )(self.status)
        act = schemas.described(*signed, "jobId", "documentId", needed=signed, answer=schemas.JOBS)
        router.put("/compute", name="computeStop", openapi_extra=act)(self.stop)
        router.delete("/compute", name="computeDelete", openapi_extra=act)(self.delete)
        router.get(
            "/computeResult",
            name="computeResult",
            openapi_extra=schemas.described(
                *signed,
                "jobId",
                "index",
                needed=(*signed, "jobId"),
                media=("application/octet-stream", "text/plain"),
                answer={"type": "string", "format": "binary"},
                errors=(400, 401, 404, 416),
            ),
        )(self.result)
        router.get(
            "/computeStreamableLogs",
            name="computeStreamableLogs",
            openapi_extra=schemas.described(
                *signed,
                "jobId",
                "offset",
                needed=(*signed, "jobId"),
                media=("text/plain",),
                answer={"type": "string"},
                errors=(400, 401, 404),
            ),
        )(self.logs)
        return router

    async def start(self, request: Request) -> Response:
        """Start a job, or start one that is over once more."""
        return await self._start(request, (Command.start,), free=False)

    async def start_free(self, request: Request) -> Response:
        """Start a job in an environment that costs nothing."""
        return await self._start(request, (Command.free_start, Command.start), free=True)

    async def _start(
        self, request: Request, commands: Sequence[Command], *, free: bool
    ) -> Response:
        body = await json_body(request)
        who = claimed(request, body)
        job_id = text(body, "jobId")
        asked = None if job_id and not body.get("algorithm") else request_in(body)
        did = asked.datasets[0].did if asked and asked.datasets else ""
        _check_services(body)
        # Without a document the older message is that of a token, too: today's alone will do.
        texts = [start_text(who.address, did, who.nonce)] if did else []
        texts += [command_text(who.address, who.nonce, command) for command in commands]
        if job_id:
            texts.append(job_text(who.address, job_id, did, who.nonce))
        if free and asked is not None:
            self._check_free(asked.environment)
        if asked is not None:
            asked = self._fitting(asked, _needs(body.get("resources")))
        owner = await self._auth.caller(who, texts, once=bool(job_id))
        if job_id:
            record = await self._core.restart(owner, job_id)
        else:
            assert asked is not None
            record = await self._core.submit(owner, asked, shown_owner=who.address)
        return JSONResponse([self._object(record, request)])

    def _check_free(self, environment: str) -> None:
        known = {one.id: one.free for one in self._core.specs}
        if environment and not known.get(environment, True):
            raise JobRefused(
                "the environment has a price: freeCompute is for those that have none",
                reasons={"environment": "not_free"},
            )

    def _fitting(self, asked: JobRequest, needs: Mapping[str, float]) -> JobRequest:
        """Return a request with the environment that gives what it asks for; refuse it else."""
        if not needs:
            return asked
        specs, name = self._core.specs, asked.environment
        fits = choose(specs, name, duration=asked.max_duration, needs=needs)
        spec = fits or choose(specs, "", duration=asked.max_duration)
        if spec is not None and (lacking := spec.lacks(needs)) is not None:
            most = spec.gives.get(lacking, 0.0)
            raise JobRefused(
                f"Not enough {lacking} resources. "
                f"Requested {needs[lacking]:g}, but max is {most:g}",
                reasons={f"resources.{lacking}": "too_much"},
            )
        return asked if fits is None else replace(asked, environment=fits.id)

    async def status(self, request: Request) -> Response:
        """Tell how jobs stand; without a signature, as all servers do."""
        values = dict(request.query_params)
        job_id, did = text(values, "jobId"), text(values, "documentId")
        agreement = text(values, "agreementId")
        address = text(values, "consumerAddress")
        if not job_id:
            required(values, "consumerAddress")
        owner = address.lower()
        if address and not is_address(address):
            return JSONResponse([])
        if not job_id:
            found = await self._core.jobs(
                owner, did=did or None, limit=_MOST, results=_MOST_RESULTS
            )
            made = [self._object(one, request) for one in found if _of(one, agreement)]
            return JSONResponse(made)
        try:
            record = await self._core.found(job_id, owner=owner or None)
            if WAIT in values and record.finished is None:
                record = await self._held(request, record, values)
        except JobNotFound:
            return JSONResponse([])
        if (did and did not in record.dids) or not _of(record, agreement):
            return JSONResponse([])
        job = self._object(record, request)
        if text(values, "history") in ("true", "1"):
            times = await self._core.statuses(record.owner, job_id)
            job["statuses"] = [
                {"status": code, "statusText": text_of(code), "date": f"{at:.6f}"}
                for code, at in times
            ]
        return JSONResponse([job])

    async def _held(
        self, request: Request, record: JobRecord, values: Mapping[str, Any]
    ) -> JobRecord:
        """Return a job once its status is another than the caller has seen."""
        seconds = number(values, WAIT, default=0, least=0, most=1e6)
        seen = whole(values, SEEN, default=record.code)
        seconds = min(seconds, LONGEST_WAIT_SEC)
        attempt = whole(values, ATTEMPT, default=_walk.attempt_of(record))
        other = self._core.other_than(record, seen, attempt=attempt, timeout=seconds)
        return await held(request, other) or record

    async def stop(self, request: Request) -> Response:
        """Stop a job, or all of the caller's on a document."""
        owner, found = await self._meant(request, (Command.stop,))
        made: list[dict[str, Any]] = []
        for one in found:
            was_open = one.finished is None
            record = await self._core.stop(owner, one.id)
            shown = self._object(record, request)
            if was_open:
                shown |= {"status": int(JobCode.stopped), "statusText": text_of(JobCode.stopped)}
            made.append(shown)
        return JSONResponse(made)

    async def delete(self, request: Request) -> Response:
        """Stop a job, or all of the caller's on a document, and remove everything of them."""
        owner, found = await self._meant(request, ())
        made: list[dict[str, Any]] = []
        for one in found:
            record = await self._core.delete(owner, one.id)
            shown = self._object(record or one, request)
            shown |= {
                "status": int(JobCode.deleted),
                "statusText": text_of(JobCode.deleted),
                "results": [],
                "resultsUrls": [],
                "algorithmLogUrl": "",
                "removed": 1,
            }
            made.append(shown)
        return JSONResponse(made)

    async def _meant(
        self, request: Request, commands: Sequence[Command]
    ) -> tuple[str, Sequence[JobRecord]]:
        values = await parameters(request)
        who = claimed(request, values)
        job_id, did = text(values, "jobId"), text(values, "documentId")
        if not job_id and not did:
            required(values, "jobId")
        texts = [job_text(who.address, job_id, did, who.nonce)]
        # Clients name the document and leave it out of what they sign, or the other way round.
        if job_id and did:
            texts.append(job_text(who.address, job_id, "", who.nonce))
        texts += [command_text(who.address, who.nonce, command) for command in commands]
        owner = await self._auth.caller(who, texts, once=True)
        if not job_id:
            return owner, await self._core.jobs(owner, did=did, limit=_MOST)
        try:
            record = await self._core.record(owner, job_id)
        except JobNotFound:
            return owner, []
        return owner, [record] if not did or did in record.dids or not record.dids else []

    async def result(self, request: Request) -> Response:
        """Send a result, or a part of it."""
        values = dict(request.query_params)
        required(values, "jobId")
        who = claimed(request, values)
        job_id, index = text(values, "jobId"), text(values, "index")
        place = whole(values, "index")
        older = result_text(who.address, job_id, index, who.nonce)
        owner = await self._auth.caller(
            who,
            [older, command_text(who.address, who.nonce, Command.result)],
            # With nothing or a zero before it a nonce stays what it is: it was used up.
            kept=older if place > 0 else "",
            once=True,
        )
        try:
            found = await self._core.result(owner, job_id, place)
        except JobNotFound as error:
            if error.ids.get("job") == job_id and not error.message.startswith("there is"):
                raise
            mismatch = f"Owner {who.address} mismatch for job {job_id[:64]}"
            raise JobNotFound(mismatch) from None
        kind = "text/plain" if found.file.type != "output" else "application/octet-stream"
        try:
            return FileAnswer(
                found.path,
                name=found.file.name,
                media_type=kind,
                asked=request.headers.get("Range"),
            )
        except OSError:
            raise JobNotFound("No results for job") from None

    async def logs(self, request: Request) -> Response:
        """Send what the algorithm writes, as it comes, until the job is over."""
        values = dict(request.query_params)
        required(values, "jobId")
        who = claimed(request, values)
        job_id = text(values, "jobId")
        offset = whole(values, "offset")
        if offset < 0:
            raise BadRequest("Validation error", fields={"offset": "It must not be negative."})
        owner = await self._auth.caller(who, [command_text(who.address, who.nonce, Command.logs)])
        await self._core.record(owner, job_id)
        return StreamingResponse(
            self._log(owner, job_id, offset),
            media_type="text/plain; charset=utf-8",
            headers={"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"},
        )

    async def _log(self, owner: str, job_id: str, offset: int) -> AsyncIterator[bytes]:
        try:
            async for data in self._core.logs(owner, job_id, offset=offset):
                yield data
        except JobNotFound:
            return  # It was deleted meanwhile: what there was has been sent.

    def _object(self, record: JobRecord, request: Request) -> dict[str, Any]:
        facts = record.facts
        duration = facts.get("duration")
        metadata = facts.get("metadata")
        exit_code = facts.get("exit_code")
        made: dict[str, Any] = job_object(
            _walk.status_of(record),
            input_dids=list(record.dids),
            algorithm_did=str(facts.get("algorithm") or "raw"),
            agreement_id=str(facts.get("order") or ""),
            base_url=_base_url(request),
            max_duration=float(duration) if isinstance(duration, int | float) else 0.0,
            is_free=bool(facts.get("free")),
            stop_asked=record.stop == 1,
            metadata=metadata if isinstance(metadata, dict) else None,
        )
        made["terminationDetails"] = {"exitCode": exit_code, "OOMKilled": bool(facts.get("oom"))}
        return made


def _needs(resources: object) -> dict[str, float]:
    """Return what a node's client asks for, by its names."""
    return {
        str(one.get("id"))[:100]: numeric(one.get("amount")) or 0.0
        for one in (resources if isinstance(resources, list) else ())
        if isinstance(one, dict)
    }


def _of(record: JobRecord, agreement: str) -> bool:
    """Tell whether an ``agreementId`` means a job: clients put its order or its document there."""
    known = (record.id, record.facts.get("order"), *record.dids)
    return not agreement or agreement in known


def _check_services(body: Mapping[str, Any]) -> None:
    """Demand of a classic call what the classic Provider demands: each dataset's service."""
    if body.get("datasets") is not None:
        return
    dataset = body.get("dataset")
    if isinstance(dataset, dict) and not dataset.get("serviceId"):
        raise JobRefused(
            "the dataset's service is not named", reasons={"dataset.serviceId": "missing"}
        )


def _base_url(request: Request) -> str:
    return f"{request.url.scheme}://{request.headers.get('host', '')}"
