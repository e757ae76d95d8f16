"""The service bus's frames: bytes to packets and back, nothing else.

A frame is its length (4 bytes, big-endian) and one protobuf ``Packet``. The few messages that are
used are read and written by hand: no I/O here, no state but the bytes of an unfinished frame.

Source: the message numbers of the bus's protocol buffer definition.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Final

from requestor_sdk.model.errors import BadAnswer

FRAME_LIMIT: Final = 64 * 1024 * 1024
"""Bytes of the longest frame that is taken, and of the longest payload once unpacked."""

_HELLO: Final = 1
_REGISTER: Final = 2
_REGISTER_REPLY: Final = 3
_UNREGISTER: Final = 4
_UNREGISTER_REPLY: Final = 5
_CALL: Final = 6
_CALL_REPLY: Final = 7
_PING: Final = 14
_PONG: Final = 15

_VARINT: Final = 0
_FIXED64: Final = 1
_BYTES: Final = 2
_FIXED32: Final = 5

OK: Final = 0
BAD_REQUEST: Final = 400
CONFLICT: Final = 409
FAILURE: Final = 500

_LENGTH: Final = struct.Struct(">I")


@dataclass(frozen=True, slots=True)
class CallRequest:
    """Somebody calls a service of ours; ``data`` as it came."""

    caller: str
    address: str
    request_id: str
    data: bytes
    no_reply: bool


@dataclass(frozen=True, slots=True)
class CallReply:
    """An answer to a call of ours; more follow while it is ``partial``."""

    request_id: str
    code: int
    partial: bool
    data: bytes


@dataclass(frozen=True, slots=True)
class RegisterReply:
    """An answer to a wish to serve a name; these come in the order of the wishes."""

    code: int
    message: str


@dataclass(frozen=True, slots=True)
class UnregisterReply:
    """An answer to a wish to serve a name no more."""

    code: int


@dataclass(frozen=True, slots=True)
class Ping:
    """The other side asks whether we live."""


@dataclass(frozen=True, slots=True)
class Other:
    """A packet that asks for nothing, e.g. a hello or a pong."""

    number: int


Packet = CallRequest | CallReply | RegisterReply | UnregisterReply | Ping | Other


class FrameReader:
    """Cuts what comes into packets."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[Packet]:
        """Take bytes and return the packets that are complete by them.

        Raises:
            BadAnswer: They are no frames, or one is longer than is allowed.
        """
        self._rest += data
        found: list[Packet] = []
        start, end = 0, len(self._rest)
        while end - start >= 4:
            (length,) = _LENGTH.unpack_from(self._rest, start)
            if length > FRAME_LIMIT:
                raise BadAnswer(
                    f"the service bus sent a frame of {length} bytes, more than {FRAME_LIMIT}"
                )
            if end - start - 4 < length:
                break
            body = bytes(memoryview(self._rest)[start + 4 : start + 4 + length])
            found.append(_packet(body))
            start += 4 + length
        if start:
            del self._rest[:start]
        return found


def unpacked(data: bytes) -> bytes:
    """Return a payload as its sender meant it: most are compressed, some are not.

    Raises:
        BadAnswer: It would be longer than is allowed.
    """
    if len(data) < 6 or data[0] & 0x0F != 8:
        return data
    inflate = zlib.decompressobj()
    try:
        found = inflate.decompress(data, FRAME_LIMIT)
    except zlib.error:
        return data
    if inflate.unconsumed_tail:
        raise BadAnswer(f"a payload of the service bus is longer than {FRAME_LIMIT} bytes")
    return found if inflate.eof else data


def hello(name: str, instance: bytes) -> bytes:
    """Return the frame that begins a connection; ``instance`` has 16 bytes."""
    return _frame(_HELLO, _text(1, name), _text(2, "0.1.0"), _field(3, instance))


def register(service: str) -> bytes:
    """Return the wish to serve a name."""
    return _frame(_REGISTER, _text(1, service))


def unregister(service: str) -> bytes:
    """Return the wish to serve a name no more."""
    return _frame(_UNREGISTER, _text(1, service))


