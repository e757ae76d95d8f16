"""What a handler is, read from its signature when it is decorated: mistakes show at once.

Knows typing and pydantic; runs nothing.
"""

from __future__ import annotations

import collections.abc
import inspect
import os
import sys
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args, get_origin, get_type_hints

from pydantic import BaseModel, TypeAdapter

from requestor_sdk.model.errors import ExposeError

Isolation = Literal["loop", "thread", "process"]
"""Where a handler works: on the event loop (async), in a thread, in a process of its own."""

THREADS: Final = 40
"""Calls of one sync handler at a time, where nothing else is said."""
ASYNC_CALLS: Final = 256
"""Calls of one async handler at a time, likewise."""
QUEUE: Final = 1000
"""Calls that may wait for one handler, likewise."""

HAS_PROCESSES: Final = sys.platform == "linux"
"""Whether handlers can work in processes that are forked and killed."""

_ITERATORS = (
    collections.abc.Iterator,
    collections.abc.Iterable,
    collections.abc.Generator,
    collections.abc.AsyncIterator,
    collections.abc.AsyncIterable,
    collections.abc.AsyncGenerator,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a handler may take.

    Attributes:
        timeout: Seconds of work of one call; ``None``: none.
        concurrency: Calls at a time.
        queue: Calls that wait.
        batch: Calls that are handed over together; 1: each by itself.
        batch_wait: Seconds that a batch waits for more.
        isolation: Where it works.
        idempotent: Whether doing it twice is no harm, so that it is tried again after a crash.
    """

    timeout: float | None
    concurrency: int
    queue: int
    batch: int
    batch_wait: float
    isolation: Isolation
    idempotent: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The types of a handler.

    Attributes:
        input: The model of what goes in.
        output: The model of what comes out; of a stream, of each part.
        streams: Whether it is a generator.
        is_async: Whether it is a coroutine function, or an async generator.
    """

    input: type[BaseModel]
    output: type[BaseModel]
    streams: bool
    is_async: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class HandlerSpec:
    """A handler that was exposed."""

    name: str
    function: Callable[..., Any]
    owner: type | None
    shape: Shape
    limits: Limits
    doc: str


def read_shape(function: Callable[..., Any], *, method: bool = False, batch: bool = False) -> Shape:
    """Return the types of a handler.

    Raises:
        ExposeError: It takes not exactly one input, or a type is missing or no model.
    """
    name = function.__name__
    parameters = list(inspect.signature(function).parameters.values())[1 if method else 0 :]
    if len(parameters) != 1 or parameters[0].kind not in (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
    ):
        raise ExposeError(
            f"Function `{name}` must take exactly ONE input argument (got {len(parameters)})",
            hint="put several values into one model",
        )
    hints = _hints(function)
    if "return" not in hints:
        raise ExposeError(f"Function `{name}` must have a return type.")
    if parameters[0].name not in hints:
        raise ExposeError(
            f"Parameter `{parameters[0].name}` of `{name}` must have a type",
            hint=f"def {name}({parameters[0].name}: Input) -> Output",
        )
    taken, given = hints[parameters[0].name], hints["return"]
    streams = inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)
    if batch:
        taken, given = _item(taken, name), _item(given, name)
    if streams:
        given = _part(given, name)
    return Shape(
        input=_model(taken, f"Input to `{name}`"),
        output=_model(given, f"Return type of `{name}`"),
        streams=streams,
        is_async=inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function),
    )


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return get_type_hints(function)
    except NameError as error:
        raise ExposeError(
            f"A type of `{function.__name__}` cannot be found: {error}",
            hint="define models at the top of the module, before the handler",
        ) from error


def _item(hint: Any, name: str) -> Any:
    if get_origin(hint) is not list or not get_args(hint):
        raise ExposeError(
            f"Function `{name}` works on batches: it must take a list and return a list",
            hint=f"def {name}(items: list[Input]) -> list[Output]",
        )
    return get_args(hint)[0]


def _part(hint: Any, name: str) -> Any:
    if get_origin(hint) not in _ITERATORS or not get_args(hint):
        raise ExposeError(
            f"Generator `{name}` must be typed as one",
            hint=f"def {name}(data: Input) -> Iterator[Output]",
        )
    return get_args(hint)[0]


