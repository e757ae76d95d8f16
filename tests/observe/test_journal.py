"""Journals keep what they are given, whatever state their file is in."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from requestor_sdk.model.errors import JournalDamaged, JournalUnwritable, NotSupported, UsageError
from requestor_sdk.model.events import CustomEvent
from requestor_sdk.observe.journal import JsonlJournal, MemoryJournal, journal_at
from requestor_sdk.observe.sqlite import SqliteJournal


@pytest.fixture
def events(story):
    story.lose_and_restart()
    return story.events


@pytest.fixture(params=["memory", "jsonl", "sqlite"])
def journal(request, tmp_path):
    path = tmp_path / "new" / "folder" / f"run.{request.param}"
    made = MemoryJournal() if request.param == "memory" else journal_at(path)
    yield made
    made.close()


def _fill(journal, events):
    for event in events:
        journal.append(event)
    return journal


def test_what_is_appended_is_read_in_order(journal, events):
    assert list(_fill(journal, events).read()) == events


def test_a_reader_can_ask_for_what_concerns_some_ids(journal, events):
    _fill(journal, events)
    found = list(journal.read(ids={"agreement": "a-2", "instance": "i-1"}))
    assert [event.kind for event in found] == [
        "AgreementCreated",
        "AgreementConfirmed",
        "ActivityCreated",
    ]


def test_reading_goes_on_while_the_run_does(journal, events):
    journal.append(events[0])
    reader = iter(journal.read())
    next(reader)
    journal.append(events[1])
    assert list(journal.read()) == events[:2]


def test_a_closed_journal_opens_again_for_another_event(journal, events):
    _fill(journal, events[:1]).close()
    journal.append(events[1])
    journal.close()
    assert list(journal.read()) == events[:2]


def test_ids_that_only_resemble_others_are_told_apart(journal, events):
    names = ["i-1", "i-10", "I-1", 'i-1"', "i-1\\", "\u2603", "%", ""]
    told = [replace(events[2], instance_id=name) for name in names]
    _fill(journal, told)
    for name in names[:-1]:
        found = journal.read(ids={"instance": name})
        assert [event.instance_id for event in found] == [name]


def test_halves_of_characters_that_a_provider_calls_itself_are_kept(journal, events):
    event = replace(events[1], provider_name="\ud800 \x00 \udfff")
    _fill(journal, [event]).close()
    assert list(journal.read()) == [event]


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.sqlite", SqliteJournal), ("a.jsonl", JsonlJournal), ("a", JsonlJournal)],
)
def test_a_files_name_says_what_kind_of_journal_it_is(name, kind):
    assert type(journal_at(name)) is kind
    assert str(journal_at(name).path) == name


def test_closing_twice_is_fine_and_what_was_written_stays_readable(journal, events):
    _fill(journal, events).close()
    journal.close()
    assert list(journal.read()) == events


def test_a_journal_in_memory_forgets_the_oldest_beyond_its_limit(events):
    assert list(_fill(MemoryJournal(limit=2), events).read()) == events[-2:]


def test_each_event_is_on_disk_when_append_returns(tmp_path, events):
    path = tmp_path / "new" / "folder" / "run.jsonl"
    journal = JsonlJournal(path)
    for number, event in enumerate(events, 1):
        journal.append(event)
        assert len(path.read_bytes().splitlines()) == number
    journal.close()


@pytest.mark.parametrize("name", ["run.jsonl", "run.sqlite"])
def test_reading_makes_no_file(tmp_path, name):
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        list(journal_at(tmp_path / name).read())
    assert list(tmp_path.iterdir()) == []


def test_an_existing_file_is_continued(tmp_path, events):
    path = tmp_path / "run.jsonl"
    _fill(JsonlJournal(path), events[:3]).close()
    journal = _fill(JsonlJournal(path), events[3:])
    assert list(journal.read()) == events
    journal.close()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(cut=st.integers(1, 10_000))
def test_a_run_that_was_killed_while_writing_loses_its_half_written_line_only(
    tmp_path, events, cut
):
    path = tmp_path / "run.jsonl"
    path.unlink(missing_ok=True)
    _fill(JsonlJournal(path), events).close()
    whole = path.read_bytes()
    kept = whole[: max(0, len(whole) - cut)]
    path.write_bytes(kept)
    survivors = events[: kept.count(b"\n")]
    journal = JsonlJournal(path)
    assert list(journal.read()) == survivors
    journal.append(events[0])
    journal.close()
    assert list(journal.read()) == [*survivors, events[0]]


def test_a_very_long_half_line_is_passed_over(tmp_path, events):
    path = tmp_path / "run.jsonl"
    _fill(JsonlJournal(path), events[:1]).close()
    with path.open("ab") as file:
        file.write(b'{"v":1,' + b"x" * 200_000)
    journal = _fill(JsonlJournal(path), events[1:2])
    journal.close()
    assert list(journal.read()) == events[:2]


def test_a_text_with_line_ends_stays_on_one_line(tmp_path, events):
    event = CustomEvent(at=events[0].at, name="x", text="one\ntwo\u2028three ☃")
    journal = _fill(JsonlJournal(tmp_path / "run.jsonl"), [event])
    journal.close()
    assert list(journal.read()) == [event]


def test_a_file_of_a_newer_version_is_refused_and_says_so(tmp_path, events):
    path = tmp_path / "run.jsonl"
    path.write_text(json.dumps(events[0].to_record() | {"v": 7}) + "\n")
    with pytest.raises(NotSupported, match=r"line 1: written in version 7.*up to 1") as caught:
        list(JsonlJournal(path).read())
    assert "upgrade" in caught.value.hint


@pytest.mark.parametrize(
    "line", ["{", "[]", "7", "{}", '{"v":1}', '{"v":1,"kind":"AllocationCreated","amount":"x"}']
)
def test_a_line_that_is_no_record_is_named_and_the_others_are_read(tmp_path, events, line):
    path = tmp_path / "run.jsonl"
    good = [json.dumps(event.to_record()) for event in events[:2]]
    path.write_text(f"{good[0]}\n{line}\n{good[1]}\n")
    before = path.read_bytes()
    reader = JsonlJournal(path).read()
    assert [next(reader), next(reader)] == events[:2]
    with pytest.raises(JournalDamaged, match=r"run.jsonl, line 2 is no record") as caught:
        next(reader)
    assert caught.value.saved == 2
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", ["run.jsonl", "run.sqlite"])
def test_a_place_that_cannot_be_written_is_an_error_that_names_it(tmp_path, events, name):
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalUnwritable, match=r"journal .*run\.\w+ cannot be written"):
        journal_at(tmp_path / "file" / name).append(events[0])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_lines_that_a_full_disk_did_not_take_are_told_once_and_not_again_on_closing(
    tmp_path, events
):
    journal = JsonlJournal(tmp_path / "run.jsonl")
    journal.open()
    journal._file.close()
    journal._file = Path("/dev/full").open("wb")  # noqa: SIM115 - the journal closes it
    with pytest.raises(JournalUnwritable, match="No space left"):
        journal.append(events[0])
    journal.close()
    assert not journal.is_written
