"""Events: the journal's form of each, the ids they concern, the line they make."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.any_events import KINDS, VALUES, any_of

from requestor_sdk.model import events
from requestor_sdk.model.events import Event, from_record

AT = datetime(2026, 11, 22, 12, 30, 5, 42_000, tzinfo=UTC)


@pytest.mark.parametrize("cls", KINDS, ids=lambda cls: cls.__name__)
@settings(max_examples=10)
@given(data=st.data())
def test_an_event_survives_the_way_through_the_journal(cls, data):
    event = data.draw(any_of(cls))
    again = from_record(json.loads(json.dumps(event.to_record())))
    assert again == event
    assert type(again) is cls


def test_every_public_class_of_the_module_is_a_known_kind():
    classes = {
        value
        for value in vars(events).values()
        if isinstance(value, type) and issubclass(value, Event) and value is not Event
    }
    assert set(Event.kinds.values()) == classes


@pytest.mark.parametrize("cls", KINDS, ids=lambda cls: cls.__name__)
def test_events_are_frozen_and_hold_no_live_object(cls):
    assert cls.__dataclass_params__.frozen
    assert all(str(f.type).removesuffix(" | None") in VALUES for f in dataclasses.fields(cls))


def test_a_record_of_a_newer_version_is_refused():
    record = events.CustomEvent(at=AT, name="x").to_record() | {"v": 2}
    with pytest.raises(ValueError, match="version 2; this program reads version 1"):
        from_record(record)


def test_a_record_of_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="unknown kind 'Nonsense'"):
        from_record({"v": 1, "kind": "Nonsense"})


def test_a_record_that_was_written_before_a_field_was_there_takes_its_default():
    event = events.DebitNoteReceived(
        at=AT, note_id="n", agreement_id="a", activity_id="c", total=Decimal(1), usage=(Decimal(2),)
    )
    record = event.to_record()
    del record["usage"]
    assert from_record(record) == dataclasses.replace(event, usage=())
    del record["total"]
    with pytest.raises(ValueError, match="total"):
        from_record(record)


def _changed(**more):
    values = {"instance_id": "i-1", "cluster_id": "c-1", "old": "pending", "new": "starting"}
    return events.ServiceStateChanged(at=AT, stimulus="ready", attempt=1, **{**values, **more})


def test_an_event_names_the_ids_that_it_concerns_and_leaves_out_the_empty_ones():
    assert _changed().ids() == {"instance": "i-1", "cluster": "c-1"}
    assert _changed(provider_id="0x1").ids()["provider"] == "0x1"


def test_an_event_concerns_what_all_of_the_ids_say():
    event = _changed()
    assert event.concerns({"instance": "i-1"})
    assert event.concerns({})
    assert not event.concerns({"instance": "i-1", "cluster": "c-2"})
    assert not event.concerns({"agreement": "a"})


def test_a_line_of_a_story_leaves_out_what_is_empty():
    assert _changed().line() == (
        "12:30:05.042 ServiceStateChanged: instance i-1, "
        "old pending, new starting, stimulus ready, attempt 1"
    )


def test_a_line_of_a_story_names_the_provider_once_and_lists_as_text():
    assert "provider 0x1" in _changed(provider_id="0x1").line()
    named = _changed(provider_id="0x1", provider_name="amber").line()
    assert "provider_name amber" in named
    assert "0x1" not in named
    sent = events.ScriptSent(
        at=AT, instance_id="i-1", activity_id="a", script_id="s", commands=("deploy", "start")
    )
    assert sent.line().endswith("commands deploy | start")
    noted = events.DebitNoteReceived(
        at=AT, note_id="n", agreement_id="a", activity_id="c", total=Decimal(1), usage=(Decimal(2),)
    )
    assert noted.line().endswith("total 1, usage 2")


def test_a_line_of_a_story_has_amounts_and_times_without_idle_digits():
    made = events.AgreementCreated(
        at=AT,
        instance_id="i-1",
        agreement_id="a",
        provider_id="p",
        provider_name="amber",
        held=Decimal("0.039708876680000000"),
        until=AT,
    )
    assert made.line().endswith("held 0.03970887668, until 2026-11-22 12:30:05+00:00")
    for amount, said in (
        ("1000", "1000"),
        ("1E+3", "1000"),
        ("0E-18", "0"),
        ("1E-18", f"0.{'0' * 17}1"),
    ):
        noted = events.AllocationRequested(at=AT, amount=Decimal(amount))
        assert noted.line().endswith(f"amount {said}")


def test_amounts_and_times_keep_every_digit():
    event = events.DebitNoteAccepted(
        at=AT + timedelta(microseconds=1), note_id="n", agreement_id="a", total=Decimal("0.10")
    )
    record = event.to_record()
    assert (record["total"], record["kind"], record["v"]) == ("0.10", "DebitNoteAccepted", 1)
    assert from_record(record).at == event.at


def test_a_line_of_a_story_is_one_line_whatever_the_event_holds():
    event = events.ServiceFailed(
        at=AT, instance_id="i-1", cluster_id="c-1", attempt=1, error="Bad: first\n  second"
    )
    assert event.line().endswith("error Bad: first")


@pytest.mark.parametrize(
    "more",
    [
        {"at": None},
        {"at": "2026-11-22T12:30:05"},
        {"at": "yesterday"},
        {"at": 5},
        {"instance_id": None},
        {"attempt": "1"},
        {"provider_id": 7},
    ],
)
def test_a_record_whose_values_cannot_be_is_refused(more):
    with pytest.raises(ValueError):
        from_record(_changed().to_record() | more)


def test_an_amount_that_is_no_number_is_refused():
    record = events.AllocationCreated(at=AT, allocation_id="a", amount=Decimal(1)).to_record()
    with pytest.raises(ArithmeticError):
        from_record(record | {"amount": "x"})


def test_a_record_that_lacks_a_field_takes_its_default_or_is_refused():
    record = events.ComputationFinished(at=AT, run_id="r", spent=Decimal(1)).to_record()
    assert from_record({k: v for k, v in record.items() if k != "left_over"}) == from_record(record)
    with pytest.raises(ValueError, match="spent"):
        from_record({k: v for k, v in record.items() if k != "spent"})


def test_what_concerns_money_and_commitments_must_be_on_the_disk_first():
    durable = {cls.__name__ for cls in KINDS if cls.durable}
    assert durable == {
        *("ComputationStarted", "ComputationFinished", "AllocationCreated", "AllocationReleased"),
        *("AgreementCreated", "AgreementRejected", "AgreementTerminated"),
        *("ActivityCreated", "ActivityCreateFailed", "ActivityEnded", "PaymentLeftOver"),
        *("DebitNoteAccepted", "DebitNoteRejected", "InvoiceAccepted", "InvoiceRejected"),
        *("ComputationRecovered", "ComputationSuspended", "AllocationRequested"),
        *("AllocationNotMade", "ComputeJobSubmitted"),
        *("ActivityRequested", "ClusterStarted", "PaymentWrittenOff"),
    }


def test_jobs_of_journals_before_workers_were_told_are_read_with_none_of_them():
    old = {"v": 1, "at": AT.isoformat(), "job_id": "j"}
    changed = from_record(old | {"kind": "ComputeJobStatusChanged", "status": 40, "text": "runs"})
    over = from_record(
        old | {"kind": "ComputeJobFinished", "outcome": "failed", "exit_code": 3, "error": None}
    )
    assert (changed.worker, changed.attempt) == ("", None)
    assert (over.worker, over.attempt, over.seconds, over.size) == ("", None, None, None)
