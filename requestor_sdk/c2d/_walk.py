"""How a job's status follows its run: pure functions from a record and a view to the next record.

A status is never taken back: a second attempt at a run goes on from where the job is.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from requestor_sdk.model.jobs import JobCode, JobOutcome, JobStatus, ResultFile
from requestor_sdk.ocean.statuses import text_of
from requestor_sdk.ports.worker import RunOutcome, RunState, Stage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from requestor_sdk.c2d.records import JobRecord, RunView
    from requestor_sdk.model.jobs import Json
    from requestor_sdk.ports.worker import Completion

PATH: Final = (
    JobCode.warming_up,
    JobCode.started,
    JobCode.configuring_volumes,
    JobCode.provisioned,
    JobCode.running,
    JobCode.filtering,
    JobCode.publishing,
    JobCode.finished,
)
"""The statuses of a job that goes well, in order."""

LOG_NAME: Final = "algorithm.log"
_STAGES: Final = {
    Stage.preparing: JobCode.provisioned,
    Stage.running: JobCode.running,
    Stage.publishing: JobCode.filtering,
}
_FAILURES: Final = {
    # Completion.reason: what the job ends with.
    "image_missing": JobCode.image_pull_failed,
    "image_invalid": JobCode.image_pull_failed,
    "input_failed": JobCode.upload_failed,
    "inputs_invalid": JobCode.algorithm_failed,
    "outputs_invalid": JobCode.outputs_failed,
    "outputs_too_large": JobCode.outputs_failed,
    "disk": JobCode.disk_exceeded,
    "sandbox": JobCode.container_failed,
    "exit_code": JobCode.finished,
    "oom_killed": JobCode.finished,
}
_WORDS: Final = {
    "image_missing": "the provider does not have the algorithm's image",
    "image_invalid": "the algorithm's image cannot be used",
    "sandbox": "no sandbox could be made for the algorithm, or it broke down",
}
_RAN: Final = frozenset({"exit_code", "oom_killed", "disk", "outputs_invalid", "outputs_too_large"})


def between(code: int, target: JobCode) -> list[int]:
    """Return the statuses of a good way after one number, up to a target that is on it."""
    return [int(one) for one in PATH if code < one <= target]


def walked_to(record: JobRecord, view: RunView) -> tuple[JobRecord, list[int]]:
    """Return a job as its run says it is now, and the statuses that it went through to there.

    Who has it is told with the status that comes next; by itself, where another attempt begins.
    A run that is over is not looked at here: see ``ended``.
    """
    if view.stage is not None:
        target = _STAGES[view.stage]
    elif view.state is RunState.running:
        target = JobCode.running
    else:
        target = JobCode.provisioned
    codes = between(record.code, target)
    if codes or view.attempt > attempt_of(record) > 0:
        record = replace(record, code=codes[-1] if codes else record.code, facts=_had(record, view))
    return record, codes


def attempt_of(record: JobRecord) -> int:
    """Return which attempt a job is known to be at, or ended with; 0 before the first is told."""
    told = record.facts.get("attempt")
    return told if isinstance(told, int) else 0


def _had(record: JobRecord, view: RunView) -> dict[str, Json]:
    """Return a job's facts with who has it."""
    if not view.attempt:
        return dict(record.facts)
    return {**record.facts, "attempt": view.attempt, "worker": view.worker}


def ended(
    record: JobRecord,
    view: RunView,
    completion: Completion,
    *,
    now: float,
    keep_sec: float,
    log_size: int | None,
) -> tuple[JobRecord, list[int]]:
    """Return a job whose run is over, and the statuses that it went through to there."""
    code, outcome, stop = _verdict(completion, record.stop)
    ran = outcome is JobOutcome.succeeded or completion.reason in _RAN or record.code >= 40
    way = between(record.code, JobCode.publishing if ran else JobCode.provisioned)
    facts: dict[str, Json] = {
        **record.facts,
        "attempt": view.attempt,
        "worker": view.worker,
        "outcome": outcome.value,
        "exit_code": completion.exit_code,
        "oom": completion.reason == "oom_killed",
        "error": None if outcome is JobOutcome.succeeded else _told(completion),
        "results": [*_outputs(completion), *_logs(completion, log_size)],
        "cpu_sec": completion.cpu_sec,
        "memory_peak": completion.memory_peak,
        "duration_sec": completion.duration_sec,
    }
    made = replace(
        record,
        code=int(code),
        finished=now,
        expires=now + keep_sec,
        stop=stop,
        kept=sum(file.size for file, _ in results_of(facts)),
        facts=facts,
    )
    return made, [*way, int(code)]


