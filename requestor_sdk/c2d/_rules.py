"""The rules of the queue, as functions over one transaction: who gets a run, keeps it, ends it.

What holds: a run that is over stays as it is; a run is held by its last attempt or by none; a fence
that is not that of the held attempt changes nothing; what a worker holds fits into what it has.
The worker's row is read before a run's, so that two transactions never wait for one another.
"""

from __future__ import annotations

import hmac
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from requestor_sdk.c2d._store.port import AttemptRow, Ending, EventRow, RunRow, WorkerRow
from requestor_sdk.model.errors import LeaseLost, WorkerRefused
from requestor_sdk.model.fields import to_json
from requestor_sdk.ports.worker import (
    Claim,
    Completion,
    GpuRoom,
    Lease,
    LeaseState,
    Room,
    RunOutcome,
    RunState,
    Stage,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from requestor_sdk.c2d._store.port import Reading, Waiting, Writing
    from requestor_sdk.ports.worker import RunEvent, WorkerInfo

LINE: Final = "runs"
"""What rings when a run may be claimed that could not before."""

OVER: Final = frozenset({RunState.completed, RunState.failed, RunState.cancelled})
MAX_EVENTS: Final = 10_000
"""Events of one attempt that are kept, other than its stages."""

MAX_FORMER: Final = 64
"""Sessions of a worker that are remembered."""

MAX_TOLD: Final = 2 << 20
"""Characters that they have together."""

STAGE: Final = "stage"
"""The type of the events that say how far an attempt is."""

MAX_RELEASES: Final = 20
"""So many times a run is handed back before it is given up."""

_AT_ONCE: Final = 3
_LONGEST_PAUSE_SEC: Final = 60.0
_PAGE: Final = 16

_STATES: Final = {
    RunOutcome.succeeded: RunState.completed,
    RunOutcome.failed: RunState.failed,
    RunOutcome.timed_out: RunState.failed,
    RunOutcome.cancelled: RunState.cancelled,
}


_RUN: Final = "run:"


def topic_of_run(run_id: str) -> str:
    """Return what rings when a run's state, attempt or stage changes."""
    return _RUN + run_id


def run_of_topic(topic: str) -> str | None:
    """Return the run whose change a topic tells of."""
    return topic.removeprefix(_RUN) if topic.startswith(_RUN) else None


def topic_of_news(run_id: str) -> str:
    """Return what rings when a run's log grows or its attempt tells of something."""
    return f"news:{run_id}"


def topic_of_worker(worker_id: str) -> str:
    """Return what rings when a worker has to stop something."""
    return f"worker:{worker_id}"


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


def held(tx: Reading, lease: Lease, worker_id: str | None) -> tuple[RunRow, AttemptRow]:
    """Return the run and the attempt that a lease holds.

    Raises:
        LeaseLost: It holds none, or it is another worker's.
    """
    run = tx.run(lease.run_id)
    attempt = _fenced(tx, lease, worker_id)
    if run is None or attempt is None or attempt.ending is not None:
        raise lost(lease.run_id)
    return run, attempt


def _fenced(tx: Reading, lease: Lease, worker_id: str | None) -> AttemptRow | None:
    attempt = tx.attempt(lease.run_id, lease.attempt)
    if attempt is None or worker_id not in {None, attempt.worker_id}:
        return None
    right = hmac.compare_digest(attempt.fence.encode(), lease.fence.encode("utf-8", "replace"))
    return attempt if right else None


def lost(run_id: str) -> LeaseLost:
    """Return the error that says so."""
    return LeaseLost("the attempt is not this worker's any more", ids={"run": run_id})


def renew(
    tx: Writing, lease: Lease, progress: float | None, worker_id: str | None, until: float
) -> LeaseState:
    """Hold a lease on until a time."""
    try:
        run, attempt = held(tx, lease, worker_id)
    except LeaseLost:
        return LeaseState.lost
    told = attempt.progress if progress is None else min(1.0, max(0.0, progress))
    tx.save_attempt(replace(attempt, leased_until=until, progress=told))
    if told != attempt.progress:
        tx.ring(topic_of_news(run.id))
    return LeaseState.cancel if run.cancel else LeaseState.ok


def release(tx: Writing, lease: Lease, reason: str, worker_id: str | None, now: float) -> None:
    """Hand a run back.

    Raises:
        LeaseLost: It is not held by this.
    """
    run, attempt = held(tx, lease, worker_id)
    releases = run.releases + 1
    _end(tx, attempt, Ending.released, now, reason=reason)
    run = replace(run, releases=releases)
    if run.cancel:
        finish(tx, run, _cancelled(), now)
    elif releases >= MAX_RELEASES:
        finish(tx, run, _failed("released", f"it was handed back {releases} times: {reason}"), now)
    else:
        pause = 2.0 ** (releases - _AT_ONCE) if releases > _AT_ONCE else 0.0
        _wait_again(tx, run, now + min(pause, _LONGEST_PAUSE_SEC) if pause else 0.0)


def lapse(tx: Writing, run_id: str, number: int, now: float) -> bool:
    """Take an attempt from its worker, of which nothing was heard; tell whether it was held."""
    run, attempt = tx.run(run_id), tx.attempt(run_id, number)
    if run is None or attempt is None or attempt.ending is not None:
        return False
    _end(tx, attempt, Ending.lapsed, now)
    run = replace(run, lapses=run.lapses + 1)
    if run.cancel:
        finish(tx, run, _cancelled(), now)
    elif run.lapses >= run.max_attempts:
        told = f"its worker was lost {run.lapses} times" if run.lapses > 1 else "its worker is lost"
        finish(tx, run, _failed("worker_lost", told), now)
    else:
        _wait_again(tx, run, 0.0)
    return True


def _end(tx: Writing, attempt: AttemptRow, ending: Ending, now: float, *, reason: str = "") -> None:
    tx.save_attempt(replace(attempt, ending=ending, ended_at=now, reason=reason))
    tx.ring(LINE)


def _wait_again(tx: Writing, run: RunRow, not_before: float) -> None:
    tx.save_run(replace(run, state=RunState.pending, not_before=not_before))
    tx.ring(topic_of_run(run.id))


def finish(tx: Writing, run: RunRow, completion: Completion, now: float) -> None:
    """End a run, once and for all."""
    if run.state in OVER:
        raise RuntimeError(f"the run {run.id} is over")
    state = _STATES[completion.outcome]
    tx.save_run(replace(run, state=state, completion=completion, finished_at=now))
    tx.ring(topic_of_run(run.id))


def complete(
    tx: Writing, lease: Lease, completion: Completion, worker_id: str | None, now: float
) -> bool:
    """End an attempt and its run; tell whether that was news.

    Raises:
        LeaseLost: It is not held by this, and did not end by this either.
    """
    run = tx.run(lease.run_id)
    attempt = _fenced(tx, lease, worker_id)
    if run is None or attempt is None:
        raise lost(lease.run_id)
    if attempt.ending is Ending.completed:
        return False
    if attempt.ending is not None:
        raise lost(lease.run_id)
    _end(tx, attempt, Ending.completed, now, reason=completion.reason)
    finish(tx, run, completion, now)
    return True


def note(tx: Writing, lease: Lease, event: RunEvent, worker_id: str | None, now: float) -> bool:
    """Note what an attempt tells of; tell whether that was news.

    Raises:
        LeaseLost: It is not held by this.
    """
    run, attempt = held(tx, lease, worker_id)
    row = EventRow(
        run_id=run.id,
        attempt=attempt.number,
        seq=event.seq,
        type=event.type,
        message=event.message,
        payload=event.payload,
        at=now,
    )
    stage = None
    if event.type == STAGE:
        # Stages are never too many: each comes once, in their order.
        stage = _stage_after(attempt.stage, event.message)
        if stage is None or not tx.add_event(row):
            return False
    else:
        told = attempt.told + _size(event)
        if event.seq >= MAX_EVENTS or told > MAX_TOLD or not tx.add_event(row):
            return False
        attempt = replace(attempt, told=told)
    tx.save_attempt(replace(attempt, stage=stage or attempt.stage))
    if stage is not None:
        if stage is not Stage.preparing and run.state is RunState.assigned:
            tx.save_run(replace(run, state=RunState.running))
        tx.ring(topic_of_run(run.id))
    tx.ring(topic_of_news(run.id))
    return True


def _stage_after(now: Stage | None, named: str) -> Stage | None:
    """Return the stage of a name, if it comes after another."""
    later = list(Stage) if now is None else list(Stage)[list(Stage).index(now) + 1 :]
    return next((stage for stage in later if stage == named), None)


def _size(event: RunEvent) -> int:
    return len(event.type) + len(event.message) + len(json.dumps(to_json(event.payload)))


def cancel(tx: Writing, run_id: str, now: float) -> RunState | None:
    """Ask for a run's end: at once where it waits. Return how it stands then."""
    run = tx.run(run_id)
    if run is None or run.state in OVER:
        return None if run is None else run.state
    if run.state is RunState.pending:
        finish(tx, replace(run, cancel=True), _cancelled(), now)
        return RunState.cancelled
    if not run.cancel:
        tx.save_run(replace(run, cancel=True))
        tx.ring(topic_of_run(run_id))
        attempt = tx.attempt(run_id, run.attempt)
        if attempt is not None:
            tx.ring(topic_of_worker(attempt.worker_id))
    return run.state


def to_stop(tx: Reading, worker_id: str, session: str, known: frozenset[str]) -> Sequence[Lease]:
    """Return the leases of a worker whose end is asked for, but for those it knows of."""
    found = []
    for attempt in tx.held(worker_id):
        if attempt.session != session or attempt.fence in known:
            continue
        run = tx.run(attempt.run_id)
        if run is not None and run.cancel:
            lease = Lease(run_id=run.id, attempt=attempt.number, fence=attempt.fence)
            found.append(lease)
    return found


def _cancelled() -> Completion:
    return Completion(outcome=RunOutcome.cancelled, reason="cancelled", message="it was stopped")


def _failed(reason: str, message: str) -> Completion:
    return Completion(outcome=RunOutcome.failed, reason=reason, message=message)
