"""What a provider's operator sees of a store: its queue, its workers, its newest jobs.

It looks, and never writes. Nothing of a job's content is in what it returns: no code, no data, no
results, no environment variable, no token, signature or fence.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

from requestor_sdk.c2d import _walk
from requestor_sdk.ports.worker import GpuRoom, Room, RunState

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from requestor_sdk.c2d._store.port import Reading, Store
    from requestor_sdk.c2d._store.rows import AttemptRow, RunRow, WorkerRow
    from requestor_sdk.c2d.records import JobRecord
    from requestor_sdk.model.jobs import JobStatus

NEWEST: Final = 500
"""So many of the newest jobs are shown, whatever they are at."""
IN_LINE: Final = 100
"""So many of those that are next."""
_LONGEST: Final = 300
# All that waits fits into it, so that the line is told as it is.
_ENDLESS: Final = Room(
    cpu=1e12,
    ram_mb=1 << 60,
    disk_mb=1 << 60,
    gpus=tuple(GpuRoom(id=number, vram_mb=1 << 60) for number in range(256)),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptSight:
    """An attempt at a job. Times are seconds since the epoch, as all here; memory is MB.

    Attributes:
        ending: ``completed``, ``released`` (handed back), ``lapsed`` (its worker was lost); empty
            while it is held.
        reason: Why it ended so, in a word.
        vram_mb: The memory of GPUs that it holds, of ``gpus`` of them.
    """

    number: int
    worker: str
    begun: float
    ended: float | None = None
    ending: str = ""
    reason: str = ""
    stage: str = ""
    progress: float | None = None
    cpu: float = 0.0
    ram_mb: int = 0
    gpus: int = 0
    vram_mb: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSight:
    """A job.

    Attributes:
        runs: Which asset it is an algorithm of; ``own code`` for one that was sent along.
        datasets: How many it reads.
        text: The status in words.
        line: Its place among those that wait, from 1; 0 where it does not wait, or is far behind.
        size: Bytes that it left.
    """

    id: str
    owner: str
    runs: str
    datasets: int
    environment: str
    text: str
    outcome: str = ""
    error: str = ""
    created: float
    finished: float | None = None
    line: int = 0
    size: int = 0
    max_attempts: int = 0
    stopping: bool = False
    attempts: Sequence[AttemptSight] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSight:
    """A worker. How it is follows from when it was heard of, and from the time.

    Attributes:
        seen: Its last heartbeat; 0 where it never came.
        cpu: Processors that it has, as all of the following what it has in all.
        vram_mb: Memory of all its GPUs.
    """

    id: str
    created: float
    seen: float
    draining: bool = False
    tags: Sequence[str] = ()
    cpu: float = 0.0
    ram_mb: int = 0
    disk_mb: int = 0
    gpus: int = 0
    vram_mb: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueSight:
    """How many jobs are at what, of all that are kept.

    Attributes:
        preparing: Their files are being fetched: they are not in the line yet.
        open_in: Those that are not over, by environment.
    """

    preparing: int = 0
    waiting: int = 0
    running: int = 0
    succeeded: int = 0
    failed: int = 0
    stopped: int = 0
    open_in: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """All that is seen at one look; jobs newest first, workers by name."""

    queue: QueueSight
    jobs: Sequence[JobSight]
    workers: Sequence[WorkerSight]


class Lookout:
    """Looks at a store again and again. What is over is read once.

    Args:
        store: Opened and closed by who made it.
        newest: How many of the newest jobs are seen.
        in_line: How many of those that are next.
    """

    def __init__(self, store: Store, *, newest: int = NEWEST, in_line: int = IN_LINE) -> None:
        self._store = store
        self._newest = newest
        self._in_line = in_line
        self._over: dict[tuple[str, int], JobSight] = {}

    async def look(self, now: float) -> Sight:
        """Return what there is.

        Args:
            now: Seconds since the epoch.

        Raises:
            StoreFailed: The store does not answer.
        """
        known = dict(self._over)
        sight, self._over = await self._store.read(
            partial(_look, now=now, newest=self._newest, in_line=self._in_line, known=known)
        )
        return sight


def _look(
    tx: Reading,
    *,
    now: float,
    newest: int,
    in_line: int,
    known: Mapping[tuple[str, int], JobSight],
) -> tuple[Sight, dict[tuple[str, int], JobSight]]:
    workers = tx.workers()
    rooms = {worker.id: worker.total for worker in workers if worker.total is not None}
    line = {one.id: n for n, one in enumerate(tx.waiting(_ENDLESS, now=now, limit=in_line), 1)}
    held = [attempt.run_id for worker in workers for attempt in tx.held(worker.id)]
    jobs: dict[str, JobSight] = {}
    over: dict[tuple[str, int], JobSight] = {}
    for record in _records(tx, newest, [*held, *line]):
        if record.id in jobs:
            continue
        key = (record.id, record.revision)
        seen = known.get(key) or _job(tx, record, rooms, line.get(record.run_id, 0))
        jobs[record.id] = seen
        if record.finished is not None:
            over[key] = seen
    shown = sorted(jobs.values(), key=lambda job: (-job.created, job.id))
    return Sight(queue=_queue(tx), jobs=shown, workers=tuple(map(_worker, workers))), over


def _records(tx: Reading, newest: int, runs: Sequence[str]) -> Iterator[JobRecord]:
    """Yield the newest jobs, and those of some runs; these again where they are both."""
    yield from tx.jobs(owner=None, did=None, open_only=False, limit=newest)
    for run_id in runs:
        record = tx.job_of_run(run_id)
        if record is not None:
            yield record


def _job(tx: Reading, record: JobRecord, rooms: Mapping[str, Room], line: int) -> JobSight:
    run = tx.run(record.run_id) if record.run_id else None
    attempts = tx.attempts(run.id) if run is not None and run.attempt else ()
    status = _walk.status_of(record)
    return JobSight(
        id=record.id,
        owner=status.owner,
        runs=_runs(record),
        datasets=len(record.dids),
        environment=status.environment,
        text=_words(status, run, line),
        outcome=status.outcome.value if status.outcome is not None else "",
        error=(status.error or "")[:_LONGEST],
        created=record.created,
        finished=record.finished,
        line=line,
        size=status.size,
        max_attempts=run.max_attempts if run is not None else 0,
        stopping=record.finished is None and record.stop > 0,
        attempts=tuple(_attempt(one, rooms) for one in attempts),
    )


def _runs(record: JobRecord) -> str:
    told = str(record.facts.get("algorithm") or "")
    return told[:_LONGEST] if told not in {"", "raw"} else "own code"


def _words(status: JobStatus, run: RunRow | None, line: int) -> str:
    if status.outcome is not None:
        return status.outcome.value.replace("_", " ")
    if run is not None and run.state is RunState.pending:
        again = "waits again" if run.attempt else "waits"
        return f"{again}, {line}. in line" if line else again
    return status.text.strip()


def _attempt(attempt: AttemptRow, rooms: Mapping[str, Room]) -> AttemptSight:
    demand = attempt.demand
    return AttemptSight(
        number=attempt.number,
        worker=attempt.worker_id,
        begun=attempt.claimed_at,
        ended=attempt.ended_at,
        ending=attempt.ending.value if attempt.ending is not None else "",
        # What a worker says why it hands a run back may be long; of a completion it is a word.
        reason=attempt.reason[:_LONGEST],
        stage=attempt.stage.value if attempt.stage is not None else "",
        progress=attempt.progress,
        cpu=demand.cpu,
        ram_mb=demand.ram_mb,
        gpus=len(attempt.gpus),
        vram_mb=_vram(attempt, rooms.get(attempt.worker_id)),
    )


def _vram(attempt: AttemptRow, room: Room | None) -> int:
    """Return the memory of GPUs that an attempt holds: without a demand all that they have."""
    if attempt.demand.vram_mb:
        return attempt.demand.vram_mb * len(attempt.gpus)
    gpus = () if room is None else room.gpus
    return sum(gpu.vram_mb for gpu in gpus if gpu.id in attempt.gpus)


def _worker(worker: WorkerRow) -> WorkerSight:
    total = worker.total or Room(cpu=0, ram_mb=0, disk_mb=0)
    return WorkerSight(
        id=worker.id,
        created=worker.created_at,
        seen=worker.seen_at,
        draining=worker.draining,
        tags=tuple(worker.tags),
        cpu=total.cpu,
        ram_mb=total.ram_mb,
        disk_mb=total.disk_mb,
        gpus=len(total.gpus),
        vram_mb=sum(gpu.vram_mb for gpu in total.gpus),
    )


def _queue(tx: Reading) -> QueueSight:
    runs, open_in = tx.count_runs(), tx.count_open()
    waiting = runs.get(RunState.pending, 0)
    running = runs.get(RunState.assigned, 0) + runs.get(RunState.running, 0)
    return QueueSight(
        preparing=max(0, sum(open_in.values()) - waiting - running),
        waiting=waiting,
        running=running,
        succeeded=runs.get(RunState.completed, 0),
        failed=runs.get(RunState.failed, 0),
        stopped=runs.get(RunState.cancelled, 0),
        open_in=dict(open_in),
    )
