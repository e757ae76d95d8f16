"""The activities' port, by a daemon that is scripted; time jumps."""

from __future__ import annotations

import asyncio
import json

import pytest
from networks.golem.fake_daemon import BROKEN, DOWN, UNHEARD, FakeDaemon, refused

from requestor_sdk.model.errors import (
    ActivityError,
    ActivityRefused,
    BadAnswer,
    NetworkError,
    NetworkInterrupted,
    NetworkUnreachable,
    ProviderLost,
)
from requestor_sdk.model.market import ActivityState
from requestor_sdk.model.script import (
    Capture,
    CaptureMode,
    CommandOutput,
    CommandProgress,
    CommandResult,
    CommandStarted,
    Deploy,
    Run,
    Start,
    Transfer,
)
from requestor_sdk.networks.golem._activities import GolemActivities

RUN = Run(argv=("/bin/true",))
STREAMED = Run(argv=("/bin/cat",), stdout=Capture(mode=CaptureMode.stream))
UNKNOWN_BATCH = refused(404, "Not found: batch_id")


class Stage:
    def __init__(self):
        self.daemon = FakeDaemon()
        self.activities = GolemActivities(self.daemon)
        self.events = []
        self.daemon.on("POST", "/activity/x/exec$", "b-1")
        self.daemon.on("GET", "/exec/0+$", UNKNOWN_BATCH)

    async def take(self, event):
        self.events.append(event)

    def results(self, *answers):
        self.daemon.on("POLL", "/activity/x/exec/b-1$", *answers)

    def stream(self, *answers):
        self.daemon.on("STREAM", "/activity/x/exec/b-1$", *answers)

    async def execute(self, *commands):
        await self.activities.execute("x", commands or (RUN,), self.take)

    @property
    def sent(self):
        return len(self.daemon.made("POST", "/exec"))

    @property
    def told(self):
        return [one.index for one in self.events if isinstance(one, CommandResult)]


@pytest.fixture
def stage():
    return Stage()


def done(index, *, ok=True, **fields):
    return {
        "index": index,
        "result": "Ok" if ok else "Error",
        "stdout": None,
        "stderr": None,
        "message": None,
        "isBatchFinished": True,
        "eventDate": "2026-01-01T00:00:00Z",
        **fields,
    }


def spoken(*kinds):
    """Return the bytes of a stream in which these were told, each with its place."""
    return b"".join(
        b"event: runtime\ndata: "
        + json.dumps({"batch_id": "b-1", "index": index, "kind": kind}).encode()
        + b"\n\n"
        for index, kind in kinds
    )


# Making and ending ------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [{"activityId": "x"}, "x"])
async def test_an_activity_is_created(stage, answer):
    stage.daemon.on("POST", "/activity$", answer)
    assert await stage.activities.create("a-1") == "x"
    assert stage.daemon.calls[0].body == {"agreementId": "a-1"}


@pytest.mark.parametrize("odd", [None, {}, [], {"activityId": 7}, ""])
async def test_an_activity_that_gets_no_id_is_a_bad_answer(stage, odd):
    stage.daemon.on("POST", "/activity$", odd)
    with pytest.raises(BadAnswer):
        await stage.activities.create("a-1")


@pytest.mark.parametrize("status", [400, 403, 408, 500])
async def test_a_provider_that_does_not_create_refuses(stage, status):
    stage.daemon.on("POST", "/activity$", refused(status, "busy"))
    with pytest.raises(ActivityRefused, match="busy"):
        await stage.activities.create("a-1")


async def test_a_daemon_that_is_away_at_a_creation_is_no_refusal(stage):
    stage.daemon.on("POST", "/activity$", DOWN, BROKEN)
    with pytest.raises(NetworkUnreachable):
        await stage.activities.create("a-1")
    with pytest.raises(NetworkInterrupted):
        await stage.activities.create("a-1")


async def test_an_activity_is_ended_once_and_again(stage):
    gone = refused(500, "DAO error: Not found: agreement id for activity: x")
    stage.daemon.on("DELETE", "/activity/x$", None, refused(404), gone)
    for _ in range(3):
        await stage.activities.destroy("x")


async def test_a_provider_that_does_not_end_an_activity_is_waited_for_for_a_while(stage):
    stage.daemon.on("DELETE", "/activity/x$", refused(408))
    await stage.activities.destroy("x")
    assert stage.daemon.calls[0].params == {"timeout": 5.0}


