"""Jobs, nonces, tokens and used orders in SQL; see ``port.Reading`` and ``port.Writing``."""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import BindParameter, bindparam, delete, func, select, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite

from requestor_sdk.c2d._store import tables
from requestor_sdk.c2d._store.keys import LARGEST, environment_of, is_storable, storable
from requestor_sdk.c2d.records import JobRecord, TokenRecord

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Connection, Executable, Row, Table

    from requestor_sdk.model.jobs import Json

_ENCODER: Final = json.JSONEncoder(separators=(",", ":"), allow_nan=False)
encode: Final = _ENCODER.encode

# Without it SQLAlchemy does not say how many rows an INSERT made.
_COUNTED: Final = {"preserve_rowcount": True}

_KEY: Final[BindParameter[str]] = bindparam("key")

# A collision of two keys has one of them wait for nothing, and does no more.
_ALONE: Final = select(func.pg_advisory_xact_lock(func.hashtextextended(_KEY, 0)))

_JOB: Final = select(tables.jobs).where(tables.jobs.c.id == _KEY)
_JOB_OF_RUN: Final = select(tables.jobs).where(tables.jobs.c.run_id == _KEY).limit(1)
_NEWEST: Final = select(tables.jobs).order_by(tables.jobs.c.created.desc(), tables.jobs.c.id.desc())
_COUNT_OPEN: Final = (
    select(tables.jobs.c.environment, func.count())
    .where(tables.jobs.c.finished.is_(None))
    .group_by(tables.jobs.c.environment)
)
_OPEN: Final = select(func.count()).select_from(tables.jobs).where(tables.jobs.c.finished.is_(None))
_OPEN_IN: Final = _OPEN.where(tables.jobs.c.environment == _KEY)
_OPEN_OF: Final = _OPEN.where(tables.jobs.c.owner == _KEY)
_KEPT_OF: Final = select(func.coalesce(func.sum(tables.jobs.c.kept), 0)).where(
    tables.jobs.c.owner == _KEY, tables.LARGE
)
_DONE: Final = (
    select(tables.jobs)
    .where(tables.jobs.c.expires.is_(None), tables.jobs.c.finished < bindparam("before"))
    .order_by(tables.jobs.c.finished, tables.jobs.c.id)
    .limit(bindparam("most"))
)
_EXPIRED: Final = (
    select(tables.jobs)
    .where(tables.jobs.c.expires <= bindparam("now"))
    .order_by(tables.jobs.c.expires, tables.jobs.c.id)
    .limit(bindparam("most"))
)
_STATUSES: Final = (
    select(tables.statuses.c.code, tables.statuses.c.at)
    .where(tables.statuses.c.job_id == _KEY)
    .order_by(tables.statuses.c.place)
)
_REQUEST: Final = select(tables.requests.c.body).where(tables.requests.c.job_id == _KEY)
_NONCE: Final = select(tables.nonces.c.nonce).where(tables.nonces.c.address == _KEY)
_TOKEN: Final = select(tables.tokens).where(tables.tokens.c.digest == _KEY)
_CHANGE: Final = (
    update(tables.jobs)
    .where(tables.jobs.c.id == _KEY, tables.jobs.c.revision == bindparam("before"))
    .values({column.name: bindparam(f"new_{column.name}") for column in tables.jobs.c})
)
_DIDS_OF: Final = select(tables.jobs.c.dids).where(tables.jobs.c.id == _KEY)


# Statements are made once: that takes longer than to run them.
@cache
def _inserting(table: Table, dialect: str) -> Any:
    return (postgresql if dialect == "postgresql" else sqlite).insert(table)


@cache
def _inserting_new(table: Table, dialect: str) -> Any:
    return _inserting(table, dialect).on_conflict_do_nothing()


@cache
def _raising(dialect: str) -> Any:
    new = _inserting(tables.nonces, dialect)
    return new.on_conflict_do_update(
        index_elements=["address"],
        set_={"nonce": new.excluded.nonce},
        where=tables.nonces.c.nonce < new.excluded.nonce,
    )


