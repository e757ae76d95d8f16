"""Compute-to-data jobs in the table, the timeline and the lines of a run."""

from datetime import UTC, datetime, timedelta

import pytest

from requestor_sdk import events as ev
from requestor_sdk.observe.lines import PlainLines
from requestor_sdk.observe.logs import Reader
from requestor_sdk.observe.timeline import Timeline
from requestor_sdk.observe.view import RunView

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def at(seconds):
    return BEGAN + timedelta(seconds=seconds)


def a_story(outcome="succeeded", error=None):
    yield ev.ComputeJobSubmitted(
        at=at(0),
        job_id="j1",
        provider_name="http://127.0.0.1:8030",
        consumer_id="0x1",
        datasets=("did:op:1",),
        algorithm="python code of 8 characters",
    )
    for second, code in enumerate((1, 10, 20, 30, 40, 60), start=1):
        yield ev.ComputeJobStatusChanged(at=at(second), job_id="j1", status=code, text=f"at {code}")
    yield ev.ComputeJobFinished(at=at(9), job_id="j1", outcome=outcome, error=error)


def test_a_job_is_a_row_while_it_lives_and_nothing_that_is_left_open():
    view = RunView()
    seen = []
    for event in a_story():
        view.apply(event)
        row = view.rows["j1"]
        seen.append(row.state)
        assert view.open_ids()["instances"] == ()
    assert seen == [
        *("pending", "pending", "pending", "starting", "starting", "running", "stopping"),
        "terminated",
    ]
    assert (row.provider_name, row.cause, row.finished) == ("127.0.0.1:8030", "", True)


@pytest.mark.parametrize(("outcome", "error"), [("failed", "exit code 3"), ("stopped", None)])
def test_a_job_that_did_not_succeed_shows_why(outcome, error):
    view, timeline = RunView(), Timeline()
    for event in a_story(outcome, error):
        view.apply(event)
        timeline.apply(event)
    assert view.rows["j1"].cause == (error or outcome)
    (mark,) = timeline.lanes["j1"].marks
    assert outcome in mark.text


def test_a_job_is_a_lane_of_its_stages():
    timeline = Timeline.of(a_story())
    lane = timeline.lanes["j1"]
    assert [(span.state, span.begin, span.end) for span in lane.spans] == [
        ("pending", at(0), at(3)),
        ("starting", at(3), at(5)),
        ("running", at(5), at(6)),
        ("stopping", at(6), at(9)),
    ]
    assert "j1" in timeline.to_svg()


def test_a_job_makes_lines_and_a_failure_an_error_of_the_log():
    lines = PlainLines(lambda _: None)
    told = [lines.line(event) for event in a_story("timed_out")]
    assert told[0].startswith("job j1 is at http://127.0.0.1:8030: python code")
    assert told[1] == "job j1: at 1"
    assert told[-1] == "job j1 is over: timed out"
    level, _, ids = Reader().read(list(a_story("failed", "x"))[-1])
    assert (level, ids["job_id"]) == (40, "j1")
