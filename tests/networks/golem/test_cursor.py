"""The cursor: each event once, none lost."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
from networks.golem.fake_daemon import DOWN, FakeDaemon

from requestor_sdk.golem._clock import DaemonClock
from requestor_sdk.golem._cursor import Cursor
from requestor_sdk.model.errors import NetworkUnreachable
from requestor_sdk.networks.golem._scope import Scope


def event(at, name, kind="AgreementTerminatedEvent"):
    return {"eventDate": f"2026-01-01T00:00:{at}Z", "agreementId": name, "eventType": kind}


class Log:
    """Answers like the daemon: what is later than a moment, by the text of the moment."""

    def __init__(self):
        self.daemon = FakeDaemon()
        self.events = []
        self.scope = Scope()
        self.scope.enter("run-1")
        self.cursor = Cursor(self.daemon, "/events", "agreementId", session=self.scope.current)
        self.daemon.on("POLL", "/events", self.since)

    def since(self, call):
        after = call.params["afterTimestamp"]
        return [one for one in self.events if one["eventDate"] > after]

    async def names(self):
        return [one["agreementId"] for one in await self.cursor.next()]


async def test_only_the_events_of_the_run_are_asked_for():
    log = Log()
    log.events.append(event("01", "a"))
    assert await log.names() == ["a"]
    assert log.daemon.calls[0].params["appSessionId"] == "requestor-sdk-run-1"


def test_a_recovery_of_a_run_has_the_session_of_the_run_and_others_have_not():
    names = []
    for run_id in ("r", "r", "other", "", ""):
        scope = Scope()
        scope.enter(run_id)
        names.append(scope.session)
    assert names[0] == names[1]
    assert len(set(names)) == 4


async def test_each_event_comes_once_also_where_several_have_one_moment():
    log = Log()
    log.events += [event("01", "a"), event("01", "b")]
    assert await log.names() == ["a", "b"]
    log.events.append(event("02", "c"))
    assert await log.names() == ["c"]


async def test_an_event_that_was_written_down_late_is_found():
    log = Log()
    log.events.append(event("05.000000002", "a"))
    assert await log.names() == ["a"]
    log.events.insert(0, event("05.000000001", "late"))
    assert await log.names() == ["late"]


async def test_nanoseconds_are_not_rounded_into_an_event_that_comes_again_and_again():
    log = Log()
    log.events.append(event("05.123456789", "a"))
    assert await log.names() == ["a"]
    log.daemon.on("POLL", "/events", log.since, [event("06", "b")])
    assert await log.names() == ["b"]
    assert log.daemon.calls[-1].params["afterTimestamp"] == "2026-01-01T00:00:05.123456789Z"


async def test_waiting_is_long_where_nothing_has_come_for_a_while():
    log = Log()
    log.events.append(event("05", "a"))
    await log.names()
    answers = [[] for _ in range(20)]
    log.daemon.on("POLL", "/events", *answers, [event("06", "b")])
    assert await log.names() == ["b"]
    waits = [one.seconds for one in log.daemon.calls[1:] if one.seconds]
    assert sum(waits[:6]) == pytest.approx(15.75)
    assert set(waits[6:]) == {25.0}


@pytest.mark.parametrize("seconds", [0.1, 1.0, 9.0])
async def test_an_event_that_is_written_down_behind_a_later_one_does_not_wait_for_a_third(seconds):
    log = Log()
    log.events.append(event("05", "a"))
    await log.names()
    loop = asyncio.get_running_loop()
    began = loop.time()
    loop.call_later(seconds, log.events.insert, 0, event("04", "late"))
    assert await log.names() == ["late"]
    assert loop.time() - began < 2 * seconds + 1


async def test_what_was_before_a_cursor_begins_is_never_told():
    log = Log()
    log.events += [event("04", "before"), event("06", "a")]
    since = "2026-01-01T00:00:05Z"
    cursor = Cursor(log.daemon, "/events", "agreementId", since=since)
    assert [one["agreementId"] for one in await cursor.next()] == ["a"]
    loop = asyncio.get_running_loop()
    loop.call_later(30, log.events.append, event("07", "b"))
    assert [one["agreementId"] for one in await cursor.next()] == ["b"]


async def test_a_late_event_is_found_among_more_than_the_daemon_tells_at_one_time():
    log = Log()

    def page(call):
        return log.since(call)[: call.params["maxEvents"]]

    log.daemon.on("POLL", "/events", page)
    log.events += [event(f"05.{number:03}", str(number)) for number in range(350)]
    seen = []
    while len(seen) < 350:
        seen += await log.names()
    assert seen == [str(number) for number in range(350)]
    log.events.insert(340, event("05.3399", "late"))
    assert await log.names() == ["late"]


async def test_an_error_of_the_daemon_costs_no_event():
    log = Log()
    log.events.append(event("01", "a"))
    await log.names()
    log.daemon.on("POLL", "/events", DOWN, log.since)
    with pytest.raises(NetworkUnreachable):
        await log.names()
    log.events.append(event("02", "b"))
    assert await log.names() == ["b"]


@pytest.mark.parametrize(
    "odd",
    [
        {"eventDate": "yesterday", "agreementId": "x"},
        {"agreementId": "x"},
        {"eventDate": "2026-01-01T00:00:09Z"},
        {"eventDate": "2026-01-01T00:00:09Z", "agreementId": ["x"]},
    ],
)
async def test_an_event_that_makes_no_sense_costs_the_others_nothing(odd):
    log = Log()
    log.daemon.on("POLL", "/events", [odd, event("01", "a")])
    assert await log.names() == ["a"]


async def test_what_is_remembered_is_bounded():
    log = Log()
    for minute in range(3):
        for number in range(600):
            at = f"2026-01-01T00:{minute * 10 + number // 60:02}:{number % 60:02}.{number:06}Z"
            log.events.append({**event("00", f"{minute}/{number}"), "eventDate": at})
    await log.names()
    assert len(log.cursor._known) < 600


def at(second, minute=0):
    return datetime(2026, 1, 1, 0, minute, second, tzinfo=UTC)


async def test_an_event_from_a_fast_clock_hides_none_that_come_after_it():
    log = Log()
    log.daemon.time = at(5)
    log.events.append({**event("00", "fast"), "eventDate": "2026-01-01T01:00:00Z"})
    assert await log.names() == ["fast"]
    log.daemon.time = at(30)
    log.events.append(event("29", "a"))
    assert await log.names() == ["a"]
    log.daemon.time = at(50)
    log.events.append(event("50", "b"))
    assert await log.names() == ["b"]


async def test_a_daemon_whose_clock_is_set_back_is_heard_at_once():
    log = Log()
    log.daemon.time = at(30, minute=10)
    log.events.append({**event("00", "before"), "eventDate": "2026-01-01T00:10:30Z"})
    assert await log.names() == ["before"]
    log.daemon.time = at(10)
    log.events.append(event("09", "after"))
    async with asyncio.timeout(5):
        assert await log.names() == ["after"]


async def test_a_reader_that_begins_in_the_daemon_s_future_hears_it_all_the_same():
    log = Log()
    log.daemon.time = at(10)
    cursor = Cursor(log.daemon, "/events", "agreementId", since="2026-01-01T02:00:00Z")
    log.events.append(event("13", "a"))
    async with asyncio.timeout(30):
        assert [one["agreementId"] for one in await cursor.next()] == ["a"]


async def test_what_lies_ahead_and_is_known_does_not_have_the_daemon_asked_without_an_end():
    log = Log()
    log.daemon.time = at(5)
    log.events.append({**event("00", "fast"), "eventDate": "2026-01-01T01:00:00Z"})
    await log.names()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(60):
            await log.names()
    assert len(log.daemon.calls) < 100


async def test_the_clock_of_a_daemon_is_what_its_answers_tell_and_what_has_passed():
    clock = DaemonClock()
    assert clock.now() is None
    clock.hear("Thu, 01 Jan 2026 00:00:10 GMT")
    clock.hear(None)
    await asyncio.sleep(3)
    assert clock.now() == at(13)
    clock.hear("about noon")
    assert clock.now() is None
