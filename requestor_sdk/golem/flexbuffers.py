"""FlexBuffers: what the daemon's service bus and its web socket speak.

The whole format is read, and written as the reference library writes it, byte by byte; without that
library, which is slow with the chunks of files. Performs no I/O and knows no message.

What is read may be hostile. No byte outside the buffer is looked at, and neither time nor memory
goes beyond what an honest buffer of that size takes: each value and each byte of a text is paid
for out of the buffer's length, so that offsets which point at one thing again and again do not pay.

Source: the FlexBuffers format, flatbuffers.dev/flexbuffers.
"""

from __future__ import annotations

import struct
from typing import Any, Final, NoReturn

from requestor_sdk.model.errors import BadAnswer, UsageError

DEEPEST: Final = 100
"""How deep maps and vectors may lie in each other, in both directions."""

_NULL, _INT, _UINT, _FLOAT, _KEY, _STRING = 0, 1, 2, 3, 4, 5
_INDIRECT_INT, _INDIRECT_UINT, _INDIRECT_FLOAT, _MAP, _VECTOR = 6, 7, 8, 9, 10
_VECTOR_INT, _VECTOR_KEY, _VECTOR_TEXT, _TUPLE_FIRST, _TUPLE_LAST = 11, 14, 15, 16, 24
_BLOB, _BOOL, _VECTOR_BOOL = 25, 26, 36

_UINT_CODE: Final = {1: "B", 2: "H", 4: "I", 8: "Q"}
_INT_CODE: Final = {1: "b", 2: "h", 4: "i", 8: "q"}
_FLOAT_CODE: Final = {4: "f", 8: "d"}
_CODES: Final = {_INT: _INT_CODE, _UINT: _UINT_CODE, _FLOAT: _FLOAT_CODE, _BOOL: _UINT_CODE}
_MASKS: Final = {width: (1 << 8 * width) - 1 for width in _UINT_CODE}
_AS_FLOAT: Final = struct.Struct("<f")
_AS_DOUBLE: Final = struct.Struct("<d")

Item = tuple[int, int, int]
"""A value on its way into a buffer: the value or where it lies, its type, its bit width (0-3)."""


def encode(value: object) -> bytes:
    """Return a value as FlexBuffers.

    Args:
        value: ``dict`` with text keys, ``list``, ``tuple``, ``str``, ``int`` of 64 bits, ``float``,
            ``bool``, ``None``, or ``bytes`` (a blob).

    Raises:
        UsageError: A value that FlexBuffers cannot hold.
    """
    writer = _Writer()
    return writer.finish(writer.add(value, 0))


def decode(data: bytes | memoryview) -> Any:
    """Return the value that FlexBuffers hold: ``encode`` the other way round.

    Raises:
        BadAnswer: The bytes are no FlexBuffers.
    """
    reader = _Reader(bytes(data))
    try:
        return reader.root()
    except (struct.error, ValueError, LookupError) as error:
        raise BadAnswer(f"what came over the bus is no FlexBuffers: {error}") from None


