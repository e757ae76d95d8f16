"""What a job writes, from its beginning to its end, whatever its server offers for that.

Ours streams it whole. A node streams it while the algorithm runs, and has it as a result later; a
classic Provider has the result only. Where a stream breaks, what was given already is skipped.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from requestor_sdk.model.errors import JobNotFound, NetworkError
from requestor_sdk.model.jobs import JobCode
from requestor_sdk.networks.ocean._config import FASTEST_POLL_SEC
from requestor_sdk.networks.ocean._results import read_result
from requestor_sdk.ocean.logs import Demultiplexer
from requestor_sdk.ocean.messages import Generation
from requestor_sdk.ocean.statuses import number

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from requestor_sdk.model.jobs import JobStatus
    from requestor_sdk.networks.ocean._node import OceanNode
    from requestor_sdk.networks.ocean._watch import Watch
    from requestor_sdk.ports.basics import Signer

_TRIES: Final = 8
_PAUSE_SEC: Final = 0.5


class _Given:
    """Counts what was given, so that no byte is given twice."""

    def __init__(self) -> None:
        self.count = 0

    def fresh(self, chunk: bytes, at: int) -> bytes:
        """Return the part of a chunk, which begins at a place of the log, that was not given."""
        part = chunk[max(0, self.count - at) :]
        self.count += len(part)
        return part


async def read_logs(
    node: OceanNode, signer: Signer, watch: Watch, job_id: str
) -> AsyncIterator[bytes]:
    """Yield a job's log until the job is over.

    Raises:
        JobNotFound: There is no such job.
        NetworkError: The server cannot be reached for a while.
    """
    given = _Given()
    if node.ours:
        async for chunk in _whole(node, signer, job_id, given):
            yield chunk
        return
    last: JobStatus | None = None
    async for status in watch.updates(job_id):
        last = status
        if status.code == JobCode.running and node.generation is not Generation.classic:
            async for chunk in _while_it_runs(node, signer, job_id, given):
                yield chunk
    for file in () if last is None else last.results:
        if file.type == "algorithmLog":
            rest = read_result(node, signer, job_id, file, offset=given.count)
            async for chunk in rest:
                given.count += len(chunk)
                yield chunk


async def _whole(
    node: OceanNode, signer: Signer, job_id: str, given: _Given
) -> AsyncIterator[bytes]:
    failed = 0
    while True:
        before = given.count
        try:
            async for chunk in _stream(node, signer, job_id, given):
                yield chunk
            return
        except NetworkError as error:
            failed = 1 if given.count > before else failed + 1
            if not error.may_pass or failed > _TRIES:
                raise
            await asyncio.sleep(_PAUSE_SEC * failed)


async def _while_it_runs(
    node: OceanNode, signer: Signer, job_id: str, given: _Given
) -> AsyncIterator[bytes]:
    while True:
        try:
            async for chunk in _stream(node, signer, job_id, given):
                yield chunk
        except JobNotFound:
            return  # It ended meanwhile: the result has the rest.
        except NetworkError as error:
            if not error.may_pass:
                return
        await asyncio.sleep(FASTEST_POLL_SEC)
        try:
            job = await node.job(signer, job_id)
        except NetworkError:
            continue  # Whoever follows the job's status finds out whether that lasts.
        if number(job.get("status")) != JobCode.running or job.get("dateFinished") is not None:
            return


async def _stream(
    node: OceanNode, signer: Signer, job_id: str, given: _Given
) -> AsyncIterator[bytes]:
    stream = await node.logs(signer, job_id)
    unframed, at = Demultiplexer(), 0
    try:
        # A program may be silent for as long as it likes.
        async for chunk in stream.chunks(silent=None):
            text = chunk if node.ours else unframed.feed(chunk)
            fresh = given.fresh(text, at)
            at += len(text)
            if fresh:
                yield fresh
        fresh = given.fresh(unframed.close(), at)
        if fresh:
            yield fresh
    finally:
        stream.close()
