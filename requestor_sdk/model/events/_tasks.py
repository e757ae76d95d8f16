"""Jobs and tasks: batches of tasks that workers share."""

from __future__ import annotations

from dataclasses import dataclass

from requestor_sdk.model.event import Event


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStarted(Event):
    """A batch of tasks began: its input is read."""

    job_id: str
    max_workers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFinished(Event):
    """A batch of tasks is over, its workers are stopped; the counts are of tasks."""

    job_id: str
    accepted: int = 0
    rejected: int = 0
    failed: int = 0
    cancelled: int = 0
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskStarted(Event):
    """A worker took a task; ``attempt`` counts the attempts at the task, from 1."""

    task_id: str
    job_id: str
    instance_id: str
    provider_id: str
    provider_name: str
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskAccepted(Event):
    """A worker accepted the result of a task."""

    task_id: str
    job_id: str
    instance_id: str
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRejected(Event):
    """A worker rejected the result of a task; ``retry`` tells whether it wants it tried again."""

    task_id: str
    job_id: str
    instance_id: str
    attempt: int
    reason: str
    retry: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskAttemptFailed(Event):
    """An attempt at a task ended without a result: its worker failed, was lost or took too long."""

    task_id: str
    job_id: str
    instance_id: str
    attempt: int
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFinished(Event):
    """A task is over: ``status`` is ``accepted``, ``rejected``, ``failed`` or ``cancelled``."""

    task_id: str
    job_id: str
    status: str
    attempts: int
