"""What a server's answers say, checked: nothing of them is trusted."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from requestor_sdk.model.errors import BadAnswer
from requestor_sdk.model.fields import FieldError, from_json

LONGEST_PAUSE_SEC: Final = 30.0
"""The longest that a server which names a pause is obeyed for."""


def read(kind: Any, said: object) -> Any:
    """Return a value of the port.

    Raises:
        BadAnswer: It is none.
    """
    try:
        return from_json(kind, said)
    except FieldError as error:
        raise BadAnswer(f"the answer is no {kind.__name__}: {error}") from None


def field(said: object, name: str, kind: type) -> Any:
    """Return a field of an answer.

    Raises:
        BadAnswer: It is not there, or of another kind.
    """
    found = said.get(name) if isinstance(said, dict) else None
    if not isinstance(found, kind):
        raise BadAnswer(f"the answer has no {name}")
    return found


async def obey(pause: str) -> None:
    """Wait as long as a server asks for, within reason."""
    if pause.isascii() and pause.isdigit():
        await asyncio.sleep(min(float(pause[:6]), LONGEST_PAUSE_SEC))