class Rows:
    """A connection in a transaction.

    Args:
        connection: Whose transaction begins and ends elsewhere.
        writing: Whether rows that are read by their key become the transaction's own.
    """

    def __init__(self, connection: Connection, *, writing: bool) -> None:
        self._connection = connection
        self._writing = writing
        self.rings: list[str] = []

    def ring(self, topic: str) -> None:
        """Wake those who listen to a topic, once all is kept."""
        self.rings.append(topic)

    def _one(self, statement: Executable, **values: object) -> Row[Any] | None:
        keys = (value for value in values.values() if isinstance(value, str))
        if not all(is_storable(key) for key in keys):
            return None
        return self._connection.execute(statement, values).first()

    def _all(self, statement: Executable, **values: object) -> Sequence[Any]:
        keys = (value for value in values.values() if isinstance(value, str))
        if not all(is_storable(key) for key in keys):
            return ()
        return self._connection.execute(statement, values).all()

    def _do(self, statement: Any, values: Mapping[str, object] | None = None) -> int:
        told = self._connection.execute(statement, values, execution_options=_COUNTED)
        return told.rowcount

    def _insert(self, table: Table) -> Any:
        return _inserting(table, self._connection.dialect.name)

    def _insert_new(self, table: Table, values: Mapping[str, object]) -> bool:
        """Insert a row unless there is one of its key."""
        return self._do(_inserting_new(table, self._connection.dialect.name), values) == 1


