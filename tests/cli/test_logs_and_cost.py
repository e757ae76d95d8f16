"""``requestor-sdk logs`` and ``cost``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from decimal import Decimal

import pytest
from observe.conftest import START, Story

from requestor_sdk.model import events as ev
from requestor_sdk.observe.runs import RunStore

COMMAND = [sys.executable, "-c", "from requestor_sdk.cli import main; main()"]


@pytest.fixture
def store(home):
    return RunStore(home)


@pytest.fixture
def record(store):
    """Writes a run; one that is not closed is alive until the test ends."""
    opened = []

    def write(tell, *, close=True):
        story = Story()
        tell(story)
        journal = store.create("r-1", network="local", started=START)
        for event in story.events:
            journal.append(event)
        journal.close() if close else opened.append(journal)
        return journal

    yield write
    for journal in opened:
        journal.close()


def end(story):
    story.lose_and_restart()
    story.move("running", "terminated", attempt=2)
    story.end("a-2")
    story.invoice("a-1", "0.1")
    story.invoice("a-2", "0.15")
    story.tell(ev.ComputationFinished, run_id="r-1", spent=Decimal("0.25"))


def test_the_log_of_a_run_is_what_it_told(cli, record):
    record(end)
    lines = cli("logs").stdout.splitlines()
    assert lines[0].endswith(" run r-1 on network local, budget 1")
    assert any("warning: i-1 running -> pending, attempt 2 (killed)" in line for line in lines)
    assert lines[-1].endswith(" run r-1 is over; spent 0.25")
    assert not any("ActivityCreated" in line for line in lines)


def test_a_lower_level_tells_more_and_a_higher_one_less(cli, record):
    record(end)
    assert "ActivityCreated" in cli("logs", "--level", "debug").stdout
    assert len(cli("logs", "--level", "warning").stdout.splitlines()) == 1
    assert cli("logs", "--level", "loud").exit_code == 2


def test_the_log_can_be_that_of_one_instance_or_the_end_of_it(cli, record):
    record(end)
    assert cli("logs", "--instance", "i-9").stdout == ""
    assert "budget" not in cli("logs", "--instance", "i-1").stdout
    assert len(cli("logs", "-n", "2").stdout.splitlines()) == 2


def test_the_log_as_json_is_an_object_a_line_with_ids(cli, record):
    record(end)
    rows = [json.loads(line) for line in cli("logs", "--json").stdout.splitlines()]
    assert rows[0]["event"] == "ComputationStarted"
    assert all(row["run_id"] == "r-1" and row["level"] and row["text"] for row in rows)
    assert any(row.get("instance_id") == "i-1" for row in rows)


def test_a_run_that_is_alive_is_followed_until_it_is_over(cli, record):
    journal = record(lambda story: story.begin(), close=False)
    following = subprocess.Popen(
        [*COMMAND, "logs", "--follow"], stdout=subprocess.PIPE, text=True, env=os.environ
    )
    assert "budget 1" in following.stdout.readline()
    story = Story()
    journal.append(story.move("pending", "starting"))
    assert "i-1 pending -> starting" in following.stdout.readline()
    journal.append(story.tell(ev.ComputationFinished, run_id="r-1", spent=Decimal(0)))
    journal.close()
    rest, _ = following.communicate(timeout=20)
    assert "is over" in rest
    assert following.returncode == 0


@pytest.mark.parametrize("command", ["logs", "cost"])
def test_a_run_that_is_not_there_is_an_error_that_names_those_that_are(cli, record, command):
    record(end)
    done = cli(command, "other")
    assert done.exit_code == 1
    assert "there is no run 'other'; there is r-1" in done.stderr


@pytest.mark.parametrize("command", ["logs", "cost"])
def test_output_without_unicode_has_what_can_be_shown(record, command):
    def told(story):
        story.begin()
        story.agree("a-1")
        story.move("pending", "starting")
        story.tell(ev.CustomEvent, name="é→✓", text="\x1b[2J\x07")
        story.note("a-1", "0.1")

    record(told)
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = subprocess.run(
        [*COMMAND, command], capture_output=True, env=environment, check=False, timeout=20
    )
    assert done.returncode == 0, done.stderr
    done.stdout.decode("ascii")
    assert b"\x1b" not in done.stdout
    assert b"\x07" not in done.stdout


def test_the_cost_is_told_by_provider_and_by_instance(cli, record):
    record(end)
    out = cli("cost").stdout
    assert out.startswith("run r-1: 0.25 of 1\n")
    assert [line.split()[:2] for line in out.splitlines() if "0.15" in line] == [["beta", "1"]]
    assert "i-1       terminated  alpha            2    0.25" in out


def test_the_cost_as_json_has_amounts_as_text(cli, record):
    record(end)
    told = json.loads(cli("cost", "--json").stdout)
    assert (told["spent"], told["budget"], told["unspent"]) == ("0.25", "1", "0.75")
    assert {row["provider_name"]: row["amount"] for row in told["providers"]} == {
        "alpha": "0.1",
        "beta": "0.15",
    }
    assert told["instances"][0]["amount"] == "0.25"


def test_the_cost_of_a_run_that_is_alive_is_that_so_far(cli, record):
    record(Story.lose_and_restart, close=False)
    out = cli("cost").stdout
    assert out.startswith("run r-1: 0.1 of 1 so far\n")
    assert "living agreements can still cost 0.2" in out


def test_the_cost_fits_sixty_columns(cli, record, monkeypatch):
    from requestor_sdk.cli import cost

    record(end)
    monkeypatch.setattr(cost, "width", lambda: 60)
    assert max(len(line) for line in cli("cost").stdout.splitlines()) <= 60
