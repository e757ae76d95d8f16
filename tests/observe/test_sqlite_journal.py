"""Journals in SQLite: one writer, any readers, and what a killed process leaves."""

from __future__ import annotations

import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from observe import journal_writer
from support.any_events import any_events

from requestor_sdk.model.errors import (
    JournalDamaged,
    JournalUnwritable,
    NotSupported,
    RunLocked,
    UsageError,
)
from requestor_sdk.model.events import VERSION, AgreementCreated, CustomEvent
from requestor_sdk.observe._lock import RunLock, is_held
from requestor_sdk.observe.sqlite import SqliteJournal

WRITER = str(Path(journal_writer.__file__))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "runs" / "r-1.sqlite"


@pytest.fixture
def events(story):
    story.lose_and_restart()
    return story.events


def filled(path, events, **options):
    journal = SqliteJournal(path, **options)
    for event in events:
        journal.append(event)
    return journal


def written(path, events, **options):
    filled(path, events, **options).close()
    return path


def files(path):
    """What lies beside a journal, with its bytes; what only serves its readers left out."""
    return {f.name: f.read_bytes() for f in path.parent.iterdir() if f.suffix != ".sqlite-shm"}


@pytest.fixture
def writer(path):
    """Start a process that writes so many events and stays; it is killed at the end."""
    running = []

    def start(number, *more):
        process = subprocess.Popen(
            [sys.executable, WRITER, str(path), str(number), *more],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()


def reached(process, number):
    for line in process.stdout:
        if int(line) == number:
            return
    raise AssertionError(f"the writer ended before {number}")


def numbers(count):
    return [journal_writer.event(number) for number in range(1, count + 1)]


# What is kept -------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(told=any_events(min_size=1, max_size=12))
def test_any_events_are_read_as_they_were_written(tmp_path_factory, told):
    path = tmp_path_factory.mktemp("j") / "r.sqlite"
    journal = filled(path, told)
    assert list(journal.read()) == told
    journal.close()
    assert list(journal.read()) == told
    assert [number for number, _ in journal.numbered(after=3)] == list(range(4, len(told) + 1))


def test_more_events_than_are_read_at_once_come_in_order_and_once(path):
    told = numbers(1_234)
    with closing(filled(path, told)) as journal:
        assert list(journal.read()) == told
    assert list(SqliteJournal(path).read(kinds=["DebitNoteAccepted"])) == told[19::20]
    assert list(SqliteJournal(path).read(ids={"note": "600"})) == [told[599]]


def test_a_long_event_is_kept_whole(path, story):
    event = story.tell(CustomEvent, name="x", text="☃" * 100_000)
    assert list(SqliteJournal(written(path, [event])).read()) == [event]


def test_a_file_says_what_it_is_the_journal_of(path, events):
    journal = SqliteJournal(written(path, events, about={"run": "r-1", "network": "local"}))
    said = journal.about()
    assert (said["run"], said["network"], said["schema"]) == ("r-1", "local", "1")
    assert said["record"] == str(VERSION)
    assert said["package"]


def test_what_concerns_money_is_flushed_and_the_rest_only_committed(path, events):
    asked = []
    with closing(SqliteJournal(path)) as journal:
        journal.open()
        journal._connection.set_trace_callback(asked.append)
        for event in events:
            before = len(asked)
            journal.append(event)
            level = journal._connection.execute("PRAGMA synchronous").fetchone()[0]
            assert level == (2 if event.durable else 1), event.kind
            assert any("INSERT" in text for text in asked[before:])
    assert {event.durable for event in events} == {True, False}
    assert not [text for text in asked if text.startswith(("BEGIN", "COMMIT"))], "one commit each"


def test_an_ended_run_leaves_one_file_and_its_lock(path, events):
    written(path, events)
    assert set(files(path)) == {"r-1.sqlite", "r-1.lock"}
    assert files(path)["r-1.lock"] == b""


def test_a_journal_that_nothing_was_written_to_leaves_nothing(path):
    journal = SqliteJournal(path)
    journal.open()
    assert path.exists()
    journal.close()
    assert files(path) == {}


def test_an_empty_file_is_taken_as_a_new_one_and_stays(path, events):
    path.parent.mkdir()
    path.touch()
    assert list(SqliteJournal(path).read()) == []
    journal = SqliteJournal(path)
    journal.open()
    journal.close()
    assert path.exists()
    assert list(SqliteJournal(written(path, events)).read()) == events


# Locks --------------------------------------------------------------------------------------------


def test_who_writes_a_journal_holds_its_lock_until_it_is_closed(path, events):
    journal = filled(path, events)
    assert is_held(path.with_suffix(".lock"))
    with pytest.raises(RunLocked, match=r"r-1.sqlite is alive") as caught:
        SqliteJournal(path).append(events[0])
    assert f"`requestor-sdk status {path}`" in caught.value.hint
    journal.close()
    assert not is_held(path.with_suffix(".lock"))
    assert list(SqliteJournal(path).read()) == events


def test_a_lock_that_the_caller_has_is_used_and_kept(path, events):
    written(path, events[:2])
    with RunLock(path.with_suffix(".lock")) as lock:
        journal = filled(path, events[2:], lock=lock)
        journal.close()
        assert is_held(lock.path)
        assert list(journal.read()) == events
    assert not is_held(lock.path)


def test_what_may_only_be_read_is_neither_locked_nor_written(path, events, monkeypatch):
    written(path, events)
    before, connect = files(path), sqlite3.connect

    def only_read(name, **options):
        # As SQLite opens a file of somebody else's: without a word.
        if str(name).startswith("file:"):
            return connect(name, **options)
        return connect(f"{Path(name).as_uri()}?mode=ro", **options, uri=True)

    with closing(SqliteJournal(path, lock=RunLock(path.with_suffix(".lock")))) as journal:
        monkeypatch.setattr(sqlite3, "connect", only_read)
        with pytest.raises(JournalUnwritable, match="readonly"):
            journal.open()
        journal._given_lock.release()
    with pytest.raises(JournalUnwritable, match=r"r-1.lock cannot be taken: .*readonly"):
        SqliteJournal(path).append(events[0])
    assert list(SqliteJournal(path).read()) == events
    assert files(path) == before


def test_asking_for_a_lock_makes_no_file(tmp_path):
    assert not is_held(tmp_path / "r.lock")
    assert list(tmp_path.iterdir()) == []


def test_another_process_is_kept_from_writing_and_not_from_reading(path, writer):
    process = writer(50)
    reached(process, 50)
    with pytest.raises(RunLocked):
        SqliteJournal(path).open()
    assert list(SqliteJournal(path).read()) == numbers(50)
    process.kill()
    process.wait()
    assert not is_held(path.with_suffix(".lock"))


# Other processes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [1, 2, 7, 700])
def test_a_killed_process_loses_nothing_that_it_was_told_is_written(path, writer, at):
    process = writer(100_000)
    reached(process, at)
    process.send_signal(signal.SIGKILL)
    process.wait()
    last = max([at, *map(int, process.stdout.read().splitlines())])
    found = list(SqliteJournal(path).read())
    # One more may have been committed before it could be told.
    assert found in (numbers(last), numbers(last + 1))
    journal = SqliteJournal(path)
    journal.append(journal_writer.event(1))
    journal.close()
    assert list(journal.read()) == [*found, journal_writer.event(1)]


def test_a_reader_sees_what_another_process_writes_and_does_not_disturb_it(path, writer):
    process = writer(1_500, "close")
    reached(process, 1)
    seen = []
    while process.poll() is None:
        seen += SqliteJournal(path).numbered(after=len(seen))
    seen += SqliteJournal(path).numbered(after=len(seen))
    assert [event for _, event in seen] == numbers(1_500)
    assert process.returncode == 0


def test_a_reader_changes_no_file_of_a_living_run_and_none_of_a_dead_one(path, writer):
    process = writer(500)
    reached(process, 500)
    before = files(path)
    assert len(list(SqliteJournal(path).read())) == 500
    assert files(path) == before
    process.kill()
    process.wait()
    assert len(list(SqliteJournal(path).read())) == 500
    assert files(path) == before
    assert "r-1.sqlite-wal" in before


def test_a_dead_runs_log_is_whole_also_for_who_asks_for_some_events_only(path, writer):
    process = writer(50)
    reached(process, 50)
    process.kill()
    process.wait()
    assert list(SqliteJournal(path).read(ids={"note": "20"})) == [journal_writer.event(20)]
    assert list(SqliteJournal(path).read(kinds=["ComputationStarted"])) == numbers(1)


def test_a_copy_without_its_log_is_read_as_it_is(path, writer, tmp_path):
    process = writer(500)
    reached(process, 500)
    copy = tmp_path / "copy" / "r-1.sqlite"
    copy.parent.mkdir()
    shutil.copy(path, copy)
    assert list(SqliteJournal(copy).read()) == []
    assert set(files(copy)) == {"r-1.sqlite"}
    shutil.copy(path.with_name("r-1.sqlite-wal"), copy.parent)
    assert list(SqliteJournal(copy).read()) == numbers(500)


def test_a_reader_that_stays_keeps_nobody_from_closing(path):
    journal = filled(path, numbers(1_200))
    reader = SqliteJournal(path).read()
    assert next(reader) == journal_writer.event(1)
    journal.close()
    assert [journal_writer.event(1), *reader] == numbers(1_200)
    assert list(journal.read()) == numbers(1_200)


def test_a_full_disk_is_told_and_what_was_written_before_is_kept(path):
    journal = filled(path, numbers(5))
    # As a full disk answers, without filling one.
    journal._connection.execute("PRAGMA max_page_count=10").fetchall()
    written = 5
    with pytest.raises(JournalUnwritable, match=r"r-1.sqlite cannot be written: .*full"):
        for event in numbers(1_000)[5:]:
            journal.append(event)
            written += 1
    assert 5 < written < 1_000
    assert list(journal.read()) == numbers(written)
    journal.close()
    journal.append(journal_writer.event(written + 1))
    journal.close()
    assert list(journal.read()) == numbers(written + 1)


# Newer versions -----------------------------------------------------------------------------------


def changed(path, statement):
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(statement)
    return path.read_bytes()


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE meta SET value = '2' WHERE key = 'schema'", "version 2.* up to 1"),
        (
            """UPDATE events SET record = replace(record, '"v":1', '"v":2') WHERE seq = 3""",
            "event 3: written in version 2.* up to 1",
        ),
    ],
)
def test_a_journal_of_a_newer_version_is_refused_and_stays_as_it_is(path, events, statement, said):
    before = changed(written(path, events), statement)
    for use in (lambda j: list(j.read()), lambda j: j.append(events[0])):
        with pytest.raises(NotSupported, match=said) as caught:
            use(SqliteJournal(path))
        assert caught.value.hint == "pip install --upgrade requestor-sdk"
        assert path.read_bytes() == before


