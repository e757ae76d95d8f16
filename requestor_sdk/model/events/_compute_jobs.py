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
    """A provider told how a job stands; ``status`` is the protocol's number."""

    job_id: str
    status: int
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputeJobFinished(Event):
    """A job is over; ``outcome`` is one of ``JobOutcome``."""

    job_id: str
    outcome: str
    exit_code: int | None = None
    error: str | None = None
