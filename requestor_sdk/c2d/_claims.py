"""Who gets a run: the rules of the queue for workers that register and claim.

Functions over one transaction. What a worker holds fits into what it has; the worker's row is read
before a run's, so that two transactions never wait for one another.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from requestor_sdk.c2d._rules import lapse
from requestor_sdk.c2d._store.rows import AttemptRow, RunRow, WorkerRow
from requestor_sdk.c2d._topics import LINE, topic_of_run
from requestor_sdk.model.errors import WorkerRefused
from requestor_sdk.ports.worker import Claim, GpuRoom, Lease, Room, RunState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from requestor_sdk.c2d._store.port import Reading, Writing
    from requestor_sdk.c2d._store.rows import Waiting
    from requestor_sdk.ports.worker import WorkerInfo

MAX_FORMER: Final = 64
"""Sessions of a worker that are remembered."""

_PAGE: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """A claim: who asks, with what room, and what it will be given."""

    worker_id: str
    session: str
    claim_id: str
    free: Room
    fence: str
    lease_sec: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What became of a claim; ``final`` where to wait for a run makes no sense."""

    claim: Claim | None = None
    final: bool = False


def register(tx: Writing, info: WorkerInfo, now: float) -> Sequence[str]:
    """Note a heartbeat; return the runs that an earlier session of the worker lost.

    Raises:
        WorkerRefused: Another process of this worker has registered since: else the two would take
            their runs from each other for ever.
    """
    kept = tx.worker(info.id)
    former = () if kept is None else tuple(kept.former)
    if info.session in former:
        raise another(info.id)
    if kept is not None and kept.session not in ("", info.session):
        former = (*former, kept.session)[-MAX_FORMER:]
    lost = [
        attempt.run_id
        for attempt in tx.held(info.id)
        if attempt.session != info.session and lapse(tx, attempt.run_id, attempt.number, now)
    ]
    tx.save_worker(
        WorkerRow(
            id=info.id,
            token_hash=kept.token_hash if kept else "",
            session=info.session,
            former=former,
            total=info.total,
            free=info.free,
            tags=tuple(info.tags),
            draining=info.draining,
            running=tuple(info.running),
            created_at=kept.created_at if kept else now,
            seen_at=now,
        )
    )
    if kept is None or kept.total != info.total or kept.draining != info.draining:
        tx.ring(LINE)
    return lost


def another(worker_id: str) -> WorkerRefused:
    """Return the error that says that a worker's name is another process's by now."""
    return WorkerRefused(
        "another process of this worker has registered since",
        ids={"worker": worker_id},
        hint="give each worker a name of its own",
    )


def claim(tx: Writing, asking: Asking, now: float) -> Answer:
    """Give the first run that fits to a worker.

    Raises:
        WorkerRefused: Another process of this worker has registered since.
    """
    worker = tx.worker(asking.worker_id)
    before = tx.attempt_of_claim(asking.worker_id, asking.claim_id)
    if before is not None:
        return Answer(claim=_claim_of(tx, before, asking), final=True)
    if worker is None or worker.total is None or worker.draining:
        return Answer()
    if worker.session != asking.session:
        raise another(asking.worker_id)
    left = _smaller(asking.free, room_left(worker.total, tx.held(worker.id)))
    after: tuple[int, int, float, str] | None = None
    while True:
        page = tx.waiting(left, now=now, after=after, limit=_PAGE)
        for one in page:
            given = _give(tx, one, left, worker.tags, asking=asking, now=now)
            if given is not None:
                return Answer(claim=given, final=True)
        if len(page) < _PAGE:
            return Answer()
        after = page[-1].place


def _give(
    tx: Writing, one: Waiting, left: Room, tags: Sequence[str], *, asking: Asking, now: float
) -> Claim | None:
    gpus = left.choose(one.demand)
    if gpus is None or not set(one.demand.tags) <= set(tags):
        return None
    run = tx.take_waiting(one.id)
    if run is None:
        return None
    attempt = AttemptRow(
        run_id=run.id,
        number=run.attempt + 1,
        fence=asking.fence,
        worker_id=asking.worker_id,
        session=asking.session,
        claim_id=asking.claim_id,
        demand=run.demand,
        gpus=gpus,
        claimed_at=now,
        leased_until=now + asking.lease_sec,
    )
    tx.insert_attempt(attempt)
    tx.save_run(replace(run, state=RunState.assigned, attempt=attempt.number))
    tx.ring(topic_of_run(run.id))
    return _as_claim(run, attempt, asking.lease_sec)


def _claim_of(tx: Reading, attempt: AttemptRow, asking: Asking) -> Claim | None:
    if attempt.ending is not None or attempt.session != asking.session:
        return None
    run = tx.run(attempt.run_id)
    return None if run is None else _as_claim(run, attempt, asking.lease_sec)


def _as_claim(run: RunRow, attempt: AttemptRow, lease_sec: float) -> Claim:
    return Claim(
        lease=Lease(run_id=run.id, attempt=attempt.number, fence=attempt.fence),
        spec=run.spec,
        demand=run.demand,
        lease_sec=lease_sec,
        gpus=tuple(attempt.gpus),
    )


def room_left(total: Room, held: Sequence[AttemptRow]) -> Room:
    """Return what a worker has beside what it holds."""
    for attempt in held:
        total = total.without(attempt.demand, attempt.gpus)
    return total


def _smaller(one: Room, other: Room) -> Room:
    """Return what is in both rooms."""
    memory = {gpu.id: gpu.vram_mb for gpu in other.gpus}
    return Room(
        cpu=min(one.cpu, other.cpu),
        ram_mb=min(one.ram_mb, other.ram_mb),
        disk_mb=min(one.disk_mb, other.disk_mb),
        gpus=tuple(
            GpuRoom(id=gpu.id, vram_mb=min(gpu.vram_mb, memory[gpu.id]))
            for gpu in one.gpus
            if gpu.id in memory
        ),
    )
