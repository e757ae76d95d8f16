"""The OpenAPI 3.1 document of handlers, with what they really return, and a page that shows it."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from requestor_sdk.handlers._signature import HandlerSpec

_REF: Final = "#/components/schemas/"
_TASK: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["task_address", "function", "status", "attempt", "accepted_at"],
    "properties": {
        "task_address": {"type": "string"},
        "function": {"type": "string"},
        "status": {
            "enum": [
                "queued", "running", "succeeded", "failed", "timed_out", "cancelled", "rejected"
            ]
        },
        "attempt": {"type": "integer"},
        "accepted_at": {"type": "number", "description": "seconds since the epoch"},
        "started_at": {"type": ["number", "null"]},
        "finished_at": {"type": ["number", "null"]},
        "output": {},
        "error": {"anyOf": [{"$ref": f"{_REF}HandlerError_"}, {"type": "null"}]},
    },
}  # fmt: skip
_ERROR: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["type", "message"],
    "properties": {
        "type": {"type": "string"},
        "message": {"type": "string"},
        "fields": {"type": "array", "items": {"type": "object"}},
    },
}
_NOT_OVER: Final = {"description": "not over yet; fetch it by its id"}
_REFUSALS: Final[dict[str, str]] = {
    "400": "the body broke off, or is not encoded as it says",
    "408": "the body did not come in time",
    "409": "the id belongs to another call, or the call was cancelled",
    "413": "the body is too large",
    "417": "something else than 100-continue is expected",
    "422": "the input does not fit",
    "429": "too many calls wait; Retry-After says when to try again",
    "503": "the program starts or ends, or rejected the call",
}


def openapi(specs: Iterable[HandlerSpec], title: str) -> dict[str, Any]:
    """Return the document."""
    from pydantic.json_schema import models_json_schema

    found = list(specs)
    pairs: list[tuple[Any, Any]] = []
    for spec in found:
        pairs += [(spec.shape.input, "validation"), (spec.shape.output, "serialization")]
    refs, definitions = models_json_schema(
        list(dict.fromkeys(pairs)), ref_template=_REF + "{model}"
    )
    schemas: dict[str, Any] = dict(definitions.get("$defs", {}))
    schemas |= {"HandlerTask_": _TASK, "HandlerError_": _ERROR}
    paths: dict[str, Any] = {}
    for spec in found:
        taken = refs[(spec.shape.input, "validation")]
        given = refs[(spec.shape.output, "serialization")]
        paths |= _handler(spec, taken, given)
    paths |= _tasks()
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": "1"},
        "paths": paths,
        "components": {"schemas": schemas},
    }


def _json(schema: Any) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _refusals() -> dict[str, Any]:
    detail = {"type": "object", "properties": {"detail": {}, "status": {}, "error": {}}}
    return {
        code: {"description": meaning, "content": _json(detail)}
        for code, meaning in _REFUSALS.items()
    }


def _failures() -> dict[str, Any]:
    schema = {
        "type": "object",
        "required": ["status", "error"],
        "properties": {"status": {"type": "string"}, "error": {"$ref": f"{_REF}HandlerError_"}},
    }
    return {
        "500": {"description": "the handler raised", "content": _json(schema)},
        "504": {"description": "the handler took too long", "content": _json(schema)},
    }


def _handler(spec: HandlerSpec, taken: Any, given: Any) -> dict[str, Any]:
    """Return both paths of a handler: a call that is waited for, and one that is given an id."""
    shared = {
        "summary": spec.doc or spec.name,
        "requestBody": {"required": True, "content": _json(taken)},
        "x-idempotent": spec.limits.idempotent,
        "x-timeout": spec.limits.timeout,
    }
    return {
        f"/call/{spec.name}": {"post": {**shared, **_call(spec, given)}},
        f"/run/{spec.name}/{{task_address}}": {"post": {**shared, **_run(spec)}},
    }


def _call(spec: HandlerSpec, given: Any) -> dict[str, Any]:
    result = _json({"type": "array", "items": given} if spec.shape.streams else given)
    if spec.shape.streams:
        result["text/event-stream"] = {"schema": {"type": "string"}, "x-item": given}
    return {
        "operationId": spec.name,
        "parameters": [_KEY],
        "responses": {
            "200": {"description": "what it returned", "content": result},
            "202": _NOT_OVER,
            **_refusals(),
            **_failures(),
        },
    }


def _run(spec: HandlerSpec) -> dict[str, Any]:
    accepted = {
        "type": "object",
        "properties": {"task_address": {"type": "string"}, "status": {"const": "accepted"}},
    }
    return {
        "operationId": f"run_{spec.name}",
        "parameters": [_ID],
        "responses": {
            "200": {"description": "over (Prefer: wait=N)", "content": _json(_TASK_REF)},
            "202": {"description": "accepted", "content": _json(accepted)},
            "404": {"description": "the id has a slash"},
            **_refusals(),
        },
    }


_TASK_REF: Final = {"$ref": f"{_REF}HandlerTask_"}
_KEY: Final[dict[str, Any]] = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "the call's id, chosen by the caller",
    "schema": {"type": "string", "pattern": "^[A-Za-z0-9._~-]{1,200}$"},
}
_ID: Final[dict[str, Any]] = {
    "name": "task_address",
    "in": "path",
    "required": True,
    "schema": {
        "type": "string",
        "pattern": "^[^\\u0000-\\u001f\\u007f-\\u009f/\\u2028\\u2029]{1,200}$",
    },
}


def _tasks() -> dict[str, Any]:
    found = {
        "200": {"description": "the task", "content": _json(_TASK_REF)},
        "404": {"description": "no such task", "content": _json({"type": "object"})},
    }
    events = {
        "200": {"description": "its events", "content": {"text/event-stream": {"schema": {}}}},
        "404": found["404"],
    }
    here = "/tasks/{task_address}"
    return {
        here: {
            "get": {"operationId": "task_", "parameters": [_ID], "responses": found},
            "delete": {"operationId": "cancel_", "parameters": [_ID], "responses": found},
        },
        f"{here}/events": {
            "get": {"operationId": "events_", "parameters": [_ID], "responses": events}
        },
    }


def page(specs: Iterable[HandlerSpec], title: str) -> str:
    """Return a page that lists the handlers. It loads nothing from anywhere."""
    rows: list[str] = []
    for spec in specs:
        shown = json.dumps(spec.shape.input.model_json_schema(), indent=2)
        given = json.dumps(spec.shape.output.model_json_schema(mode="serialization"), indent=2)
        rows.append(
            f"<h2>{html.escape(spec.name)}</h2><p>{html.escape(spec.doc)}</p>"
            f"<p><code>POST /call/{html.escape(spec.name)}</code></p>"
            f"<h3>input</h3><pre>{html.escape(shown)}</pre>"
            f"<h3>output</h3><pre>{html.escape(given)}</pre>"
        )
    head = f"<!doctype html><meta charset=utf-8><title>{html.escape(title)}</title>"
    link = '<p><a href="openapi.json">openapi.json</a></p>'
    return f"{head}<h1>{html.escape(title)}</h1>{link}{''.join(rows)}\n"
