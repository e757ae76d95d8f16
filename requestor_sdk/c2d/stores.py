"""Which store a provider keeps its jobs in."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from requestor_sdk.c2d._store.jobs import StoredJobs, topic_of_job
from requestor_sdk.c2d._store.memory import MemoryStore
from requestor_sdk.model.errors import NotAvailable

if TYPE_CHECKING:
    from requestor_sdk.c2d._store.port import Store

__all__ = ["StoredJobs", "make_store", "topic_of_job"]


def make_store(where: Path | str | None = None) -> Store:
    """Return a store, not opened yet.

    Args:
        where: Nothing for one in memory; a file for SQLite; ``postgresql://...`` for PostgreSQL,
            which several hosts may share.

    Raises:
        NotAvailable: What it takes is not installed.
        StoreFailed: It is no such address.
    """
    if where is None:
        return MemoryStore()
    try:
        if isinstance(where, str) and where.startswith(("postgres://", "postgresql://")):
            from requestor_sdk.c2d._store.postgres import PostgresStore

            return PostgresStore(where)
        from requestor_sdk.c2d._store.sqlite import SqliteStore
    except ImportError as missing:
        raise NotAvailable(
            f"a store that lasts needs {missing.name}", hint="pip install 'requestor-sdk[serve]'"
        ) from missing
    return SqliteStore(Path(where))
