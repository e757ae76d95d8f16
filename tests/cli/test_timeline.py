"""``requestor-sdk timeline``: a run drawn from its journal."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from decimal import Decimal

import pytest
from observe.conftest import START, Story

from requestor_sdk.model import events as ev
from requestor_sdk.observe.runs import RunStore


@pytest.fixture
def store(home):
    return RunStore(home)


@pytest.fixture
def lost(store):
    """A run that lives: its journal is open and written."""
    story = Story()
    story.lose_and_restart()
    journal = store.create("r-1", network="local", started=START)
    for event in story.events:
        journal.append(event)
    yield journal
    journal.close()


def test_a_run_is_drawn_to_the_file_that_is_named(cli, lost, tmp_path):
    file = tmp_path / "run.html"
    done = cli("timeline", "r-", "-o", file)
    assert done.exit_code == 0
    assert done.stderr == f"{file}\n"
    assert done.stdout == ""
    assert ">i-1<" in file.read_text()


def test_without_a_name_it_is_the_runs(cli, lost, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli("timeline").exit_code == 0
    assert cli("timeline", "--format", "json").exit_code == 0
    assert (tmp_path / "r-1.svg").read_text().startswith("<svg")
    assert json.loads((tmp_path / "r-1.json").read_text())["otherData"]["run"] == "r-1"


def test_a_dash_is_standard_output(cli, lost):
    assert cli("timeline", "-o", "-").stdout.startswith("<svg")
    assert json.loads(cli("timeline", "-o", "-", "--format", "json").stdout)


def test_standard_output_without_unicode_gets_the_drawing_all_the_same(lost):
    lost.append(ev.ComputationFinished(at=START, run_id="→", spent=Decimal(0), error="é"))
    done = subprocess.run(
        [sys.executable, "-c", "from requestor_sdk.cli import main; main()", "timeline", "-o", "-"],
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
    )
    assert done.returncode == 0, done.stderr
    assert "the run is over: é" in done.stdout.decode()


def test_a_run_that_is_alive_is_drawn_as_far_as_it_is_and_not_disturbed(cli, lost, store):
    before = store.path("r-1").read_bytes()
    assert "; not over yet" in cli("timeline", "-o", "-").stdout
    assert store.path("r-1").read_bytes() == before
    lost.append(next(iter(lost.read())))  # it can still be written


def test_a_run_that_is_not_there_is_an_error_that_names_those_that_are(cli, lost, tmp_path):
    done = cli("timeline", "other", "-o", tmp_path / "a.svg")
    assert done.exit_code == 1
    assert "there is no run 'other'; there is r-1" in done.stderr
    assert not (tmp_path / "a.svg").exists()


def test_a_file_of_another_kind_is_refused_before_anything_is_read(cli, lost, tmp_path):
    done = cli("timeline", "-o", tmp_path / "run.pdf")
    assert done.exit_code == 1
    assert "the name 'run.pdf' does not say" in done.stderr
    assert ".svg, .html, .json" in done.stderr


def test_a_file_that_cannot_be_written_is_an_error(cli, lost, tmp_path):
    done = cli("timeline", "-o", tmp_path / "none" / "run.svg")
    assert done.exit_code == 1
    assert "cannot be written: No such file" in done.stderr


def test_of_a_damaged_journal_what_can_be_read_is_drawn(cli, lost, store, tmp_path):
    lost.close()
    with closing(sqlite3.connect(store.path("r-1"))) as connection, connection:
        connection.execute("DELETE FROM events WHERE seq = 4")
    file = tmp_path / "run.svg"
    done = cli("timeline", "-o", file)
    assert done.exit_code == 1
    assert "1 event is missing" in done.stderr
    assert ">i-1<" in file.read_text()


def test_a_journal_that_lies_elsewhere_is_drawn_by_its_path(cli, lost, tmp_path, monkeypatch):
    lost.close()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.sqlite").write_bytes(lost.path.read_bytes())
    assert cli("timeline", "own.sqlite").exit_code == 0
    assert (tmp_path / "own.svg").exists()
