"""The rules of the queue, as functions over one transaction: who keeps a run, and ends it.

What holds: a run that is over stays as it is; a run is held by its last attempt or by none; a fence
that is not that of the held attempt changes nothing. Who gets a run at all is said in ``_claims``.
"""

from __future__ import annotations

import hmac
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from requestor_sdk.c2d._store.rows import AttemptRow, Ending, EventRow, RunRow
from requestor_sdk.c2d._topics import LINE, topic_of_news, topic_of_run, topic_of_worker
from requestor_sdk.model.errors import LeaseLost
from requestor_sdk.model.fields import to_json
from requestor_sdk.ports.worker import Completion, Lease, LeaseState, RunOutcome, RunState, Stage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from requestor_sdk.c2d._store.port import Reading, Writing
    from requestor_sdk.ports.worker import RunEvent

OVER: Final = frozenset({RunState.completed, RunState.failed, RunState.cancelled})
MAX_EVENTS: Final = 10_000
"""Events of one attempt that are kept, other than its stages."""

MAX_TOLD: Final = 2 << 20
"""Characters that they have together."""

STAGE: Final = "stage"
"""The type of the events that say how far an attempt is."""

MAX_RELEASES: Final = 20
"""So many times a run is handed back before it is given up."""

_AT_ONCE: Final = 3
_LONGEST_PAUSE_SEC: Final = 60.0

_STATES: Final = {
    RunOutcome.succeeded: RunState.completed,
    RunOutcome.failed: RunState.failed,
    RunOutcome.timed_out: RunState.failed,
    RunOutcome.cancelled: RunState.cancelled,
}


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
