"""What a provider's page is told: what is seen, what cannot be, and how the queue went."""

from __future__ import annotations

import asyncio
import json

import pytest

from requestor_sdk.c2d._sight import QueueSight, Sight, WorkerSight
from requestor_sdk.client._provider_board import ProviderBoard
from requestor_sdk.errors import StoreFailed
from requestor_sdk.observe.dashboard import Latest
from requestor_sdk.testing import VirtualTimeLoop


def pytest_asyncio_loop_factories(config, item):
    return {"virtual": VirtualTimeLoop}


class Lookout:
    """Sees what it is told, or fails."""

    def __init__(self):
        self.looks = 0
        self.sees = a_sight()

    async def look(self, now):
        self.looks += 1
        if isinstance(self.sees, Exception):
            raise self.sees
        return self.sees


def a_sight(**counts):
    workers = (WorkerSight(id="w1", created=1.0, seen=2.0),)
    return Sight(queue=QueueSight(**counts), jobs=(), workers=workers)


@pytest.fixture
def lookout():
    return Lookout()


@pytest.fixture
def latest():
    return Latest()


@pytest.fixture
def board(lookout, latest):
    return ProviderBoard(lookout, latest, name="here", lost_sec=30.0, is_served=lambda: True)


async def rows(latest, kind):
    batch = await latest.read(0)
    found = [json.loads(record) for record in batch.records]
    return [row for row in found if row["kind"] == kind and not row.get("gone")]


async def test_the_page_is_told_of_the_provider_its_queue_and_its_workers(board, latest):
    await board.look()
    assert await rows(latest, "provider") == [
        {
            "kind": "provider",
            "id": "",
            "name": "here",
            "served": True,
            "lost_sec": 30.0,
            "trouble": "",
        }
    ]
    assert [row["id"] for row in await rows(latest, "worker")] == ["w1"]
    assert (await rows(latest, "queue"))[0]["waiting"] == 0


async def test_a_store_that_does_not_answer_is_told_with_what_was_seen_before(
    board, lookout, latest
):
    await board.look()
    lookout.sees = StoreFailed("the store failed: away")
    await board.look()
    assert (await rows(latest, "provider"))[0]["trouble"] == "the store failed: away"
    assert await rows(latest, "worker")
    lookout.sees = a_sight()
    await board.look()
    assert (await rows(latest, "provider"))[0]["trouble"] == ""


async def test_a_store_that_never_answered_shows_its_trouble_alone(board, lookout, latest):
    lookout.sees = StoreFailed("away")
    await board.look()
    assert await rows(latest, "worker") == []
    assert (await rows(latest, "provider"))[0]["trouble"] == "away"


async def test_how_many_wait_and_run_is_noted_where_it_changes(board, lookout, latest):
    for counts in ({}, {"waiting": 1}, {"waiting": 1}, {"running": 1}):
        lookout.sees = a_sight(**counts)
        await board.look()
    told = [(row["waiting"], row["running"]) for row in await rows(latest, "sample")]
    assert told == [(0, 0), (1, 0), (0, 1)]


async def test_it_looks_once_a_second_until_it_is_ended(board, lookout):
    following = asyncio.create_task(board.follow())
    await asyncio.sleep(5.5)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    assert lookout.looks in {5, 6}
