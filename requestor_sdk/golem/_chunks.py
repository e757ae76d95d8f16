"""The messages of gftp that carry content, written by hand: what a file's speed hangs on.

Each is, byte by byte, what ``flexbuffers.encode`` makes of the same value.
"""

from __future__ import annotations

from typing import Final

from requestor_sdk.golem.flexbuffers import encode

LARGEST_CHUNK: Final = 64 * 1024 - 512
"""Bytes of content that an answer to the daemon's web socket may have, its other fields beside."""


def chunk_answer(request: str, content: bytes | memoryview, offset: int) -> bytes:
    """Return ``{"id": request, "payload": {"content": content, "offset": offset}}``."""
    return encode({"id": request, "payload": {"content": content, "offset": offset}})
