"""Inputs and outputs of ops as files: JSON, or pickle where a run asks for it.

A pickle that came out of a sandbox is hostile. It is not unpickled: the opcodes of plain data
(numbers, text, lists, tuples, dictionaries) are followed here, and any other is refused, so that
no class is named, no function called, and nothing larger built than the file says.
"""

from __future__ import annotations

import json
import pickle
from typing import TYPE_CHECKING, Any, Final, Literal

from requestor_sdk.model.parsing import parse_json

if TYPE_CHECKING:
    from collections.abc import Mapping

Format = Literal["json", "pickle"]
MAX_DEPTH: Final = 50
MAX_VALUES: Final = 300_000
"""How many numbers, texts, lists and dictionaries a file may have in all."""
_MAX_INT_BITS = 4096
_SCALARS = (str, bool, int, float, type(None))
_MARK = object()
_CONSTANTS: Final = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_LITERALS = frozenset(
    {"BININT", "BININT1", "BININT2", "LONG1", "LONG4", "INT", "LONG", "BINFLOAT", "FLOAT"}
    | {"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE"}
)
_PUTS = frozenset({"MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT"})
_GETS = frozenset({"GET", "BINGET", "LONG_BINGET"})


class NotPlain(ValueError):
    """It is not what it should be; the message says in what."""


def dump(value: Mapping[str, Any], form: Format) -> bytes:
    """Return the file's bytes.

    Raises:
        NotPlain: It holds what JSON does not know.
    """
    try:
        plain = plain_object(dict(value))
        if form == "pickle":
            return pickle.dumps(plain, protocol=4)
        return json.dumps(plain, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise NotPlain(str(error)) from None


def load(data: bytes, form: Format) -> dict[str, Any]:
    """Read a file that a payload wrote.

    Raises:
        NotPlain: It is no JSON object, or no pickle of one.
    """
    try:
        value = _unpickled(data) if form == "pickle" else parse_json(data, parse_constant=_refuse)
    except NotPlain:
        raise
    except (ValueError, RecursionError, IndexError, KeyError, TypeError, EOFError) as error:
        raise NotPlain(f"it is no {form}: {type(error).__name__}") from None
    return plain_object(value)


def _refuse(word: str) -> Any:
    raise NotPlain(f"it has {word}, which is no JSON")


def plain_object(value: Any) -> dict[str, Any]:
    """Return a dictionary as JSON has it.

    Raises:
        NotPlain: It is none, or what is in it is too deep, too much, or nothing that JSON knows.
    """
    if not isinstance(value, dict):
        raise NotPlain(f"it is a {type(value).__name__}, and must be an object")
    found = _Plain().of(value, MAX_DEPTH)
    assert isinstance(found, dict)
    return found


class _Plain:
    """Copies plain data, and counts: what is shared in a pickle is there as often as it is met."""

    def __init__(self) -> None:
        self._left = MAX_VALUES

    def of(self, value: Any, depth: int) -> Any:
        """Return a copy."""
        self._left -= 1
        if self._left < 0 or depth == 0:
            raise NotPlain(f"it has over {MAX_VALUES} values, or is nested over {MAX_DEPTH} deep")
        kind = type(value)
        if kind is float and not abs(value) < float("inf"):
            raise NotPlain(f"it has {value}, which is no JSON")
        if kind is int and value.bit_length() > _MAX_INT_BITS:
            raise NotPlain("it has a number that is too long")
        if kind in _SCALARS:
            return value
        if kind in (list, tuple):
            return [self.of(item, depth - 1) for item in value]
        if kind is not dict:
            raise NotPlain(f"it has a {kind.__name__}, which JSON does not know")
        if not all(type(key) is str for key in value):
            raise NotPlain("it has a key that is no text")
        return {key: self.of(item, depth - 1) for key, item in value.items()}


def _unpickled(data: bytes) -> Any:
    """Follow the opcodes of a pickle of plain data."""
    import pickletools

    stack: list[Any] = []
    memo: dict[int, Any] = {}
    for opcode, argument, _ in pickletools.genops(data):
        name = opcode.name
        if name == "STOP":
            return stack.pop()
        if name in _LITERALS:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name == "MARK":
            stack.append(_MARK)
        elif name in _PUTS:
            memo[len(memo) if name == "MEMOIZE" else _number(argument)] = stack[-1]
        elif name in _GETS:
            stack.append(memo[_number(argument)])
        elif name not in ("PROTO", "FRAME"):
            _build(name, stack)
    raise NotPlain("it is no pickle: it does not end")


def _build(name: str, stack: list[Any]) -> None:
    """Follow an opcode that makes, or fills, a list, tuple or dictionary."""
    if name in ("EMPTY_LIST", "EMPTY_DICT", "EMPTY_TUPLE"):
        stack.append({"EMPTY_LIST": [], "EMPTY_DICT": {}, "EMPTY_TUPLE": ()}[name])
    elif name in ("LIST", "TUPLE", "DICT"):
        items = _since_mark(stack)
        made: list[Any] | tuple[Any, ...] | dict[Any, Any] = items
        if name != "LIST":
            made = tuple(items) if name == "TUPLE" else _pairs(items)
        stack.append(made)
    elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
        count = int(name[-1])
        items, stack[-count:] = stack[-count:], []
        stack.append(tuple(items))
    elif name in ("APPEND", "APPENDS"):
        items = _since_mark(stack) if name == "APPENDS" else [stack.pop()]
        _kind(stack[-1], list).extend(items)
    elif name in ("SETITEM", "SETITEMS"):
        items = _since_mark(stack) if name == "SETITEMS" else [stack.pop(-2), stack.pop()]
        _kind(stack[-1], dict).update(_pairs(items))
    else:
        raise NotPlain(f"the pickle has {name}, which makes no plain data")


def _number(argument: object) -> int:
    assert isinstance(argument, int)
    return argument


def _since_mark(stack: list[Any]) -> list[Any]:
    items: list[Any] = []
    while (item := stack.pop()) is not _MARK:
        items.append(item)
    return items[::-1]


def _pairs(items: list[Any]) -> dict[Any, Any]:
    return dict(zip(items[::2], items[1::2], strict=True))


def _kind(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise NotPlain("the pickle fills what is not there to be filled")
    return value
