"""Reading the answer of another program up to a bound: none may fill the memory.

It is below all that speak HTTP as a client, handlers in a payload among them. What an answer that
is too long means, and which error says so, is for them to say; aiohttp's errors pass through.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import aiohttp


async def whole(response: aiohttp.ClientResponse, most: int) -> bytes | None:
    """Return the body of an answer; ``None`` where it has more than ``most`` bytes."""
    length = response.content_length
    # A body that is packed may be of any length once it is unpacked.
    if length is not None and length <= most and "Content-Encoding" not in response.headers:
        return await response.read()
    data = bytearray()
    async for piece in response.content.iter_any():
        data += piece
        if len(data) > most:
            return None
    return bytes(data)


async def beginning(response: aiohttp.ClientResponse, most: int) -> bytes:
    """Return the first ``most`` bytes of a body; what comes after them is not waited for."""
    data = bytearray()
    async for piece in response.content.iter_any():
        data += piece
        if len(data) >= most:
            break
    return bytes(data[:most])
