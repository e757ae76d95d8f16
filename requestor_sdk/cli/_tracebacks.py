"""A user's exception as he wants to see it: from his own file on, the SDK's frames left out."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from requestor_sdk.engine.tracebacks import is_ours, trimmed
from requestor_sdk.model.errors import RequestorError


def told(error: BaseException, file: Path) -> str:
    """Return what to print of an error that left the program in ``file``.

    An error of the SDK is its own text and the place in the program it came from; anything else is
    a traceback that begins in the program.
    """
    if isinstance(error, RequestorError):
        place = _place(error.__traceback__)
        return f"{error}\n  at {place}" if place else str(error)
    if isinstance(error, SyntaxError) and error.filename == str(file):
        error.__traceback__ = None  # it names its place itself; the frames are those of loading it
    error.__traceback__ = _from(file, error.__traceback__)
    for one in _each(error):
        trimmed(one)
    return "".join(traceback.format_exception(error)).rstrip()


def _each(error: BaseException) -> Iterator[BaseException]:
    """Return the error, and those that it groups."""
    yield error
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _each(inner)


def _from(file: Path, found: TracebackType | None) -> TracebackType | None:
    """Return the traceback from the first frame of the file on; all of it if there is none."""
    at = found
    while at is not None and Path(at.tb_frame.f_code.co_filename) != file:
        at = at.tb_next
    return at or found


def _place(found: TracebackType | None) -> str:
    """Return the innermost place outside of this package and the standard library."""
    library = str(Path(traceback.__file__).parent)
    places = [
        f"{frame.filename}:{frame.lineno}, in {frame.name}"
        for frame in traceback.extract_tb(found)
        if not is_ours(frame.filename)
        and not frame.filename.startswith(("<", library))
        and "site-packages" not in frame.filename
    ]
    return places[-1] if places else ""
