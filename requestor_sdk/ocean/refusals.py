"""What servers answer where they refuse: read from every shape that was seen, built in ours.

Seen were: ``{"error": text}``, ``{"error": {resource: word}}``, ``{"errors": {field: [text]}}``, a
JSON text, plain text, and pages of HTML. Ours are always JSON objects.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from requestor_sdk.model.parsing import parse_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from requestor_sdk.model.jobs import Json

_LONGEST: Final = 500
_SIGNATURE: Final = re.compile(r"0x[0-9a-fA-F]{128,}")
_TAGS: Final = re.compile(r"<(script|style)\b.*?</\1>|<[^>]*>", re.DOTALL | re.IGNORECASE)
_WAIT: Final = re.compile(r"try again in (\d+(?:\.\d+)?) *s", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """What a server answered instead of what was asked.

    Attributes:
        status: Of HTTP.
        text: In one line, without the signature that classic servers repeat.
        reasons: By resource or field, e.g. ``{"algorithm": "not_trusted_algo"}``.
        wait: Seconds after which it may be asked again, where it says so.
    """

    status: int
    text: str
    reasons: Mapping[str, str] = field(default_factory=dict)
    wait: float | None = None

    @property
    def of_nonce(self) -> bool:
        """Whether it is about the nonce: a higher one may do."""
        low = self.text.lower()
        return "nonce" in low and any(
            word in low for word in ("not a valid nonce", "current nonce", "duplicates")
        )

    @property
    def of_signature(self) -> bool:
        """Whether it is about who asks: a signature, or a token."""
        low = self.text.lower()
        return self.status == 401 or "signature" in low or "invalid token" in low

    @property
    def of_limit(self) -> bool:
        """Whether it was asked too often."""
        low = self.text.lower()
        return self.status == 429 or "rate limit" in low or "too many active" in low


def refusal_in(status: int, body: bytes) -> Refusal:
    """Read an answer that is none of what was asked, whatever its shape."""
    text = body.decode(errors="replace").strip()
    try:
        parsed = parse_json(text)
    except ValueError:
        parsed = None
    if isinstance(parsed, dict):
        told, reasons = _of_object(parsed)
    elif isinstance(parsed, str):
        told, reasons = parsed, {}
    else:
        told, reasons = html.unescape(_TAGS.sub(" ", text)), {}
    told = _tidy(told) or f"HTTP {status}"
    waiting = _WAIT.search(told)
    return Refusal(
        status=status,
        text=told,
        reasons={name: _tidy(reason) for name, reason in reasons.items()},
        wait=float(waiting[1]) if waiting else None,
    )


def _of_object(body: dict[str, Any]) -> tuple[str, dict[str, str]]:
    reasons: dict[str, str] = {}
    for key in ("error", "errors"):
        told = body.get(key)
        if isinstance(told, dict):
            for name, reason in told.items():
                lines = reason if isinstance(reason, list) else [reason]
                reasons[str(name)] = " ".join(str(line) for line in lines)
        elif told:
            return str(told), reasons
    if reasons:
        return "; ".join(f"{name}: {reason}" for name, reason in reasons.items()), reasons
    return str(body.get("message") or body.get("detail") or ""), reasons


def _tidy(text: str) -> str:
    return one_line(_SIGNATURE.sub("0x...", text))


def one_line(text: str) -> str:
    """Return a stranger's words in one line that steers no terminal, and not too many of them."""
    line = " ".join(text[: 4 * _LONGEST].split())
    plain = "".join(mark if mark.isprintable() else "?" for mark in line)
    return plain if len(plain) <= _LONGEST else plain[: _LONGEST - 3] + "..."


def error_body(message: str) -> dict[str, Json]:
    """Return the body of a refusal in one sentence."""
    return {"error": message}


def reasons_body(reasons: Mapping[str, str]) -> dict[str, Json]:
    """Return the body of a refusal by resource, e.g. ``{"algorithm": "not_trusted_algo"}``."""
    return {"error": dict(reasons)}


def signature_body(reason: str) -> dict[str, Json]:
    """Return the body for a signature or nonce that does not do; the signature is not in it."""
    return {"errors": {"signature": reason}, "message": "Validation error", "success": False}
