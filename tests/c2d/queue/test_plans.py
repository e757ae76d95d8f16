"""Claims and sweeps look at what waits and what is held, not at all that ever was."""

from __future__ import annotations

import pytest

pytest.importorskip("sqlalchemy", reason="the extra `serve` is not installed")

USED = {
    "_LINE": "c2d_line",
    "_LINE_AFTER": "c2d_line",
    "_NEXT_DUE": "c2d_due",
    "_HELD": "c2d_held",
    "_LAPSED": "c2d_leases",
}


@pytest.mark.parametrize(("name", "index"), USED.items())
def test_a_query_of_the_queue_uses_its_index(name, index):
    from sqlalchemy import create_engine
    from sqlalchemy.dialects import sqlite

    from requestor_sdk.c2d._store import sql_runs, tables

    engine = create_engine("sqlite://")
    tables.metadata.create_all(engine)
    query = getattr(sql_runs, name).compile(dialect=sqlite.dialect())
    with engine.connect() as connection:
        values = tuple(1 for _ in query.positiontup)
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}", values).all()
    engine.dispose()
    assert f"INDEX {index} " in plan[0].detail + " "