class _Reader:
    __slots__ = ("_data", "_keys", "_left", "_size", "_texts")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._size = len(data)
        self._left = 2 * len(data)
        self._keys: dict[int, str] = {}
        self._texts: dict[tuple[int, int, int], Any] = {}

    def root(self) -> Any:
        data = self._data
        if self._size < 3 or data[-1] not in _UINT_CODE:
            _bad("it has no root")
        width = data[-1]
        at = self._size - 2 - width
        if at < 0:
            _bad("its root lies outside of it")
        return self._value(at, width, data[-2], 0)

    def _value(self, at: int, width: int, packed: int, depth: int) -> Any:
        """Read one value of the packed type whose slot of ``width`` bytes is at ``at``."""
        kind = packed >> 2
        if kind <= _FLOAT or kind == _BOOL:
            return self._inline(at, width, kind)
        place = at - self._uint(at, width)
        if place < 0:
            _bad("an offset points out of it")
        own = 1 << (packed & 3)
        if kind in (_STRING, _BLOB):
            return self._text(place, own, kind)
        if kind in (_MAP, _VECTOR):
            if depth == DEEPEST:
                _bad(f"it is more than {DEEPEST} deep")
            return self._items(place, own, kind, depth + 1)
        if kind == _KEY:
            return self._key(place)
        if kind <= _INDIRECT_FLOAT:
            return self._inline(place, own, kind - _INDIRECT_INT + _INT)
        return self._typed(place, own, kind)

    def _inline(self, at: int, width: int, kind: int) -> Any:
        if kind == _NULL:
            return None
        if kind == _FLOAT:
            return struct.unpack_from("<" + _FLOAT_CODE[width], self._data, at)[0]
        if at + width > self._size:
            _bad("a number lies outside of it")
        number = int.from_bytes(self._data[at : at + width], "little", signed=kind == _INT)
        return bool(number) if kind == _BOOL else number

    def _uint(self, at: int, width: int) -> int:
        if at < 0 or at + width > self._size:
            _bad("a number lies outside of it")
        return int.from_bytes(self._data[at : at + width], "little")

    def _spend(self, units: int) -> None:
        self._left -= units
        if self._left < 0:
            _bad("it unfolds to far more than it is")

    def _text(self, place: int, own: int, kind: int) -> Any:
        known = self._texts.get((place, own, kind))
        if known is not None:
            return known
        size = self._uint(place - own, own)
        if place + size > self._size:
            _bad("a text or blob ends outside of it")
        self._spend(size)
        raw = self._data[place : place + size]
        found = self._texts[place, own, kind] = raw if kind == _BLOB else raw.decode()
        return found

    def _key(self, place: int) -> str:
        known = self._keys.get(place)
        if known is None:
            end = self._data.find(0, place)
            if end < 0:
                _bad("a key has no end")
            self._spend(end - place)
            known = self._keys[place] = self._data[place:end].decode()
        return known

    def _items(self, place: int, own: int, kind: int, depth: int) -> Any:
        size = self._uint(place - own, own)
        types = place + size * own
        if types + size > self._size:
            _bad("a vector ends outside of it")
        self._spend(size)
        data = self._data
        values = [
            self._value(place + own * index, own, data[types + index], depth)
            for index in range(size)
        ]
        if kind == _VECTOR:
            return values
        slot = place - 3 * own
        keys = slot - self._uint(slot, own)
        width = self._uint(place - 2 * own, own)
        if width not in _UINT_CODE or self._uint(keys - width, width) != size:
            _bad("a map has not as many keys as values")
        return dict(zip(self._keys_at(keys, width, size), values, strict=True))

    def _keys_at(self, place: int, width: int, size: int) -> list[str]:
        found = []
        for at in range(place, place + size * width, width):
            key = at - self._uint(at, width)
            if key < 0:
                _bad("an offset points out of it")
            found.append(self._key(key))
        return found

    def _typed(self, place: int, own: int, kind: int) -> list[Any]:
        """Read a vector whose elements are of one type; tuples tell their size by their type."""
        if _TUPLE_FIRST <= kind <= _TUPLE_LAST:
            size = (kind - _TUPLE_FIRST) // 3 + 2
            of = (kind - _TUPLE_FIRST) % 3 + _INT
        elif _VECTOR_INT <= kind <= _VECTOR_TEXT or kind == _VECTOR_BOOL:
            size = self._uint(place - own, own)
            of = kind - _VECTOR_INT + _INT
        else:
            _bad(f"there is no type {kind}")
        if place + size * own > self._size:
            _bad("a vector ends outside of it")
        self._spend(size)
        if kind in (_VECTOR_KEY, _VECTOR_TEXT):
            return list(self._keys_at(place, own, size))
        numbers = struct.unpack_from(f"<{size}{_CODES[of][own]}", self._data, place)
        return [bool(one) for one in numbers] if of == _BOOL else list(numbers)


