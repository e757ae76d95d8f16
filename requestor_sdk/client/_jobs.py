"""``Job``: one compute-to-data job as its owner sees it.

Its desk follows it once, whoever waits for it; what it came through goes to the run's journal.
"""

from __future__ import annotations

import asyncio
import codecs
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, cast

from requestor_sdk.client._downloads import Progress, download
from requestor_sdk.model.errors import JobFailed, JobNotFound
from requestor_sdk.model.jobs import JobOutcome

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncGenerator

    from requestor_sdk.client._job_desk import JobDesk
    from requestor_sdk.client._job_following import Following
    from requestor_sdk.model.jobs import JobStatus, ResultFile


class Job:
    """A compute-to-data job.

    ::

        job = await compute.submit_job("did:op:...", Path("count.py"))
        async for update in job:
            print(update.text)
        for path in await job.download("results"):
            print(path)

    It goes on at its provider when the ``Compute`` is left; on ``local`` it ends with it. Whatever
    asks the provider raises ``NetworkError`` where that stays away, and ``NotAvailable`` once the
    ``Compute`` is left.
    """

    def __init__(self, desk: JobDesk, following: Following) -> None:
        self._desk = desk
        self._following = following

    @property
    def id(self) -> str:
        """Its id, as the provider calls it."""
        return self._following.last.id

    @property
    def provider(self) -> str:
        """Where it is: the provider's address, or ``local``."""
        return self._desk.provider

    @property
    def status(self) -> JobStatus:
        """How it stood when it was last heard of."""
        return self._following.last

    @property
    def outcome(self) -> JobOutcome | None:
        """What became of it; ``None`` while it is not over."""
        return self.status.outcome

    async def __aiter__(self) -> AsyncIterator[JobStatus]:
        at = 0
        while True:
            await self._following.more_than(at)
            fresh, at = self._following.since(at), self._following.count
            for status in fresh:
                yield status
            if at == self._following.count and self.status.over:
                return

    async def wait(
        self, *, timeout: timedelta | float | None = None, check: bool = True
    ) -> JobStatus:
        """Wait until it is over, and return how it ended.

        Args:
            timeout: How long to wait at most; the job goes on after that.
            check: Whether a job that did not succeed is an error.

        Raises:
            JobFailed: It failed, was stopped, took too long or expired; the message says which.
            TimeoutError: It is not over in time.
            NetworkError: Its provider stayed away.
        """
        seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
        async with asyncio.timeout(seconds):
            while not self.status.over:
                await self._following.more_than(self._following.count)
        if check and self.outcome is not JobOutcome.succeeded:
            raise _failed(self.status)
        return self.status

    async def logs(self) -> AsyncIterator[str]:
        """Yield what the algorithm writes, line by line, from its beginning to its end.

        What is no UTF-8 is shown as a replacement character.
        """
        decoder, rest = codecs.getincrementaldecoder("utf-8")("replace"), ""
        chunks = cast("AsyncGenerator[bytes]", (await self._desk.port()).logs(self.id))
        async with aclosing(chunks):
            async for chunk in chunks:
                *lines, rest = (rest + decoder.decode(chunk)).split("\n")
                for line in lines:
                    yield line
        rest += decoder.decode(b"", final=True)
        if rest:
            yield rest

    async def results(self) -> Sequence[ResultFile]:
        """Wait until it is over, and return the files that it left, logs among them.

        Raises:
            NetworkError: Its provider stayed away.
        """
        return (await self.wait(check=False)).results

    async def download(
        self,
        folder: str | os.PathLike[str],
        *,
        logs: bool = True,
        progress: Progress | None = None,
    ) -> list[Path]:
        """Wait until it is over, and get what it left into a folder.

        A download that was broken off goes on where it was, also in another process: parts are
        kept beside their files as ``*.part``.

        Args:
            folder: It is made where it is not there.
            logs: Whether the logs are fetched, too.
            progress: Called with a file and how many bytes of it are here.

        Returns:
            The files' paths, in the provider's order.

        Raises:
            NotAvailable: The folder cannot be written.
            JobNotFound: A result is not kept any more.
            BadAnswer: What came is not what was listed.
            NetworkError: The provider stayed away.
        """
        ended = await self.wait(check=False)
        files = [file for file in ended.results if logs or file.type == "output"]
        port = await self._desk.port()
        at = ended.finished_at
        return await download(port, self.id, files, Path(folder), progress, ended=at)

    async def read(self, name: str | None = None) -> bytes:
        """Wait until it is over, and return one of its outputs.

        Args:
            name: The file's; may be left out where there is one output only.

        Raises:
            JobNotFound: There is no such output, or there are several and none was named.
            JobFailed: It did not succeed, and left no such output.
        """
        outputs = [file for file in await self.results() if file.type == "output"]
        found = [file for file in outputs if name in (None, file.name)]
        if len(found) != 1:
            if self.outcome is not JobOutcome.succeeded and not found:
                raise _failed(self.status)
            there = ", ".join(file.name for file in outputs) or "nothing"
            raise JobNotFound(
                f"the job left {there}; read() returns one file", ids={"job": self.id}
            )
        pieces = (await self._desk.port()).result(self.id, found[0])
        return b"".join([piece async for piece in pieces])

    async def refresh(self) -> JobStatus:
        """Ask the provider how it stands now."""
        if not self.status.over:
            self._following.put(await (await self._desk.port()).status(self.id))
        return self.status

    async def stop(self) -> JobStatus:
        """Ask for its end and return how it stands; ``wait()`` waits for the end. Idempotent."""
        self._following.put(await (await self._desk.port()).stop(self.id))
        return self.status

    async def delete(self) -> None:
        """Stop it and have everything of it removed. Idempotent.

        Raises:
            NotSupported: The provider keeps what jobs leave.
        """
        await (await self._desk.port()).delete(self.id)
        await self._following.close("the job was deleted")

    def __repr__(self) -> str:
        return f"<Job {self.id} at {self.provider}: {self.outcome or self.status.text}>"


def _failed(status: JobStatus) -> JobFailed:
    why = f": {status.error}" if status.error else ""
    words = {
        JobOutcome.failed: "failed",
        JobOutcome.stopped: "was stopped",
        JobOutcome.timed_out: "took longer than it may",
        JobOutcome.expired: "waited for too long, and never ran",
    }
    return JobFailed(
        f"the job {words.get(status.outcome or JobOutcome.failed, 'failed')}{why}",
        ids={"job": status.id},
        hint="its log says more: `async for line in job.logs()`, or `requestor-sdk job logs`",
    )
