"""Queues over each kind of store, in virtual time."""

from __future__ import annotations

import pytest
from support.queues import Worker

from requestor_sdk.c2d._queue import DurableQueue
from requestor_sdk.c2d._store.memory import MemoryStore
from requestor_sdk.testing import VirtualTimeLoop


def pytest_asyncio_loop_factories(config, item):
    return {"virtual": VirtualTimeLoop}


@pytest.fixture
async def store(request):
    store = MemoryStore()
    await store.open()
    yield store
    await store.close()


@pytest.fixture
async def queue(store, tmp_path):
    changed = []
    queue = DurableQueue(store, tmp_path / "runs", on_change=changed.append)
    queue.changed = changed
    await queue.open()
    yield queue
    await queue.close()


@pytest.fixture
def worker(queue):
    return Worker(queue)
