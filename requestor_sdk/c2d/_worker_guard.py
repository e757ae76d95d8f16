"""What stands before the worker API: tokens, the size of bodies, and how refusals are told.

No answer and no log holds a token, a fence, or what a body said.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from requestor_sdk.model.errors import (
    JobNotFound,
    JobRefused,
    LeaseLost,
    RequestorError,
    StoreFailed,
    WorkerRefused,
)

if TYPE_CHECKING:
    from fastapi import FastAPI, Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from requestor_sdk.c2d._worker_tokens import WorkerTokens

_log = logging.getLogger(__name__)

_BEARER: Final = b"bearer "
_OPEN: Final = "/hello"
_STREAMED: Final = "/outputs"
_WORDS: Final = {400: "invalid", 401: "refused", 403: "refused", 404: "not_found", 413: "too_large"}


class Guard:
    """Lets requests through that show a worker's token, and notes whose it is.

    Args:
        app: What is guarded.
        tokens: The workers' tokens.
        json_limit: Bytes that a body may have that is no file.
    """

    def __init__(self, app: ASGIApp, *, tokens: WorkerTokens, json_limit: int) -> None:
        self._app, self._tokens, self._limit = app, tokens, json_limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            return
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if path != _OPEN:
            try:
                worker = await self._worker(scope)
            except StoreFailed as error:
                # Not a refusal: a worker that is refused stops for good.
                await _unavailable(error)(scope, receive, send)
                return
            if worker is None:
                answer = _refusal(401, "refused", "this needs the token of a worker")
                answer.headers["WWW-Authenticate"] = "Bearer"
                await answer(scope, receive, send)
                return
            scope.setdefault("state", {})["worker"] = worker
        if scope["method"] != "PUT" or not path.endswith(_STREAMED):
            receive = _limited(receive, self._limit)
        await self._app(scope, receive, send)

    async def _worker(self, scope: Scope) -> str | None:
        for name, value in scope["headers"]:
            if name == b"authorization" and value[: len(_BEARER)].lower() == _BEARER:
                token = value[len(_BEARER) :].strip().decode("latin-1")
                return await self._tokens.worker_of(token)
        return None


def _limited(receive: Receive, limit: int) -> Receive:
    """Return what receives no more than so many bytes of a body."""
    size = 0

    async def receive_some() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > limit:
            raise HTTPException(413, f"the body may have {limit} bytes")
        return message

    return receive_some


def install(app: FastAPI) -> None:
    """Have an app tell its refusals this way."""
    app.add_exception_handler(RequestorError, _ours)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _unexpected)


def _refusal(status: int, error: str, message: str) -> JSONResponse:
    return JSONResponse({"error": error, "message": message}, status_code=status)


def _unavailable(error: StoreFailed) -> JSONResponse:
    answer = _refusal(503, "unavailable", error.message)
    answer.headers["Retry-After"] = "2"
    return answer


def _ours(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestorError)
    match error:
        case LeaseLost():
            return _refusal(409, "lease_lost", error.message)
        case WorkerRefused():
            return _refusal(403, "refused", error.message)
        case JobNotFound():
            return _refusal(404, "not_found", error.message)
        case JobRefused():
            return _refusal(413, "too_large", error.message)
        case StoreFailed():
            return _unavailable(error)
        case _:
            return _unexpected(request, error)


def _invalid(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first: dict[str, Any] = next(iter(error.errors()), {})
    place = ".".join(str(part)[:100] for part in first.get("loc", ()))
    message = f"{place}: {first.get('msg', 'not valid')}"
    # The place may hold a key of the body, and so what no encoding takes.
    return _refusal(422, "invalid", message.encode("utf-8", "replace").decode())


def _gone(_: Request, error: Exception) -> JSONResponse:
    del error
    return _refusal(400, "invalid", "the body broke off")


def _http(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    status = error.status_code
    return _refusal(status, _WORDS.get(status, "invalid"), str(error.detail))


def _unexpected(request: Request, error: Exception) -> JSONResponse:
    _log.error("%s of a worker failed", request.method, exc_info=error)
    return _refusal(500, "failed", "the server failed at this call")
