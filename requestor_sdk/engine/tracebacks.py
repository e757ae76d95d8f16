"""Tracebacks as the user wants them: his own frames, the SDK's out of the way."""

from __future__ import annotations

import traceback
from pathlib import Path
from types import TracebackType
from typing import Final

_PACKAGE: Final = str(Path(__file__).resolve().parent.parent)


def is_ours(filename: str) -> bool:
    """Tell whether a frame's file belongs to this package."""
    return filename.startswith(_PACKAGE)


def without_ours(found: TracebackType | None) -> TracebackType | None:
    """Return the traceback with the SDK's own frames left out; all of it if nothing would stay."""
    kept: list[TracebackType] = []
    tb = found
    while tb is not None:
        if not is_ours(tb.tb_frame.f_code.co_filename):
            kept.append(tb)
        tb = tb.tb_next
    rest: TracebackType | None = None
    for frame in reversed(kept):
        rest = TracebackType(rest, frame.tb_frame, frame.tb_lasti, frame.tb_lineno)
    return rest or found


def trimmed(error: BaseException) -> BaseException:
    """Return the error with its traceback trimmed; so are its causes."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        # Not by assignment: the errors of users can be frozen.
        link.with_traceback(without_ours(link.__traceback__))
        link = link.__cause__ or link.__context__
    return error


def told(error: BaseException) -> str:
    """Return the error's type and message, also where making its text fails."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # noqa: BLE001 - the user's own `__str__`
        return f"{type(error).__name__}: its text cannot be made"


def text_of(error: BaseException) -> str:
    """Return the trimmed traceback as text."""
    return "".join(traceback.format_exception(trimmed(error)))
