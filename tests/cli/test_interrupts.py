"""Ctrl-C, three times."""

from __future__ import annotations

import asyncio
import signal

import pytest

from requestor_sdk.cli._display import Display
from requestor_sdk.cli._interrupts import STATUS, Interrupts, staged
from requestor_sdk.client import ambient


class FakeRun:
    def __init__(self, **left):
        self.stage, self.left = 0, left

    def interrupt(self):
        self.stage += 1
        return self.stage

    def open_ids(self):
        return self.left


@pytest.fixture
def said(monkeypatch):
    lines: list[str] = []
    monkeypatch.setattr(Display, "say", lambda self, text: lines.append(text))
    return lines


@pytest.fixture
def running():
    runs: list[FakeRun] = []

    def run(**left):
        runs.append(FakeRun(**left))
        ambient.active.add(runs[-1])
        return runs[-1]

    yield run
    ambient.active.difference_update(runs)


@pytest.fixture
def display(monkeypatch):
    display = Display()
    monkeypatch.setattr(display, "living", lambda: ("i-1", "i-2"))
    return display


@pytest.fixture
def press(display):
    left: list[int] = []
    interrupts = Interrupts(display, leave=left.append)

    def press(times=1):
        for _ in range(times):
            interrupts(signal.SIGINT, None)
        return left

    return press


def test_once_stops_in_good_order_and_says_what_it_waits_for(press, running, said):
    run = running()
    assert press() == []
    assert run.stage == 1
    assert said == ["stopping in good order; waiting for i-1, i-2 (Ctrl-C again cancels)"]


def test_many_instances_are_counted(press, running, said, display, monkeypatch):
    monkeypatch.setattr(display, "living", lambda: tuple(f"i-{n}" for n in range(100)))
    running()
    press()
    assert "i-7 and 92 more" in said[0]


def test_with_nothing_to_wait_for_it_says_no_names(press, running, said, display, monkeypatch):
    monkeypatch.setattr(display, "living", tuple)
    running()
    press()
    assert said == ["stopping in good order (Ctrl-C again cancels)"]


def test_twice_cancels(press, running, said):
    running()
    assert press(2) == []
    assert said[1].startswith("cancelling; Ctrl-C once more gives up")


def test_three_times_gives_up_and_names_what_is_left_open(press, running, said, capsys):
    running(agreements=("a-1", "a-2"), activities=(), allocations=("x-1",))
    assert press(3) == [STATUS]
    assert capsys.readouterr().err.splitlines() == [
        "gave up; left open:",
        "  agreements a-1",
        "  agreements a-2",
        "  allocations x-1",
    ]


def test_giving_up_with_nothing_open_says_so(press, running, said, capsys):
    running(agreements=())
    press(3)
    assert capsys.readouterr().err == "gave up; nothing is left open\n"


def test_giving_up_gives_the_terminal_back_first(press, running, said, display):
    given = []
    display.restore = lambda: given.append(True)
    running()
    press(3)
    assert given == [True]


def test_every_run_of_the_process_is_told(press, running, said):
    runs = [running(), running()]
    press()
    assert [run.stage for run in runs] == [1, 1]


def test_where_nothing_runs_ctrl_c_is_what_it_always_was(press):
    with pytest.raises(KeyboardInterrupt):
        press()


async def test_inside_a_loop_the_loop_does_the_talking(press, running, said):
    running()
    press()
    assert said == []
    await asyncio.sleep(0)
    assert len(said) == 1


def test_the_handler_is_there_only_meanwhile():
    before = signal.getsignal(signal.SIGINT)
    with staged(Display()) as interrupts:
        assert signal.getsignal(signal.SIGINT) is interrupts
    assert signal.getsignal(signal.SIGINT) is before
