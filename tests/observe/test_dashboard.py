"""The dashboard's server: who may look, what is sent, and how it ends."""

from __future__ import annotations

import asyncio
import json
import re
import time

import aiohttp
import pytest

from requestor_sdk.errors import NotAvailable
from requestor_sdk.observe.dashboard import Dashboard, Feed, _server
from requestor_sdk.observe.dashboard._server import page


@pytest.fixture
async def http():
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
def feed(story):
    story.lose_and_restart()
    feed = Feed()
    for event in story.events:
        feed.append(event)
    return feed


async def messages(response, most=100):
    """Return the messages of a stream as (event, id, data), up to its end or as many."""
    found, fields = [], {}
    async for line in response.content:
        text = line.decode().rstrip("\n")
        if text:
            name, _, value = text.partition(": ")
            fields[name] = value
        elif "data" in fields:
            found.append((fields.get("event", ""), fields.get("id"), json.loads(fields["data"])))
            fields = {}
            if len(found) == most:
                break
    return found


def stream_of(dashboard):
    return dashboard.url.replace("/?", "/events?")


# Who may look -------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/events"])
@pytest.mark.parametrize("query", ["", "?token=", "?token=wrong", "?token=%F0%9F%92%A9", "?x=1"])
async def test_without_the_token_nothing_is_shown(http, feed, path, query):
    async with Dashboard(feed) as dashboard:
        base = dashboard.url.partition("/?")[0]
        async with http.get(f"{base}{path}{query}") as response:
            assert response.status == 403
            assert dashboard.token not in await response.text()


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example"])
async def test_a_name_that_was_made_to_point_here_is_refused(http, feed, host):
    async with (
        Dashboard(feed) as dashboard,
        http.get(dashboard.url, headers={"Host": host}) as response,
    ):
        assert response.status == 403


@pytest.mark.parametrize(
    "host", ["localhost:1234", "127.0.0.1:1", "[::1]:80", "[::1]", "LOCALHOST"]
)
async def test_a_forwarded_port_is_no_hindrance(http, feed, host):
    async with (
        Dashboard(feed) as dashboard,
        http.get(dashboard.url, headers={"Host": host}) as response,
    ):
        assert response.status == 200


async def test_it_listens_on_the_loopback_interface_only(feed):
    async with Dashboard(feed) as dashboard:
        assert {address[0] for address in dashboard._runner.addresses} == {"127.0.0.1"}


async def test_the_page_may_load_and_reach_nothing_but_its_own_events(http, feed):
    async with Dashboard(feed) as dashboard, http.get(dashboard.url) as response:
        policy = response.headers["Content-Security-Policy"]
        text = await response.text()
    assert policy.startswith("default-src 'none'; script-src 'nonce-")
    assert "connect-src 'self'" in policy
    nonce = re.search(r"script-src 'nonce-([\w-]+)'", policy)[1]
    assert text.count(f'nonce="{nonce}"') == 2
    assert response.headers["Referrer-Policy"] == "no-referrer"


def test_the_page_is_whole_and_names_no_other_place():
    text = page("n", "run")
    assert "{{" not in text
    assert re.findall(r"https?://|src=|@import|url\(", text) == []
    assert "innerHTML" not in text


async def test_no_event_has_the_token(http, feed):
    async with Dashboard(feed) as dashboard:
        assert not any(dashboard.token in text for text in feed._texts)


# What is sent -------------------------------------------------------------------------------------


async def test_a_run_that_is_over_is_sent_whole_and_ends(http, feed, story):
    feed.close()
    async with Dashboard(feed, live=False) as dashboard, http.get(stream_of(dashboard)) as response:
        assert response.headers["Content-Type"] == "text/event-stream"
        (hello, batch, end) = await messages(response)
    assert hello[0] == "hello"
    assert hello[2]["live"] is False
    assert [record["kind"] for record in batch[2]] == [event.kind for event in story.events]
    assert batch[1] == str(len(story.events))
    assert end[0] == "end"


async def test_what_happens_while_it_is_looked_at_is_sent(http, feed, story):
    async with Dashboard(feed) as dashboard, http.get(stream_of(dashboard)) as response:
        hello, _ = await messages(response, 2)
        assert hello[2]["live"] is True
        feed.append(story.move("running", "stopping", attempt=2))
        [(_, number, [record])] = await messages(response, 1)
    assert number == str(len(story.events))
    assert record["new"] == "stopping"


