"""FlexBuffers: what the daemon's service bus and its web socket speak.

Knows no message of the protocol but the shapes that carry files. Performs no I/O.

Source: the FlexBuffers format, google.github.io/flatbuffers/flexbuffers.html.
"""

from __future__ import annotations

from typing import Any

from requestor_sdk.model.errors import BadAnswer


def encode(value: object) -> bytes:
    """Return a value as FlexBuffers.

    Args:
        value: ``dict`` with text keys, ``list``, ``tuple``, ``str``, ``int``, ``float``, ``bool``,
            ``None``, or ``bytes`` (a blob).
    """
    from flatbuffers import flexbuffers

    return bytes(flexbuffers.Dumps(value))


def decode(data: bytes | memoryview) -> Any:
    """Return the value that FlexBuffers hold: ``encode`` the other way round.

    Raises:
        BadAnswer: The bytes are no FlexBuffers.
    """
    import struct

    from flatbuffers import flexbuffers

    try:
        return flexbuffers.Loads(bytes(data))
    except (
        ValueError,
        TypeError,
        LookupError,
        ArithmeticError,
        RecursionError,
        AssertionError,
        struct.error,
    ) as error:
        raise BadAnswer(f"what came over the bus is no FlexBuffers: {error}") from None