def _model(hint: Any, what: str) -> type[BaseModel]:
    if not (inspect.isclass(hint) and not get_args(hint) and issubclass(hint, BaseModel)):
        raise ExposeError(f"{what} must be a subclass of pydantic.BaseModel")
    return hint


def make_limits(
    shape: Shape,
    name: str,
    *,
    timeout: float | None,
    concurrency: int | None,
    queue: int | None,
    batch: int,
    batch_wait: float,
    isolation: Isolation | None,
    idempotent: bool,
) -> Limits:
    """Check what was asked for and fill in what was not.

    Raises:
        ExposeError: A limit makes no sense for this handler.
    """
    # ogpu.service takes 0 for "no time-out".
    seconds = float(timeout) if timeout else None
    if seconds is not None and not 0 < seconds < 1e9:
        raise ExposeError(f"`{name}`: a timeout must be a positive number of seconds: {timeout!r}")
    if isolation is None:
        # Elsewhere a time-out ends the wait, not the work.
        plain: Isolation = "thread" if seconds is None or not HAS_PROCESSES else "process"
        isolation = "loop" if shape.is_async else plain
    _check_isolation(isolation, shape, name)
    usual = {"loop": ASYNC_CALLS, "thread": THREADS, "process": min(4, os.cpu_count() or 1)}
    checked = {
        "concurrency": usual[isolation] if concurrency is None else concurrency,
        "queue": QUEUE if queue is None else queue,
        "batch": batch,
    }
    for what, value in checked.items():
        least = 0 if what == "queue" else 1
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ExposeError(f"`{name}`: {what} must be a whole number from {least}: {value!r}")
    if batch > 1 and shape.streams:
        raise ExposeError(f"`{name}`: a generator cannot work on batches")
    if not 0 <= batch_wait < 60:
        raise ExposeError(f"`{name}`: batch_wait must be 0 to 60 seconds: {batch_wait!r}")
    return Limits(
        timeout=seconds,
        batch_wait=batch_wait,
        isolation=isolation,
        idempotent=idempotent,
        **checked,
    )


def _check_isolation(isolation: str, shape: Shape, name: str) -> None:
    if isolation not in typing.get_args(Isolation):
        raise ExposeError(f"`{name}`: isolation must be loop, thread or process: {isolation!r}")
    if isolation == "loop" and not shape.is_async:
        raise ExposeError(
            f"`{name}` is sync: on the event loop it would stop all others",
            hint="isolation='thread', or write it as `async def`",
        )
    if isolation == "thread" and shape.is_async:
        raise ExposeError(
            f"`{name}` is async: it works on the event loop, or in a process of its own",
            hint="isolation='loop' or isolation='process'",
        )
    if isolation == "process" and not HAS_PROCESSES:
        raise ExposeError(
            f"`{name}`: there is process isolation on Linux only",
            hint="isolation='thread'; a time-out then ends the wait, not the work",
        )


class Codec:
    """Input and output of one handler, to and from JSON.

    Built once a handler: pydantic's adapters cost more to make than to use.
    """

    __slots__ = ("_dump", "_output", "_read", "input", "output")

    def __init__(self, shape: Shape) -> None:
        self.input = TypeAdapter(shape.input)
        self.output = TypeAdapter(shape.output)
        self._read = self.input.validator.validate_json
        self._dump = self.output.serializer.to_json
        self._output = shape.output

    def read(self, body: bytes) -> BaseModel:
        """Return the input model of a JSON body; raises pydantic's ``ValidationError``."""
        value: BaseModel = self._read(body)
        return value

    def write(self, value: object) -> bytes:
        """Return an output as JSON.

        Raises:
            ValidationError: It is not what the handler declares; the fields are named.
            PydanticSerializationError: A field holds what its type does not allow.
        """
        if not isinstance(value, self._output):
            if isinstance(value, BaseModel) or not isinstance(value, dict):
                raise WrongOutput(f"returned {type(value).__name__}, not {self._output.__name__}")
            value = self.output.validate_python(value)
        return self._dump(value, by_alias=True, warnings="error")


class WrongOutput(TypeError):
    """A handler returned something else than it declares."""