class JobRows(Rows):
    """Jobs and what belongs to their owners; ``port`` tells of each method."""

    def alone(self, key: str) -> None:
        # SQLite has one writer anyway.
        if self._connection.dialect.name == "postgresql":
            self._one(_ALONE, key=key)

    def job(self, job_id: str) -> JobRecord | None:
        return _job(self._one(_JOB, key=job_id))

    def request(self, job_id: str) -> Mapping[str, Json] | None:
        row = self._one(_REQUEST, key=job_id)
        if row is None:
            return None
        made: Mapping[str, Json] = json.loads(row.body)
        return made

    def job_of_run(self, run_id: str) -> JobRecord | None:
        return _job(self._one(_JOB_OF_RUN, key=run_id)) if run_id else None

    def jobs(
        self,
        *,
        owner: str | None,
        did: str | None,
        open_only: bool,
        limit: int,
        after: tuple[float, str] | None = None,
    ) -> Sequence[JobRecord]:
        statement, values = _NEWEST.limit(bindparam("most")), dict[str, object](most=limit)
        if owner is not None:
            statement = statement.where(tables.jobs.c.owner == bindparam("owner_is"))
            values["owner_is"] = owner
        if did is not None:
            of = tables.job_dids
            statement = statement.join(of, of.c.job_id == tables.jobs.c.id)
            statement = statement.where(of.c.did == bindparam("did_is"))
            values["did_is"] = did
        if after is not None:
            place = tuple_(tables.jobs.c.created, tables.jobs.c.id)
            last = tuple_(bindparam("after_time"), bindparam("after_id"))
            statement = statement.where(place < last)
            values |= {"after_time": after[0], "after_id": after[1]}
        if open_only:
            statement = statement.where(tables.jobs.c.finished.is_(None))
        return _jobs(self._all(statement, **values))

    def count_open(self) -> Mapping[str, int]:
        return {row[0]: row[1] for row in self._all(_COUNT_OPEN)}

    def open_in(self, environment: str) -> int:
        return self._count(_OPEN_IN, environment)

    def open_of(self, owner: str) -> int:
        return self._count(_OPEN_OF, owner)

    def kept_of(self, owner: str) -> int:
        return self._count(_KEPT_OF, owner)

    def _count(self, statement: Executable, key: str) -> int:
        row = self._one(statement, key=key)
        return 0 if row is None else int(row[0])

    def done(self, before: float, *, limit: int) -> Sequence[JobRecord]:
        return _jobs(self._all(_DONE, before=before, most=limit))

    def statuses(self, job_id: str) -> Sequence[tuple[int, float]]:
        return tuple((row.code, row.at) for row in self._all(_STATUSES, key=job_id))

    def expired(self, now: float, *, limit: int) -> Sequence[JobRecord]:
        return _jobs(self._all(_EXPIRED, now=now, most=limit))

    def insert_job(self, job: JobRecord) -> None:
        storable(job.id)
        if not self._insert_new(tables.jobs, _columns(job)):
            raise ValueError(f"there is a job {job.id} already")
        self._add_dids(job)

    def put_request(self, job_id: str, request: Mapping[str, Json]) -> None:
        values = {"job_id": storable(job_id), "body": encode(dict(request))}
        self._do(self._insert(tables.requests), values)

    def delete_request(self, job_id: str) -> None:
        if is_storable(job_id):
            self._do(delete(tables.requests).where(tables.requests.c.job_id == job_id))

    def change_job(self, job: JobRecord) -> bool:
        new = {f"new_{name}": value for name, value in _columns(job).items()}
        before = self._one(_DIDS_OF, key=job.id)
        if not self._do(_CHANGE, {"key": job.id, "before": job.revision - 1, **new}):
            return False
        if before is None or before.dids != new["new_dids"]:
            self._do(delete(tables.job_dids).where(tables.job_dids.c.job_id == job.id))
            self._add_dids(job)
        return True

    def _add_dids(self, job: JobRecord) -> None:
        dids = dict.fromkeys(did for did in job.dids if is_storable(did))
        if dids:
            rows = [{"did": did, "job_id": job.id} for did in dids]
            self._connection.execute(self._insert(tables.job_dids), rows)

    def add_statuses(self, job_id: str, codes: Sequence[int], at: float) -> None:
        rows = [{"job_id": job_id, "code": int(code), "at": at} for code in codes]
        if rows:
            self._connection.execute(self._insert(tables.statuses), rows)

    def delete_job(self, job_id: str) -> None:
        if not is_storable(job_id):
            return
        self._do(delete(tables.jobs).where(tables.jobs.c.id == job_id))
        self._do(delete(tables.job_dids).where(tables.job_dids.c.job_id == job_id))
        self._do(delete(tables.requests).where(tables.requests.c.job_id == job_id))
        self._do(delete(tables.statuses).where(tables.statuses.c.job_id == job_id))

    def use_order(self, order: str, job_id: str) -> bool:
        return self._insert_new(tables.orders, {"id": storable(order), "job_id": job_id})

    def nonce(self, address: str) -> int:
        row = self._one(_NONCE, key=address)
        return 0 if row is None else int(row.nonce)

    def raise_nonce(self, address: str, nonce: int) -> bool:
        if not 0 < nonce <= LARGEST:
            return False
        higher = _raising(self._connection.dialect.name)
        return self._do(higher, {"address": storable(address), "nonce": nonce}) == 1

    def token(self, digest: str) -> TokenRecord | None:
        row = self._one(_TOKEN, key=digest)
        if row is None:
            return None
        return TokenRecord(digest=row.digest, owner=row.owner, expires=row.expires)

    def put_token(self, token: TokenRecord) -> None:
        self.delete_token(storable(token.digest))
        values = {"digest": token.digest, "owner": token.owner, "expires": token.expires}
        self._do(self._insert(tables.tokens), values)

    def delete_token(self, digest: str) -> None:
        if is_storable(digest):
            self._do(delete(tables.tokens).where(tables.tokens.c.digest == digest))

    def delete_tokens(self, before: float) -> int:
        return self._do(delete(tables.tokens).where(tables.tokens.c.expires < before))


def _columns(job: JobRecord) -> dict[str, object]:
    return {
        "id": job.id,
        "owner": job.owner,
        "code": int(job.code),
        "created": job.created,
        "finished": job.finished,
        "expires": job.expires,
        "run_id": job.run_id,
        "stop": job.stop,
        "revision": job.revision,
        "environment": environment_of(job),
        "kept": job.kept,
        "dids": encode(list(job.dids)),
        "facts": encode(dict(job.facts)),
    }


def _job(row: Row[Any] | None) -> JobRecord | None:
    if row is None:
        return None
    return JobRecord(
        id=row.id,
        owner=row.owner,
        dids=tuple(json.loads(row.dids)),
        code=row.code,
        created=row.created,
        finished=row.finished,
        expires=row.expires,
        run_id=row.run_id,
        stop=row.stop,
        kept=row.kept,
        facts=json.loads(row.facts),
        revision=row.revision,
    )


def _jobs(rows: Sequence[Row[Any]]) -> Sequence[JobRecord]:
    return [job for job in map(_job, rows) if job is not None]
