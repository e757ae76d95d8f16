"""The OpenAPI description of the calls, for documents and tools that read it.

Requests are read by ``reading``, not by these: one route takes what clients of two generations
send, in the query or in the body, and refuses in the protocol's own shapes.
"""

from __future__ import annotations

from typing import Any, Final

_ADDRESS: Final = {"type": "string", "pattern": "^0x[0-9a-fA-F]{40}$"}
# A query of all of them, each character in twelve, is still one that the server's parser takes.
_TEXT: Final = {"type": "string", "minLength": 1, "maxLength": 1024}
_NONCE: Final = {"type": "string", "pattern": "^[0-9]{1,18}$"}
_SIGNATURE: Final = {"type": "string", "pattern": "^0x[0-9a-fA-F]{130}$"}

_FIELDS: Final[dict[str, dict[str, Any]]] = {
    "consumerAddress": {**_ADDRESS, "description": "The consumer, as signed."},
    "address": {**_ADDRESS, "description": "Whose token it is, as signed."},
    "nonce": {**_NONCE, "description": "Higher than any before."},
    "signature": {**_SIGNATURE, "description": "See docs: what is signed, by call."},
    "jobId": {**_TEXT, "description": "As the start call gave it."},
    "documentId": {**_TEXT, "description": "A dataset's id: jobs that read it."},
    "agreementId": {**_TEXT, "description": "An order, or what documentId means."},
    "index": {"type": "integer", "minimum": 0, "description": "Which result."},
    "userAddress": {**_ADDRESS, "description": "Whose nonce."},
    "chainId": {"type": "integer", "minimum": 1, "description": "Answers by chain."},
    "wait": {
        "type": "number",
        "minimum": 0,
        "maximum": 30,
        "description": "Seconds to hold the answer until the job of jobId has another status.",
    },
    "seen": {"type": "integer", "description": "The status that the caller knows."},
    "attempt": {"type": "integer", "description": "The attempt that the caller knows of."},
    "history": {"type": "boolean", "description": "Whether each status is told with its time."},
    "expiration": {"type": "integer", "description": "Seconds since the epoch."},
    "token": {**_TEXT, "description": "The token to take back."},
    "offset": {"type": "integer", "minimum": 0, "description": "Bytes to leave out."},
}

_ASSET: Final = {
    "type": "object",
    "required": ["documentId", "serviceId"],
    "properties": {
        "documentId": _TEXT,
        "serviceId": _TEXT,
        "transferTxId": {"type": "string"},
        "userdata": {"type": "object"},
    },
}
_META: Final = {
    "type": "object",
    "properties": {
        "rawcode": {"type": "string"},
        "url": {"type": "string"},
        "language": {"type": "string"},
        "version": {"type": "string"},
        "container": {
            "type": "object",
            "required": ["entrypoint", "image"],
            "properties": {
                "entrypoint": {"type": "string", "example": "python3 $ALGO"},
                "image": {"type": "string", "example": "python"},
                "tag": {"type": "string"},
                "checksum": {"type": "string"},
            },
        },
        "consumerParameters": {"type": "array", "items": {"type": "object"}},
    },
}
START: Final = {
    "type": "object",
    "required": ["consumerAddress", "nonce", "signature", "algorithm"],
    "properties": {
        "consumerAddress": _ADDRESS,
        "nonce": {"anyOf": [_NONCE, {"type": "integer", "minimum": 0}]},
        "signature": _SIGNATURE,
        "environment": {"type": "string", "description": "Absent: the first free one that fits."},
        "dataset": _ASSET,
        "additionalDatasets": {"type": "array", "items": _ASSET},
        "datasets": {"type": "array", "items": _ASSET},
        "algorithm": {
            "type": "object",
            "properties": {
                "documentId": {"type": "string"},
                "serviceId": {"type": "string"},
                "transferTxId": {"type": "string"},
                "meta": _META,
                "algocustomdata": {"type": "object"},
                "userdata": {"type": "object"},
            },
        },
        "maxJobDuration": {"type": "number", "minimum": 0},
        "resources": {"type": "array", "items": {"type": "object"}},
        "metadata": {"type": "object"},
        "jobId": {"type": "string", "description": "An own job that is over, to be run again."},
    },
}
INITIALIZE: Final = {
    "type": "object",
    "required": ["algorithm", "consumerAddress"],
    "properties": {
        "consumerAddress": _ADDRESS,
        "datasets": {"type": "array", "items": _ASSET},
        "algorithm": START["properties"]["algorithm"],  # type: ignore[index]
        "compute": {
            "type": "object",
            "properties": {"env": {"type": "string"}, "validUntil": {"type": "integer"}},
        },
        "environment": {"type": "string"},
        "maxJobDuration": {"type": "number"},
    },
}
FILE_INFO: Final = {
    "type": "object",
    "properties": {
        "did": {"type": "string"},
        "serviceId": {"type": "string"},
        "type": {"type": "string", "enum": ["url"]},
        "url": {"type": "string"},
    },
}
TOKEN: Final = {
    "type": "object",
    "required": ["address", "nonce", "signature"],
    "properties": {
        "address": _ADDRESS,
        "nonce": _NONCE,
        "signature": _SIGNATURE,
        "token": {"type": "string"},
        "validUntil": {"type": "integer", "description": "Milliseconds since the epoch."},
    },
}
_JOB: Final = {
    "type": "object",
    "required": ["jobId", "owner", "status", "statusText", "dateCreated"],
    "properties": {
        "jobId": {"type": "string"},
        "owner": {"type": "string"},
        "documentId": {"type": "string"},
        "status": {"type": "integer"},
        "statusText": {"type": "string"},
        "dateCreated": {"type": "string"},
        "dateFinished": {"type": "string", "nullable": True},
        "results": {"type": "array", "items": {"type": "object"}},
    },
}
JOBS: Final = {"type": "array", "items": _JOB}
_ERROR: Final = {
    "type": "object",
    "properties": {"error": {}, "errors": {"type": "object"}, "message": {"type": "string"}},
}


def described(
    *query: str,
    body: dict[str, Any] | None = None,
    answer: dict[str, Any] | None = None,
    needed: tuple[str, ...] = (),
    media: tuple[str, ...] = ("application/json",),
    errors: tuple[int, ...] = (400, 401, 503),
) -> dict[str, Any]:
    """Return what a route's ``openapi_extra`` is, of the names of its parameters and its body."""
    content = {one: {"schema": answer or {"type": "object"}} for one in media}
    made: dict[str, Any] = {
        "responses": {
            "200": {"description": "What was asked for", "content": content},
            **{
                str(status): {
                    "description": "Refused",
                    "content": {"application/json": {"schema": _ERROR}},
                }
                for status in errors
            },
        }
    }
    if query:
        made["parameters"] = [
            {
                "in": "query",
                "name": name,
                "required": name in needed,
                "schema": {k: v for k, v in _FIELDS[name].items() if k != "description"},
                "description": _FIELDS[name].get("description", ""),
            }
            for name in query
        ]
    if body is not None:
        made["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    return made
