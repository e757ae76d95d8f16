"""Job objects as servers send them, and the status that they mean; and the other way round.

What became of a job is worked out here, once, from all that a server tells: its number alone does
not say. A node ends a success, a failure, a stop and a time-out with the same number.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from requestor_sdk.model.errors import BadAnswer
from requestor_sdk.model.jobs import FAILED, JobCode, JobOutcome, JobStatus, ResultFile
from requestor_sdk.ocean.extensions import ATTEMPT, WORKER
from requestor_sdk.ocean.messages import Generation
from requestor_sdk.ocean.refusals import one_line

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from requestor_sdk.model.jobs import Json

_TYPES: Final = {
    # The classic operator spells it so.
    "configrationLog": "configurationLog",
    "filteringLog": "publishLog",
}

_LONGEST_NAME: Final = 1024
_MOST_ATTEMPTS: Final = 1_000_000
_OUTCOMES: Final = frozenset(outcome.value for outcome in JobOutcome)

CLASSIC_TEXTS: Final[Mapping[int, str]] = {
    1: "Warming up",
    7: "Job stopped",
    8: "Job deleted successfully",
    10: "Job started",
    11: "Algorithm image could not be had",
    20: "Configuring volumes",
    30: "Provisioning success",
    31: "Data provisioning failed",
    32: "Algorithm provisioning failed",
    40: "Running algorithm ",
    41: "Algorithm could not be run",
    42: "Disk quota exceeded",
    50: "Filtering results",
    60: "Publishing results",
    61: "Outputs could not be had",
    62: "Results could not be kept",
    70: "Job finished",
}
"""What a classic Provider writes beside its numbers, and ours beside those that it adds."""

NODE_TEXTS: Final[Mapping[int, str]] = {
    0: "Job started",
    1: "Job queued",
    2: "Job expired in queue",
    10: "Pulling algorithm image",
    11: "Pulling algorithm image failed",
    12: "Building algorithm image",
    13: "Building algorithm image failed",
    14: "Image has vulnerabilities",
    20: "Configuring volumes",
    21: "Volume creation failed",
    22: "Container creation failed",
    30: "Provisioning data",
    31: "Data provisioning failed",
    32: "Algorithm provisioning failed",
    33: "Data upload to container failed",
    40: "Running algorithm ",
    41: "Failed to run algorithm",
    42: "Error: disk quota exceeded",
    50: "Filtering results",
    60: "Publishing results",
    61: "Failed to get outputs folder from container",
    62: "Failed to upload results to storage",
    70: "Job finished",
    71: "Job settling",
}
"""What a node writes beside its numbers."""


def text_of(code: int, generation: Generation = Generation.classic) -> str:
    """Return a generation's words for a number; a number that is not known says so."""
    texts = CLASSIC_TEXTS if generation is Generation.classic else NODE_TEXTS
    return texts.get(code) or CLASSIC_TEXTS.get(code) or f"Status {code}"


def moment(value: object) -> datetime | None:
    """Return a time as servers send it: seconds since 1970, as number or text, or ISO 8601."""
    if value is None or value == "" or isinstance(value, bool):
        return None
    try:
        return datetime.fromtimestamp(float(str(value)), UTC)
    except (ValueError, OverflowError, OSError):
        pass
    try:
        made = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return made if made.tzinfo else made.replace(tzinfo=UTC)


def number(value: object) -> float | None:
    """Return a number that may come as text; ``None`` for anything else, infinity among it."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        made = float(value)
    except (ValueError, OverflowError):
        return None
    return made if math.isfinite(made) else None


def _whole(value: object) -> int:
    """Return a whole number; 0 for what is none."""
    return int(number(value) or 0)


def results_of(value: object) -> tuple[ResultFile, ...]:
    """Return the results that a job object lists: '' and ``null`` are none."""
    if not isinstance(value, list):
        return ()
    found: list[ResultFile] = []
    for position, entry in enumerate(value):
        if not isinstance(entry, dict):
            continue
        index = number(entry.get("index"))
        kind = str(entry.get("type") or "output")
        found.append(
            ResultFile(
                index=position if index is None else _whole(index),
                name=str(entry.get("filename") or f"result-{position}")[:_LONGEST_NAME],
                size=max(0, _whole(entry.get("filesize"))),
                type=_TYPES.get(kind, kind),
            )
        )
    return tuple(found)


def outcome_of(job: Mapping[str, object]) -> JobOutcome | None:
    """Return what became of a job; ``None`` while it is not over.

    Our own server says it. Of others a job is over once it has a time of its end; the numbers 70,
    71, 8, 2 and those of failures say so without one too: servers were seen to forget it.
    """
    told = job.get("outcome")
    if isinstance(told, str) and told in _OUTCOMES:
        return JobOutcome(told)
    code = int(number(job.get("status")) or 0)
    ended = moment(job.get("dateFinished")) is not None
    if code == JobCode.expired:
        return JobOutcome.expired
    if code in FAILED:
        return JobOutcome.failed
    if not ended and code not in (JobCode.finished, JobCode.settling, JobCode.deleted):
        return None
    return _ended(job, code)


def _ended(job: Mapping[str, object], code: int) -> JobOutcome:
    asked = number(job.get("stopreq"))
    if asked == 2:
        return JobOutcome.timed_out
    if asked == 1 or job.get("stopRequested") is True or code in (JobCode.stopped, JobCode.deleted):
        return JobOutcome.stopped
    exit_code = exit_code_of(job)
    if exit_code is not None and (exit_code < 0 or exit_code > 128) and _used_up(job):
        return JobOutcome.timed_out
    if exit_code:
        return JobOutcome.failed
    if exit_code == 0 or code in (JobCode.finished, JobCode.settling):
        return JobOutcome.succeeded
    return JobOutcome.succeeded if results_of(job.get("results")) else JobOutcome.failed


def exit_code_of(job: Mapping[str, object]) -> int | None:
    """Return what the algorithm's process returned, where the server tells."""
    details = job.get("terminationDetails")
    if not isinstance(details, dict):
        return None
    told = number(details.get("exitCode"))
    return None if told is None else int(told)


