"""Runs, attempts, events and workers in SQL; see ``port.Reading`` and ``port.Writing``."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import BindParameter, bindparam, delete, func, or_, select, tuple_, update

from requestor_sdk.c2d._store import tables
from requestor_sdk.c2d._store.keys import is_storable, storable
from requestor_sdk.c2d._store.rows import AttemptRow, EventRow, RunRow, Waiting, WorkerRow
from requestor_sdk.c2d._store.sql_jobs import JobRows, encode
from requestor_sdk.model.fields import from_json, to_json
from requestor_sdk.ports.worker import Completion, Demand, RunSpec, RunState

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Executable, Row

    from requestor_sdk.ports.worker import Room

_R: Final = tables.runs.c
_A: Final = tables.attempts.c
_E: Final = tables.events.c
_W: Final = tables.workers.c
_KEY: Final[BindParameter[str]] = bindparam("key")
_MOST: Final[BindParameter[int]] = bindparam("most")

_RUN: Final = select(tables.runs).where(_R.id == _KEY)
_RUN_OWN: Final = _RUN.with_for_update()
# A run that another transaction has its hands on is passed over, not waited for.
_RUN_WAITING: Final = _RUN.where(tables.WAITS).with_for_update(skip_locked=True)
_PLACE: Final = ("rank_was", "turn_was", "created_was", "id_was")
_LINE: Final = (
    select(_R.id, _R.cpu, _R.ram_mb, _R.disk_mb, _R.gpus, _R.vram_mb, _R.tags, _R.rank)
    .add_columns(_R.turn, _R.created_at)
    .where(
        tables.WAITS,
        _R.not_before <= bindparam("now"),
        _R.cpu <= bindparam("cpu_free"),
        _R.ram_mb <= bindparam("ram_free"),
        _R.disk_mb <= bindparam("disk_free"),
        _R.gpus <= bindparam("gpus_free"),
        or_(_R.gpus == 0, _R.vram_mb <= bindparam("vram_free")),
    )
    .order_by(_R.rank, _R.turn, _R.created_at, _R.id)
    .limit(_MOST)
)
_LINE_AFTER: Final = _LINE.where(
    tuple_(_R.rank, _R.turn, _R.created_at, _R.id) > tuple_(*map(bindparam, _PLACE))
)
_TURN_OF: Final = select(func.max(_R.turn)).where(_R.owner == _KEY, _R.finished_at.is_(None))
_TURN_WAITING: Final = select(func.min(_R.turn)).where(tables.WAITS, _R.rank == bindparam("rank"))
_TURN_LAST: Final = select(func.max(_R.turn)).where(_R.finished_at.is_(None))
_NEXT_DUE: Final = select(func.min(_R.not_before)).where(
    tables.WAITS, _R.not_before > bindparam("now")
)
_COUNT: Final = select(_R.state, func.count()).group_by(_R.state)
_ATTEMPT: Final = select(_A.body).where(_A.run_id == _KEY, _A.number == bindparam("which"))
_ATTEMPTS: Final = select(_A.body).where(_A.run_id == _KEY).order_by(_A.number)
_OF_CLAIM: Final = select(_A.body).where(_A.worker_id == _KEY, _A.claim_id == bindparam("claim"))
_HELD: Final = select(_A.body).where(_A.worker_id == _KEY, _A.held)
_LAPSED: Final = (
    select(_A.body)
    .where(_A.held, _A.leased_until <= bindparam("now"))
    .order_by(_A.leased_until, _A.run_id)
    .limit(_MOST)
)
_EVENTS: Final = (
    select(tables.events)
    .where(
        _E.run_id == _KEY,
        tuple_(_E.attempt, _E.seq) > tuple_(bindparam("attempt_was"), bindparam("seq_was")),
    )
    .order_by(_E.attempt, _E.seq)
    .limit(_MOST)
)
_WORKER: Final = select(_W.body).where(_W.id == _KEY)
_WORKER_OWN: Final = _WORKER.with_for_update()
_OF_TOKEN: Final = select(_W.body).where(_W.token_hash == _KEY)
_WORKERS: Final = select(_W.body).order_by(_W.id)

_SAVE_RUN: Final = (
    update(tables.runs)
    .where(_R.id == _KEY)
    .values(
        {
            name: bindparam(f"new_{name}")
            for name in (
                "state",
                "rank",
                "not_before",
                "attempt",
                "lapses",
                "releases",
                "max_attempts",
                "cancel",
                "finished_at",
                "completion",
            )
        }
    )
)
_SAVE_ATTEMPT: Final = (
    update(tables.attempts)
    .where(_A.run_id == _KEY, _A.number == bindparam("which"))
    .values(
        held=bindparam("new_held"),
        leased_until=bindparam("new_leased_until"),
        body=bindparam("new_body"),
    )
)


class SqlRows(JobRows):
    """All rows, over a connection in a transaction; ``port`` tells of each method."""

    def run(self, run_id: str) -> RunRow | None:
        return _run(self._one(_RUN_OWN if self._writing else _RUN, key=run_id))

    def waiting(
        self,
        room: Room,
        *,
        now: float,
        after: tuple[int, int, float, str] | None = None,
        limit: int = 16,
    ) -> Sequence[Waiting]:
        values: dict[str, object] = {
            "now": now,
            "cpu_free": room.cpu + 1e-9,
            "ram_free": room.ram_mb,
            "disk_free": room.disk_mb,
            "gpus_free": sum(gpu.vram_mb > 0 for gpu in room.gpus),
            "vram_free": max((gpu.vram_mb for gpu in room.gpus), default=0),
            "most": limit,
        }
        statement = _LINE
        if after is not None:
            statement = _LINE_AFTER
            values |= dict(zip(_PLACE, after, strict=True))
        return [
            Waiting(
                id=row.id, demand=_demand(row), place=(row.rank, row.turn, row.created_at, row.id)
            )
            for row in self._all(statement, **values)
        ]

    def next_due(self, now: float) -> float | None:
        row = self._one(_NEXT_DUE, now=now)
        return None if row is None else row[0]

    def next_turn(self, owner: str, priority: int) -> int:
        own = self._turn(_TURN_OF, key=owner)
        now = self._turn(_TURN_WAITING, rank=-priority)
        if now is None:
            now = self._turn(_TURN_LAST)
        return max(now or 0, 0 if own is None else own + 1)

    def _turn(self, statement: Executable, **values: object) -> int | None:
        row = self._one(statement, **values)
        return None if row is None else row[0]

    def count_runs(self) -> Mapping[RunState, int]:
        return {RunState(row[0]): row[1] for row in self._all(_COUNT)}

    def insert_run(self, run: RunRow) -> bool:
        storable(run.id)
        demand = run.demand
        values = {
            **_changing(run),
            "id": run.id,
            "owner": storable(run.owner),
            "turn": run.turn,
            "created_at": run.created_at,
            "cpu": demand.cpu,
            "ram_mb": demand.ram_mb,
            "disk_mb": demand.disk_mb,
            "gpus": demand.gpus,
            "vram_mb": demand.vram_mb,
            "tags": encode(list(demand.tags)),
            "spec": encode(to_json(run.spec)),
        }
        return self._insert_new(tables.runs, values)

    def take_waiting(self, run_id: str) -> RunRow | None:
        return _run(self._one(_RUN_WAITING, key=run_id))

    def save_run(self, run: RunRow) -> None:
        new = {f"new_{name}": value for name, value in _changing(run).items()}
        self._do(_SAVE_RUN, {"key": run.id, **new})

    def delete_run(self, run_id: str) -> None:
        if not is_storable(run_id):
            return
        self._do(delete(tables.runs).where(_R.id == run_id))
        self._do(delete(tables.events).where(_E.run_id == run_id))
        self._do(delete(tables.attempts).where(_A.run_id == run_id))

    def attempt(self, run_id: str, number: int) -> AttemptRow | None:
        return _attempt(self._one(_ATTEMPT, key=run_id, which=number))

    def attempts(self, run_id: str) -> Sequence[AttemptRow]:
        return _attempts(self._all(_ATTEMPTS, key=run_id))

    def attempt_of_claim(self, worker_id: str, claim_id: str) -> AttemptRow | None:
        return _attempt(self._one(_OF_CLAIM, key=worker_id, claim=claim_id))

    def held(self, worker_id: str) -> Sequence[AttemptRow]:
        found = _attempts(self._all(_HELD, key=worker_id))
        return sorted(found, key=lambda each: (each.claimed_at, each.run_id))

    def lapsed(self, now: float, *, limit: int) -> Sequence[AttemptRow]:
        return _attempts(self._all(_LAPSED, now=now, most=limit))

    def insert_attempt(self, attempt: AttemptRow) -> None:
        values = {
            "run_id": attempt.run_id,
            "number": attempt.number,
            "worker_id": attempt.worker_id,
            "claim_id": storable(attempt.claim_id),
            **_of_attempt(attempt),
        }
        if not self._insert_new(tables.attempts, values):
            raise ValueError("there is such an attempt already")

    def save_attempt(self, attempt: AttemptRow) -> None:
        new = {f"new_{name}": value for name, value in _of_attempt(attempt).items()}
        self._do(_SAVE_ATTEMPT, {"key": attempt.run_id, "which": attempt.number, **new})

    def events(
        self, run_id: str, *, after: tuple[int, int] = (0, -1), limit: int = 1000
    ) -> Sequence[EventRow]:
        rows = self._all(_EVENTS, key=run_id, attempt_was=after[0], seq_was=after[1], most=limit)
        return [from_json(EventRow, json.loads(row.body)) for row in rows]

    def add_event(self, event: EventRow) -> bool:
        values = {
            "run_id": event.run_id,
            "attempt": event.attempt,
            "seq": event.seq,
            "body": encode(to_json(event)),
        }
        return self._insert_new(tables.events, values)

    def worker(self, worker_id: str) -> WorkerRow | None:
        return _worker(self._one(_WORKER_OWN if self._writing else _WORKER, key=worker_id))

    def worker_of_token(self, token_hash: str) -> WorkerRow | None:
        return _worker(self._one(_OF_TOKEN, key=token_hash)) if token_hash else None

    def workers(self) -> Sequence[WorkerRow]:
        return [from_json(WorkerRow, json.loads(row.body)) for row in self._all(_WORKERS)]

    def save_worker(self, worker: WorkerRow) -> None:
        new = self._insert(tables.workers)
        replaced = new.on_conflict_do_update(
            index_elements=["id"],
            set_={"token_hash": new.excluded.token_hash, "body": new.excluded.body},
        )
        body = encode(to_json(worker))
        values = {"id": storable(worker.id), "token_hash": worker.token_hash, "body": body}
        self._do(replaced, values)


def _changing(run: RunRow) -> dict[str, object]:
    """Return the columns of a run that may change."""
    return {
        "state": run.state.value,
        "rank": -run.priority,
        "not_before": run.not_before,
        "attempt": run.attempt,
        "lapses": run.lapses,
        "releases": run.releases,
        "max_attempts": run.max_attempts,
        "cancel": run.cancel,
        "finished_at": run.finished_at,
        "completion": None if run.completion is None else encode(to_json(run.completion)),
    }


def _of_attempt(attempt: AttemptRow) -> dict[str, object]:
    return {
        "held": attempt.ending is None,
        "leased_until": attempt.leased_until,
        "body": encode(to_json(attempt)),
    }


@lru_cache(maxsize=512)
def _spec(text: str) -> RunSpec:
    """Return a spec, which never changes, and is read with each call of its worker."""
    return from_json(RunSpec, json.loads(text))


def _demand(row: Row[Any]) -> Demand:
    return Demand(
        cpu=row.cpu,
        ram_mb=row.ram_mb,
        disk_mb=row.disk_mb,
        gpus=row.gpus,
        vram_mb=row.vram_mb,
        tags=tuple(json.loads(row.tags)),
    )


def _run(row: Row[Any] | None) -> RunRow | None:
    if row is None:
        return None
    done = row.completion
    return RunRow(
        id=row.id,
        spec=_spec(row.spec),
        demand=_demand(row),
        owner=row.owner,
        turn=row.turn,
        state=RunState(row.state),
        priority=-row.rank,
        created_at=row.created_at,
        not_before=row.not_before,
        attempt=row.attempt,
        lapses=row.lapses,
        releases=row.releases,
        max_attempts=row.max_attempts,
        cancel=row.cancel,
        completion=None if done is None else from_json(Completion, json.loads(done)),
        finished_at=row.finished_at,
    )


def _attempt(row: Row[Any] | None) -> AttemptRow | None:
    return None if row is None else from_json(AttemptRow, json.loads(row.body))


def _attempts(rows: Sequence[Row[Any]]) -> Sequence[AttemptRow]:
    return [from_json(AttemptRow, json.loads(row.body)) for row in rows]


def _worker(row: Row[Any] | None) -> WorkerRow | None:
    return None if row is None else from_json(WorkerRow, json.loads(row.body))
