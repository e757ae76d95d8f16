"""A store that an older program made is brought to the present, and what is in it stays."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

import pytest
from support.queues import DONE, SMALL, SPEC, Worker

from requestor_sdk.c2d._queue import DurableQueue
from requestor_sdk.c2d._store.jobs import StoredJobs
from requestor_sdk.model.errors import StoreFailed

pytest.importorskip("sqlalchemy", reason="the extra `serve` is not installed")

VERSION_1 = Path(__file__).parent / "kept" / "store-1.sql"
"""What the program of version 1 kept of one job that is over."""
JOB = "8e453f83a134ca7a9b44b401d2d7ae66"
OWNER = "0xe14160af75edb59793a8547aec8ed646d0a7aa6d"


def for_postgres(said):
    """Return the same for PostgreSQL, as the older program had it there."""
    said = said.replace("BEGIN TRANSACTION;", "").replace("COMMIT;", "")
    said = said.replace(" DOUBLE", " DOUBLE PRECISION").replace("BOOLEAN DEFAULT 0", "BOOLEAN")
    said = said.replace("place INTEGER NOT NULL", "place BIGSERIAL NOT NULL")
    said = said.replace("WHERE held = 1", "WHERE held")
    of_keys = r"^(\t(?:\"key\"|id|owner|run_id|state|worker_id|claim_id|did|job_id)) TEXT"
    said = re.sub(of_keys, r'\1 TEXT COLLATE "C"', said, flags=re.MULTILINE)
    said = re.sub(r"(INTO \"c2d_attempts\" VALUES\(.*?,.*?,.*?,.*?,)0,", r"\1false,", said)
    return re.sub(r"(INTO \"c2d_runs\" VALUES\(.*,)0(,[0-9.]+,'\{)", r"\1false\2", said)


@pytest.fixture(params=["sqlite", "postgres"])
def older(request, tmp_path):
    """Return what opens a store that the older program made."""
    said = VERSION_1.read_text()
    if request.param == "sqlite":
        from requestor_sdk.c2d._store.sqlite import SqliteStore

        path = tmp_path / "c2d.sqlite"
        kept = sqlite3.connect(path)
        kept.executescript(said)
        kept.close()
        return lambda: SqliteStore(path)
    import psycopg

    from requestor_sdk.c2d._store.postgres import PostgresStore

    url = request.getfixturevalue("postgres").database()
    with psycopg.connect(url) as connection:
        connection.execute(for_postgres(said))
    return lambda: PostgresStore(url)


async def test_jobs_of_an_older_store_are_all_there_and_count_for_their_owner(older, tmp_path):
    for _ in range(2):
        store = older()
        await store.open()
        jobs = StoredJobs(store)
        record = await jobs.job(JOB)
        assert (record.owner, record.code, record.facts["exit_code"]) == (OWNER, 70, 0)
        assert await jobs.kept_of(OWNER) == record.kept == 103
        assert await jobs.nonce(OWNER) == 11
        assert len(await jobs.statuses(JOB)) == 8
        run = await store.read(lambda tx: tx.run(f"{JOB}-1"))
        assert run.owner == OWNER
        await store.close()


async def test_runs_go_on_in_a_store_that_was_brought_to_the_present(older, tmp_path):
    store = older()
    await store.open()
    queue = DurableQueue(store, tmp_path / "runs")
    await queue.open()
    worker = await Worker(queue).come()
    await queue.submit("r1", SPEC, SMALL, owner=OWNER)
    await queue.complete((await worker.claim()).lease, DONE)
    await queue.close()
    await store.close()


async def test_a_store_of_an_upgrade_that_failed_is_as_it_was(older, monkeypatch):
    from requestor_sdk.c2d._store import upgrades

    step = upgrades._STEPS[1]

    def fail(connection):
        step(connection)
        raise StoreFailed("the power went")

    with monkeypatch.context() as patch:
        patch.setitem(upgrades._STEPS, 1, fail)
        with pytest.raises(StoreFailed, match="power"):
            await older().open()
    store = older()
    await store.open()
    assert (await StoredJobs(store).job(JOB)).kept == 103
    await store.close()