def _used_up(job: Mapping[str, object]) -> bool:
    """Tell whether the algorithm ran as long as it may: a node names no time-out but this."""
    limit = number(job.get("maxJobDuration"))
    begun, ended = moment(job.get("algoStartTimestamp")), moment(job.get("algoStopTimestamp"))
    if not limit or begun is None or ended is None:
        return False
    return (ended - begun).total_seconds() >= limit


def status_from(job: Mapping[str, object], *, job_id: str = "") -> JobStatus:
    """Return what a job object means.

    Args:
        job: As a server of any generation sends it.
        job_id: The id that the start call gave; a node's other answers lack its first part.

    Raises:
        BadAnswer: It has no id or no number.
    """
    code = number(job.get("status"))
    own = job_id or str(job.get("jobId") or "")
    if code is None or not own:
        raise BadAnswer("the provider sent a job without an id, or without a status")
    text = one_line(str(job.get("statusText") or "")) or text_of(int(code)).strip()
    outcome = outcome_of(job)
    told = job.get("error")
    return JobStatus(
        id=own,
        owner=str(job.get("owner") or ""),
        code=int(code),
        text=text,
        created_at=moment(job.get("dateCreated")) or datetime.fromtimestamp(0, UTC),
        finished_at=moment(job.get("dateFinished")),
        outcome=outcome,
        exit_code=exit_code_of(job),
        environment=str(job.get("environment") or ""),
        results=results_of(job.get("results")),
        error=_error(told, job, text, outcome),
        worker=one_line(str(job.get(WORKER) or ""))[:_LONGEST_NAME],
        attempt=min(max(0, _whole(job.get(ATTEMPT))), _MOST_ATTEMPTS),
    )


def _error(
    told: object, job: Mapping[str, object], text: str, outcome: JobOutcome | None
) -> str | None:
    if told:
        return one_line(str(told))
    if outcome is not JobOutcome.failed:
        return None
    details = job.get("terminationDetails")
    if isinstance(details, dict) and details.get("OOMKilled") is True:
        return "it used more memory than it may"
    exit_code = exit_code_of(job)
    return text if exit_code is None else f"its process ended with {exit_code}"


def job_object(
    status: JobStatus,
    *,
    did: str = "",
    input_dids: Sequence[str] = (),
    algorithm_did: str = "raw",
    agreement_id: str = "",
    base_url: str = "",
    max_duration: float = 0.0,
    is_free: bool = True,
    stop_asked: bool = False,
    metadata: Mapping[str, Json] | None = None,
) -> dict[str, Json]:
    """Return a job as one object that clients of both generations read.

    It has the fields of the operator, of a node, and those of the documentation that neither sends
    (``documentId``, ``algorithmLogUrl``, ``resultsUrls``, ``resultsDid``).

    ``base_url`` is where the server is, for the addresses of results ('' leaves them relative);
    ``max_duration`` has seconds; ``stop_asked`` says whether its owner asked for its end, which it
    may not have come to.
    """
    asked = 1 if stop_asked or status.outcome is JobOutcome.stopped else 0
    if status.outcome is JobOutcome.timed_out:
        asked = 2
    path = f"{base_url}/api/services/computeResult?jobId={status.id}&index="
    logs = [file for file in status.results if file.type == "algorithmLog"]
    results: list[Json] = [
        {"filename": f.name, "filesize": f.size, "type": f.type, "index": f.index}
        for f in status.results
    ]
    finished = None if status.finished_at is None else _epoch(status.finished_at)
    main = did or (input_dids[0] if input_dids else "")
    return {
        "owner": status.owner,
        "documentId": main,
        "did": main,
        "jobId": status.id,
        "dateCreated": _epoch(status.created_at),
        "dateFinished": finished,
        "status": status.code,
        "statusText": status.text or text_of(status.code),
        "results": results,
        "stopreq": asked,
        "removed": 0,
        "agreementId": agreement_id or status.id,
        "algoDID": algorithm_did,
        "inputDID": list(input_dids),
        "algorithmLogUrl": f"{path}{logs[0].index}" if logs else "",
        "resultsUrls": [f"{path}{f.index}" for f in status.results if f.type == "output"],
        "resultsDid": "",
        "environment": status.environment,
        "maxJobDuration": max_duration,
        "stopRequested": asked == 1,
        "isFree": is_free,
        "terminationDetails": {"exitCode": status.exit_code, "OOMKilled": None},
        "metadata": dict(metadata or {}),
        "outcome": None if status.outcome is None else status.outcome.value,
        "error": status.error,
        WORKER: status.worker,
        ATTEMPT: status.attempt,
    }


def _epoch(when: datetime) -> str:
    return f"{when.timestamp():.6f}"
