"""Frozen dataclasses as JSON, and back: what is stored, and what passes over the worker API.

The reader takes what it needs and passes over what it does not know, so that either side may be
newer; a value of a wrong type is refused with the path of it.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from functools import lru_cache
from typing import Any, Final, TypeVar, Union, cast

T = TypeVar("T")

_Read = Callable[[Any], Any]
_NAMES: Final = {"Mapping": Mapping, "Sequence": Sequence, "Json": Any}
_LARGEST: Final = 2**63


class FieldError(ValueError):
    """A value is not what is needed there.

    Attributes:
        path: Where, e.g. ``demand.gpus``; empty for the whole.
    """

    def __init__(self, message: str, path: str = "") -> None:
        super().__init__(f"{path}: {message}" if path else message)
        self.message, self.path = message, path

    def below(self, name: str) -> FieldError:
        """Return the same, seen from one level up."""
        return FieldError(self.message, f"{name}.{self.path}" if self.path else name)


def to_json(value: object) -> Any:
    """Return a value, and all in it, as what ``json.dumps`` takes."""
    if value is None or (
        isinstance(value, str | bool | int | float) and not isinstance(value, Enum)
    ):
        return value
    if isinstance(value, Enum):
        return value.value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {name: to_json(getattr(value, name)) for name in _names(type(value))}
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | memoryview):
        return [to_json(item) for item in value]
    raise TypeError(f"{type(value).__name__} has no JSON")


def from_json(cls: type[T], data: object) -> T:
    """Return the dataclass of what ``to_json`` made of it.

    Raises:
        FieldError: Something is missing, or of a wrong type.
    """
    kind: Any = cls
    return cast("T", _reader(kind)(data))


@lru_cache(maxsize=256)
def _names(cls: type) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(cls))


@lru_cache(maxsize=256)
def _reader(kind: Any) -> _Read:
    """Return what reads values of a type."""
    simple = _SIMPLE.get(kind)
    if simple is not None:
        return simple
    if isinstance(kind, type) and issubclass(kind, Enum):
        return _of_enum(kind)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return _of_dataclass(kind)
    return _of_generic(kind)


def _of_generic(kind: Any) -> _Read:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in {Union, types.UnionType}:
        inner = [each for each in arguments if each is not type(None)]
        if len(inner) == 1 and len(inner) < len(arguments):
            read = _reader(inner[0])
            return lambda value: None if value is None else read(value)
    elif origin is Sequence:
        return _of_sequence(_reader(arguments[0]))
    elif origin is Mapping:
        return _of_mapping(_reader(arguments[1]))
    raise TypeError(f"no way to read {kind}")


def _of_enum(kind: type[Enum]) -> _Read:
    known = {member.value: member for member in kind}

    def read(value: Any) -> Enum:
        if isinstance(value, str | int) and value in known:
            return known[value]
        raise FieldError(f"one of {', '.join(map(str, known))} is needed")

    return read


def _of_sequence(inner: _Read) -> _Read:
    def read(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple):
            raise FieldError("a list is needed")
        found = []
        for place, item in enumerate(value):
            try:
                found.append(inner(item))
            except FieldError as error:
                raise error.below(str(place)) from None
        return tuple(found)

    return read


def _of_mapping(inner: _Read) -> _Read:
    def read(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise FieldError("an object is needed")
        found = {}
        for key, item in value.items():
            try:
                found[key] = inner(item)
            except FieldError as error:
                raise error.below(key) from None
        return found

    return read


def _of_dataclass(cls: Any) -> _Read:
    hints = typing.get_type_hints(cls, localns=_NAMES)
    parts = [
        (
            field.name,
            _reader(hints[field.name]),
            field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING,
        )
        for field in dataclasses.fields(cls)
    ]

    def read(value: Any) -> Any:
        if not isinstance(value, dict):
            raise FieldError("an object is needed")
        found = {}
        for name, inner, needed in parts:
            if name in value:
                try:
                    found[name] = inner(value[name])
                except FieldError as error:
                    raise error.below(name) from None
            elif needed:
                raise FieldError("missing", name)
        return cls(**found)

    return read


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise FieldError("a string is needed")
    return value


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise FieldError("true or false is needed")
    return value


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not -_LARGEST <= value < _LARGEST:
        raise FieldError("a whole number of 64 bits is needed")
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise FieldError("a number is needed")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise FieldError("a finite number is needed")
    return number


_SIMPLE: Final[dict[Any, _Read]] = {
    str: _text,
    bool: _truth,
    int: _whole,
    float: _number,
    Any: lambda value: value,
}
