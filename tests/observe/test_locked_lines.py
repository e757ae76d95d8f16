"""A journal of lines has one writer: a lock beside it tells whether its run is alive."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from observe import journal_writer

from requestor_sdk.model.errors import JournalUnwritable, RunLocked
from requestor_sdk.observe.journal import JsonlJournal


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.jsonl"


@pytest.fixture
def event():
    return journal_writer.event(1)


def test_who_writes_a_journal_of_lines_holds_its_lock_until_it_is_closed(path, event):
    journal = JsonlJournal(path)
    journal.append(event)
    assert journal.is_written
    other = JsonlJournal(path)
    assert other.is_written
    with pytest.raises(RunLocked, match=r"the run of .*run\.jsonl is alive") as caught:
        other.append(event)
    assert f"requestor-sdk status {path}" in caught.value.hint
    assert list(other.read()) == [event]
    journal.close()
    assert not other.is_written
    with closing(other):
        other.append(event)
    assert list(JsonlJournal(path).read()) == [event] * 2


def test_asking_whether_a_journal_of_lines_is_written_makes_no_file(tmp_path, path):
    assert not JsonlJournal(path).is_written
    assert list(tmp_path.iterdir()) == []


def test_a_journal_of_lines_that_nothing_was_written_to_goes_away_again(tmp_path, path, event):
    journal = JsonlJournal(path)
    journal.open()
    journal.close()
    assert list(tmp_path.iterdir()) == []
    path.touch()
    journal.open()
    journal.close()
    assert path.exists()


def test_journals_of_lines_and_in_sqlite_of_like_names_have_locks_of_their_own(tmp_path, event):
    lines, other = JsonlJournal(tmp_path / "run.jsonl"), JsonlJournal(tmp_path / "run.log")
    with closing(lines), closing(other):
        for journal in (lines, other):
            journal.append(event)


def test_a_lock_that_cannot_be_taken_is_an_error_that_names_it(path, event):
    path.with_name("run.jsonl.lock").mkdir()
    with pytest.raises(JournalUnwritable, match=r"run\.jsonl\.lock cannot be taken"):
        JsonlJournal(path).append(event)


def test_a_process_that_is_killed_leaves_no_lock_of_its_lines(path, event):
    command = [sys.executable, str(Path(journal_writer.__file__)), str(path), "3"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with process:
        assert [process.stdout.readline() for _ in range(3)] == ["1\n", "2\n", "3\n"]
        with pytest.raises(RunLocked):
            JsonlJournal(path).append(event)
        process.kill()
    with closing(JsonlJournal(path)) as journal:
        journal.append(event)
    assert len(list(journal.read())) == 4
