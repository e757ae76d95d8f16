"""Server-sent events: splits a stream of bytes into the data of its events.

Source: the WHATWG's page on server-sent events; of it what the daemon uses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from requestor_sdk.model.errors import BadAnswer

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator

ENDED: Final = b":ping"
"""What the daemon sends once the provider's events are over; it keeps the connection for long."""
LONGEST: Final = 64 * 1024 * 1024
"""Bytes of the longest event that is taken."""


async def events(chunks: AsyncIterable[bytes]) -> AsyncIterator[str]:
    """Yield the data of each event, as a text, until the provider's events are over.

    Raises:
        BadAnswer: An event is longer than anything that makes sense.
    """
    rest = bytearray()
    data: list[bytes] = []
    size = 0
    async for chunk in chunks:
        searched = len(rest)
        rest += chunk
        begin = 0
        while (end := rest.find(b"\n", max(begin, searched))) >= 0:
            line = bytes(rest[begin:end]).rstrip(b"\r")
            begin = end + 1
            if line == ENDED:
                return
            if line.startswith(b"data:"):
                data.append(line[5:].removeprefix(b" "))
                size += len(line)
            elif not line and data:
                yield b"\n".join(data).decode(errors="replace")
                data, size = [], 0
        del rest[:begin]
        if len(rest) + size > LONGEST:
            raise BadAnswer(f"an event of a stream is longer than {LONGEST} bytes")
