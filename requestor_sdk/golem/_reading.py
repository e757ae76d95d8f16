"""Reads the fields of what the daemon answers; what is missing or of another kind is ``BadAnswer``.

Half of what it answers was written by strangers: nothing is taken for granted, and of a text of
theirs no more than a line is told.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from requestor_sdk.model.errors import BadAnswer

Record = Mapping[str, Any]

_ODDITY: Final = 80
_DIGITS: Final = 80
"""Characters that an amount may have; more is no sum of money, and slow to reckon with."""


def record(found: object, what: str) -> Record:
    """Return a JSON object."""
    if not isinstance(found, Mapping):
        raise _bad(what, "an object", found)
    return found


def records(found: object, what: str) -> list[Record]:
    """Return a JSON list of objects."""
    if not isinstance(found, list):
        raise _bad(what, "a list", found)
    return [record(one, what) for one in found]


def string(found: object, what: str) -> str:
    """Return a text that is not empty."""
    if not isinstance(found, str) or not found:
        raise _bad(what, "a text", found)
    return found


def text_of(source: Record, key: str, what: str) -> str:
    """Return a field that is a text and not empty."""
    return string(source.get(key), f"{key} of {what}")


def message_of(reason: object) -> str | None:
    """Return what the other side gives as a reason, as far as it gives one."""
    if isinstance(reason, Mapping):
        reason = reason.get("message")
    return reason if isinstance(reason, str) and reason else None


def amount_of(source: Record, key: str, what: str) -> Decimal:
    """Return a field that is an amount, zero or more, written as a text or a number."""
    return amount(source.get(key), f"{key} of {what}")


def amount(found: object, what: str) -> Decimal:
    """Return an amount, zero or more, that is written as a text or a number."""
    if isinstance(found, str | int | float) and not isinstance(found, bool):
        text = str(found)
        try:
            value = Decimal(text) if len(text) <= _DIGITS else None
        except InvalidOperation:
            value = None
        if value is not None and value.is_finite() and value >= 0:
            return value
    raise _bad(what, "an amount", found)


def moment_of(source: Record, key: str, what: str) -> datetime:
    """Return a field that is a time; one that names no zone is in UTC."""
    found = source.get(key)
    if isinstance(found, str):
        try:
            moment = datetime.fromisoformat(found)
        except ValueError:
            raise _bad(f"{key} of {what}", "a time", found) from None
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    raise _bad(f"{key} of {what}", "a time", found)


def _bad(what: str, wanted: str, found: object) -> BadAnswer:
    told = "missing" if found is None else repr(found)[:_ODDITY]
    return BadAnswer(f"the daemon's answer makes no sense: {what} is not {wanted}: {told}")
