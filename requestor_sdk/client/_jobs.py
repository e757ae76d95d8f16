"""``Job``: one compute-to-data job as its owner sees it, and the desk that follows all of a run's.

Each job is followed once, whoever waits for it; what it came through goes to the run's journal.
"""

from __future__ import annotations

import asyncio
import codecs
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from requestor_sdk.client._downloads import Progress, download
from requestor_sdk.client._job_inputs import described
from requestor_sdk.model.errors import JobFailed, JobNotFound, NotAvailable
from requestor_sdk.model.events import (
    ComputeJobFinished,
    ComputeJobStatusChanged,
    ComputeJobSubmitted,
)
from requestor_sdk.model.jobs import JobOutcome

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncGenerator

    from requestor_sdk.model.jobs import Environment, JobRequest, JobStatus, ResultFile
    from requestor_sdk.ports.jobs import Jobs

_KEPT: Final = 1000
"""How many statuses of a job are kept: a server that changes its mind for ever fills no memory."""


class _Following:
    """Follows one job: keeps what it came through, and wakes who waits for more."""

    def __init__(self, jobs: Jobs, first: JobStatus, tell: Callable[[JobStatus], None]) -> None:
        self._jobs = jobs
        self._tell = tell
        self._seen: deque[JobStatus] = deque(maxlen=_KEPT)
        self.count = 0
        self.error: Exception | None = None
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closed = False
        self._is_told = False
        self._take(first)

    @property
    def last(self) -> JobStatus:
        return self._seen[-1]

    def since(self, count: int) -> list[JobStatus]:
        """Return what was seen after the first so many; of very many the last."""
        return list(self._seen)[-(self.count - count) :] if self.count > count else []

    def begin(self) -> None:
        """See to it that it is followed, unless it is over."""
        if self._closed or self.last.over or (self._task is not None and not self._task.done()):
            return
        self.tell()
        self.error = None
        loop = asyncio.get_running_loop()
        self._task = loop.create_task(self._follow(), name=f"job {self.last.id}")

    def tell(self) -> None:
        """Write down how it stands, and from now on what becomes of it."""
        if not self._is_told:
            self._is_told = True
            self._tell(self.last)

    async def more_than(self, count: int) -> None:
        """Wait until more than so many statuses were seen.

        Raises:
            RequestorError: It could not be followed.
        """
        self.begin()
        while self.count <= count and not self.last.over:
            if self.error is not None:
                raise self.error
            news = self._news
            await news.wait()

    async def close(self, why: str) -> None:
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        self.fail(NotAvailable(why, ids={"job": self.last.id}))

    def put(self, status: JobStatus) -> None:
        """Take in what was heard on another way."""
        if status != self.last and not self.last.over:
            self._take(status)

    def fail(self, error: Exception) -> None:
        self.error = error
        self._wake()

    async def _follow(self) -> None:
        try:
            updates = cast("AsyncGenerator[JobStatus]", self._jobs.updates(self.last.id))
            async with aclosing(updates):
                async for status in updates:
                    self.put(status)
        except Exception as error:  # noqa: BLE001 - whoever waits for the job is told
            self.fail(error)

    def _take(self, status: JobStatus) -> None:
        self._seen.append(status)
        self.count += 1
        # A job that is only listed is none of this run's.
        if self._is_told:
            self._tell(status)
        self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()


class Job:
    """A compute-to-data job.

    ::

        job = await compute.submit_job("did:op:...", Path("count.py"))
        async for update in job:
            print(update.text)
        for path in await job.download("results"):
            print(path)

    It goes on at its provider when the ``Compute`` is left; on ``local`` it ends with it.
    """

    def __init__(self, desk: JobDesk, following: _Following) -> None:
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
        files = [file for file in await self.results() if logs or file.type == "output"]
        return await download(await self._desk.port(), self.id, files, Path(folder), progress)

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


class JobDesk:
    """The jobs of a run: submits and follows them, and writes down what becomes of them.

    Args:
        make: Makes the provider of jobs; it is opened at the first use.
        emit: Writes an event down.
        provider: What the provider is called.
    """

    def __init__(
        self, make: Callable[[], Jobs], emit: Callable[..., None], *, provider: str
    ) -> None:
        self._make = make
        self._emit = emit
        self.provider = provider
        self._opening: asyncio.Task[Jobs] | None = None
        self._followed: dict[str, _Following] = {}
        self._closed = False

    async def port(self) -> Jobs:
        """Return the provider of jobs, open.

        Raises:
            NetworkUnreachable: Nobody answers.
            NotAvailable: The run is over.
        """
        if self._closed:
            raise NotAvailable("this Compute is left: it has no jobs any more")
        opening = self._opening
        if opening is None or (opening.done() and (opening.cancelled() or opening.exception())):
            opening = asyncio.get_running_loop().create_task(self._open(), name="open jobs")
            self._opening = opening
        return await asyncio.shield(opening)

    async def _open(self) -> Jobs:
        jobs = self._make()
        await jobs.open()
        return jobs

    async def submit(self, request: JobRequest) -> Job:
        """Start a job and follow it."""
        jobs = await self.port()
        status = await jobs.submit(request)
        self._emit(
            ComputeJobSubmitted,
            job_id=status.id,
            provider_name=self.provider,
            consumer_id=jobs.consumer,
            environment=status.environment or request.environment,
            datasets=tuple(dataset.did for dataset in request.datasets),
            algorithm=described(request.algorithm),
        )
        return self._job(jobs, status, begin=True)

    async def take_up(self, job_id: str) -> Job:
        """Return a job that was submitted before."""
        jobs = await self.port()
        return self._job(jobs, await jobs.status(job_id), begin=False)

    async def jobs(self) -> list[Job]:
        """Return all jobs of the wallet, newest first."""
        jobs = await self.port()
        return [self._job(jobs, status, begin=False) for status in await jobs.jobs()]

    async def environments(self) -> Sequence[Environment]:
        """Return where jobs can run."""
        return await (await self.port()).environments()

    async def close(self) -> None:
        """Follow nothing more and let go of the provider. Idempotent."""
        self._closed = True
        for following in self._followed.values():
            await following.close("this Compute is left: its jobs are not followed any more")
        opening, self._opening = self._opening, None
        if opening is None:
            return
        if not opening.done():
            opening.cancel()
            await asyncio.wait({opening})
        if not opening.cancelled() and opening.exception() is None:
            await opening.result().close()

    def _job(self, jobs: Jobs, status: JobStatus, *, begin: bool) -> Job:
        following = self._followed.get(status.id)
        if following is None:
            following = _Following(jobs, status, _Told(self._emit))
            self._followed[status.id] = following
        else:
            following.put(status)
        if begin:
            following.tell()
            following.begin()
        return Job(self, following)


class _Told:
    """Writes down what is new of a job."""

    def __init__(self, emit: Callable[..., None]) -> None:
        self._emit = emit
        self._last: tuple[int, str, str, int] | None = None

    def __call__(self, status: JobStatus) -> None:
        stands = (status.code, status.text, status.worker, status.attempt)
        if stands != self._last:
            self._last = stands
            self._emit(
                ComputeJobStatusChanged,
                job_id=status.id,
                status=status.code,
                text=status.text,
                worker=status.worker,
                attempt=status.attempt or None,
            )
        if status.outcome is not None:
            self._emit(
                ComputeJobFinished,
                job_id=status.id,
                outcome=status.outcome.value,
                exit_code=status.exit_code,
                error=status.error,
                worker=status.worker,
                attempt=status.attempt or None,
                seconds=None if status.seconds is None else round(status.seconds, 3),
                size=status.size,
            )
