"""What this process and its handler processes send each other: a JSON head and blobs.

No pickles: what a handler's process sends is data and can never be code here.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Sequence
from typing import Any, Final

from requestor_sdk.handlers._model import CallFailure, Outcome, Status

_SIZES: Final = struct.Struct("!II")
MOST: Final = 1 << 30
"""Bytes of one frame at most."""

Frame = tuple[dict[str, Any], list[bytes]]
"""Head and blobs."""


def pack(head: dict[str, Any], blobs: Sequence[bytes] = ()) -> bytes:
    """Return a frame."""
    text = json.dumps({**head, "sizes": [len(blob) for blob in blobs]}).encode()
    body = b"".join(blobs)
    return _SIZES.pack(len(text), len(body)) + text + body


def _unpack(text: bytes, body: bytes) -> Frame:
    head: dict[str, Any] = json.loads(text)
    blobs: list[bytes] = []
    at = 0
    for size in head.pop("sizes"):
        blobs.append(body[at : at + size])
        at += size
    return head, blobs


def receive(sock: socket.socket) -> Frame | None:
    """Read a frame, blocking; ``None`` where the other side is gone."""
    sizes = _exactly(sock, _SIZES.size)
    if sizes is None:
        return None
    head, body = _SIZES.unpack(sizes)
    rest = _exactly(sock, head + body)
    return None if rest is None else _unpack(rest[:head], rest[head:])


def _exactly(sock: socket.socket, count: int) -> bytes | None:
    data = bytearray()
    while len(data) < count:
        piece = sock.recv(min(1 << 20, count - len(data)))
        if not piece:
            return None
        data += piece
    return bytes(data)


async def read(reader: asyncio.StreamReader) -> Frame | None:
    """Read a frame; ``None`` where the other side is gone, or sent what is none."""
    try:
        head, body = _SIZES.unpack(await reader.readexactly(_SIZES.size))
        if head + body > MOST:
            return None
        text = await reader.readexactly(head)
        return _unpack(text, await reader.readexactly(body))
    except (asyncio.IncompleteReadError, OSError, ValueError, KeyError):
        return None


def pack_outcomes(outcomes: Sequence[Outcome]) -> bytes:
    """Return the frame of outcomes."""
    shown = [
        {"status": outcome.status, "error": outcome.error.document() if outcome.error else None}
        for outcome in outcomes
    ]
    return pack({"kind": "done", "outcomes": shown}, [o.output or b"" for o in outcomes])


def unpack_outcomes(head: dict[str, Any], blobs: Sequence[bytes]) -> list[Outcome]:
    """Return the outcomes of a frame."""
    return [
        Outcome(
            status=Status(shown["status"]),
            output=None if shown["error"] else blob,
            error=load_failure(shown["error"]),
        )
        for shown, blob in zip(head["outcomes"], blobs, strict=True)
    ]


def load_failure(shown: dict[str, Any] | None) -> CallFailure | None:
    """Return a failure of its document."""
    if shown is None:
        return None
    fields = tuple((each["loc"], each["msg"]) for each in shown.get("fields", ()))
    return CallFailure(type=shown["type"], message=shown["message"], fields=fields)