def call(address: str, request_id: str, data: bytes, *, caller: str = "") -> bytes:
    """Return a call; without a caller it is of the daemon's default identity."""
    named = _text(1, caller) if caller else b""
    return _frame(_CALL, named, _text(2, address), _text(3, request_id), _field(4, data))


def reply(request_id: str, data: bytes, *, code: int = OK, partial: bool = False) -> bytes:
    """Return an answer to a call."""
    numbers = b""
    if code:
        numbers += b"\x10" + _varint(code)
    if partial:
        numbers += b"\x18\x01"
    return _frame(_CALL_REPLY, _text(1, request_id), numbers, _field(4, data))


def ping() -> bytes:
    """Return the question whether the other side lives."""
    return _frame(_PING)


def pong() -> bytes:
    """Return the answer to a ping."""
    return _frame(_PONG)


def _frame(number: int, *parts: bytes) -> bytes:
    size = sum(map(len, parts))
    head = _varint(number << 3 | _BYTES) + _varint(size)
    return b"".join((_LENGTH.pack(len(head) + size), head, *parts))


def _text(number: int, value: str) -> bytes:
    return _field(number, value.encode())


def _field(number: int, value: bytes) -> bytes:
    if not value:
        return b""
    return b"".join((_varint(number << 3 | _BYTES), _varint(len(value)), value))


def _varint(value: int) -> bytes:
    if value < 0x80:
        return bytes((value,))
    found = bytearray()
    while value >= 0x80:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def _packet(body: bytes) -> Packet:
    try:
        for number, value in _fields(body):
            if isinstance(value, bytes):
                return _message(number, dict(_fields(value)))
        return Other(0)
    except (IndexError, ValueError, struct.error) as error:
        raise BadAnswer(f"the service bus sent rubbish: {error}") from None


def _message(number: int, fields: dict[int, int | bytes]) -> Packet:
    match number:
        case 6:  # a call
            return CallRequest(
                _str(fields, 1),
                _str(fields, 2),
                _str(fields, 3),
                _bytes(fields, 4),
                bool(fields.get(5)),
            )
        case 7:  # its answer
            return CallReply(
                _str(fields, 1), _int(fields, 2), bool(fields.get(3)), _bytes(fields, 4)
            )
        case 3:
            return RegisterReply(_int(fields, 1), _str(fields, 2))
        case 5:
            return UnregisterReply(_int(fields, 1))
        case 14:
            return Ping()
        case _:
            return Other(number)


def _fields(data: bytes) -> list[tuple[int, int | bytes]]:
    found: list[tuple[int, int | bytes]] = []
    place, end = 0, len(data)
    while place < end:
        key, place = _read_varint(data, place)
        kind = key & 7
        value: int | bytes
        if kind == _VARINT:
            value, place = _read_varint(data, place)
        elif kind == _BYTES:
            size, place = _read_varint(data, place)
            value = data[place : place + size]
            place += size
        elif kind in (_FIXED32, _FIXED64):
            size = 4 if kind == _FIXED32 else 8
            value = data[place : place + size]
            place += size
        else:
            raise ValueError(f"a field of the unknown kind {kind}")
        if place > end:
            raise ValueError("a field ends after its message")
        found.append((key >> 3, value))
    return found


def _read_varint(data: bytes, place: int) -> tuple[int, int]:
    first = data[place]
    if first < 0x80:
        return first, place + 1
    value, shift = 0, 0
    while shift < 70:
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7
    raise ValueError("a number that does not end")


def _int(fields: dict[int, int | bytes], number: int) -> int:
    value = fields.get(number, 0)
    if not isinstance(value, int):
        raise ValueError(f"field {number} is no number")  # noqa: TRY004 - rubbish, not misuse
    return value


def _bytes(fields: dict[int, int | bytes], number: int) -> bytes:
    value = fields.get(number, b"")
    if not isinstance(value, bytes):
        raise ValueError(f"field {number} is no text")  # noqa: TRY004 - rubbish, not misuse
    return value


def _str(fields: dict[int, int | bytes], number: int) -> str:
    return _bytes(fields, number).decode()
