"""Plain lines, and how amounts, durations and ids read."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from requestor_sdk.model import events as ev
from requestor_sdk.observe import text
from requestor_sdk.observe.lines import PlainLines

D = Decimal
ALPHA = "0x" + "a" * 40


@pytest.fixture
def lines():
    return []


@pytest.fixture
def told(story, lines):
    def tell() -> list[str]:
        sink = PlainLines(lines.append)
        for event in story.events:
            sink(event)
        return [line.split(" ", 1)[1] for line in lines]

    return tell


def test_a_loss_and_a_restart_read_as_a_story(story, told):
    story.lose_and_restart()
    assert told() == [
        "run r-1 on network local, budget 1",
        "i-1 pending -> starting on alpha",
        "i-1 starting -> running on alpha",
        "i-1 running -> pending, attempt 2 (killed)",
        "i-1 pending -> starting on beta, attempt 2",
        "i-1 starting -> running on beta, attempt 2",
    ]


def test_each_line_begins_with_the_time_of_day(story, lines, told):
    event = story.begin()
    told()
    assert lines[0].startswith(f"{event.at.astimezone():%H:%M:%S} ")


def test_a_failure_keeps_the_traceback_of_the_user(story, told):
    story.tell(
        ev.ServiceFailed,
        instance_id="i-1",
        cluster_id="c",
        attempt=2,
        error="ValueError: no",
        traceback='Traceback:\n  File "x"\nValueError: no\n',
    )
    assert told()[0].splitlines() == [
        "i-1 failed in attempt 2: ValueError: no",
        "    Traceback:",
        '      File "x"',
        "    ValueError: no",
    ]


def test_a_failure_outside_of_the_users_code_is_one_line(story, told):
    story.tell(
        ev.ServiceFailed,
        instance_id="i-1",
        cluster_id="c",
        attempt=1,
        error="lost\n  what came before:\n    much\n  try: another",
        traceback="ProviderLost: lost\n  what came before:\n    much\n",
    )
    assert told() == ["i-1 failed in attempt 1: lost\n  try: another"]


@pytest.mark.parametrize(
    ("kind", "values", "line"),
    [
        (
            ev.ComputationFinished,
            {"run_id": "r", "spent": D("0.5"), "left_over": D("0.1"), "error": "it broke"},
            "run r is over: it broke; spent 0.5, 0.1 left over",
        ),
        (ev.ShutdownStarted, {"run_id": "r"}, "shutting down"),
        (
            ev.ShutdownStarted,
            {"run_id": "r", "waiting_for": ("i-1", "i-2")},
            "shutting down, waiting for i-1, i-2",
        ),
        (
            ev.ServiceFailed,
            {"instance_id": "i-1", "cluster_id": "c", "attempt": 1, "error": "no"},
            "i-1 failed in attempt 1: no",
        ),
        (
            ev.ServiceRestarting,
            {"instance_id": "i-1", "attempt": 2, "after_sec": 0.5},
            "i-1 is tried again in 0.5 s, attempt 2",
        ),
        (
            ev.HandlerAbandoned,
            {"instance_id": "i-1", "handler": "run"},
            "i-1 run() could not be closed and was abandoned",
        ),
        (
            ev.CallbackAbandoned,
            {"instance_id": "i-1", "what": "reset()"},
            "i-1 reset() could not be ended and was abandoned",
        ),
        (
            ev.CallbackAbandoned,
            {"instance_id": "", "what": "score_offer()"},
            "score_offer() could not be ended and was abandoned",
        ),
        (ev.NoOffersYet, {"cluster_id": "c", "offers": 0}, "the market has no offers yet"),
        (
            ev.BudgetExhausted,
            {"cluster_id": "c", "needed": D(2), "available": D(1)},
            "the budget has no room: an offer may cost 2, 1 is available",
        ),
        (
            ev.AgreementRejected,
            {"instance_id": "i", "agreement_id": "a", "provider_id": "0x1", "reason": "busy"},
            "i refused by 0x1: busy",
        ),
        (
            ev.ActivityCreateFailed,
            {"instance_id": "i", "agreement_id": "a", "provider_id": "0x1", "reason": "full"},
            "i got no activity from 0x1: full",
        ),
        (
            ev.InvoiceAccepted,
            {"invoice_id": "v", "agreement_id": "a", "provider_id": "0x1", "amount": D("0.1")},
            "paid 0.1 to 0x1",
        ),
        (
            ev.InvoiceRejected,
            {"invoice_id": "v", "agreement_id": "a", "amount": D(9), "reason": "too much"},
            "rejected an invoice of 9 for a: too much",
        ),
        (
            ev.DebitNoteRejected,
            {"note_id": "n", "agreement_id": "a", "total": D(9), "reason": "fell"},
            "rejected a debit note of 9 for a: fell",
        ),
        (
            ev.PaymentLeftOver,
            {"agreement_id": "a", "provider_id": "0x1", "at_most": D("0.2")},
            "no invoice came from 0x1: at most 0.2 left over",
        ),
        (
            ev.LoopRetried,
            {"loop": "offers", "error": "refused", "after_sec": 2.0},
            "offers met an error, trying again in 2.0 s: refused",
        ),
        (ev.CustomEvent, {"name": "mine", "text": "hello"}, "mine: hello"),
        (ev.CustomEvent, {"name": "mine"}, "mine"),
    ],
)
def test_what_a_person_wants_to_know_is_one_line(story, told, kind, values, line):
    story.tell(kind, **values)
    assert told() == [line]


@pytest.mark.parametrize("success", [True, False])
def test_only_a_command_that_failed_is_told(story, told, success):
    story.tell(
        ev.CommandExecuted,
        instance_id="i-1",
        activity_id="a",
        script_id="s",
        index=0,
        command="run /bin/x",
        success=success,
        message="exit status 1",
    )
    assert told() == ([] if success else ["i-1 command failed: run /bin/x: exit status 1"])


_SAMPLES = {"str": "x", "int": 1, "float": 1.0, "bool": False, "Decimal": D(1)}


@pytest.mark.parametrize("kind", list(ev.Event.kinds.values()), ids=lambda kind: kind.__name__)
def test_every_kind_of_event_can_be_told_in_plain_ascii(kind):
    values = {
        field.name: _SAMPLES.get(str(field.type).removesuffix(" | None"), ())
        for field in dataclasses.fields(kind)
        if field.name != "at"
    }
    line = PlainLines(print).line(kind(at=datetime.now(UTC), **values))
    assert line.isascii()


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("0", "0"),
        ("1.500", "1.5"),
        ("100", "100"),
        ("0.1234567", "0.123457"),
        ("0.0000123456", "0.000012346"),
        ("0.0000000001", "<0.000000001"),
        ("-0.0000000001", ">-0.000000001"),
        ("-2", "-2"),
    ],
)
def test_an_amount_is_short_and_never_shown_as_nothing(value, shown):
    assert text.amount(D(value)) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-1, "0.0 s"),
        (0.44, "0.4 s"),
        (12.9, "12 s"),
        (185, "3 min 05 s"),
        (3600, "1 h 00 min"),
        (90_061, "25 h 01 min"),
    ],
)
def test_a_duration_is_told_in_the_units_that_matter(seconds, shown):
    assert text.duration(seconds) == shown


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        *[(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1_500_000, "1.4 MiB")],
        *[(1024**3 - 1, "1.0 GiB"), (5 * 1024**4, "5.0 TiB"), (1024**6, "1048576.0 TiB")],
    ],
)
def test_a_size_is_told_in_the_unit_that_suits_it(number, shown):
    assert text.size(number) == shown


@given(st.text(max_size=60), st.integers(3, 20))
def test_an_id_keeps_both_of_its_ends(identifier, most):
    shown = text.short(identifier, most)
    assert len(shown) <= most
    assert identifier.startswith(shown.partition("…")[0])
    assert identifier.endswith(shown.rpartition("…")[2])


def test_what_others_say_cannot_steer_the_terminal_and_keeps_its_lines():
    said = "a\x1b[2J\tb\n\x07\x9b\u202eü☃"
    assert text.harmless(said) == "a\\x1b[2J\tb\n\\x07\\x9b\\u202eü☃"