async def test_a_daemon_that_is_away_at_an_end_is_told_of(stage):
    stage.daemon.on("DELETE", "/activity/x$", DOWN)
    with pytest.raises(NetworkUnreachable):
        await stage.activities.destroy("x")


# Results ----------------------------------------------------------------------------------------


async def test_a_batch_of_one_command_takes_two_calls(stage):
    stage.results([done(0, stdout="hi")])
    await stage.execute()
    assert stage.events == [CommandResult(index=0, stdout="hi", return_code=0)]
    assert [one.method for one in stage.daemon.calls] == ["POST", "POLL"]
    assert stage.daemon.calls[1].params == {"commandIndex": 0}
    assert json.loads(stage.daemon.calls[0].body["text"])[0]["run"]["entry_point"] == "/bin/true"


async def test_a_quick_batch_of_many_takes_two_calls_as_well(stage):
    stage.results([done(0), done(1), done(2)])
    await stage.execute(Start(), RUN, RUN)
    assert stage.told == [0, 1, 2]
    assert stage.daemon.calls[1].params == {}
    assert len(stage.daemon.calls) == 2


async def test_results_are_told_as_they_come(stage):
    stage.results([], [done(0)], [done(0)], [done(0), done(1)], [done(2)])
    await stage.execute(RUN, RUN, RUN)
    assert stage.told == [0, 1, 2]
    polls = [one.params for one in stage.daemon.made("POLL")]
    assert polls == [{}, {"commandIndex": 0}, {}, {"commandIndex": 1}, {"commandIndex": 2}]


async def test_a_failed_command_ends_the_batch(stage):
    stage.results([done(0, ok=False, message="exited with status 3")])
    await stage.execute(RUN, RUN)
    assert stage.events == [
        CommandResult(index=0, success=False, message="exited with status 3", return_code=3)
    ]


async def test_a_batch_outlives_the_daemon_and_is_never_sent_again(stage):
    stage.results(BROKEN, DOWN, DOWN, DOWN, UNHEARD, UNHEARD, [done(0)])
    stage.daemon.on("GET", "/exec/0+$", DOWN, UNHEARD, UNHEARD, UNKNOWN_BATCH)
    await asyncio.wait_for(stage.execute(), 60)
    assert stage.told == [0]
    assert stage.sent == 1


async def test_an_exe_unit_that_is_gone_ends_the_batch_soon(stage):
    stage.results(UNHEARD)
    stage.daemon.on("GET", "/exec/0+$", UNHEARD)
    began = asyncio.get_running_loop().time()
    with pytest.raises(ProviderLost):
        await stage.execute()
    assert asyncio.get_running_loop().time() - began < 3


async def test_an_exe_unit_that_does_not_come_back_after_the_daemon_is_gone_in_the_end(stage):
    stage.results(DOWN, UNHEARD)
    stage.daemon.on("GET", "/exec/0+$", UNHEARD)
    began = asyncio.get_running_loop().time()
    with pytest.raises(ProviderLost):
        await stage.execute()
    assert 15 < asyncio.get_running_loop().time() - began < 40


async def test_a_batch_that_the_provider_forgot_is_lost(stage):
    stage.results(UNKNOWN_BATCH)
    with pytest.raises(ProviderLost):
        await stage.execute()


async def test_a_provider_that_only_errs_is_given_up_after_a_while(stage):
    stage.results(refused(500, "Service error: no idea"))
    with pytest.raises(NetworkError, match="no idea"):
        await asyncio.wait_for(stage.execute(), 120)
    assert len(stage.daemon.made("POLL")) < 60, "that is a spin"


async def test_a_provider_that_answers_at_once_with_nothing_is_not_asked_in_a_spin(stage):
    asked = []

    def nothing(call):
        asked.append(call)
        return [done(7)] if len(asked) < 50 else [done(0)]

    stage.results(nothing)
    began = asyncio.get_running_loop().time()
    await stage.execute()
    assert asyncio.get_running_loop().time() - began > 20


@pytest.mark.parametrize("odd", [{}, {"index": "0"}, {"index": True}, {"index": None}])
async def test_a_result_without_a_place_is_a_bad_answer(stage, odd):
    stage.results([odd])
    with pytest.raises(BadAnswer):
        await stage.execute()


async def test_a_batch_that_was_not_sent_is_unreachable_and_one_that_may_have_been_is_not(stage):
    stage.daemon.on("POST", "/exec$", DOWN)
    with pytest.raises(NetworkUnreachable):
        await stage.execute()
    stage.daemon.on("POST", "/exec$", BROKEN)
    with pytest.raises(NetworkInterrupted):
        await stage.execute()


