"""The rows of a provider's page: what changed is sent, what is gone is told, nothing else."""

from __future__ import annotations

import asyncio
import json

import aiohttp
from observe.test_dashboard import messages, stream_of

from requestor_sdk.observe.dashboard import Dashboard, Latest


def row(name, **values):
    return {"kind": "job", "id": name, **values}


async def read(latest, after=0, most=1000):
    batch = await latest.read(after, most)
    return batch.last, [json.loads(record) for record in batch.records]


async def test_a_reader_gets_all_rows_and_then_those_that_changed():
    latest = Latest()
    latest.show([row("a", n=1), row("b", n=1)])
    after, rows = await read(latest)
    assert rows == [row("a", n=1), row("b", n=1)]
    latest.show([row("a", n=1), row("b", n=2)])
    assert await read(latest, after) == (3, [row("b", n=2)])


async def test_a_row_that_is_no_more_is_told_as_gone_until_it_is_back():
    latest = Latest()
    latest.show([row("a"), row("b")])
    latest.show([row("b")])
    assert (await read(latest, 2))[1] == [row("a", gone=True)]
    latest.show([row("a"), row("b")])
    assert (await read(latest, 3))[1] == [row("a")]
    # Who comes now hears nothing of what was in between.
    assert [one["id"] for one in (await read(latest))[1]] == ["b", "a"]


async def test_what_changed_twice_is_sent_once_and_no_more_than_asked_for():
    latest = Latest()
    for n in range(3):
        latest.show([row("a", n=n), row("b"), row("c")])
    after, rows = await read(latest, most=2)
    assert [one["id"] for one in rows] == ["b", "c"]
    assert (await read(latest, after))[1] == [row("a", n=2)]


async def test_a_reader_waits_for_a_change_and_not_for_a_look_that_found_none():
    latest = Latest()
    latest.show([row("a")])
    waiting = asyncio.create_task(read(latest, 1))
    latest.show([row("a")])
    for _ in range(5):
        await asyncio.sleep(0)
    assert not waiting.done()
    latest.show([row("a", n=1)])
    assert await waiting == (2, [row("a", n=1)])


async def test_a_reader_ends_once_it_is_closed_and_read():
    latest = Latest()
    latest.show([row("a")])
    latest.close()
    assert (await read(latest))[1] == [row("a")]
    assert (await read(latest, 1))[1] == []


async def test_what_is_gone_is_forgotten_at_last_and_ends_no_reader(monkeypatch):
    monkeypatch.setattr("requestor_sdk.observe.dashboard._latest._PARTED", 2)
    latest = Latest()
    latest.show([row(str(n)) for n in range(5)])
    latest.show([])
    after, rows = await read(latest)
    assert len(rows) == 2
    waiting = asyncio.create_task(read(latest, after))
    await asyncio.sleep(0)
    latest.show([row("new")])
    assert (await waiting)[1] == [row("new")]


async def test_a_page_that_comes_back_is_sent_all_of_it_anew():
    latest = Latest()
    latest.show([row("a")])
    async with Dashboard(latest) as dashboard, aiohttp.ClientSession() as http:
        async with http.get(dashboard.url) as response:
            assert 'data-subject="provider"' in await response.text()
        headers = {"Last-Event-ID": "1"}
        async with http.get(stream_of(dashboard), headers=headers) as response:
            hello, first = await messages(response, most=2)
    assert hello[2]["live"] is True
    assert first[2] == [row("a")]