class _Writer:
    __slots__ = ("_buffer", "_keys")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._keys: dict[bytes, int] = {}

    def finish(self, item: Item) -> bytes:
        buffer = self._buffer
        width = self._align(_slot_bits(item, len(buffer), 0))
        self._slot(item, width)
        buffer.append(_packed(item, 0))
        buffer.append(width)
        return bytes(buffer)

    def add(self, value: object, depth: int) -> Item:
        """Write what does not fit in a slot and return what is to stand in the slot."""
        match value:
            case None:
                return (0, _NULL, 0)
            case bool():
                return (int(value), _BOOL, 0)
            case int():
                return _whole(value)
            case float():
                return (_float_bits(value), _FLOAT, 2 if _is_short(value) else 3)
            case str():
                return self._text(_utf8(value), _STRING, b"\0")
            case bytes() | bytearray() | memoryview():
                return self._text(value, _BLOB, b"")
            case dict() | list() | tuple():
                if depth == DEEPEST:
                    raise UsageError(f"a value of more than {DEEPEST} levels is no FlexBuffers")
                return (
                    self._map(value, depth)
                    if isinstance(value, dict)
                    else self._vector([self.add(one, depth + 1) for one in value])
                )
            case _:
                raise UsageError(f"FlexBuffers cannot hold a {type(value).__name__}")

    def _text(self, raw: bytes | bytearray | memoryview, kind: int, end: bytes) -> Item:
        size = raw.nbytes if isinstance(raw, memoryview) else len(raw)
        bits = _bits(size)
        self._buffer += size.to_bytes(self._align(bits), "little")
        place = len(self._buffer)
        self._buffer += raw
        self._buffer += end
        return (place, kind, bits)

    def _map(self, value: dict[Any, object], depth: int) -> Item:
        pairs = {}
        for key, one in value.items():
            if not isinstance(key, str):
                raise UsageError(f"a key of FlexBuffers is a text, not a {type(key).__name__}")
            pairs[_utf8(key)] = (self._key(_utf8(key)), self.add(one, depth + 1))
        ordered = [pairs[key] for key in sorted(pairs)]
        size = len(ordered)
        first = len(self._buffer)
        keys = [(place, _KEY, 0) for place, _ in ordered]
        bits = max(
            (_slot_bits(key, first, 1 + index) for index, key in enumerate(keys)),
            default=0,
        )
        bits = max(bits, _bits(size))
        width = self._align(bits)
        self._buffer += size.to_bytes(width, "little")
        place = len(self._buffer)
        for key in keys:
            self._slot(key, width)
        return self._vector([item for _, item in ordered], (place, _VECTOR_KEY, bits))

    def _key(self, raw: bytes) -> int:
        place = self._keys.get(raw)
        if place is None:
            if 0 in raw:
                raise UsageError("a key of FlexBuffers has no zero byte in it")
            place = self._keys[raw] = len(self._buffer)
            self._buffer += raw
            self._buffer.append(0)
        return place

    def _vector(self, items: list[Item], keys: Item | None = None) -> Item:
        buffer, size = self._buffer, len(items)
        start, before = len(buffer), 1 if keys is None else 3
        bits = _bits(size) if keys is None else max(_bits(size), _slot_bits(keys, start, 0))
        for index, item in enumerate(items, before):
            bits = max(bits, item[2] if _is_inline(item[1]) else _slot_bits(item, start, index))
        width = self._align(bits)
        if keys is not None:
            self._slot(keys, width)
            buffer += (1 << keys[2]).to_bytes(width, "little")
        buffer += size.to_bytes(width, "little")
        place = len(buffer)
        for item in items:
            self._slot(item, width)
        buffer += bytes([_packed(item, bits) for item in items])
        return (place, _VECTOR if keys is None else _MAP, bits)

    def _slot(self, item: Item, width: int) -> None:
        value, kind, _ = item
        if kind == _FLOAT:
            exact: float = _AS_DOUBLE.unpack(value.to_bytes(8, "little"))[0]
            self._buffer += (_AS_FLOAT if width == 4 else _AS_DOUBLE).pack(exact)
            return
        number = value if _is_inline(kind) else len(self._buffer) - value
        self._buffer += (number & _MASKS[width]).to_bytes(width, "little")

    def _align(self, bits: int) -> int:
        width = 1 << bits
        self._buffer += b"\0" * (-len(self._buffer) & (width - 1))
        return width


def _bad(why: str) -> NoReturn:
    raise BadAnswer(f"what came over the bus is no FlexBuffers: {why}")


def _is_inline(kind: int) -> bool:
    return kind <= _FLOAT or kind == _BOOL


def _bits(number: int) -> int:
    """Return the bit width of an unsigned number: its bytes are 1 << bits."""
    if number < 1 << 8:
        return 0
    if number < 1 << 16:
        return 1
    return 2 if number < 1 << 32 else 3


def _slot_bits(item: Item, size: int, index: int) -> int:
    """Return how wide the slots of a vector must be that begins at ``size``, for this item."""
    place, kind, bits = item
    if _is_inline(kind):
        return bits
    for bits, width in enumerate((1, 2, 4, 8)):
        slot = size + (-size & (width - 1)) + index * width
        if _bits(slot - place) <= bits:
            return bits
    raise UsageError("a value of that size is no FlexBuffers")


def _packed(item: Item, parent: int) -> int:
    _, kind, bits = item
    return kind << 2 | (max(bits, parent) if _is_inline(kind) else bits)


def _whole(value: int) -> Item:
    if -(1 << 63) <= value < 1 << 63:
        return (value, _INT, _bits(2 * value if value >= 0 else ~(2 * value)))
    if 0 <= value < 1 << 64:
        return (value, _UINT, 3)
    raise UsageError("a number of more than 64 bits is no FlexBuffers")


def _is_short(value: float) -> bool:
    try:
        return bool(_AS_FLOAT.unpack(_AS_FLOAT.pack(value))[0] == value)
    except OverflowError:
        return False


def _float_bits(value: float) -> int:
    return int.from_bytes(_AS_DOUBLE.pack(value), "little")


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise UsageError("a text with half a character in it is no FlexBuffers") from None