async def test_a_batch_to_an_exe_unit_that_is_gone_is_lost(stage):
    for error in (UNHEARD, refused(404), refused(500, "Not found: agreement id for activity: x")):
        stage.daemon.on("POST", "/exec$", error)
        with pytest.raises(ProviderLost):
            await stage.execute()


async def test_a_batch_that_is_refused_is_no_loss(stage):
    stage.daemon.on("POST", "/exec$", refused(400, "Manifest violation"))
    with pytest.raises(ActivityError, match="Manifest violation") as caught:
        await stage.execute()
    assert not isinstance(caught.value, ProviderLost)


async def test_after_the_daemon_was_away_a_batch_waits_for_the_exe_unit(stage):
    stage.daemon.on("POST", "/exec$", DOWN, "b-1")
    with pytest.raises(NetworkUnreachable):
        await stage.execute()
    stage.daemon.on("GET", "/exec/0+$", UNHEARD, UNHEARD, UNHEARD, UNKNOWN_BATCH)
    stage.results([done(0)])
    await stage.execute()
    assert stage.told == [0]
    stage.daemon.on("GET", "/exec/0+$", BROKEN)
    with pytest.raises(NetworkUnreachable):  # nothing was sent: it may be sent again
        await stage.execute()


async def test_a_batch_that_is_given_up_leaves_nothing_running(stage):
    stage.results([])
    stage.stream([1000.0])
    executing = asyncio.create_task(stage.execute(Transfer(source="a", target="b"), STREAMED))
    await asyncio.sleep(5)
    executing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await executing
    assert asyncio.all_tasks() == {asyncio.current_task()}


# Streams ----------------------------------------------------------------------------------------


def slowly(found, after=3.0):
    """Answer with nothing until this much time has passed."""

    began = []

    def answer(_call):
        now = asyncio.get_running_loop().time()
        began.append(now)
        return found if now - began[0] >= after else []

    return answer


async def test_output_that_is_streamed_comes_before_its_result(stage):
    stage.stream(
        [
            spoken((0, {"started": {}}), (0, {"stdout": [104]})),
            1.0,
            spoken((0, {"stdout": [105]}), (0, {"finished": {"return_code": 0}})),
        ]
    )
    stage.results([done(0, stdout="hi")])
    await stage.execute(STREAMED)
    assert stage.events == [
        CommandStarted(index=0),
        CommandOutput(index=0, stream="stdout", data=b"h"),
        CommandOutput(index=0, stream="stdout", data=b"i"),
        CommandResult(index=0, return_code=0),
    ]


async def test_output_of_a_provider_that_does_not_stream_comes_with_the_result(stage):
    for broken in (refused(501), refused(400), BROKEN, [b"data: rubbish\n\n"], []):
        stage.events.clear()
        stage.stream(broken)
        stage.results([done(0, stdout=[0, 255])])
        await stage.execute(STREAMED)
        assert stage.events == [
            CommandOutput(index=0, stream="stdout", data=b"\x00\xff"),
            CommandResult(index=0, return_code=0),
        ]


async def test_what_a_broken_stream_did_not_tell_comes_with_the_result(stage):
    stage.stream([spoken((0, {"stdout": "ab"})), 0.5, BROKEN])
    stage.results([], [done(0, stdout="abcd")])
    await stage.execute(STREAMED)
    outputs = [one.data for one in stage.events if isinstance(one, CommandOutput)]
    assert outputs == [b"ab", b"cd"]


async def test_a_stream_that_hangs_holds_a_result_up_for_a_moment_only(stage):
    stage.stream([spoken((0, {"stdout": "ab"})), 1000.0])
    stage.results([done(0, stdout="abcd")])
    await asyncio.wait_for(stage.execute(STREAMED), 10)
    outputs = [one.data for one in stage.events if isinstance(one, CommandOutput)]
    assert b"".join(outputs) == b"abcd"


async def test_progress_is_listened_for_where_a_transfer_takes_its_time(stage):
    stage.stream([spoken((0, {"progress": {"progress": [5, 10]}})), 1000.0])
    stage.results(slowly([done(0)]))
    await stage.execute(Transfer(source="gftp:x", target="container:/x"))
    assert CommandProgress(index=0, done=5, total=10) in stage.events


