"""The tables of the stores in SQL.

A column of its own has what is searched or counted; all else of a row is JSON in ASCII, in which
every text that people send can be kept. Texts sort by their bytes, as they do in Python.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
)

_KEY: Final = Text().with_variant(Text(collation="C"), "postgresql")
_COUNTER: Final = BigInteger().with_variant(Integer(), "sqlite")
_NONE: Final = text("0")

metadata: Final = MetaData()


def _key(name: str, **settings: Any) -> Column[str]:
    return Column(name, _KEY, nullable=False, **settings)


def _whole(name: str, **settings: Any) -> Column[int]:
    return Column(name, BigInteger, nullable=False, **settings)


def _time(name: str, *, nullable: bool = False) -> Column[float]:
    return Column(name, Double, nullable=nullable)


def _json(name: str, *, nullable: bool = False) -> Column[str]:
    return Column(name, Text, nullable=nullable)


about: Final = Table("c2d_about", metadata, _key("key", primary_key=True), _whole("value"))

jobs: Final = Table(
    "c2d_jobs",
    metadata,
    _key("id", primary_key=True),
    _key("owner"),
    _whole("code"),
    _time("created"),
    _time("finished", nullable=True),
    _time("expires", nullable=True),
    _key("run_id"),
    _whole("stop"),
    _whole("revision"),
    _key("environment"),
    _whole("kept", server_default=_NONE),
    _json("dids"),
    _json("facts"),
    Index("c2d_jobs_of_owner", "owner", "created"),
    Index("c2d_jobs_by_age", "created"),
    Index("c2d_jobs_of_run", "run_id"),
)
Index(
    "c2d_jobs_open",
    jobs.c.environment,
    sqlite_where=jobs.c.finished.is_(None),
    postgresql_where=jobs.c.finished.is_(None),
)
Index(
    "c2d_jobs_expiring",
    jobs.c.expires,
    sqlite_where=jobs.c.expires.is_not(None),
    postgresql_where=jobs.c.expires.is_not(None),
)

Index(
    "c2d_jobs_open_of",
    jobs.c.owner,
    sqlite_where=jobs.c.finished.is_(None),
    postgresql_where=jobs.c.finished.is_(None),
)
LARGE: Final = text("kept > 0")
Index(
    "c2d_jobs_keeping",
    jobs.c.owner,
    jobs.c.kept,
    sqlite_where=LARGE,
    postgresql_where=LARGE,
)
Index(
    "c2d_jobs_done",
    jobs.c.finished,
    sqlite_where=jobs.c.expires.is_(None) & jobs.c.finished.is_not(None),
    postgresql_where=jobs.c.expires.is_(None) & jobs.c.finished.is_not(None),
)

job_dids: Final = Table(
    "c2d_job_dids",
    metadata,
    _key("did", primary_key=True),
    _key("job_id", primary_key=True),
    Index("c2d_dids_of_job", "job_id"),
)

statuses: Final = Table(
    "c2d_statuses",
    metadata,
    Column("place", _COUNTER, primary_key=True, autoincrement=True),
    _key("job_id"),
    _whole("code"),
    _time("at"),
    Index("c2d_statuses_of_job", "job_id", "place"),
)

requests: Final = Table("c2d_requests", metadata, _key("job_id", primary_key=True), _json("body"))

orders: Final = Table("c2d_orders", metadata, _key("id", primary_key=True), _key("job_id"))

nonces: Final = Table("c2d_nonces", metadata, _key("address", primary_key=True), _whole("nonce"))

tokens: Final = Table(
    "c2d_tokens",
    metadata,
    _key("digest", primary_key=True),
    _key("owner"),
    _time("expires", nullable=True),
)

runs: Final = Table(
    "c2d_runs",
    metadata,
    _key("id", primary_key=True),
    _key("owner", server_default=text("''")),
    _key("state"),
    # Negative priority: the line is read upwards.
    _whole("rank"),
    _whole("turn", server_default=_NONE),
    _time("created_at"),
    _time("not_before"),
    Column("cpu", Double, nullable=False),
    _whole("ram_mb"),
    _whole("disk_mb"),
    _whole("gpus"),
    _whole("vram_mb"),
    _json("tags"),
    _whole("attempt"),
    _whole("lapses"),
    _whole("releases"),
    _whole("max_attempts"),
    Column("cancel", Boolean, nullable=False, server_default=false()),
    _time("finished_at", nullable=True),
    _json("spec"),
    _json("completion", nullable=True),
)
# An index of a part is used only where the condition is literally the same.
WAITS: Final = text("c2d_runs.state = 'PENDING'")
_WAITS: Final = text("state = 'PENDING'")
Index(
    "c2d_line",
    runs.c.rank,
    runs.c.turn,
    runs.c.created_at,
    runs.c.id,
    sqlite_where=_WAITS,
    postgresql_where=_WAITS,
)

_UNDONE: Final = runs.c.finished_at.is_(None)
Index("c2d_turns", runs.c.owner, runs.c.turn, sqlite_where=_UNDONE, postgresql_where=_UNDONE)

Index("c2d_due", runs.c.not_before, sqlite_where=_WAITS, postgresql_where=_WAITS)

attempts: Final = Table(
    "c2d_attempts",
    metadata,
    _key("run_id", primary_key=True),
    _whole("number", primary_key=True, autoincrement=False),
    _key("worker_id"),
    _key("claim_id"),
    Column("held", Boolean, nullable=False),
    _time("leased_until"),
    _json("body"),
    UniqueConstraint("worker_id", "claim_id", name="c2d_claims"),
)
_HELD: Final = text("held = 1")
Index(
    "c2d_held",
    attempts.c.worker_id,
    sqlite_where=_HELD,
    postgresql_where=attempts.c.held,
)
Index(
    "c2d_leases",
    attempts.c.leased_until,
    sqlite_where=_HELD,
    postgresql_where=attempts.c.held,
)

events: Final = Table(
    "c2d_events",
    metadata,
    _key("run_id", primary_key=True),
    _whole("attempt", primary_key=True, autoincrement=False),
    _whole("seq", primary_key=True, autoincrement=False),
    _json("body"),
)

workers: Final = Table(
    "c2d_workers",
    metadata,
    _key("id", primary_key=True),
    _key("token_hash", index=True),
    _json("body"),
)
