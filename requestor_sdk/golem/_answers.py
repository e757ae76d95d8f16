"""How the side that has a file answers by gftp: what is asked for, or an error, never a guess.

What comes is a stranger's: numbers that are none, offsets beyond the end and contents that are
missing are refused.

Source: the gftp messages of yagna.
"""

from __future__ import annotations

from typing import Any

from requestor_sdk.golem._chunks import LARGEST_CHUNK, chunk_answer
from requestor_sdk.golem._served import Answer, Refusal
from requestor_sdk.golem._source import Changed, Source
from requestor_sdk.golem._target import Target
from requestor_sdk.golem.flexbuffers import encode


def giving(source: Source) -> Answer:
    """Return what answers those who fetch a file."""

    async def answer(request: str, component: str, payload: Any) -> bytes:
        if component == "GetMetadata":
            return encode({"id": request, "payload": {"fileSize": source.size}})
        if component != "GetChunk":
            raise Refusal({"InternalError": f"there is no {component}"})
        offset, size = _whole(payload, "offset"), _whole(payload, "size")
        if offset > source.size:
            raise Refusal({"ReadError": f"the file has {source.size} bytes"})
        if size > LARGEST_CHUNK:
            raise Refusal({"ReadError": f"a chunk has {LARGEST_CHUNK} bytes at most"})
        try:
            content = await source.read(offset, min(size, source.size - offset))
        except Changed as error:
            raise Refusal({"ReadError": str(error)}) from None
        except OSError as error:
            raise Refusal({"ReadError": error.strerror or "it cannot be read"}) from None
        return chunk_answer(request, content, offset)

    return answer


def taking(target: Target) -> Answer:
    """Return what answers those who bring a file."""

    async def answer(request: str, component: str, payload: Any) -> bytes:
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
        return encode({"id": request, "payload": None})

    return answer


def _whole(payload: Any, name: str) -> int:
    value = payload.get(name) if isinstance(payload, dict) else None
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise Refusal({"InternalError": f"{name} is no number"})
    return value