async def test_a_quick_deployment_is_not_listened_to(stage):
    stage.results([done(0), done(1)])
    await stage.execute(Deploy(), Start())
    assert not stage.daemon.made("STREAM")


async def test_an_error_of_whoever_takes_the_events_ends_the_batch_as_it_is(stage):
    stage.stream([spoken((0, {"stdout": "ab"})), 1000.0])
    stage.results([])

    async def take(event):
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        await stage.activities.execute("x", [STREAMED], take)


# States -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "state"),
    [
        (["Ready", None], ActivityState.ready),
        (["New", None], ActivityState.new),
        (["Terminated", None], ActivityState.terminated),
        (["Ready", "Terminated"], ActivityState.terminated),
        (["Unresponsive", None], ActivityState.unresponsive),
    ],
)
async def test_a_state_is_read(stage, told, state):
    stage.daemon.on("GET", "/activity/x/state", {"state": told})
    assert await stage.activities.state("x") is state


@pytest.mark.parametrize("odd", [None, {}, {"state": []}, {"state": "Ready"}, {"state": [7]}])
async def test_a_state_that_is_none_is_a_bad_answer(stage, odd):
    stage.daemon.on("GET", "/activity/x/state", odd)
    with pytest.raises(BadAnswer):
        await stage.activities.state("x")


async def test_an_activity_whose_exe_unit_is_gone_is_dead_whatever_the_daemon_says(stage):
    stage.daemon.on("GET", "/activity/x/state", {"state": ["Ready", None]})
    stage.daemon.on("GET", "/exec/0+$", UNHEARD)
    stage.daemon.on("DELETE", "/activity/x$", refused(408))
    assert await stage.activities.state("x") is ActivityState.terminated
    await stage.activities.destroy("x")
    assert stage.daemon.calls[-1].params == {"timeout": 0.1}, "nobody is there to be waited for"


async def test_an_exe_unit_that_misses_once_is_not_dead(stage):
    stage.daemon.on("GET", "/activity/x/state", {"state": ["Ready", None]})
    stage.daemon.on("GET", "/exec/0+$", UNHEARD, UNKNOWN_BATCH)
    assert await stage.activities.state("x") is ActivityState.ready


async def test_a_silent_exe_unit_is_not_dead(stage):
    stage.daemon.on("GET", "/activity/x/state", {"state": ["Unresponsive", None]})
    for answer in (UNKNOWN_BATCH, refused(408), refused(500, "Service error: no idea"), []):
        stage.daemon.on("GET", "/exec/0+$", answer)
        assert await stage.activities.state("x") is ActivityState.unresponsive


async def test_silence_is_no_answer_that_saves_a_question(stage):
    stage.daemon.on("GET", "/activity/x/state", {"state": ["Ready", None]})
    stage.daemon.on("GET", "/exec/0+$", refused(408))
    for asked in (1, 2):
        await stage.activities.state("x")
        assert len(stage.daemon.made("GET", "/state")) == asked


async def test_after_the_daemon_was_away_an_exe_unit_has_time_to_come_back(stage):
    stage.daemon.on("GET", "/activity/x/state", DOWN, {"state": ["Ready", None]})
    stage.daemon.on("GET", "/exec/0+$", UNHEARD)
    with pytest.raises(NetworkUnreachable):
        await stage.activities.state("x")
    assert await stage.activities.state("x") is ActivityState.unresponsive
    await asyncio.sleep(21)
    assert await stage.activities.state("x") is ActivityState.terminated


async def test_one_that_the_daemon_does_not_know_is_dead(stage):
    unknown = refused(500, "DAO error: Not found: agreement id for activity: x")
    stage.daemon.on("GET", "/activity/x/state", unknown, refused(404))
    for _ in range(2):
        assert await stage.activities.state("x") is ActivityState.terminated


async def test_who_has_just_answered_is_not_asked(stage):
    stage.daemon.on("GET", "/activity/x/state", {"state": ["Ready", None]})
    stage.results([done(0)])
    await stage.activities.state("x")
    await stage.execute()
    before = len(stage.daemon.calls)
    assert await stage.activities.state("x") is ActivityState.ready
    assert len(stage.daemon.calls) == before
    await asyncio.sleep(2)
    await stage.activities.state("x")
    assert len(stage.daemon.calls) > before


async def test_no_events_of_activities_come_and_waiting_for_them_ends_when_it_is_cancelled(stage):
    waiting = asyncio.create_task(stage.activities.activity_events())
    await asyncio.sleep(100)
    assert not waiting.done()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