async def test_a_viewer_that_comes_back_gets_only_what_it_lacks(http, feed, story):
    feed.close()
    last = len(story.events) - 2
    async with (
        Dashboard(feed) as dashboard,
        http.get(stream_of(dashboard), headers={"Last-Event-ID": str(last)}) as response,
    ):
        _, batch, _ = await messages(response)
    assert len(batch[2]) == 2


@pytest.mark.parametrize("number", ["-1", "x", "9" * 40, "²", "1e3"])
async def test_a_number_that_is_none_begins_anew(http, feed, number, story):
    feed.close()
    headers = {"Last-Event-ID": number}
    async with (
        Dashboard(feed) as dashboard,
        http.get(stream_of(dashboard), headers=headers) as response,
    ):
        _, batch, _ = await messages(response)
    assert len(batch[2]) == len(story.events)


async def test_a_number_beyond_all_events_sends_none_again(http, feed):
    feed.close()
    headers = {"Last-Event-ID": "999999"}
    async with (
        Dashboard(feed) as dashboard,
        http.get(stream_of(dashboard), headers=headers) as response,
    ):
        assert [kind for kind, _, _ in await messages(response)] == ["hello", "end"]


async def test_amounts_come_added_up(feed):
    records = (await feed.read(0)).records
    told = [json.loads(text) for text in records]
    sums = [record["$"] for record in told if "$" in record]
    assert sums[0] == {"spent": 0.0, "held": 0.0, "budget": 1.0}
    assert {"spent": 0.1, "held": 0.4, "budget": 1.0, "instance": "i-1", "cost": 0.1} in sums
    assert all("traceback" not in record for record in told)


async def test_a_long_run_keeps_its_last_events_and_says_how_many_are_gone(http, story):
    feed = Feed(kept=10)
    for _ in range(35):
        feed.append(story.move("running", "running"))
    feed.close()
    async with Dashboard(feed) as dashboard, http.get(stream_of(dashboard)) as response:
        found = await messages(response)
    assert [kind for kind, _, _ in found] == ["hello", "skipped", "", "end"]
    assert found[1][2] == 25
    assert [record["n"] for record in found[2][2]] == list(range(26, 36))


async def test_silence_is_broken_by_a_comment_so_that_a_lost_viewer_is_noticed(
    http, feed, monkeypatch
):
    monkeypatch.setattr(_server, "_BEAT_SEC", 0.01)
    async with Dashboard(feed) as dashboard, http.get(stream_of(dashboard)) as response:
        await messages(response, 2)
        for _ in range(5):
            assert await response.content.readline() == b": still here\n"
            assert await response.content.readline() == b"\n"
        assert len(feed._waiting) <= 1
        response.close()
        async with asyncio.timeout(5):
            while dashboard._viewers:
                await asyncio.sleep(0.01)


async def test_there_is_an_end_to_how_many_can_look(http, feed, monkeypatch):
    monkeypatch.setattr(_server, "_VIEWERS", 1)
    async with Dashboard(feed) as dashboard, http.get(stream_of(dashboard)) as first:
        await messages(first, 1)
        async with http.get(stream_of(dashboard)) as second:
            assert second.status == 503


# Begin and end ------------------------------------------------------------------------------------


async def test_a_port_in_use_is_an_error_that_says_so(feed):
    async with Dashboard(feed) as first:
        second = Dashboard(Feed(), port=first._port)
        with pytest.raises(NotAvailable, match=f"port {first._port} is in use") as raised:
            await second.open()
        assert "any that is free" in raised.value.hint


async def test_it_closes_in_time_whoever_looks_and_tells_them_the_end(http, feed):
    dashboard = Dashboard(feed)
    await dashboard.open()
    async with http.get(stream_of(dashboard)) as response:
        await messages(response, 2)
        began = time.monotonic()
        await dashboard.close()
        assert time.monotonic() - began < 5
        assert [kind for kind, _, _ in await messages(response)] == ["end"]
    await dashboard.close()


async def test_a_viewer_who_reads_nothing_holds_up_neither_the_run_nor_the_end(feed, story):
    dashboard = Dashboard(feed)
    await dashboard.open()
    _, writer = await asyncio.open_connection("127.0.0.1", dashboard._port)
    path = stream_of(dashboard).partition("127.0.0.1")[2].partition("/")[2]
    writer.write(f"GET /{path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    await writer.drain()
    for _ in range(20_000):
        feed.append(story.move("running", "running", cause="x" * 200))
    await asyncio.sleep(0.2)
    began = time.monotonic()
    await dashboard.close()
    assert time.monotonic() - began < 15
    writer.close()