def test_what_an_older_program_did_not_write_takes_its_default(path, story):
    story.agree("a-1")
    written(path, story.events)
    changed(path, """UPDATE events SET record = replace(record, '}', ',"new":[1]}')""")
    assert list(SqliteJournal(path).read()) == story.events
    assert isinstance(story.events[0], AgreementCreated)


# Files that are none ------------------------------------------------------------------------------


def test_a_folder_is_refused_by_name(path):
    path.mkdir(parents=True)
    with pytest.raises(UsageError, match=r"r-1.sqlite cannot be read: Is a directory"):
        list(SqliteJournal(path).read())
    with pytest.raises(UsageError, match=r"r-1.sqlite cannot be written"):
        SqliteJournal(path).open()


@pytest.mark.parametrize("content", [b"x" * 5000, b"{}\n", b"SQLite", b"SQLite format 3\0" * 400])
def test_a_file_that_is_no_database_is_neither_read_nor_written(path, events, content):
    path.parent.mkdir()
    path.write_bytes(content)
    for use in (lambda j: list(j.read()), lambda j: j.append(events[0])):
        with pytest.raises(JournalDamaged, match=r"r-1.sqlite is damaged.*0 events") as caught:
            use(SqliteJournal(path))
        assert caught.value.saved == 0
        assert path.read_bytes() == content
    assert not is_held(path.with_suffix(".lock"))


def test_a_database_of_another_program_is_neither_read_nor_written(path, events):
    path.parent.mkdir()
    before = changed(path, "CREATE TABLE events (name TEXT)")
    for use in (lambda j: list(j.read()), lambda j: j.append(events[0])):
        with pytest.raises(JournalDamaged, match="no such table: meta"):
            use(SqliteJournal(path))
        assert path.read_bytes() == before
