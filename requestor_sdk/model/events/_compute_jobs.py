"""Jobs where the data is: compute-to-data jobs at a provider of jobs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from requestor_sdk.model.event import Event


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputeJobSubmitted(Event):
    """A provider of jobs took a job.

    Attributes:
        job_id: As the provider calls it.
        provider_name: Where it is, or ``local``.
        consumer_id: Whose it is.
        environment: Where it is to run.
        datasets: What it reads.
        algorithm: Which asset runs, or what is said of code that was sent along.
    """

    durable: ClassVar[bool] = True

    job_id: str
    provider_name: str
    consumer_id: str
    environment: str = ""
    datasets: tuple[str, ...] = ()
    algorithm: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputeJobStatusChanged(Event):
    """A provider told how a job stands, or that another attempt at it has begun.

    Attributes:
        job_id: As the provider calls it.
        status: The protocol's number.
        text: The provider's words for it.
        worker: Who runs it, by the provider's name; empty where it does not tell.
        attempt: Which attempt that is, from 1; ``None`` where it does not tell.
    """

    job_id: str
    status: int
    text: str = ""
    worker: str = ""
    attempt: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputeJobFinished(Event):
    """A job is over.

    Attributes:
        job_id: As the provider calls it.
        outcome: One of ``JobOutcome``.
        exit_code: What the algorithm's process returned, where the provider tells.
        error: Why it did not succeed, where the provider tells.
        worker: Who ran it last, by the provider's name; empty where it does not tell.
        attempt: Which attempt that was, from 1; ``None`` where it does not tell.
        seconds: How long it took, by the provider's clock.
        size: Bytes of all that it left.
    """

    job_id: str
    outcome: str
    exit_code: int | None = None
    error: str | None = None
    worker: str = ""
    attempt: int | None = None
    seconds: float | None = None
    size: int | None = None
