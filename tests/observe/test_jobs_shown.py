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


def a_story(outcome="succeeded", error=None, workers=()):
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
    told = {}
    for attempt, worker in enumerate(workers, 1):
        told = {"worker": worker, "attempt": attempt}
        moment = at(7 + attempt / 10)
        yield ev.ComputeJobStatusChanged(at=moment, job_id="j1", status=60, text="at 60", **told)
    yield ev.ComputeJobFinished(at=at(9), job_id="j1", outcome=outcome, error=error, **told)


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


def test_a_job_tells_of_its_worker_its_attempts_and_its_time_where_they_are_known():
    view, timeline, lines = RunView(), Timeline(), PlainLines(lambda _: None)
    told = []
    for event in a_story(workers=("w1", "w2")):
        view.apply(event)
        timeline.apply(event)
        told.append(lines.line(event))
        if told[-1].endswith("(worker w1)"):
            assert view.rows["j1"].command == "at 60, w1"
    assert view.instances == []
    (row,) = view.jobs
    assert (row.attempt, row.job.worker, row.job.seconds, row.job.size) == (2, "w2", 9.0, None)
    assert row.job.algorithm == "python code of 8 characters"
    (mark,) = timeline.lanes["j1"].marks
    assert (mark.kind, mark.text) == ("restart", "attempt 2, by worker w2")
    assert [span.attempt for span in timeline.lanes["j1"].spans] == [1, 1, 1, 1, 2]
    assert told[-3:-1] == ["job j1: at 60 (worker w1)", "job j1: at 60, attempt 2 (worker w2)"]


def test_a_job_that_is_not_over_has_taken_the_time_until_now():
    view = RunView()
    view.apply(next(a_story()))
    (row,) = view.jobs
    assert row.job.lasted(at(5)) == 5
    assert row.job.lasted(None) is None


def test_what_a_provider_says_of_time_and_size_counts_before_what_was_seen():
    view = RunView()
    view.apply(next(a_story()))
    view.apply(
        ev.ComputeJobFinished(at=at(9), job_id="j1", outcome="succeeded", seconds=2.5, size=7)
    )
    (row,) = view.jobs
    assert (row.job.lasted(at(20)), row.job.size, row.job.why) == (2.5, 7, "")
