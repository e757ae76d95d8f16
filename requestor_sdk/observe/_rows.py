"""The rows of a run: what a display shows of each instance, of each job, and of the offers."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from datetime import datetime

    from requestor_sdk.observe._job_facts import JobFacts

TERMINATED: Final = "terminated"


@dataclass(slots=True, kw_only=True)
class Row:
    """One instance, as it is now.

    Attributes:
        instance_id: The instance.
        state: Its state; ``pending`` until one is told.
        since: When it came to that state.
        provider_id: Its provider, while it has one; the last one once it is over.
        provider_name: That provider's name.
        command: The command that runs, or the last one that ran.
        progress: How far that command is, e.g. ``42 %``; empty where it is not known.
        failed: Whether that command failed.
        attempt: Which attempt this is, from 1.
        cause: Why the last attempt failed, if one did and none has succeeded since.
        cost: What was accepted for all its agreements.
        job: What there is to tell of a compute-to-data job, which is shown like an instance: its
            command is what its provider says of it. ``None`` for an instance.
    """

    instance_id: str
    since: datetime
    state: str = "pending"
    provider_id: str = ""
    provider_name: str = ""
    command: str = ""
    progress: str = ""
    failed: bool = False
    attempt: int = 1
    cause: str = ""
    cost: Decimal = Decimal(0)
    job: JobFacts | None = None

    @property
    def is_job(self) -> bool:
        """Whether it is a compute-to-data job, and no instance."""
        return self.job is not None

    @property
    def restarts(self) -> int:
        """How often it was tried again."""
        return self.attempt - 1

    @property
    def finished(self) -> bool:
        """Whether its life is over."""
        return self.state == TERMINATED


@dataclass(slots=True, kw_only=True)
class Funnel:
    """How many offers came how far."""

    seen: int = 0
    scored: int = 0
    negotiated: int = 0
    agreed: int = 0
