"""A run as lanes over time, and what it is drawn as."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from datetime import timedelta
from decimal import Decimal

import pytest
from observe.conftest import START

from requestor_sdk.model import events as ev
from requestor_sdk.model.errors import JournalUnwritable, UsageError
from requestor_sdk.observe._scale import Scale, elapsed, nice_top
from requestor_sdk.observe.timeline import Timeline

SVG = "{http://www.w3.org/2000/svg}"


def after(seconds):
    return START + timedelta(seconds=seconds)


def drawn(timeline):
    return ET.fromstring(timeline.to_svg())


def of_class(root, name):
    return [one for one in root.iter() if one.get("class") == name]


def tips(root, name):
    return [one.findtext(f"{SVG}title") for one in of_class(root, name)]


@pytest.fixture
def lost(story):
    story.lose_and_restart()
    return story


def test_an_instance_is_a_lane_whose_spans_are_its_states(lost):
    [lane] = Timeline.of(lost.events).lanes.values()
    assert lane.instance_id == "i-1"
    assert lane.cluster_id == "c-1"
    assert [(s.state, s.attempt, s.provider) for s in lane.spans] == [
        ("pending", 1, ""),
        ("starting", 1, "alpha"),
        ("running", 1, "alpha"),
        ("pending", 2, ""),
        ("starting", 2, "beta"),
        ("running", 2, "beta"),
    ]
    assert all(one.end == then.begin for one, then in zip(lane.spans, lane.spans[1:], strict=False))
    assert lane.spans[-1].end is None


def test_the_end_of_an_instance_ends_its_last_span_and_begins_none(lost):
    ended = lost.move("running", "terminated", attempt=2)
    [lane] = Timeline.of(lost.events).lanes.values()
    assert lane.spans[-1].state == "running"
    assert lane.spans[-1].end == ended.at


def test_lanes_stand_by_the_numbers_of_their_instances(story):
    for name in ("i-10", "i-9", "job-b", "i-2", "job-a"):
        story.move("pending", "starting", instance=name)
    timeline = Timeline.of(story.events)
    order = ["job-b", "job-a", "i-2", "i-9", "i-10"]
    assert [lane.instance_id for lane in timeline.ordered] == order
    shown = [one.text for one in drawn(timeline).iter(f"{SVG}text") if one.text in order]
    assert shown == order


def test_an_instance_that_is_lost_is_marked_with_its_cause(lost):
    [lane] = Timeline.of(lost.events).lanes.values()
    assert [(mark.kind, mark.text) for mark in lane.marks] == [("failure", "lost: killed")]


def test_a_failure_that_was_told_is_marked_once_and_the_restart_too(story):
    story.agree("a-1")
    story.move("pending", "starting")
    values = {"instance_id": "i-1", "cluster_id": "c-1", "attempt": 1}
    story.tell(ev.ServiceFailed, **values, error="ValueError: no\nmore")
    story.now -= timedelta(seconds=1)
    story.move("starting", "pending", attempt=2, cause="ValueError: no")
    story.tell(ev.ServiceRestarting, instance_id="i-1", attempt=2, after_sec=1.5)
    [lane] = Timeline.of(story.events).lanes.values()
    assert [(mark.kind, mark.text) for mark in lane.marks] == [
        ("failure", "attempt 1 failed: ValueError: no"),
        ("restart", "attempt 2 follows in 1.5 s"),
    ]


def test_batches_last_from_their_sending_to_their_end_and_tell_what_failed(story):
    story.agree("a-1")
    ids = {"instance_id": "i-1", "activity_id": "act"}
    sent = story.tell(ev.ScriptSent, **ids, script_id="s-1", commands=("run x",))
    over = story.tell(ev.ScriptFinished, **ids, script_id="s-1", error="exit 1")
    story.tell(ev.ScriptSent, **ids, script_id="s-2", commands=("run y",))
    timeline = Timeline.of(story.events)
    first, second = timeline.lanes["i-1"].batches
    assert (first.begin, first.end, first.error) == (sent.at, over.at, "exit 1")
    assert second.end is None
    root = drawn(timeline)
    assert [tip.split("\n")[0] for tip in tips(root, "bad")] == ["run x"]
    assert "run y\n" in tips(root, "batch")[-1]


def test_the_cost_is_a_step_each_time_something_is_accepted(lost):
    lost.invoice("a-2", "0.15")
    timeline = Timeline.of(lost.events)
    assert [point.amount for point in timeline.spent] == [Decimal("0.1"), Decimal("0.25")]
    assert timeline.total == timeline.lanes["i-1"].cost == Decimal("0.25")
    assert timeline.budget == 1


def test_the_budget_is_drawn_where_the_cost_comes_near_it_and_told_anyway(lost):
    far = drawn(Timeline.of(lost.events))
    assert not of_class(far, "budget")
    assert "budget 1" in [one.text for one in far.iter(f"{SVG}text")]
    lost.invoice("a-2", "0.5")
    assert of_class(drawn(Timeline.of(lost.events)), "budget")


def test_the_time_between_a_crash_and_a_recovery_is_a_gap_and_takes_no_room(lost):
    lost.now += timedelta(hours=20)
    lost.tell(ev.ComputationRecovered, run_id="r-1", network="local", budget=Decimal(1))
    values = {"agreement_id": "a-2", "activity_id": "act-a-2", "attempt": 2}
    lost.tell(ev.ServiceTakenUp, instance_id="i-1", cluster_id="c-1", **values)
    lost.move("running", "terminated", attempt=2)
    timeline = Timeline.of(lost.events)
    [(begin, end)] = timeline.gaps
    assert end - begin == timedelta(hours=20, seconds=1)
    spans = timeline.lanes["i-1"].spans
    assert [(s.state, s.end) for s in spans[-2:]] == [
        ("running", begin),
        ("running", lost.events[-1].at),
    ]
    root = drawn(timeline)
    assert tips(root, "gap") == ["nothing lived here for 20 h 00 min"]
    last = of_class(root, "running")[-1]
    assert float(last.get("width")) > 20


def test_a_batch_of_a_process_that_died_ends_with_it(story):
    story.agree("a-1")
    ids = {"instance_id": "i-1", "activity_id": "act", "script_id": "s-1"}
    sent = story.tell(ev.ScriptSent, **ids, commands=("run x",))
    story.now += timedelta(hours=1)
    story.tell(ev.ComputationRecovered, run_id="r-1", network="local")
    [bar] = Timeline.of(story.events).lanes["i-1"].batches
    assert (bar.end, bar.error) == (sent.at, "its process died")


def test_clusters_have_headings_where_there_are_several(story):
    for number in (1, 2):
        story.tell(ev.ClusterStarted, cluster_id=f"c-{number}", service="Web", expiration=START)
        story.move("pending", "starting", instance=f"i-{number}", cluster_id=f"c-{number}")
    root = drawn(Timeline.of(story.events))
    assert [one.text for one in of_class(root, "bold")] == [
        "c-1, Web, 1 instance",
        "c-2, Web, 1 instance",
        "cost",
    ]


def test_what_divides_the_run_is_a_line_and_what_holds_it_up_a_tick(story):
    story.begin()
    for _ in range(50):
        story.tell(ev.NoOffersYet, cluster_id="c-1", offers=0)
        story.now -= timedelta(seconds=0.99)
    story.now += timedelta(hours=1)
    story.tell(ev.ShutdownStarted, run_id="r-1")
    root = drawn(Timeline.of(story.events))
    assert tips(root, "hint")[0] == "the market has no offers yet\nafter 1.0 s"
    assert len(tips(root, "hint")) == 1  # so many at one place are one
    assert tips(root, "note") == ["leaving begins\nafter 1 h 00 min"]


def test_a_run_of_which_nothing_is_known_is_drawn_as_that():
    assert "nothing has happened yet" in Timeline().to_svg()
    assert json.loads(Timeline().to_json())["traceEvents"] == []
    assert "</html>" in Timeline().to_html()


def test_one_event_alone_is_a_drawing(story):
    story.begin()
    assert drawn(Timeline.of(story.events)).get("aria-label") == "Timeline of run r-1"


def test_what_providers_and_programs_say_cannot_break_out_of_the_drawing(story):
    story.begin()
    story.agree("a-1")
    bad = "</title><script>alert(1)</script>\x00\x1b\ud800\ufffe\"'&"
    story.tell(
        ev.ServiceStateChanged,
        instance_id=bad,
        cluster_id=bad,
        old="pending",
        new="starting",
        stimulus="x",
        attempt=1,
        provider_name=bad,
        cause=bad,
    )
    story.tell(ev.ServiceFailed, instance_id=bad, cluster_id=bad, attempt=1, error=bad)
    ids = {"instance_id": bad, "activity_id": "x", "script_id": "s"}
    story.tell(ev.ScriptSent, **ids, commands=(bad,))
    story.tell(ev.ComputationFinished, run_id=bad, spent=Decimal(0), error=bad)
    timeline = Timeline.of(story.events)
    for text in (timeline.to_svg(), timeline.to_html()):
        assert "<script" not in text
        text.encode()
    drawn(timeline)
    json.loads(timeline.to_json())


def test_the_page_loads_nothing(lost):
    page = Timeline.of(lost.events).to_html()
    assert "<script" not in page
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")
    assert "url(" not in page.replace("url(#rsk-gap)", "")


def test_the_page_has_a_table_of_instances_and_one_of_what_happened(lost):
    page = Timeline.of(lost.events).to_html()
    assert "<td>i-1</td><td>c-1</td><td>alpha, beta</td>" in page
    assert '<td class="bad">lost: killed</td>' in page


def test_a_notebook_gets_the_drawing(lost):
    timeline = Timeline.of(lost.events)
    assert timeline._repr_html_() == timeline.to_svg()


def test_many_batches_are_one_shape_a_lane(story):
    story.agree("a-1")
    for number in range(2100):
        ids = {"instance_id": "i-1", "activity_id": "act", "script_id": f"s-{number}"}
        story.tell(ev.ScriptSent, **ids, commands=("run x",))
        story.tell(ev.ScriptFinished, **ids)
    assert len(of_class(drawn(Timeline.of(story.events)), "batch")) > 2000
    for number in range(2100):
        ids = {"instance_id": "i-1", "activity_id": "act", "script_id": f"t-{number}"}
        story.tell(ev.ScriptSent, **ids, commands=("run x",))
    assert len(of_class(drawn(Timeline.of(story.events)), "batch")) == 2  # and the legend's


# The trace ----------------------------------------------------------------------------------------


@pytest.fixture
def trace(lost):
    ids = {"instance_id": "i-1", "activity_id": "act", "script_id": "s-1"}
    lost.tell(ev.ScriptSent, **ids, commands=("run x", "run y"))
    lost.tell(ev.ScriptFinished, **ids, error="exit 1")
    return json.loads(Timeline.of(lost.events).to_json())["traceEvents"]


def test_each_event_of_the_trace_has_what_the_format_demands(trace):
    demanded = {"X": {"ts", "dur"}, "i": {"ts", "s"}, "C": {"ts", "args"}, "M": {"args"}}
    for event in trace:
        assert {"ph", "name", "pid"} | demanded[event["ph"]] <= set(event)
        assert all(isinstance(event[key], int) for key in ("ts", "dur", "pid") if key in event)


def test_the_trace_has_a_thread_an_instance_and_one_for_its_batches(trace):
    names = [e["args"]["name"] for e in trace if e["name"] == "thread_name"]
    assert names == ["run", "i-1", "i-1 batches"]


def test_no_thread_of_the_trace_is_taken_for_the_main_one_of_a_process(trace):
    # Perfetto takes that whose number is the process's for it, and one number for one thread.
    threads = [(e["pid"], e["tid"]) for e in trace if e["name"] == "thread_name"]
    assert not {pid for pid, _ in threads} & {tid for _, tid in threads}
    assert len({tid for _, tid in threads}) == len(threads)


def test_what_concerns_the_run_is_a_track_of_its_own_in_the_trace(lost):
    lost.tell(ev.ComputationFinished, run_id="r-1", spent=Decimal(0))
    trace = json.loads(Timeline.of(lost.events).to_json())["traceEvents"]
    [over] = [e for e in trace if e["name"] == "the run is over"]
    [run] = [e for e in trace if e["name"] == "thread_name" and e["args"] == {"name": "run"}]
    assert (over["pid"], over["tid"], over["s"]) == (run["pid"], run["tid"], "t")


def test_states_and_batches_of_the_trace_have_their_times_in_microseconds(trace):
    running = [e for e in trace if e["name"] == "running"]
    assert [(e["ts"], e["dur"]) for e in running] == [
        (5 * 10**6, 2 * 10**6),
        (14 * 10**6, 2 * 10**6),
    ]
    [batch] = [e for e in trace if e.get("cat") == "batch"]
    assert batch["name"] == "run x (failed)"
    assert batch["dur"] == 1_000_000
    assert batch["args"] == {"commands": ["run x", "run y"], "error": "exit 1"}


def test_nothing_of_one_track_overlaps(trace):
    # Perfetto leaves out what crosses the end of another on its track.
    tracks = {}
    for event in trace:
        if event["ph"] == "X":
            tracks.setdefault((event["pid"], event["tid"]), []).append(event)
    assert len(tracks) == 2
    for events in tracks.values():
        ends = [event["ts"] + event["dur"] for event in events]
        assert all(end <= then["ts"] for end, then in zip(ends, events[1:], strict=False))


def test_the_trace_counts_the_cost(trace):
    assert [e["args"]["spent"] for e in trace if e["ph"] == "C"] == [0.0, 0.1]


# Files --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "begins"), [("a.svg", "<svg"), ("a.HTML", "<!d"), ("a.json", "{")]
)
def test_the_end_of_the_name_says_what_is_written(lost, tmp_path, name, begins):
    path = Timeline.of(lost.events).save(tmp_path / name)
    assert path.read_text().startswith(begins)


def test_another_end_of_the_name_is_refused(lost, tmp_path):
    with pytest.raises(UsageError, match=r"the name 'a\.png' does not say"):
        Timeline.of(lost.events).save(tmp_path / "a.png")


def test_a_file_that_cannot_be_written_is_an_error_that_says_why(lost, tmp_path):
    with pytest.raises(JournalUnwritable, match="No such file"):
        Timeline.of(lost.events).save(tmp_path / "none" / "a.svg")


def test_a_file_that_the_disk_has_no_room_for_does_not_stay_as_half_a_drawing(lost, tmp_path):
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))  # as a full disk answers
    try:
        with pytest.raises(JournalUnwritable, match=r"a\.svg cannot be written: File too large"):
            Timeline.of(lost.events).save(tmp_path / "a.svg")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


# The scale ----------------------------------------------------------------------------------------


def test_moments_outside_lie_at_the_edges():
    scale = Scale(after(0), after(10), [], left=100, right=200)
    assert [scale.x(after(t)) for t in (-5, 0, 5, 10, 15)] == [100, 100, 150, 200, 200]


def test_a_gap_takes_a_fixed_room_and_moments_in_it_lie_at_its_beginning():
    scale = Scale(after(0), after(1010), [(after(5), after(1005))], left=0, right=126)
    assert [scale.x(after(t)) for t in (0, 5, 500, 1005, 1010)] == [0, 50, 50, 76, 126]
    assert scale.breaks == [(50, 76, timedelta(seconds=1000))]


def test_the_marks_of_the_axis_go_on_behind_a_gap():
    scale = Scale(after(0), after(1010), [(after(5), after(1005))], left=0, right=1026)
    assert [label for _, label in scale.ticks()] == [f"{n} s" for n in range(11)]


def test_a_moment_without_length_has_a_scale():
    scale = Scale(after(0), after(0), [], left=0, right=10)
    assert scale.x(after(0)) == 0
    assert next(iter(scale.ticks()))


@pytest.mark.parametrize(
    ("seconds", "step", "text"),
    [
        (0.25, 0.05, "0.25 s"),
        (30, 15, "30 s"),
        (90, 30, "1:30 min"),
        (600, 120, "10 min"),
        (5400, 1800, "1:30 h"),
        (3723, 1, "1:02:03"),
        (259200, 86400, "3 d 0 h"),
    ],
)
def test_times_of_the_axis_are_as_exact_as_its_steps(seconds, step, text):
    assert elapsed(seconds, step) == text


@pytest.mark.parametrize(
    "amount", ["0.0000001", "0.0061", "0.15", "0.25", "1", "9.9", "73", "100", "1234.5"]
)
def test_the_top_of_the_cost_is_a_round_number_close_above(amount):
    top, step = nice_top(Decimal(amount))
    assert float(amount) <= top <= 2 * float(amount) + 1e-12
    assert (top / step) == pytest.approx(round(top / step))
