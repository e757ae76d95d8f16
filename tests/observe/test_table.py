"""The live table: what it shows, what it leaves out, when it draws."""

from __future__ import annotations

import asyncio
import io
import sys
from datetime import timedelta
from decimal import Decimal

import click
import pytest
from rich.console import Console

from requestor_sdk.model import events as ev
from requestor_sdk.observe.table import LiveTable, render
from requestor_sdk.observe.view import RunView

D = Decimal


@pytest.fixture
def shown(story):
    def show(*, lines=40, width=110) -> str:
        view = RunView()
        for event in story.events:
            view.apply(event)
        console = Console(file=io.StringIO(), width=width, height=lines, force_terminal=False)
        console.print(render(view, now=story.now, lines=lines, width=width))
        return console.file.getvalue()

    return show


def test_an_instance_is_a_row_with_all_that_matters(story, shown):
    story.lose_and_restart()
    story.tell(
        ev.ScriptSent,
        instance_id="i-1",
        activity_id="a",
        script_id="s",
        commands=("run /bin/uname -a",),
    )
    story.note("a-2", "0.05")
    head, _, row, money, offers = shown().splitlines()
    assert head.split() == [
        "instance",
        "provider",
        "state",
        "for",
        "last",
        "command",
        "restarts",
        "cost",
    ]
    assert row.split() == [
        "i-1",
        "beta",
        "●",
        "running",
        "3.0",
        "s",
        "run",
        "/bin/uname",
        "-a",
        "1",
        "0.15",
    ]
    assert money.split() == ["spent", "0.15", "held", "0.15", "budget", "1"]
    assert offers.strip() == "offers: 0 seen, 0 scored, 0 negotiated, 2 agreed"


def test_before_there_is_an_instance_only_the_footer_shows(story, shown):
    story.begin()
    assert shown().splitlines()[0].startswith("spent 0")


def test_finished_rows_give_way_where_not_all_fit(story, shown):
    for number in range(30):
        name = f"i-{number}"
        story.move("pending", "running" if number % 2 else "terminated", instance=name)
    text = shown(lines=20)
    assert len(text.splitlines()) < 20
    assert "… and 15 terminated, 2 running" in text
    assert "i-1 " in text
    assert "i-0 " not in text


def test_a_failed_instance_is_told_apart_from_one_that_is_done(story, shown):
    story.move("stopping", "terminated", instance="good")
    story.move("running", "terminated", instance="bad", cause="killed")
    assert "✓ terminated" in shown()
    assert "✗ terminated" in shown()


def test_a_narrow_terminal_cuts_the_command_first(story, shown):
    story.move("pending", "running")
    story.tell(
        ev.ScriptSent,
        instance_id="i-1",
        activity_id="a",
        script_id="s",
        commands=("run /golem/run/simulate_observations_ctl.py --start",),
    )
    row = shown(width=80).splitlines()[2]
    assert "alpha" in row
    assert "● running" in row
    assert "run /golem/run" in row
    assert "…" in row
    assert len(row) <= 80


def test_leaving_says_what_it_waits_for(story, shown):
    story.begin()
    waiting = tuple(f"i-{n}" for n in range(10))
    story.tell(ev.ShutdownStarted, run_id="r-1", waiting_for=waiting)
    assert "stopping: waiting for i-0, i-1, i-2, i-3, i-4, i-5, i-6, i-7 and 2 more" in shown()


def test_why_nothing_moves_is_the_last_line(story, shown):
    story.tell(ev.NoOffersYet, cluster_id="c", offers=0)
    assert shown().splitlines()[-1].strip() == "the market has no offers yet"


def _table(story):
    console = Console(file=io.StringIO(), width=110, height=30, force_terminal=True)
    drawn = []
    table = LiveTable(RunView(), console, now=lambda: story.now)
    refresh = table._live.refresh
    table._live.refresh = lambda: (drawn.append(story.now), refresh())
    return table, drawn


class _Timers:
    """A loop's timers, moved by hand."""

    def __init__(self, monkeypatch):
        self.now, self.calls = 100.0, []
        monkeypatch.setattr(asyncio, "get_running_loop", lambda: self)

    def time(self):
        return self.now

    def call_at(self, when, call, *args):
        handle = _Handle(when, lambda: call(*args))
        self.calls.append(handle)
        return handle

    def advance(self, seconds):
        until = self.now + seconds
        while due := sorted((c for c in self.calls if c.when <= until), key=lambda c: c.when):
            self.calls.remove(due[0])
            self.now = max(self.now, due[0].when)
            if not due[0].cancelled():
                due[0].call()
        self.now = until

    def waiting(self):
        return [call for call in self.calls if not call.cancelled()]


