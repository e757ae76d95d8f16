"""``requestor-sdk dash``: a run as a page, from its journal."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from decimal import Decimal

import pytest
from observe.conftest import START, Story

from requestor_sdk.model import events as ev
from requestor_sdk.observe.runs import RunStore

COMMAND = [sys.executable, "-c", "from requestor_sdk.cli import main; main()"]


@pytest.fixture
def run(home):
    """A run that lives, and its story."""
    story = Story()
    story.lose_and_restart()
    journal = RunStore(home).create("r-1", network="local", started=START)
    for event in story.events:
        journal.append(event)
    yield journal, story
    journal.close()


@pytest.fixture
def dash():
    started = []

    def start(*arguments):
        process = subprocess.Popen(
            [*COMMAND, "dash", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ,
        )
        started.append(process)
        return process, process.stdout.readline().strip()

    yield start
    for process in started:
        process.kill()
        process.communicate()


def stream(url):
    return urllib.request.urlopen(url.replace("/?", "/events?"), timeout=20)


def until(response, text):
    for line in response:
        if text in line:
            return line
    raise AssertionError(text)


def test_a_run_that_is_alive_is_followed_to_its_end_and_not_disturbed(run, dash):
    journal, story = run
    _, url = dash("r-1")
    with stream(url) as response:
        assert b'"live": true' in until(response, b"data")
        until(response, b"ServiceStateChanged")
        journal.append(story.move("running", "stopping", attempt=2))
        until(response, b'"new":"stopping"')
        journal.append(story.tell(ev.ComputationFinished, run_id="r-1", spent=Decimal(0)))
        journal.close()
        until(response, b"ComputationFinished")
        until(response, b"event: end")


def test_a_run_that_is_over_is_sent_whole(run, dash):
    run[0].close()
    _, url = dash()
    with stream(url) as response:
        assert b'"live": false' in until(response, b"data")
        until(response, b"event: end")


def test_ctrl_c_ends_it_in_good_order(run, dash):
    process, url = dash()
    with stream(url) as response:
        until(response, b"ServiceStateChanged")
        process.send_signal(signal.SIGINT)
        until(response, b"event: end")
    _, err = process.communicate(timeout=20)
    assert process.returncode == 0
    assert err.strip() == ""


def test_a_port_in_use_is_told_with_a_way_out(cli, run):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = cli("dash", "--port", taken.getsockname()[1])
    assert done.exit_code == 1
    assert "is in use" in done.stderr
    assert "try: another port, or 0 for any that is free" in done.stderr


def test_a_run_that_is_not_there_is_an_error(cli, run):
    done = cli("dash", "other")
    assert done.exit_code == 1
    assert "there is no run 'other'; there is r-1" in done.stderr


def test_a_journal_of_lines_is_shown_as_it_is(run, dash, tmp_path):
    import json

    path = tmp_path / "own.jsonl"
    lines = [json.dumps(event.to_record()) for event in run[1].events]
    path.write_text("\n".join([*lines, "no record", ""]))
    process, url = dash(path)
    with stream(url) as response:
        until(response, b"ServiceStateChanged")
        until(response, b"event: end")
    assert "no record of an event" in process.stderr.readline()
