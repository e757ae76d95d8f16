"""What a request says: parameters of its query or its JSON body, checked before they are used."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, Final, NoReturn

from starlette.requests import ClientDisconnect

from requestor_sdk.c2d.auth import Claimed
from requestor_sdk.model.parsing import parse_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastapi import Request

BODY_LIMIT: Final = 4 << 20
"""Bytes that the body of a request may have."""
BODY_SEC: Final = 60.0
"""How long it may take to come."""
_TEXT_LIMIT: Final = 1024
_URL_LIMIT: Final = 4096


class BadRequest(Exception):
    """A request that cannot be read.

    Attributes:
        status: Of HTTP.
        fields: What is wrong with which field; empty where there is no body to speak of.
    """

    def __init__(
        self, message: str, *, status: int = 400, fields: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.fields = dict(fields or {})


async def json_body(request: Request, *, limit: int = BODY_LIMIT) -> dict[str, Any]:
    """Return a JSON object.

    Raises:
        BadRequest: It is none, or larger than it may be.
    """
    return _parsed(await _bytes(request, limit))


async def parameters(request: Request) -> dict[str, Any]:
    """Return the query's parameters; where there are none, those of the JSON body."""
    if request.query_params:
        return dict(request.query_params)
    body = await _bytes(request, BODY_LIMIT)
    return _parsed(body) if body.strip() else {}


def text(values: Mapping[str, Any], *names: str, default: str = "") -> str:
    """Return the first of some parameters that is there, as text.

    Raises:
        BadRequest: It is no text and no number, or far too long.
    """
    for name in names:
        value = values.get(name)
        if value is None or value == "":
            continue
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            _wrong(name, f"The {name} field is not valid.")
        found = str(value)
        if len(found) > (_URL_LIMIT if name == "url" else _TEXT_LIMIT):
            _wrong(name, f"The {name} field is too long.")
        return found
    return default


def number(
    values: Mapping[str, Any], name: str, *, default: float, least: float, most: float
) -> float:
    """Return a parameter that is a number.

    Raises:
        BadRequest: It is none, or out of its range.
    """
    found = text(values, name)
    if not found:
        return default
    try:
        made = float(found)
    except ValueError:
        _wrong(name, f"The {name} field must be a number.")
    if not least <= made <= most:
        _wrong(name, f"The {name} field must be between {least:g} and {most:g}.")
    return made


def whole(values: Mapping[str, Any], name: str, *, default: int = 0) -> int:
    """Return a parameter that is a whole number. Raises as ``number``."""
    found = text(values, name)
    if not found:
        return default
    digits = found.removeprefix("-")
    if not digits.isascii() or not digits.isdigit() or len(digits) > 15:
        _wrong(name, f"The {name} field must be an integer.")
    return int(found)


def required(values: Mapping[str, Any], *names: str) -> None:
    """Demand that parameters are there.

    Raises:
        BadRequest: Some are not; each of these is named.
    """
    missing = [name for name in names if values.get(name) in (None, "")]
    if missing:
        raise BadRequest(
            "Validation error",
            fields={name: f"The {name} field is required." for name in missing},
        )


def claimed(
    request: Request, values: Mapping[str, Any], *, address: str = "consumerAddress"
) -> Claimed:
    """Return who a request says that it is of.

    Raises:
        BadRequest: It does not say it: address, nonce or signature is missing.
    """
    token = _token(request)
    signature = text(values, "signature")
    if token and not signature:
        required(values, address)
        return Claimed(address=text(values, address), token=token)
    required(values, address, "nonce")
    if not signature:
        _wrong("signature", "Invalid signature provided. Please check the nonce or documentId.")
    return Claimed(address=text(values, address), nonce=text(values, "nonce"), signature=signature)


def _token(request: Request) -> str:
    found = request.headers.get("AuthToken") or request.headers.get("Authorization") or ""
    return found.removeprefix("Bearer ").strip()


async def _bytes(request: Request, limit: int) -> bytes:
    told = request.headers.get("Content-Length", "")
    if told.isdigit() and int(told) > limit:
        raise BadRequest(f"the body may have {limit} bytes", status=413)
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_SEC):
            async for part in request.stream():
                size += len(part)
                if size > limit:
                    raise BadRequest(f"the body may have {limit} bytes", status=413)
                parts.append(part)
    except TimeoutError:
        raise BadRequest("the body came too slowly", status=408) from None
    except ClientDisconnect:
        # Nobody is there to be answered; it is none of the server's failures.
        raise BadRequest("the body broke off") from None
    return b"".join(parts)


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        found = parse_json(body, parse_constant=_no_constant)
        if rb"\u" in body:
            # Half of a surrogate pair is JSON, but no text: nothing could sign or keep it.
            json.dumps(found, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise BadRequest("the body is no JSON") from None
    if not isinstance(found, dict):
        raise BadRequest("the body is no JSON object")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _wrong(name: str, message: str) -> NoReturn:
    raise BadRequest("Validation error", fields={name: message})
