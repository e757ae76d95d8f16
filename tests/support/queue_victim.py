"""A server's queue that is killed at any moment: it prints what was acknowledged, line by line.

Arguments: the store (a file, or an address of PostgreSQL), the folder of runs, a number that makes
the names of this process its own.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from support.queues import DONE, SPEC, Worker

from requestor_sdk.c2d._queue import DurableQueue
from requestor_sdk.c2d._store.jobs import StoredJobs
from requestor_sdk.c2d.records import JobRecord
from requestor_sdk.ports.worker import Demand

TINY = Demand(cpu=0.1, ram_mb=1, disk_mb=1)


def make_store(where):
    if where.startswith("postgresql"):
        from requestor_sdk.c2d._store.postgres import PostgresStore

        return PostgresStore(where)
    from requestor_sdk.c2d._store.sqlite import SqliteStore

    return SqliteStore(Path(where))


def told(*words):
    print(*words, flush=True)


async def one(queue, jobs, number, life):
    """Go through the life of jobs, again and again."""
    worker = await Worker(queue, id=f"w{life}-{number}", session=f"s{life}").come()
    count = 0
    while True:
        count += 1
        name = f"r{life}-{number}-{count}"
        nonce = life * 1_000_000 + count
        await jobs.raise_nonce(f"0x{number}", nonce)
        told("nonce", f"0x{number}", nonce)
        await jobs.add_job(JobRecord(id=name, owner=f"0x{number}"), orders=(name,))
        told("job", name)
        await queue.submit(name, SPEC, TINY)
        told("run", name)
        claim = await worker.claim()
        if claim is None:
            continue
        await queue.log(claim.lease, 0, claim.lease.run_id.encode())
        told("log", claim.lease.run_id, claim.lease.attempt)
        if count % 3 == 0:
            await queue.cancel(claim.lease.run_id)
        await queue.complete(claim.lease, DONE)
        told("done", claim.lease.run_id, claim.lease.attempt)


async def main():
    where, folder, life = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    store = make_store(where)
    await store.open()
    queue = DurableQueue(store, folder, lease_sec=0.5)
    await queue.open()
    told("ready")
    jobs = StoredJobs(store)
    await asyncio.gather(*(one(queue, jobs, number, life) for number in range(4)))


if __name__ == "__main__":
    asyncio.run(main())
