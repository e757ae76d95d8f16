"""Brings a store that an older program made to the present version, within one transaction.

A step says what its version of the tables lacked. It names columns by itself, never by ``tables``:
those are of the present, and a step is of its time.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from sqlalchemy import inspect, text

from requestor_sdk.c2d._store import tables

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sqlalchemy import Connection

_PAGE: Final = 1000


def upgrade(connection: Connection, version: int, target: int) -> None:
    """Bring the tables from a version to another; what is kept in them stays.

    Raises:
        KeyError: No step leads from there.
    """
    for step in range(version, target):
        _STEPS[step](connection)
    known = {
        name: {index["name"] for index in inspect(connection).get_indexes(name)}
        for name in tables.metadata.tables
    }
    for name, table in tables.metadata.tables.items():
        for index in table.indexes:
            if index.name not in known[name]:
                index.create(connection)


def _owners_take_turns(connection: Connection) -> None:
    """Of version 1: runs were in one line, and nobody counted what results take."""
    key = 'TEXT COLLATE "C"' if connection.dialect.name == "postgresql" else "TEXT"
    for said in (
        f"ALTER TABLE c2d_runs ADD COLUMN owner {key} DEFAULT '' NOT NULL",
        "ALTER TABLE c2d_runs ADD COLUMN turn BIGINT DEFAULT 0 NOT NULL",
        "ALTER TABLE c2d_jobs ADD COLUMN kept BIGINT DEFAULT 0 NOT NULL",
        "DROP INDEX c2d_line",
    ):
        connection.execute(text(said))
    # The line stays as it is: every run that waits has a turn of its own, the oldest the first.
    waiting = "SELECT id FROM c2d_runs WHERE finished_at IS NULL ORDER BY created_at, id"
    turns = [
        {"run": row.id, "turn": turn} for turn, row in enumerate(connection.execute(text(waiting)))
    ]
    owners = (
        "UPDATE c2d_runs SET owner = COALESCE("
        "(SELECT owner FROM c2d_jobs WHERE run_id = c2d_runs.id), '')"
    )
    connection.execute(text(owners))
    if turns:
        connection.execute(text("UPDATE c2d_runs SET turn = :turn WHERE id = :run"), turns)
    rows = connection.execute(text("SELECT id, facts FROM c2d_jobs WHERE expires IS NOT NULL"))
    while page := rows.fetchmany(_PAGE):
        sizes = [{"job": row.id, "kept": _size_of_results(row.facts)} for row in page]
        connection.execute(text("UPDATE c2d_jobs SET kept = :kept WHERE id = :job"), sizes)


def _size_of_results(facts: str) -> int:
    listed = json.loads(facts).get("results")
    entries = listed if isinstance(listed, list) else []
    return sum(int(entry["size"]) for entry in entries if isinstance(entry, dict))


_STEPS: Final[Mapping[int, Callable[[Connection], None]]] = {1: _owners_take_turns}
"""By the version that each begins at."""
