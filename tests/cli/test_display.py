"""Where runs are shown, and that it goes away again."""

from __future__ import annotations

import io
import sys
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace

import pytest

from requestor_sdk.cli._display import shown
from requestor_sdk.client import ambient
from requestor_sdk.model import events as ev
from requestor_sdk.observe import JsonlJournal, MemoryJournal
from requestor_sdk.observe.sqlite import SqliteJournal


class Terminal(io.StringIO):
    def isatty(self):
        return True


def _tell(kind, **values):
    for consumer in ambient.consumers:
        consumer(kind(at=datetime.now(UTC), **values))


def _run():
    _tell(ev.ComputationStarted, run_id="r-1", network="local", budget=Decimal(1))
    _tell(
        ev.ServiceStateChanged,
        instance_id="i-1",
        cluster_id="c-1",
        old="starting",
        new="running",
        stimulus="start done",
        attempt=1,
    )


def test_without_a_terminal_there_are_plain_lines(capsys):
    with shown() as display:
        _run()
        assert display.living() == ("i-1",)
    assert "i-1 starting -> running" in capsys.readouterr().err


def test_lines_can_be_left_out(capsys):
    with shown(lines=False) as display:
        _run()
    assert capsys.readouterr().err == ""
    assert display.living() == ("i-1",)


@pytest.fixture
def terminal(monkeypatch):
    def take() -> Terminal:
        # Here and not in the fixture: pytest puts its own stream back before the test begins.
        monkeypatch.setattr(sys, "stderr", Terminal())
        monkeypatch.setenv("TERM", "xterm")
        return sys.stderr

    return take


def test_on_a_terminal_there_is_the_table(terminal):
    screen = terminal()
    with shown():
        _run()
    assert "● running" in screen.getvalue()


def test_the_table_takes_the_terminal_with_the_first_event_only(terminal):
    screen = terminal()
    with shown():
        pass
    assert screen.getvalue() == ""


def test_a_terminal_that_can_only_be_written_to_gets_lines(terminal, monkeypatch):
    screen = terminal()
    monkeypatch.setenv("TERM", "dumb")
    with shown():
        _run()
    assert "i-1 starting -> running" in screen.getvalue()
    assert "●" not in screen.getvalue()


def test_the_cursor_can_be_given_back_at_any_time(terminal):
    screen = terminal()
    with shown() as display:
        _run()
        display.restore()
        assert screen.getvalue().endswith("\x1b[?25h")


def test_nothing_is_shown_of_what_happens_afterwards(capsys):
    with shown():
        pass
    _run()
    assert capsys.readouterr().err == ""
    assert ambient.consumers == []


def test_the_bill_is_printed_where_something_ran(capsys):
    with shown(lines=False) as display:
        display.print_bill()
        assert capsys.readouterr().err == ""
        _run()
    display.print_bill()
    assert "of a budget of 1; 1 unspent" in capsys.readouterr().err


def test_what_stays_suspended_is_told_with_the_way_to_go_on(capsys, monkeypatch):
    monkeypatch.setattr(ambient, "active", set())  # tests of crashes leave theirs
    with shown(lines=False) as display:
        _tell(ev.ComputationSuspended, run_id="r-1", spent=Decimal(0), instances=("i-1", "i-2"))
    display.print_bill()
    told = capsys.readouterr().err
    assert "i-1, i-2 of run" in told
    assert "stay suspended" in told
    assert "take them up by Compute.recover('r-1') and resume_service()" in told
    assert "requestor-sdk recover --end-suspended r-1" in told


@pytest.mark.parametrize(
    ("journal", "ways"),
    [
        (
            SqliteJournal("/far/mine.sqlite"),
            (
                "Compute.recover('r-1', journal='/far/mine.sqlite') and resume_service(), or end "
                "them by `requestor-sdk recover --end-suspended /far/mine.sqlite`"
            ),
        ),
        (
            JsonlJournal("mine.log"),
            (
                "Compute.recover('r-1', journal='mine.log') and resume_service(), or end them by "
                f"`requestor-sdk recover --end-suspended {Path('mine.log').absolute()}`"
            ),
        ),
        (MemoryJournal(), "Compute.recover('r-1', journal=...) and resume_service()"),
    ],
)
def test_what_stays_suspended_is_told_with_where_it_was_written(capsys, monkeypatch, journal, ways):
    run = SimpleNamespace(run_id="r-1", journal=journal)
    monkeypatch.setattr(ambient, "active", [run])
    with shown(lines=False) as display:
        _tell(ev.ComputationSuspended, run_id="r-1", spent=Decimal(0), instances=("i-1",))
    display.print_bill()
    assert capsys.readouterr().err.rstrip().endswith(f"take them up by {ways}")


def test_something_can_be_said_at_any_time(capsys):
    with shown() as display:
        display.say("stopping")
    assert capsys.readouterr().err == "stopping\n"
