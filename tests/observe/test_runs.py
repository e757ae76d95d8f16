"""The store of runs: which there are, how they are, and what is never removed by accident."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import timedelta
from decimal import Decimal

import pytest

from requestor_sdk.model import events as ev
from requestor_sdk.model.errors import (
    NotAvailable,
    NotSupported,
    RunLocked,
    RunNotFound,
    UsageError,
)
from requestor_sdk.observe.runs import RunState, RunStore


@pytest.fixture
def store(tmp_path):
    return RunStore(tmp_path / "home")


@pytest.fixture
def record(store, new_story):
    """Write a run down; the later ones began later."""
    made = []

    def write(run_id, *, ended=True, left_over=None, close=True):
        story = new_story()
        story.now += timedelta(hours=len(made))
        made.append(run_id)
        started = story.now
        story.lose_and_restart()
        if ended:
            story.move("running", "terminated", attempt=2)
            story.end("a-2")
            story.invoice("a-1", "0.1")
            if not left_over:
                story.invoice("a-2", "0")
            else:
                story.tell(
                    ev.PaymentLeftOver,
                    agreement_id="a-2",
                    provider_id="p",
                    at_most=Decimal(left_over),
                )
            story.tell(ev.ComputationFinished, run_id=run_id, spent=Decimal("0.1"))
        journal = store.create(run_id, network="local", started=started)
        for event in story.events:
            journal.append(event)
        if close:
            journal.close()
        return journal

    return write


def test_a_new_store_is_empty_and_makes_nothing(store):
    assert store.ids() == []
    assert not store.folder.exists()
    with pytest.raises(RunNotFound, match="no run was written down") as caught:
        store.find()
    assert "requestor-sdk demo" in caught.value.hint


def test_runs_are_listed_by_when_they_began_the_newest_first(store, record):
    for run_id in ("bb", "aa", "cc"):
        record(run_id)
    assert store.ids() == ["cc", "aa", "bb"]
    assert store.find() == "cc"


def test_a_run_is_found_by_the_beginning_that_only_it_has(store, record):
    for run_id in ("abc", "abd", "ab", "x"):
        record(run_id)
    assert store.find("abc") == "abc"
    assert store.find("x") == "x"
    assert store.find("ab") == "ab", "a whole id is no beginning"
    with pytest.raises(RunNotFound, match="3 runs begin with 'a': ab, abd, abc"):
        store.find("a")
    with pytest.raises(
        RunNotFound, match="there is no run 'y'; there is x, ab, abd, abc"
    ) as caught:
        store.find("y")
    assert caught.value.hint.startswith("requestor-sdk runs --all; ")
    with pytest.raises(RunNotFound, match="no run 'y'"):
        store.journal("y")
    with pytest.raises(RunNotFound, match="3 runs begin with 'a'"):
        store.lock("a")


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "a\0", "x" * 101])
def test_a_name_that_is_no_file_name_is_refused(store, name):
    with pytest.raises(UsageError, match="cannot be named"):
        store.path(name)


def test_an_ended_run_is_told_with_its_money(store, record):
    record("r", left_over="0.05")
    told = store.summary("r")
    assert told.state is RunState.ended
    assert (told.view.network, len(told.view.rows)) == ("local", 1)
    assert (told.view.spent, told.view.left_over) == (Decimal("0.1"), Decimal("0.05"))
    assert told.accounts.bill().total == Decimal("0.1")
    assert told.last > told.started
    assert told.unsettled, "somebody may still ask for what is left over"


def test_what_a_summary_leaves_unread_changes_nothing_of_it(store, record, new_story):
    journal = record("r", ended=False, close=False)
    story = new_story()
    story.tell(ev.CustomEvent, name="x")
    journal.append(story.events[0])
    journal.close()
    told = store.summary("r")
    whole = type(told)(run_id="r", path=told.path)
    for event in store.journal("r").read():
        whole.apply(event)
    assert whole.view.open_ids() == told.view.open_ids()
    assert whole.accounts.bill() == told.accounts.bill()
    assert (whole.last, whole.seconds) == (told.last, told.seconds)
    assert whole.view.rows == told.view.rows


def test_a_crashed_run_lasted_until_its_last_event_of_whatever_kind(store, new_story):
    story = new_story()
    began = story.begin().at
    for _ in range(3):
        story.tell(ev.CustomEvent, name="x")
    story.now += timedelta(seconds=100)
    crashed = story.tell(ev.CustomEvent, name="y").at
    journal = store.create("r", network="local", started=began)
    for event in story.events:
        journal.append(event)
    journal.close()
    told = store.summary("r")
    assert (told.last, told.seconds) == (crashed, 104)

    story.now += timedelta(days=1)
    story.tell(ev.ComputationRecovered, run_id="r-1", network="local")
    story.now += timedelta(seconds=1)
    story.tell(ev.CustomEvent, name="z")
    journal = store.journal("r")
    for event in story.events[-2:]:
        journal.append(event)
    journal.close()
    assert store.summary("r").seconds == 104 + 2, "nothing lived between crash and recovery"
    kinds = [event.kind for event in store.journal("r").read(kinds=["Nothing"], ends=True)]
    assert kinds == ["CustomEvent", "CustomEvent"]


def test_a_run_is_alive_as_long_as_somebody_writes_it(store, record):
    journal = record("r", ended=False, close=False)
    assert store.is_alive("r")
    assert store.summary("r").state is RunState.alive
    with pytest.raises(RunLocked):
        store.lock("r")
    journal.close()
    assert not store.is_alive("r")
    assert store.summary("r").state is RunState.crashed


def test_what_a_crashed_run_left_open_is_named(store, record):
    record("r", ended=False)
    told = store.summary("r")
    assert told.view.open_ids() == {
        "instances": ("i-1",),
        "activities": ("act-a-2",),
        "agreements": ("a-2",),
        "allocations": (),
    }
    assert told.unsettled


def test_a_recovery_takes_the_lock_and_goes_on_with_the_journal(store, record, new_story):
    record("r", ended=False)
    with store.lock("r") as lock:
        with pytest.raises(RunLocked):
            store.journal("r").open()
        journal = store.journal("r", lock=lock)
        before = list(journal.read())
        story = new_story()
        story.tell(ev.ComputationFinished, run_id="r", spent=Decimal(0))
        journal.append(story.events[0])
        journal.close()
        assert store.is_alive("r")
    assert list(store.journal("r").read()) == [*before, story.events[0]]
    assert store.summary("r").state is RunState.ended


def test_two_runs_of_one_id_are_not_mixed(store, record):
    record("r")
    before = store.path("r").read_bytes()
    with pytest.raises(NotAvailable, match="there is a run r already") as caught:
        record("r")
    assert "--remove r" in caught.value.hint
    assert store.path("r").read_bytes() == before


# Damaged runs -------------------------------------------------------------------------------------


def test_a_damaged_run_is_told_as_far_as_it_can_be_read(store, record):
    record("ok")
    record("bad")
    path = store.path("bad")
    content = bytearray(path.read_bytes())
    at = content.index(b'"new":"running"')
    content[at] = 0
    path.write_bytes(content)
    told = store.summary("bad")
    assert told.state is RunState.damaged
    assert "is damaged" in told.problem.message
    assert told.view.run_id == "r-1"
    assert told.unsettled
    assert sorted(store.ids()) == ["bad", "ok"]


@pytest.mark.parametrize("content", [b"", b"x" * 10_000])
def test_a_file_of_which_nothing_is_left_is_listed(store, record, content):
    record("r")
    store.path("r").write_bytes(content)
    assert store.ids() == ["r"]
    told = store.summary("r")
    assert told.state is (RunState.damaged if content else RunState.empty)
    assert told.started is None


def test_a_run_of_a_newer_version_is_listed_and_not_read(store, record, monkeypatch):
    record("r")
    monkeypatch.setattr("requestor_sdk.observe._reader.SCHEMA", 0)
    told = store.summary("r")
    assert told.state is RunState.newer
    assert isinstance(told.problem, NotSupported)
    assert told.unsettled


# Removing -----------------------------------------------------------------------------------------


def test_a_settled_run_is_removed_with_all_its_files(store, record):
    record("r")
    record("s")
    store.remove("r")
    assert sorted(file.name for file in store.folder.iterdir()) == ["s.lock", "s.sqlite"]


def test_a_run_of_which_nothing_was_written_down_is_empty_and_removed_as_a_settled_one(
    store, record
):
    record("r")
    with closing(sqlite3.connect(store.path("r"))) as connection, connection:
        connection.execute("DELETE FROM events")
    told = store.summary("r")
    assert (told.state, told.unsettled) == (RunState.empty, False)
    store.remove("r")
    assert store.ids() == []


@pytest.mark.parametrize("how", ["crashed", "left over", "damaged"])
def test_an_unsettled_run_is_removed_only_if_that_is_said(store, record, how):
    record("r", ended=how != "crashed", left_over="0.05" if how == "left over" else None)
    if how == "damaged":
        store.path("r").write_bytes(store.path("r").read_bytes()[:-5000])
    before = store.path("r").read_bytes()
    with pytest.raises(NotAvailable, match="run r is not settled") as caught:
        store.remove("r")
    assert caught.value.hint.startswith("requestor-sdk status r; ")
    assert caught.value.hint.endswith("requestor-sdk runs --remove r --force")
    assert store.path("r").read_bytes() == before
    store.remove("r", unsettled=True)
    assert list(store.folder.iterdir()) == []


def test_a_living_run_is_never_removed(store, record):
    journal = record("r", ended=False, close=False)
    for unsettled in (False, True):
        with pytest.raises(RunLocked):
            store.remove("r", unsettled=unsettled)
    journal.close()
    assert store.ids() == ["r"]