def without_outputs(completion: Completion, message: str) -> Completion:
    """Return an end whose outputs are not kept: what had succeeded, has failed."""
    if completion.outcome is not RunOutcome.succeeded:
        return replace(completion, files=(), message=f"{completion.message}; {message}")
    reason = "outputs_too_large"
    return replace(completion, outcome=RunOutcome.failed, reason=reason, message=message, files=())


def failed(
    record: JobRecord, code: JobCode, message: str, *, now: float, keep_sec: float
) -> JobRecord:
    """Return a job that came to its end before it had a run."""
    facts: dict[str, Json] = {
        **record.facts,
        "outcome": JobOutcome.failed.value,
        "error": message,
        "results": [],
    }
    return replace(record, code=int(code), finished=now, expires=now + keep_sec, facts=facts)


def stopped(record: JobRecord, *, now: float, keep_sec: float) -> JobRecord:
    """Return a job that was stopped before it had a run."""
    facts: dict[str, Json] = {**record.facts, "outcome": JobOutcome.stopped.value, "results": []}
    return replace(
        record,
        code=int(JobCode.finished),
        finished=now,
        expires=now + keep_sec,
        stop=1,
        facts=facts,
    )


def _told(completion: Completion) -> str | None:
    """Return why it did not succeed, without the paths of whoever ran it."""
    return _WORDS.get(completion.reason) or completion.message or None


def _verdict(completion: Completion, stop: int) -> tuple[JobCode, JobOutcome, int]:
    if completion.outcome is RunOutcome.succeeded:
        return JobCode.finished, JobOutcome.succeeded, stop
    if completion.outcome is RunOutcome.cancelled:
        return JobCode.finished, JobOutcome.stopped, 1
    if completion.outcome is RunOutcome.timed_out:
        return JobCode.finished, JobOutcome.timed_out, 2
    return _FAILURES.get(completion.reason, JobCode.run_failed), JobOutcome.failed, 0


def _outputs(completion: Completion) -> list[Json]:
    """Return the files of ``/data/outputs``, by the path below it."""
    return [
        {"name": name, "size": file.size, "type": "output", "kept": file.name}
        for file in completion.files
        if (name := file.name.removeprefix("outputs/")) != file.name
    ]


def _logs(completion: Completion, log_size: int | None) -> list[Json]:
    """Return what was written to the terminal, then the files of ``/data/logs``."""
    made: list[Json] = []
    if log_size is not None:
        made.append({"name": LOG_NAME, "size": log_size, "type": "algorithmLog", "kept": ""})
    made.extend(
        {"name": name, "size": file.size, "type": "algorithmLog", "kept": file.name}
        for file in completion.files
        if (name := file.name.removeprefix("logs/")) != file.name
    )
    return made


def results_of(facts: Mapping[str, Json]) -> list[tuple[ResultFile, str]]:
    """Return a job's results, each with the name that its queue keeps it by ('' for the log)."""
    entries = facts.get("results")
    return [
        (
            ResultFile(
                index=index,
                name=str(entry["name"]),
                size=int(str(entry["size"])),
                type=str(entry["type"]),
            ),
            str(entry["kept"]),
        )
        for index, entry in enumerate(entries if isinstance(entries, list) else ())
        if isinstance(entry, dict)
    ]


def status_of(record: JobRecord) -> JobStatus:
    """Return a record as consumers see it."""
    facts = record.facts
    outcome = facts.get("outcome")
    exit_code = facts.get("exit_code")
    error = facts.get("error")
    return JobStatus(
        id=record.id,
        owner=str(facts.get("owner") or record.owner),
        code=record.code,
        text=text_of(record.code),
        created_at=datetime.fromtimestamp(record.created, UTC),
        finished_at=None
        if record.finished is None
        else datetime.fromtimestamp(record.finished, UTC),
        outcome=JobOutcome(outcome) if isinstance(outcome, str) else None,
        exit_code=exit_code if isinstance(exit_code, int) else None,
        environment=str(facts.get("environment") or ""),
        results=tuple(file for file, _ in results_of(facts)),
        error=str(error) if error else None,
        worker=str(facts.get("worker") or ""),
        attempt=attempt_of(record),
    )
