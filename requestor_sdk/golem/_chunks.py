"""The messages of gftp that carry content or ask for it: what the speed of files hangs on.

Each is, byte by byte, what ``flexbuffers.encode`` makes of the same value. It is made once for a
length of content, as a form with gaps, and the gaps are filled for each chunk.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final, NamedTuple

from requestor_sdk.golem.flexbuffers import encode

_SHORTEST: Final = 256
"""Bytes of content from which on a form pays."""
_FORMS: Final = 128

Form = tuple[bytes, bytes, int, bytes]
"""Before the content, from there to the offset, the bytes of the offset, after it."""


class Chunk(NamedTuple):
    """A part of a file, and where it begins."""

    content: bytes | memoryview
    offset: int


def chunk_reply(content: bytes | memoryview, offset: int) -> bytes:
    """Return ``{"Ok": {"content": content, "offset": offset}}``."""
    size = len(content)
    if size < _SHORTEST or offset < 0:
        return encode({"Ok": {"content": content, "offset": offset}})
    head, middle, width, tail = _reply_form(size, _width(offset))
    return b"".join((head, content, middle, offset.to_bytes(width, "little"), tail))


def chunk_answer(request: str, content: bytes | memoryview, offset: int) -> bytes:
    """Return ``{"id": request, "payload": {"content": content, "offset": offset}}``."""
    size = len(content)
    if size < _SHORTEST or len(request) != 36 or not request.isascii() or offset < 0:
        return encode({"id": request, "payload": {"content": content, "offset": offset}})
    head, middle, width, tail = _answer_form(size, _width(offset))
    place = offset.to_bytes(width, "little")
    # The id is the first text of the message, behind its key and its length.
    return b"".join((head[:4], request.encode(), head[40:], content, middle, place, tail))


def chunk_upload(content: bytes | memoryview, offset: int) -> bytes:
    """Return ``{"chunk": {"content": content, "offset": offset}}``."""
    size = len(content)
    if size < _SHORTEST or offset < 0:
        return encode({"chunk": {"content": content, "offset": offset}})
    head, middle, width, tail = _upload_form(size, _width(offset))
    return b"".join((head, content, middle, offset.to_bytes(width, "little"), tail))


def chunk_request(offset: int, size: int) -> bytes:
    """Return ``{"offset": offset, "size": size}``."""
    if offset < 0:
        return encode({"offset": offset, "size": size})
    head, width, tail = _request_form(size, _width(offset))
    return head + offset.to_bytes(width, "little") + tail


@lru_cache(maxsize=_FORMS)
def _answer_form(size: int, width: int) -> Form:
    def message(content: bytes, offset: int) -> bytes:
        return encode({"id": "-" * 36, "payload": {"content": content, "offset": offset}})

    return _form(message, size, width)


@lru_cache(maxsize=_FORMS)
def _reply_form(size: int, width: int) -> Form:
    def message(content: bytes, offset: int) -> bytes:
        return encode({"Ok": {"content": content, "offset": offset}})

    return _form(message, size, width)


@lru_cache(maxsize=_FORMS)
def _upload_form(size: int, width: int) -> Form:
    def message(content: bytes, offset: int) -> bytes:
        return encode({"chunk": {"content": content, "offset": offset}})

    return _form(message, size, width)


@lru_cache(maxsize=_FORMS)
def _request_form(size: int, width: int) -> tuple[bytes, int, bytes]:
    return _cut(*(encode({"offset": offset, "size": size}) for offset in _range(width)))


def _form(message: Callable[[bytes, int], bytes], size: int, width: int) -> Form:
    low, high = (message(b"\xa5" * size, offset) for offset in _range(width))
    # From the right: the length before the content may be written in the same bytes.
    start = low.rindex(b"\xa5" * size)
    end = start + size
    middle, bytes_of_offset, tail = _cut(low[end:], high[end:])
    return low[:start], middle, bytes_of_offset, tail


def _cut(low: bytes, high: bytes) -> tuple[bytes, int, bytes]:
    """Cut two messages, the same but for a number, where that number is."""
    differ = [
        index for index, (one, other) in enumerate(zip(low, high, strict=True)) if one != other
    ]
    first, last = differ[0], differ[-1]
    return low[:first], last - first + 1, low[last + 1 :]


def _width(offset: int) -> int:
    """Return in how many bytes a number is written, as a signed one."""
    if offset < 1 << 7:
        return 1
    if offset < 1 << 15:
        return 2
    return 4 if offset < 1 << 31 else 8


def _range(width: int) -> tuple[int, int]:
    """Return the least and the greatest number that is not negative, of a width."""
    return (0 if width == 1 else 1 << 4 * width - 1, (1 << 8 * width - 1) - 1)
