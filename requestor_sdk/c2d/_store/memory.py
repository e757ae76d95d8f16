"""A store in memory: for jobs in process, which need nothing installed and outlive nothing."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from requestor_sdk.c2d._store.bells import Bells
from requestor_sdk.c2d._store.keys import LARGEST, environment_of, storable
from requestor_sdk.c2d._store.rows import Waiting
from requestor_sdk.ports.worker import RunState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from requestor_sdk.c2d._store.bells import Ear
    from requestor_sdk.c2d._store.port import Reading
    from requestor_sdk.c2d._store.port import Writing as _Writing
    from requestor_sdk.c2d._store.rows import AttemptRow, EventRow, RunRow, WorkerRow
    from requestor_sdk.c2d.records import JobRecord, TokenRecord
    from requestor_sdk.model.jobs import Json
    from requestor_sdk.ports.worker import Room

K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T")


class MemoryStore:
    """Rows in dictionaries, gone with the process. A transaction that raises changes nothing."""

    poll_sec = 3600.0

    def __init__(self) -> None:
        self._rows = _Rows()
        self._bells = Bells()

    async def open(self) -> None:
        """Get ready."""

    async def close(self) -> None:
        """Wake all who wait; the rows stay for as long as this does."""
        self._bells.ring_all()

    async def read(self, do: Callable[[Reading], T]) -> T:
        """Return what a function finds."""
        return do(self._rows)

    async def write(self, do: Callable[[_Writing], T]) -> T:
        """Return what a function says; where it raises, nothing was changed."""
        rows = self._rows
        rows.begin()
        try:
            told = do(rows)
        except BaseException:
            rows.undo()
            raise
        self._bells.ring(rows.rings)
        return told

    async def skew(self) -> float:
        """Return nothing: it has no clock of its own."""
        return 0.0

    def listen(self, *topics: str) -> Ear:
        """Hear of topics."""
        return self._bells.listen(*topics)

    def tap(self, call: Callable[[str], object]) -> None:
        """Have each topic that rings told to a call."""
        self._bells.taps.append(call)

    def ring(self, topic: str) -> None:
        """Wake those who listen to a topic."""
        self._bells.ring([topic])


class _Table(Generic[K, V]):
    """Rows by key, which notes how to take back what is done to it."""

    def __init__(self, undo: list[Callable[[], object]]) -> None:
        self.rows: dict[K, V] = {}
        self._undo = undo

    def put(self, key: K, row: V) -> V | None:
        rows, before = self.rows, self.rows.get(key)
        rows[key] = row
        if before is None:
            self._undo.append(lambda: rows.pop(key))
        else:
            self._undo.append(lambda: rows.__setitem__(key, before))
        return before

    def drop(self, key: K) -> V | None:
        before = self.rows.pop(key, None)
        if before is not None:
            rows, kept = self.rows, before
            self._undo.append(lambda: rows.__setitem__(key, kept))
        return before


class _Rows:
    """All tables, and the transaction over them: there is one at a time."""

    def __init__(self) -> None:
        self._undo: list[Callable[[], object]] = []
        self.rings: list[str] = []
        self._jobs: _Table[str, JobRecord] = _Table(self._undo)
        self._requests: _Table[str, Mapping[str, Json]] = _Table(self._undo)
        self._statuses: _Table[str, tuple[tuple[int, float], ...]] = _Table(self._undo)
        self._orders: _Table[str, str] = _Table(self._undo)
        self._nonces: _Table[str, int] = _Table(self._undo)
        self._tokens: _Table[str, TokenRecord] = _Table(self._undo)
        self._runs: _Table[str, RunRow] = _Table(self._undo)
        self._line: _Table[str, Waiting] = _Table(self._undo)
        self._attempts: _Table[tuple[str, int], AttemptRow] = _Table(self._undo)
        self._claims: _Table[tuple[str, str], tuple[str, int]] = _Table(self._undo)
        self._held: _Table[tuple[str, int], AttemptRow] = _Table(self._undo)
        self._events: _Table[str, tuple[EventRow, ...]] = _Table(self._undo)
        self._workers: _Table[str, WorkerRow] = _Table(self._undo)

    def begin(self) -> None:
        self._undo.clear()
        self.rings = []

    def undo(self) -> None:
        while self._undo:
            self._undo.pop()()

    def ring(self, topic: str) -> None:
        self.rings.append(topic)

    def alone(self, key: str) -> None:
        """There is one transaction at a time."""

    # Jobs

    def job(self, job_id: str) -> JobRecord | None:
        return self._jobs.rows.get(job_id)

    def request(self, job_id: str) -> Mapping[str, Json] | None:
        return self._requests.rows.get(job_id)

    def job_of_run(self, run_id: str) -> JobRecord | None:
        return next((job for job in self._jobs.rows.values() if run_id == job.run_id != ""), None)

    def jobs(
        self,
        *,
        owner: str | None,
        did: str | None,
        open_only: bool,
        limit: int,
        after: tuple[float, str] | None = None,
    ) -> Sequence[JobRecord]:
        found = [
            job
            for job in self._jobs.rows.values()
            if (owner is None or job.owner == owner)
            and (did is None or did in job.dids)
            and not (open_only and job.finished is not None)
            and (after is None or (job.created, job.id) < after)
        ]
        found.sort(key=lambda job: (job.created, job.id), reverse=True)
        return found[:limit]

    def count_open(self) -> Mapping[str, int]:
        open_jobs = (job for job in self._jobs.rows.values() if job.finished is None)
        return Counter(environment_of(job) for job in open_jobs)

    def open_in(self, environment: str) -> int:
        return self.count_open().get(environment, 0)

    def open_of(self, owner: str) -> int:
        return sum(job.finished is None and job.owner == owner for job in self._jobs.rows.values())

    def kept_of(self, owner: str) -> int:
        return sum(job.kept for job in self._jobs.rows.values() if job.owner == owner)

    def done(self, before: float, *, limit: int) -> Sequence[JobRecord]:
        found = [
            (job.finished, job.id, job)
            for job in self._jobs.rows.values()
            if job.finished is not None and job.expires is None and job.finished < before
        ]
        return [job for _, _, job in sorted(found)[:limit]]

    def statuses(self, job_id: str) -> Sequence[tuple[int, float]]:
        return self._statuses.rows.get(job_id, ())

    def expired(self, now: float, *, limit: int) -> Sequence[JobRecord]:
        due = [
            (job.expires, job.id, job)
            for job in self._jobs.rows.values()
            if job.expires is not None and job.expires <= now
        ]
        return [job for _, _, job in sorted(due)[:limit]]

    def insert_job(self, job: JobRecord) -> None:
        if storable(job.id) in self._jobs.rows:
            raise ValueError(f"there is a job {job.id} already")
        self._jobs.put(job.id, _as_kept(job))

    def put_request(self, job_id: str, request: Mapping[str, Json]) -> None:
        self._requests.put(storable(job_id), request)

    def delete_request(self, job_id: str) -> None:
        self._requests.drop(job_id)

    def change_job(self, job: JobRecord) -> bool:
        kept = self._jobs.rows.get(job.id)
        if kept is None or kept.revision != job.revision - 1:
            return False
        self._jobs.put(job.id, _as_kept(job))
        return True

    def add_statuses(self, job_id: str, codes: Sequence[int], at: float) -> None:
        before = self._statuses.rows.get(job_id, ())
        self._statuses.put(job_id, (*before, *((int(code), at) for code in codes)))

    def delete_job(self, job_id: str) -> None:
        self._jobs.drop(job_id)
        self._requests.drop(job_id)
        self._statuses.drop(job_id)

    def use_order(self, order: str, job_id: str) -> bool:
        if storable(order) in self._orders.rows:
            return False
        self._orders.put(order, job_id)
        return True

    def nonce(self, address: str) -> int:
        return self._nonces.rows.get(address, 0)

    def raise_nonce(self, address: str, nonce: int) -> bool:
        if not self.nonce(storable(address)) < nonce <= LARGEST:
            return False
        self._nonces.put(address, nonce)
        return True

    def token(self, digest: str) -> TokenRecord | None:
        return self._tokens.rows.get(digest)

    def put_token(self, token: TokenRecord) -> None:
        self._tokens.put(storable(token.digest), token)

    def delete_token(self, digest: str) -> None:
        self._tokens.drop(digest)

    def delete_tokens(self, before: float) -> int:
        tokens = self._tokens.rows.values()
        over = [one.digest for one in tokens if one.expires is not None and one.expires < before]
        for digest in over:
            self._tokens.drop(digest)
        return len(over)

    # Runs

    def run(self, run_id: str) -> RunRow | None:
        return self._runs.rows.get(run_id)

    def waiting(
        self,
        room: Room,
        *,
        now: float,
        after: tuple[int, int, float, str] | None = None,
        limit: int = 16,
    ) -> Sequence[Waiting]:
        line = sorted(self._line.rows.values(), key=lambda one: one.place)
        start = 0 if after is None else bisect_right(line, after, key=lambda one: one.place)
        found = []
        for one in line[start:]:
            if room.choose(one.demand) is not None and self._runs.rows[one.id].not_before <= now:
                found.append(one)
                if len(found) == limit:
                    break
        return found

    def next_due(self, now: float) -> float | None:
        times = (self._runs.rows[run_id].not_before for run_id in self._line.rows)
        return min((at for at in times if at > now), default=None)

    def next_turn(self, owner: str, priority: int) -> int:
        undone = [run for run in self._runs.rows.values() if run.finished_at is None]
        own = max((run.turn for run in undone if run.owner == owner), default=-1)
        waiting = [place[1] for place in self._places() if place[0] == -priority]
        now = min(waiting) if waiting else max((run.turn for run in undone), default=0)
        return max(0, now, own + 1)

    def _places(self) -> Iterable[tuple[int, int, float, str]]:
        return (one.place for one in self._line.rows.values())

    def count_runs(self) -> Mapping[RunState, int]:
        return Counter(run.state for run in self._runs.rows.values())

    def insert_run(self, run: RunRow) -> bool:
        if storable(run.id) in self._runs.rows:
            return False
        self.save_run(run)
        return True

    def take_waiting(self, run_id: str) -> RunRow | None:
        return self._runs.rows.get(run_id) if run_id in self._line.rows else None

    def save_run(self, run: RunRow) -> None:
        self._runs.put(run.id, run)
        if run.state is RunState.pending:
            place = (-run.priority, run.turn, run.created_at, run.id)
            self._line.put(run.id, Waiting(id=run.id, demand=run.demand, place=place))
        else:
            self._line.drop(run.id)

    def delete_run(self, run_id: str) -> None:
        self._runs.drop(run_id)
        self._line.drop(run_id)
        self._events.drop(run_id)
        for attempt in self.attempts(run_id):
            key = (run_id, attempt.number)
            self._attempts.drop(key)
            self._held.drop(key)
            self._claims.drop((attempt.worker_id, attempt.claim_id))

    # Attempts

    def attempt(self, run_id: str, number: int) -> AttemptRow | None:
        return self._attempts.rows.get((run_id, number))

    def attempts(self, run_id: str) -> Sequence[AttemptRow]:
        run = self._runs.rows.get(run_id)
        last = run.attempt if run is not None else self._last_of(run_id)
        found = (self._attempts.rows.get((run_id, number)) for number in range(1, last + 1))
        return [attempt for attempt in found if attempt is not None]

    def _last_of(self, run_id: str) -> int:
        return max((number for run, number in self._attempts.rows if run == run_id), default=0)

    def attempt_of_claim(self, worker_id: str, claim_id: str) -> AttemptRow | None:
        key = self._claims.rows.get((worker_id, claim_id))
        return None if key is None else self._attempts.rows.get(key)

    def held(self, worker_id: str) -> Sequence[AttemptRow]:
        found = [each for each in self._held.rows.values() if each.worker_id == worker_id]
        return sorted(found, key=lambda each: (each.claimed_at, each.run_id))

    def lapsed(self, now: float, *, limit: int) -> Sequence[AttemptRow]:
        found = [each for each in self._held.rows.values() if each.leased_until <= now]
        return sorted(found, key=lambda each: (each.leased_until, each.run_id))[:limit]

    def insert_attempt(self, attempt: AttemptRow) -> None:
        claim = (attempt.worker_id, storable(attempt.claim_id))
        if claim in self._claims.rows or (attempt.run_id, attempt.number) in self._attempts.rows:
            raise ValueError("there is such an attempt already")
        self._claims.put(claim, (attempt.run_id, attempt.number))
        self.save_attempt(attempt)

    def save_attempt(self, attempt: AttemptRow) -> None:
        key = (attempt.run_id, attempt.number)
        self._attempts.put(key, attempt)
        if attempt.ending is None:
            self._held.put(key, attempt)
        else:
            self._held.drop(key)

    def add_event(self, event: EventRow) -> bool:
        before = self._events.rows.get(event.run_id, ())
        key = (event.attempt, event.seq)
        if any((each.attempt, each.seq) == key for each in before):
            return False
        payload = json.loads(json.dumps(dict(event.payload)))
        after = sorted((*before, replace(event, payload=payload)), key=_order_of_event)
        self._events.put(event.run_id, tuple(after))
        return True

    def events(
        self, run_id: str, *, after: tuple[int, int] = (0, -1), limit: int = 1000
    ) -> Sequence[EventRow]:
        kept = self._events.rows.get(run_id, ())
        return [event for event in kept if _order_of_event(event) > after][:limit]

    # Workers

    def worker(self, worker_id: str) -> WorkerRow | None:
        return self._workers.rows.get(worker_id)

    def worker_of_token(self, token_hash: str) -> WorkerRow | None:
        found = (each for each in self._workers.rows.values() if each.token_hash == token_hash)
        return next(found, None) if token_hash else None

    def workers(self) -> Sequence[WorkerRow]:
        return sorted(self._workers.rows.values(), key=lambda worker: worker.id)

    def save_worker(self, worker: WorkerRow) -> None:
        self._workers.put(storable(worker.id), worker)


def _order_of_event(event: EventRow) -> tuple[int, int]:
    return event.attempt, event.seq


def _as_kept(job: JobRecord) -> JobRecord:
    """Return a job as a database would give it back: nothing of the caller's is in it."""
    facts: Any = json.loads(json.dumps(dict(job.facts), allow_nan=False))
    return replace(job, facts=facts, dids=tuple(job.dids))
