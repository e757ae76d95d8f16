"""One handler with its inputs: call it, check what it returns, make an outcome of it.

The same for all places where handlers work. Whatever a handler does ends in an outcome.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from requestor_sdk.handlers._logger import logger, where
from requestor_sdk.handlers._model import CallFailure, Outcome, Status
from requestor_sdk.handlers._signature import WrongOutput

if TYPE_CHECKING:
    from pydantic import BaseModel

    from requestor_sdk.handlers._signature import Codec, HandlerSpec

_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASS|DSN|CREDENTIAL", re.IGNORECASE)
_MESSAGE = 2000


@lru_cache(maxsize=1)
def _secrets() -> tuple[str, ...]:
    """Return the values of this process's environment that must not leave it, longest first."""
    found = {v for k, v in os.environ.items() if len(v) >= 6 and _SECRET.search(k)}
    return tuple(sorted(found, key=len, reverse=True))


def redacted(text: str) -> str:
    """Return a text without the secrets of the environment, and not too long."""
    for secret in _secrets():
        text = text.replace(secret, "***")
    # A lone surrogate cannot be written as JSON.
    text = text.encode("utf-8", "replace").decode()
    return text if len(text) <= _MESSAGE else text[:_MESSAGE] + "…"


def failure(error: BaseException) -> CallFailure:
    """Return what the caller is told of an error."""
    if isinstance(error, ValidationError):
        fields = tuple(
            (".".join(map(str, each["loc"])), each["msg"])
            for each in error.errors(include_url=False, include_input=False, include_context=False)
        )
        named = "; ".join(f"{loc}: {msg}" for loc, msg in fields)
        return CallFailure(type=type(error).__name__, message=redacted(named), fields=fields)
    if isinstance(error, PydanticSerializationError | UserWarning):
        return _unfit(error)
    try:
        message = str(error)
    except Exception as second:  # noqa: BLE001 - a user's __str__ can do anything
        message = f"its message cannot be read: {type(second).__name__}"
    return CallFailure(type=type(error).__name__, message=redacted(message))


def _unfit(error: BaseException) -> CallFailure:
    """Name the fields of an output that hold the wrong type, and not what they hold."""
    found = re.findall(r"field_name='([^']+)'|Expected `([^`]+)`", str(error))
    names = [field for field, _ in found if field]
    kinds = [kind for _, kind in found if kind]
    fields = tuple(
        (name, f"expected {kinds[place] if place < len(kinds) else 'another type'}")
        for place, name in enumerate(names)
    )
    said = (
        "; ".join(f"{loc}: {msg}" for loc, msg in fields) or "the output cannot be written as JSON"
    )
    return CallFailure(type="WrongOutput", message=said, fields=fields)


def failed(error: BaseException, spec: HandlerSpec, ids: list[str]) -> Outcome:
    """Log an error by type and place, and return the outcome."""
    kind = "wrong output" if isinstance(error, WrongOutput) else type(error).__name__
    logger.task_fail("[%s] `%s` failed: %s at %s", ", ".join(ids), spec.name, kind, where(error))
    return Outcome(status=Status.failed, error=failure(error))


def succeeded(output: bytes) -> Outcome:
    """Return the outcome of an output."""
    return Outcome(status=Status.succeeded, output=output)


def joined(parts: list[bytes]) -> Outcome:
    """Return the outcome of a stream."""
    return succeeded(b"[" + b",".join(parts) + b"]")


def written(result: Any, codec: Codec, count: int, spec: HandlerSpec) -> list[Outcome]:
    """Return the outcomes of what a handler returned.

    Raises:
        WrongOutput: A batch came back with another length.
    """
    if spec.limits.batch == 1:
        return [succeeded(codec.write(result))]
    if not isinstance(result, list) or len(result) != count:
        got = f"{len(result)} outputs" if isinstance(result, list) else type(result).__name__
        raise WrongOutput(f"returned {got} for {count} inputs")
    return [succeeded(codec.write(each)) for each in result]


def argument(values: list[BaseModel], spec: HandlerSpec) -> Any:
    """Return what the handler is called with."""
    return values if spec.limits.batch > 1 else values[0]


class TooLarge(ValueError):
    """An output is larger than is kept."""


def check_size(outcomes: list[Outcome], limit: int) -> None:
    """Refuse outputs that are larger than is kept.

    Raises:
        TooLarge: One is.
    """
    for outcome in outcomes:
        if outcome.output is not None and len(outcome.output) > limit:
            raise TooLarge(f"the output has {len(outcome.output)} bytes; {limit} are allowed")


def flush_output() -> None:
    """Flush what was printed; before a process is left by force."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()


def _end_copy(owner: int) -> None:
    """End the copy of a process that comes out of a handler which forked.

    It has the sockets of the program: it would answer calls a second time, and never end.
    """
    if os.getpid() == owner:
        return
    error = sys.exception()
    code = error.code if isinstance(error, SystemExit) else int(error is not None)
    flush_output()
    os._exit(code if isinstance(code, int) else int(code is not None))


def run_sync(
    function: Callable[[Any], Any],
    values: list[BaseModel],
    spec: HandlerSpec,
    codec: Codec,
    *,
    limit: int,
    part: Callable[[bytes], None],
    wanted: Callable[[], bool],
) -> list[Outcome]:
    """Call a sync handler, or run its generator to the end.

    Args:
        function: The handler.
        values: The inputs: one, or a batch.
        spec: What it is.
        codec: Checks what it returns.
        limit: Bytes of an output at most.
        part: Called with each part of a stream.
        wanted: Whether anybody still waits; asked between the parts.
    """
    owner = os.getpid()
    try:
        result = function(argument(values, spec))
    finally:
        _end_copy(owner)
    if not spec.shape.streams:
        outcomes = written(result, codec, len(values), spec)
        check_size(outcomes, limit)
        return outcomes
    parts: list[bytes] = []
    size = 0
    try:
        for each in result:
            _end_copy(owner)
            if not wanted():
                break
            parts.append(codec.write(each))
            size = _counted(size, parts[-1], limit)
            part(parts[-1])
    finally:
        _end_copy(owner)
        result.close()
    return [joined(parts)]


async def run_async(
    function: Callable[[Any], Any],
    values: list[BaseModel],
    spec: HandlerSpec,
    codec: Codec,
    *,
    limit: int,
    part: Callable[[bytes], None],
) -> list[Outcome]:
    """Await an async handler, or run its generator to the end."""
    owner = os.getpid()
    if not spec.shape.streams:
        try:
            result = await function(argument(values, spec))
        finally:
            _end_copy(owner)
        outcomes = written(result, codec, len(values), spec)
        check_size(outcomes, limit)
        return outcomes
    parts: list[bytes] = []
    size = 0
    stream = function(argument(values, spec))
    try:
        async for each in stream:
            _end_copy(owner)
            parts.append(codec.write(each))
            size = _counted(size, parts[-1], limit)
            part(parts[-1])
    finally:
        _end_copy(owner)
        await stream.aclose()
    return [joined(parts)]


def _counted(size: int, part: bytes, limit: int) -> int:
    size += len(part) + 1
    if size > limit:
        raise TooLarge(f"the stream has more than {limit} bytes")
    return size
