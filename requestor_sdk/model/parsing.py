"""JSON of strangers: parsed only where it is not too deep.

Python's parser calls itself for each level. What stops it is the interpreter's limit of recursion,
and a library that raises that limit (py_ecc does, which eth-account imports) lets a text of a few
kilobytes end the whole process.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

DEEPEST: Final = 500
"""How many lists and objects may lie in one another."""

_TOKEN: Final = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)


def parse_json(data: bytes | str, *, parse_constant: Callable[[str], object] | None = None) -> Any:
    """Return what a JSON text says.

    Args:
        data: The text; bytes in an encoding of Unicode, which is detected.
        parse_constant: As ``json.loads`` has it.

    Raises:
        ValueError: It is no JSON, or too deep.
    """
    raw = data.encode(errors="surrogatepass") if isinstance(data, str) else data
    if b"\0" in raw:
        # UTF-16 and UTF-32: their brackets are to be counted as well.
        raw = raw.decode(json.detect_encoding(raw)).encode()
    if raw.count(b"[") + raw.count(b"{") > DEEPEST and _depth(raw) > DEEPEST:
        raise ValueError("the JSON is too deep")
    try:
        return json.loads(raw, parse_constant=parse_constant)
    except RecursionError:
        raise ValueError("the JSON is too deep") from None


def _depth(data: bytes) -> int:
    """Return how deep a text nests, up to where it is too deep."""
    now = most = 0
    for found in _TOKEN.finditer(data):
        mark = found[0]
        if mark in (b"[", b"{"):
            now += 1
            most = max(most, now)
            if most > DEEPEST:
                return most
        elif mark in (b"]", b"}"):
            now -= 1
    return most
