"""What a run's events tell of a compute-to-data job, beside what its row has as an instance has it.

Pure: a fold of the events of one job.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from requestor_sdk.model import events as ev

if TYPE_CHECKING:
    from datetime import datetime

JobEvent: TypeAlias = ev.ComputeJobSubmitted | ev.ComputeJobStatusChanged | ev.ComputeJobFinished


@dataclass(slots=True, kw_only=True)
class JobFacts:
    """A job, as it is now.

    Attributes:
        began: When it was first heard of.
        algorithm: Which asset runs, or what is said of code that was sent along.
        datasets: What it reads.
        environment: Where it runs.
        text: Its provider's words for how it stands.
        outcome: What became of it; empty while it is not over.
        error: Why it did not succeed, where its provider tells.
        worker: Who has it or had it last; empty where its provider does not tell.
        seconds: How long it took, once it is over.
        size: Bytes that it left, once that is known.
    """

    began: datetime
    algorithm: str = ""
    datasets: tuple[str, ...] = ()
    environment: str = ""
    text: str = ""
    outcome: str = ""
    error: str = ""
    worker: str = ""
    seconds: float | None = None
    size: int | None = None

    @property
    def why(self) -> str:
        """Why it is no success: an error or an outcome; empty for one that is, or is not over."""
        return "" if self.outcome in {"", "succeeded"} else self.error or self.outcome

    def lasted(self, now: datetime | None) -> float | None:
        """Return how many seconds it took, or has taken by a time; ``None`` without a time."""
        if self.seconds is not None or now is None:
            return self.seconds
        return max(0.0, (now - self.began).total_seconds())

    def apply(self, event: JobEvent) -> None:
        """Take an event of the job."""
        if isinstance(event, ev.ComputeJobSubmitted):
            self.algorithm, self.datasets = event.algorithm, event.datasets
            self.environment = event.environment
            return
        # A journal that was written before there was such a field says nothing by it.
        self.worker = event.worker or self.worker
        if isinstance(event, ev.ComputeJobStatusChanged):
            self.text = event.text.strip()
            return
        self.outcome, self.error = event.outcome, event.error or ""
        passed = (event.at - self.began).total_seconds()
        self.seconds = passed if event.seconds is None else event.seconds
        self.size = event.size
