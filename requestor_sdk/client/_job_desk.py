"""The desk of a run's jobs: submits them, follows each once, and writes down what becomes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from requestor_sdk.client._job_following import Following
from requestor_sdk.client._job_inputs import described
from requestor_sdk.client._jobs import Job
from requestor_sdk.model.errors import NotAvailable
from requestor_sdk.model.events import (
    ComputeJobFinished,
    ComputeJobStatusChanged,
    ComputeJobSubmitted,
)

if TYPE_CHECKING:
    from requestor_sdk.model.jobs import Environment, JobRequest, JobStatus
    from requestor_sdk.ports.jobs import Jobs


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
        self._followed: dict[str, Following] = {}
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
            following = Following(jobs, status, _Told(self._emit))
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
