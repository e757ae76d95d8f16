"""Events as the text that a journal holds, and back."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from requestor_sdk.model.errors import NotSupported
from requestor_sdk.model.events import VERSION, from_record

if TYPE_CHECKING:
    from requestor_sdk.model.events import Event

# ASCII: what a provider calls itself may hold halves of surrogate pairs, which no encoding takes.
_ENCODER: Final = json.JSONEncoder(separators=(",", ":"))

NO_RECORD: Final = (ValueError, TypeError, ArithmeticError, RecursionError)
"""What ``decode`` may raise of a text that is no record."""

UPGRADE: Final = "pip install --upgrade requestor-sdk"


def encode(event: Event) -> str:
    """Return the text of an event, on one line, in ASCII."""
    return _ENCODER.encode(event.to_record())


def needle(name: str, value: str) -> str:
    """Return what the text of an event with that id holds somewhere."""
    return f'"{name}_id":{_ENCODER.encode(value)}'


def decode(text: bytes) -> Event:
    """Return the event of a text.

    Raises:
        NotSupported: It was written by a newer version of this program.
        ValueError: It is no record; also TypeError, ArithmeticError and RecursionError.
    """
    record: object = json.loads(text)
    if not isinstance(record, dict):
        raise TypeError(f"{type(record).__name__} is no object")
    version = record.get("v")
    if isinstance(version, int) and version > VERSION:
        raise NotSupported(
            f"written in version {version}; this program reads up to {VERSION}", hint=UPGRADE
        )
    return from_record(record)
