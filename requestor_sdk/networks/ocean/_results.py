"""Results byte by byte: the right one, from the right place on, or an error.

A node numbers results anew when a log is added, ignores where one wants to begin, and answers with
nothing where there is no such number. So the number is looked up just before, what was had is
skipped, and an empty answer for a file that is not empty is none.
"""

from __future__ import annotations

from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Final

from requestor_sdk.model.errors import BadAnswer, JobNotFound
from requestor_sdk.ocean.logs import Demultiplexer
from requestor_sdk.ocean.messages import Generation
from requestor_sdk.ocean.statuses import results_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from requestor_sdk.model.jobs import ResultFile
    from requestor_sdk.networks.ocean._http import Stream
    from requestor_sdk.networks.ocean._node import OceanNode
    from requestor_sdk.ports.basics import Signer

_TAR_AT: Final = 257
_TAR_BLOCK: Final = 512
_TRIES: Final = 3


async def read_result(
    node: OceanNode, signer: Signer, job_id: str, file: ResultFile, *, offset: int
) -> AsyncIterator[bytes]:
    """Yield a result's bytes from an offset on; logs without a node's frames.

    Raises:
        JobNotFound: There is no such job, or no such result of it.
        BadAnswer: What came is not this result.
    """
    framed = file.type != "output" and not node.ours
    # With frames taken out, places in the text are not places in what is sent.
    start = 0 if framed else offset
    index = await _index(node, signer, job_id, file)
    for _ in range(_TRIES):
        stream = await node.result(signer, job_id, index, offset=start)
        async with closing(stream), aclosing(_from(stream, start)) as body:
            first = await _first(body, _TAR_BLOCK if start == 0 else 1)
            if start or not _wrong(file, first):
                pieces = _text(first, body, offset) if framed else _all(first, body)
                async with aclosing(pieces):
                    async for chunk in pieces:
                        yield chunk
                return
        again = await _index(node, signer, job_id, file)
        if again == index:
            break
        index = again
    raise BadAnswer(
        f"the provider sent something else in the place of {file.name}", ids={"job": job_id}
    )


@asynccontextmanager
async def closing(stream: Stream) -> AsyncIterator[Stream]:
    """Let go of a stream at the block's end."""
    try:
        yield stream
    finally:
        stream.close()


async def _index(node: OceanNode, signer: Signer, job_id: str, file: ResultFile) -> int:
    if node.ours or node.generation is Generation.classic:
        return file.index  # theirs stay as they are
    listed = results_of((await node.job(signer, job_id)).get("results"))
    same = [one for one in listed if (one.name, one.type) == (file.name, file.type)]
    if len(same) > 1:
        # Two files of one name: then their order tells them apart.
        same = [one for one in same if one.index == file.index] or same
    if not same:
        raise JobNotFound(f"the job has no result {file.name} any more", ids={"job": job_id})
    return same[0].index


def _wrong(file: ResultFile, first: bytes) -> bool:
    """Tell whether what came cannot be the beginning of the file."""
    if not first:
        return file.size > 0
    if not file.name.endswith(".tar") or len(first) < _TAR_BLOCK:
        return False
    return first[_TAR_AT : _TAR_AT + 5] != b"ustar" and any(first[:_TAR_BLOCK])


async def _from(stream: Stream, offset: int) -> AsyncGenerator[bytes]:
    """Yield the body from an offset on, whether the server began there or not."""
    skip = offset
    if stream.status == 206 and stream.content_range.startswith(f"bytes {offset}-"):
        skip = 0
    async for chunk in stream.chunks():
        if skip >= len(chunk):
            skip -= len(chunk)
            continue
        yield chunk[skip:]
        skip = 0


async def _first(body: AsyncIterator[bytes], wanted: int) -> bytes:
    first = b""
    async for chunk in body:
        first += chunk
        if len(first) >= wanted:
            break
    return first


async def _all(first: bytes, body: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    if first:
        yield first
    async for chunk in body:
        yield chunk


async def _text(first: bytes, body: AsyncIterator[bytes], offset: int) -> AsyncGenerator[bytes]:
    unframed, skip = Demultiplexer(), offset
    async for chunk in _all(first, body):
        text = unframed.feed(chunk)
        if skip >= len(text):
            skip -= len(text)
            continue
        yield text[skip:]
        skip = 0
    rest = unframed.close()[skip:]
    if rest:
        yield rest
