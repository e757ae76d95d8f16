"""How the side that has a file answers by gftp: what is asked for, or an error, never a guess.

What comes is a stranger's: numbers that are none, offsets beyond the end and contents that are
missing are refused.

Source: the gftp messages of yagna.
"""

from __future__ import annotations

from typing import Any

from requestor_sdk.golem._chunks import Chunk
from requestor_sdk.golem._served import Answer, Refusal
from requestor_sdk.golem._source import Changed, Source
from requestor_sdk.golem._target import Target


def giving(source: Source, largest: int) -> Answer:
    """Return what answers those who fetch a file, in chunks of ``largest`` bytes at most."""

    async def answer(component: object, payload: Any) -> object:
        if component == "GetMetadata":
            # The second field is ours: whoever does not know it goes by the customary size.
            return {"fileSize": source.size, "largestChunk": largest}
        if component != "GetChunk":
            raise Refusal({"InternalError": f"there is no {component}"})
        offset, size = _whole(payload, "offset"), _whole(payload, "size")
        if offset > source.size:
            raise Refusal({"ReadError": f"the file has {source.size} bytes"})
        if size > largest:
            raise Refusal({"ReadError": f"a chunk has {largest} bytes at most"})
        try:
            content = await source.read(offset, min(size, source.size - offset))
        except Changed as error:
            raise Refusal({"ReadError": str(error)}) from None
        except OSError as error:
            raise Refusal({"ReadError": error.strerror or "it cannot be read"}) from None
        return Chunk(content, offset)

    return answer


def taking(target: Target) -> Answer:
    """Return what answers those who bring a file."""

    async def answer(component: object, payload: Any) -> object:
        if component == "UploadChunk":
            chunk = payload.get("chunk") if isinstance(payload, dict) else None
            content = chunk.get("content") if isinstance(chunk, dict) else None
            if not isinstance(content, bytes):
                raise Refusal({"WriteError": "there is no content"})
            await target.add(_whole(chunk, "offset"), content)
        elif component == "UploadFinished":
            await target.finish(payload.get("hash") if isinstance(payload, dict) else None)
        else:
            raise Refusal({"InternalError": f"there is no {component}"})
        return None

    return answer


def _whole(payload: Any, name: str) -> int:
    value = payload.get(name) if isinstance(payload, dict) else None
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise Refusal({"InternalError": f"{name} is no number"})
    return value
