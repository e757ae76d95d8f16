"""Queues over each kind of store, in virtual time."""

from __future__ import annotations

from datetime import timedelta

import pytest
from support.postgres import a_server
from support.queues import Worker

from requestor_sdk.c2d._queue import DurableQueue
from requestor_sdk.c2d._store.memory import MemoryStore
from requestor_sdk.clock import LoopClock
from requestor_sdk.testing import VirtualTimeLoop


def pytest_asyncio_loop_factories(config, item):
    return {"virtual": VirtualTimeLoop}


@pytest.fixture(params=["memory", "sqlite", "postgres"])
async def store(request, tmp_path):
    store = make_store(request.param, tmp_path, request)
    await store.open()
    yield store
    await store.close()


def make_store(kind, folder, request):
    if kind == "memory":
        return MemoryStore()
    pytest.importorskip("sqlalchemy", reason="the extra `serve` is not installed")
    if kind == "sqlite":
        from requestor_sdk.c2d._store.sqlite import SqliteStore

        return SqliteStore(folder / "c2d.sqlite")
    from requestor_sdk.c2d._store.postgres import PostgresStore

    return PostgresStore(request.getfixturevalue("postgres").empty_database())


@pytest.fixture(scope="session")
def postgres():
    with a_server() as server:
        yield server


class Clock(LoopClock):
    """A clock whose date a test may put forward."""

    ahead = 0.0

    def now(self):
        return super().now() + timedelta(seconds=self.ahead)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
async def queue(store, tmp_path, clock):
    changed = []
    queue = DurableQueue(store, tmp_path / "runs", clock=clock, on_change=changed.append)
    queue.changed = changed
    await queue.open()
    yield queue
    await queue.close()


@pytest.fixture
def worker(queue):
    return Worker(queue)
