"""Jobs of one provider, as a requestor sees them: over the Ocean protocol, or in process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from requestor_sdk.model.jobs import Environment, JobRequest, JobStatus, ResultFile


class Jobs(Protocol):
    """One provider of compute-to-data jobs, used as one consumer."""

    @property
    def consumer(self) -> str:
        """The address that owns the jobs."""
        ...

    async def open(self) -> None:
        """Get ready; finds out whom it talks to.

        Raises:
            NetworkUnreachable: Nobody answers.
            NotSupported: It is no provider of jobs.
        """
        ...

    async def close(self) -> None:
        """Let go. Jobs go on. Idempotent."""
        ...

    async def environments(self) -> Sequence[Environment]:
        """Return where jobs can run."""
        ...

    async def submit(self, request: JobRequest) -> JobStatus:
        """Start a job; never sent twice by itself.

        Raises:
            JobRefused: The provider does not take it; the message says what of it, and why.
            NetworkInterrupted: The answer was lost: it may have started (``jobs`` tells).
        """
        ...

    async def jobs(self) -> Sequence[JobStatus]:
        """Return the consumer's jobs, newest first."""
        ...

    async def status(self, job_id: str) -> JobStatus:
        """Return how a job stands.

        Raises:
            JobNotFound: The provider knows no such job of this consumer.
        """
        ...

    def updates(self, job_id: str) -> AsyncIterator[JobStatus]:
        """Yield the status now, and each change of it, until the job is over."""
        ...

    def logs(self, job_id: str) -> AsyncIterator[bytes]:
        """Yield what the algorithm writes, from its beginning until the job is over."""
        ...

    def result(self, job_id: str, file: ResultFile, *, offset: int = 0) -> AsyncIterator[bytes]:
        """Yield the bytes of a result from an offset on.

        Raises:
            JobNotFound: There is no such job, or no such result of it any more.
        """
        ...

    async def stop(self, job_id: str) -> JobStatus:
        """Ask for a job's end; it is over once its updates say so. Idempotent."""
        ...

    async def delete(self, job_id: str) -> None:
        """Stop a job and remove everything of it. Idempotent."""
        ...
