"""The HTTP face. Parses requests, asks the desk, writes answers; decides nothing about calls.

Routes by hand, on aiohttp's bare server: a router and middlewares would be half the time of a
trivial call.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from aiohttp import web
from pydantic import ValidationError

from requestor_sdk.handlers import _metrics
from requestor_sdk.handlers._events import stream_events
from requestor_sdk.handlers._logger import logger, where
from requestor_sdk.handlers._model import (
    CallConflict,
    HandlersClosed,
    HandlersFull,
    Outcome,
    Status,
    is_call_id,
)
from requestor_sdk.handlers._openapi import openapi, page

if TYPE_CHECKING:
    from requestor_sdk.handlers._calls import Call
    from requestor_sdk.handlers._desk import CallDesk
    from requestor_sdk.handlers._lane import Lane
    from requestor_sdk.handlers._program import Program

WAIT_SEC: Final = 300.0
"""Seconds at most that ``Prefer: wait=N`` waits."""
BODY_SEC: Final = 60.0
"""Seconds that a body may take to come."""
_JSON: Final = "application/json"
_CODES: Final = {
    Status.succeeded: 200,
    Status.failed: 500,
    Status.timed_out: 504,
    Status.cancelled: 409,
    Status.rejected: 503,
}
"""What ``/call`` answers, by how the call ended."""

Answer = Awaitable[web.StreamResponse]


class _Refused(Exception):
    """A request that is answered with an error.

    Attributes:
        code: HTTP status.
        detail: Text, or a list of what does not fit.
        headers: More headers.
    """

    def __init__(self, code: int, detail: object, headers: dict[str, str] | None = None) -> None:
        super().__init__(code)
        self.code = code
        self.detail = detail
        self.headers = headers


def reply(body: bytes, code: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """Return an answer in JSON."""
    return web.Response(body=body, status=code, headers=headers, content_type=_JSON)


def document(call: Call) -> bytes:
    """Return a call as JSON."""
    outcome = call.outcome
    shown: dict[str, Any] = {
        "task_address": call.id,
        "function": call.lane.spec.name,
        "status": call.status,
        "attempt": call.attempt,
        "accepted_at": call.accepted_at,
        "started_at": call.started_at,
        "finished_at": call.finished_at if outcome else None,
        "error": outcome.error.document() if outcome and outcome.error else None,
    }
    text = json.dumps(shown).encode()
    # The output is JSON already: it is not parsed to be written again.
    output = outcome.output if outcome and outcome.output is not None else b"null"
    return text[:-1] + b', "output": ' + output + b"}"


def ended(call: Call) -> tuple[int, dict[str, str], bytes]:
    """Return what ``/call`` answers at an end: status, more headers, body."""
    outcome = call.outcome
    assert outcome is not None
    if outcome.error is None:
        return 200, {}, outcome.output or b"null"
    shown = {"status": outcome.status, "error": outcome.error.document()}
    more = {"Retry-After": "1"} if outcome.status is Status.rejected else {}
    return _CODES[outcome.status], more, json.dumps(shown).encode()


class Face:
    """Answers requests.

    Args:
        program: Whose.
        title: What the OpenAPI document calls it.
    """

    def __init__(self, program: Program, title: str) -> None:
        self._program = program
        self._desk: CallDesk = program.desk
        self._title = title
        self._openapi: bytes | None = None
        self._plain: dict[str, Callable[[web.BaseRequest], Answer]] = {
            "livez": self._live,
            "readyz": self._ready,
            "metrics": self._metrics,
            "openapi.json": self._schema,
            "docs": self._docs,
        }

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request."""
        try:
            return await self._route(request)
        except _Refused as refused:
            body = json.dumps({"detail": refused.detail}).encode()
            return reply(body, refused.code, refused.headers)
        except web.HTTPRequestEntityTooLarge:
            limit = self._program.options.body_limit
            body = json.dumps({"detail": f"the body is larger than {limit} bytes"}).encode()
            return reply(body, 413)
        except asyncio.CancelledError:
            raise
        except (ConnectionError, web.HTTPException):
            raise
        except Exception as error:  # noqa: BLE001 - the last place that can answer
            logger.critical("a request failed: %s at %s", type(error).__name__, where(error))
            return reply(b'{"detail": "Internal Server Error"}', 500)

    def _route(self, request: web.BaseRequest) -> Answer:
        path = request.raw_path.partition("?")[0]
        if not path.startswith("/"):
            raise _Refused(404, "Not Found")
        parts = path[1:].split("/")
        if "%" in path:
            parts = [_decoded(part) for part in parts]
        match parts:
            case ["call", name] if name in self._desk.lanes:
                return _only(request, "POST", self._call(request, self._desk.lanes[name]))
            case ["run", name, call_id] if name in self._desk.lanes and call_id:
                lane = self._desk.lanes[name]
                return _only(request, "POST", self._run(request, lane, call_id))
            case ["tasks", call_id] if call_id:
                return self._task(request, call_id)
            case ["tasks", call_id, "events"] if call_id:
                return _only(request, "GET", self._events(request, call_id))
            case ["tasks", call_id, "cancel"] if call_id:
                return _only(request, "POST", self._cancel(call_id))
            case [name] if name in self._plain:
                return _only(request, "GET", self._plain[name](request))
        raise _Refused(404, "Not Found")

    # Calls ---------------------------------------------------------------------------------------

    async def _input(self, request: web.BaseRequest, lane: Lane) -> tuple[bytes, Any]:
        if request.content_type != _JSON and not request.content_type.endswith("+json"):
            raise _Refused(
                422, [_wrong("content_type", ["header"], "the body must be application/json")]
            )
        limit = self._program.options.body_limit
        if (request.content_length or 0) > limit:
            raise _Refused(413, f"the body is larger than {limit} bytes")
        await _continue(request)
        try:
            async with asyncio.timeout(BODY_SEC):
                body = await request.read()
        except TimeoutError:
            raise _Refused(408, f"the body did not come within {BODY_SEC:g} seconds") from None
        except web.RequestPayloadError as error:
            raise _Refused(400, "the body broke off, or is not encoded as it says") from error
        try:
            return body, lane.codec.read(body)
        except ValidationError as error:
            lane.metrics.invalid += 1
            found = error.errors(include_url=False, include_input=False, include_context=False)
            raise _Refused(
                422, [_wrong(e["type"], ["body", *e["loc"]], e["msg"]) for e in found]
            ) from None
        except Exception as error:  # noqa: BLE001 - a model's own validators can raise anything
            lane.metrics.invalid += 1
            logger.task_fail("reading an input raised %s at %s", type(error).__name__, where(error))
            said = f"reading it raised {type(error).__name__}"
            raise _Refused(422, [_wrong("validator", ["body"], said)]) from None

    async def _taken(
        self, request: web.BaseRequest, lane: Lane, call_id: str, *, notify: bool
    ) -> Call:
        body, value = await self._input(request, lane)
        try:
            return await self._desk.accept(lane, call_id, body, value, notify=notify)
        except CallConflict:
            raise _Refused(409, "this id belongs to another call") from None
        except HandlersClosed as closed:
            why = self._program.not_ready() or str(closed)
            raise _Refused(503, why, {"Retry-After": str(closed.retry_after)}) from None
        except HandlersFull as full:
            raise _Refused(429, str(full), {"Retry-After": str(full.retry_after)}) from None

    async def _run(self, request: web.BaseRequest, lane: Lane, call_id: str) -> web.StreamResponse:
        if "/" in call_id:
            raise _Refused(404, "Not Found")
        _check_id(call_id, ["path", "task_address"])
        seconds = _wait(request)
        call = await self._taken(request, lane, call_id, notify=True)
        headers = {"Location": f"/tasks/{_quoted(call_id)}"}
        if seconds is not None:
            headers["Preference-Applied"] = f"wait={seconds:g}"
            if await self._desk.wait(call, seconds) is not None:
                return reply(document(call), 200, headers)
        shown = {"task_address": call_id, "status": "accepted"}
        return reply(json.dumps(shown).encode(), 202, headers)

    async def _call(self, request: web.BaseRequest, lane: Lane) -> web.StreamResponse:
        chosen = request.headers.get("Idempotency-Key")
        if chosen is not None:
            _check_id(chosen, ["header", "Idempotency-Key"])
        call_id = chosen or self._desk.new_id()
        call = await self._taken(request, lane, call_id, notify=False)
        if lane.spec.shape.streams and "text/event-stream" in request.headers.get("Accept", ""):
            return await stream_events(request, call)
        seconds = _wait(request)
        if seconds is None:
            outcome: Outcome | None = await call.over()
        else:
            outcome = await self._desk.wait(call, seconds)
        headers = {"X-Task-Address": _quoted(call_id)}
        if outcome is None:
            shown = {"task_address": call_id, "status": call.status}
            return reply(
                json.dumps(shown).encode(),
                202,
                {**headers, "Location": f"/tasks/{_quoted(call_id)}"},
            )
        code, more, answer = ended(call)
        return reply(answer, code, {**headers, **more})

    async def _found(self, call_id: str) -> Call:
        call = await self._desk.find(call_id) if is_call_id(call_id) else None
        if call is None:
            raise _Refused(404, "no such task, or its end is kept no longer")
        return call

    def _task(self, request: web.BaseRequest, call_id: str) -> Answer:
        if request.method in ("GET", "HEAD"):
            return self._look(request, call_id)
        if request.method == "DELETE":
            return self._cancel(call_id)
        raise _Refused(405, "Method Not Allowed", {"Allow": "GET, DELETE"})

    async def _look(self, request: web.BaseRequest, call_id: str) -> web.StreamResponse:
        seconds = _wait(request)
        call = await self._found(call_id)
        await self._desk.wait(call, seconds or 0.0)
        return reply(document(call))

    async def _cancel(self, call_id: str) -> web.StreamResponse:
        call = await self._found(call_id)
        await self._desk.cancel(call, "it was cancelled by a request")
        return reply(document(call))

    async def _events(self, request: web.BaseRequest, call_id: str) -> web.StreamResponse:
        return await stream_events(request, await self._found(call_id))

    # About the program ---------------------------------------------------------------------------

    async def _live(self, _request: web.BaseRequest) -> web.StreamResponse:
        alive = self._program.phase != "failed"
        shown = {"status": "alive" if alive else "failed", "reason": self._program.failure or None}
        return reply(json.dumps(shown).encode(), 200 if alive else 503)

    async def _ready(self, _request: web.BaseRequest) -> web.StreamResponse:
        await self._program.look_again()
        why = self._program.not_ready()
        shown = {
            "status": "ready" if why is None else "not ready",
            "reason": why,
            "phase": self._program.phase,
            **self._desk.status_counts(),
        }
        headers = None if why is None else {"Retry-After": "1"}
        return reply(json.dumps(shown).encode(), 200 if why is None else 503, headers)

    async def _metrics(self, _request: web.BaseRequest) -> web.StreamResponse:
        text = _metrics.text(self._program.samples())
        return web.Response(
            body=text.encode(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        )

    async def _schema(self, _request: web.BaseRequest) -> web.StreamResponse:
        if self._openapi is None:
            made = openapi(self._program.specs.values(), self._title)
            self._openapi = json.dumps(made).encode()
        return reply(self._openapi)

    async def _docs(self, _request: web.BaseRequest) -> web.StreamResponse:
        text = page(self._program.specs.values(), self._title)
        return web.Response(text=text, content_type="text/html")


def _only(request: web.BaseRequest, method: str, answer: Any) -> Answer:
    if request.method == method or (method == "GET" and request.method == "HEAD"):
        made: Answer = answer
        return made
    answer.close()
    raise _Refused(405, "Method Not Allowed", {"Allow": method})


async def _continue(request: web.BaseRequest) -> None:
    """Tell a client that asks before it sends a body to send it: curl waits a second for that."""
    expected = request.headers.get("Expect")
    if expected is None or request.version < (1, 1):
        return
    if expected.strip().lower() != "100-continue":
        raise _Refused(417, "only 100-continue can be expected")
    if request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")


def _decoded(part: str) -> str:
    try:
        return unquote(part, errors="strict")
    except UnicodeDecodeError:
        raise _Refused(404, "Not Found") from None


def _quoted(call_id: str) -> str:
    from urllib.parse import quote

    return (
        call_id if call_id.isascii() and call_id.replace("-", "").isalnum() else quote(call_id, "")
    )


def _check_id(call_id: str, loc: list[Any]) -> None:
    if not is_call_id(call_id):
        said = "1 to 200 characters, no slash, no control characters"
        raise _Refused(422, [_wrong(str(loc[-1]), loc, said)])


def _wrong(kind: str, loc: list[Any], message: str) -> dict[str, Any]:
    return {"type": kind, "loc": loc, "msg": message}


def _wait(request: web.BaseRequest) -> float | None:
    """Return the seconds of ``Prefer: wait=N``; 0 of ``respond-async``; ``None`` of neither."""
    prefer = request.headers.get("Prefer")
    if prefer is None:
        return None
    for preference in prefer.replace(";", ",").split(","):
        name, _, value = preference.strip().partition("=")
        value = value.strip().strip('"')
        if name.strip().lower() == "wait" and value.isascii() and value.isdigit():
            return min(float(value[:6]), WAIT_SEC)
        if name.strip().lower() == "respond-async":
            return 0.0
    return None
