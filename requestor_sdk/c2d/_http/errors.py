"""Refusals as answers: always JSON objects, in the shapes that clients of both generations read.

No answer and no log holds a signature or a token.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from requestor_sdk.c2d._http.reading import BadRequest
from requestor_sdk.c2d.auth import CallerRefused
from requestor_sdk.model.errors import (
    AssetNotConsumable,
    AssetNotFound,
    JobNotFound,
    JobRefused,
    NetworkError,
    NotAvailable,
    RequestorError,
    StoreFailed,
)
from requestor_sdk.ocean.refusals import error_body, reasons_body, signature_body

if TYPE_CHECKING:
    from fastapi import FastAPI, Request

_log = logging.getLogger(__name__)

# The calls that today's nodes alone have: they answer 401 where the older ones answer 400.
_OF_NODES = ("/freeCompute", "/computeStreamableLogs", "/auth/token", "/auth/invalidateToken")

_BUSY: Final = {"too_many_jobs": 429, "too_much_kept": 429, "no_room": 503}
"""What may be asked for again later."""


def install(app: FastAPI) -> None:
    """Have an app answer with these."""
    app.add_exception_handler(BadRequest, _bad_request)
    app.add_exception_handler(CallerRefused, _caller)
    app.add_exception_handler(JobRefused, _refused)
    app.add_exception_handler(AssetNotConsumable, _not_consumable)
    app.add_exception_handler(AssetNotFound, _not_found)
    app.add_exception_handler(JobNotFound, _not_found)
    for kind in (NetworkError, StoreFailed, NotAvailable):
        app.add_exception_handler(kind, _unavailable)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _unexpected)


def _bad_request(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, BadRequest)
    if not error.fields:
        return JSONResponse(error_body(error.message), status_code=error.status)
    fields = {name: [message] for name, message in error.fields.items()}
    body = {"errors": fields, "message": error.message, "success": False}
    return JSONResponse(body, status_code=error.status)


def _caller(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, CallerRefused)
    if error.token:
        return JSONResponse(error_body("Invalid token"), status_code=401)
    if request.url.path.endswith(_OF_NODES):
        text = (
            f"nonce: {error.nonce} is not a valid nonce"
            if error.nonce
            else "consumer address and nonce signature mismatch"
        )
        return JSONResponse(error_body(text), status_code=401)
    return JSONResponse(signature_body(_signature_text(error)), status_code=400)


def _signature_text(error: CallerRefused) -> str:
    if error.current is not None:
        return (
            f"Invalid signature expected nonce ({error.nonce}) > current nonce ({error.current})."
        )
    if error.nonce:
        return f"Invalid signature: {error.nonce[:100]} is not a valid nonce."
    text = f"Invalid signature for ethereum address {error.address[:100]}, message and nonce."
    return f"{text} Got {error.signer}" if error.signer else text


def _refused(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, JobRefused)
    if error.reasons.get("environment") == "invalid":
        return JSONResponse(error_body(error.message), status_code=400)
    body = reasons_body(error.reasons) if error.reasons else error_body(error.message)
    status = next((_BUSY[word] for word in error.reasons.values() if word in _BUSY), 400)
    return JSONResponse({**body, "message": error.message}, status_code=status)


def _not_consumable(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, AssetNotConsumable)
    resource = error.ids.get("resource", "dataset")
    return JSONResponse(reasons_body({resource: error.message}), status_code=400)


def _not_found(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestorError)
    return JSONResponse(error_body(error.message), status_code=404)


def _unavailable(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestorError)
    _log.warning("%s %s: %s", request.method, request.url.path, error.message)
    return JSONResponse({**error_body(error.message), "context": _context(request)}, 503)


def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    body = {**error_body(str(error.detail)), "context": _context(request)}
    return JSONResponse(body, status_code=error.status_code, headers=dict(error.headers or {}))


def _unexpected(request: Request, error: Exception) -> JSONResponse:
    _log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    body = {**error_body("the server failed at this call"), "context": _context(request)}
    return JSONResponse(body, status_code=503)


def _context(request: Request) -> dict[str, Any]:
    return {"method": request.method, "path": request.url.path}