class _Handle:
    def __init__(self, when, call):
        self.when, self.call, self.gone = when, call, False

    def cancel(self):
        self.gone = True

    def cancelled(self):
        return self.gone


def test_many_events_at_once_are_drawn_at_most_eight_times_a_second(story, monkeypatch):
    timers = _Timers(monkeypatch)
    table, drawn = _table(story)
    with table:
        for _ in range(200):
            table(story.move("pending", "running"))
            timers.advance(0.005)
        assert 5 <= len(drawn) <= 9


def test_an_idle_table_moves_its_clocks_once_a_second_while_an_instance_lives(story, monkeypatch):
    timers = _Timers(monkeypatch)
    table, drawn = _table(story)
    with table:
        table(story.move("pending", "running"))
        timers.advance(10)
        assert 10 <= len(drawn) <= 11


def test_a_table_without_living_instances_sleeps(story, monkeypatch):
    timers = _Timers(monkeypatch)
    table, _ = _table(story)
    with table:
        table(story.move("stopping", "terminated"))
        timers.advance(1)
        assert timers.waiting() == []


def test_leaving_draws_the_last_state_and_leaves_no_timer(story, monkeypatch):
    timers = _Timers(monkeypatch)
    table, drawn = _table(story)
    with table:
        table(story.move("pending", "running"))
        story.now += timedelta(seconds=5)
    assert drawn[-1] == story.now
    assert timers.waiting() == []


def test_outside_of_a_loop_each_event_is_drawn_at_once(story):
    table, drawn = _table(story)
    with table:
        table(story.begin())
        table(story.move("pending", "running"))
        assert len(drawn) == 2


def test_a_failure_in_the_users_code_is_printed_above_the_table(story):
    table, _ = _table(story)
    with table:
        table(
            story.tell(
                ev.ServiceFailed,
                instance_id="i-1",
                cluster_id="c",
                attempt=1,
                error="ValueError: no",
                traceback='Traceback:\n  File "x"\nValueError: no\n',
            )
        )
    output = table.console.file.getvalue()
    assert "i-1 failed in attempt 1" in output
    assert "ValueError: no" in output


def test_neither_a_provider_nor_a_command_nor_an_error_steers_the_terminal(story):
    table, _ = _table(story)
    evil = "\x1b[2J\x9b\u202eevil"
    ids = {"instance_id": "i-1", "cluster_id": "c", "attempt": 1}
    with table:
        moved = {"old": "pending", "new": "running", "stimulus": "ready"}
        table(story.tell(ev.ServiceStateChanged, **ids, **moved, provider_name=evil))
        sent = {"activity_id": "a", "script_id": "s", "commands": (f"run a\n{evil}",)}
        table(story.tell(ev.ScriptSent, instance_id="i-1", **sent))
        table(story.tell(ev.ServiceFailed, **ids, error=f"ValueError: {evil}"))
        table(story.tell(ev.NoOffersYet, cluster_id="c", offers=1, ruled_out=evil))
    output = table.console.file.getvalue()
    assert output.count("evil") >= 4
    assert "\x1b[2J" not in output
    assert "\x9b" not in output
    assert "\u202e" not in output
    assert "run a \\x1b[2J" in output


@pytest.mark.parametrize("write", [print, click.echo], ids=["print", "click"])
def test_what_the_program_prints_appears_above_the_table(story, write):
    table, _ = _table(story)
    with table:
        table(story.begin())
        write("from the program")
        table(story.move("pending", "running"))
    output = table.console.file.getvalue()
    assert "from the program\n" in output


def test_the_streams_are_given_back(story):
    before = (sys.stdout, sys.stderr)
    table, _ = _table(story)
    with table:
        assert sys.stdout is not before[0]
    assert (sys.stdout, sys.stderr) == before


@pytest.mark.parametrize(
    ("width", "gone"),
    [(110, ()), (60, ("for", "last command")), (40, ("for", "last command", "restarts"))],
)
def test_a_narrow_terminal_goes_without_columns_rather_than_without_words(
    story, shown, width, gone
):
    story.lose_and_restart()
    head, _, row, *_ = shown(width=width).splitlines()
    for name in ("instance", "provider", "state", "for", "last command", "restarts"):
        assert (name in head) == (name not in gone)
    assert "running" in row
    assert "beta" in row
