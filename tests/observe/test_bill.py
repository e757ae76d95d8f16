"""The bill: who got what for how long, and what is left."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

from requestor_sdk.model import events as ev
from requestor_sdk.observe.bill import Accounts, bill

D = Decimal
ALPHA, BETA = "0x" + "a" * 40, "0x" + "b" * 40


def _paid(story):
    story.lose_and_restart()
    story.invoice("a-1", "0.1")
    story.end("a-2", provider=BETA)
    story.note("a-2", "0.2")
    story.invoice("a-2", "0.25", provider=BETA)
    return bill(story.events)


def test_each_provider_is_a_row_with_the_dearest_first(story):
    rows = _paid(story).rows
    assert [(row.provider_name, row.agreements, row.amount) for row in rows] == [
        ("beta", 1, D("0.25")),
        ("alpha", 1, D("0.1")),
    ]


def test_time_is_counted_from_the_activity_to_its_end(story):
    assert [row.seconds for row in _paid(story).rows] == [4, 5]


def test_an_activity_whose_end_was_not_told_ends_with_the_last_event(story):
    story.begin()
    story.agree("a-1")
    story.note("a-1", "0.1")
    story.note("a-1", "0.2")
    assert bill(story.events).rows[0].seconds == 2


def test_an_activity_that_still_runs_is_counted_up_to_the_time_that_is_told(story):
    story.begin()
    story.agree("a-1")
    accounts = Accounts()
    for event in story.events:
        accounts.apply(event)
    assert accounts.bill().rows[0].seconds == 0
    assert accounts.bill(story.now + timedelta(seconds=9)).rows[0].seconds == 10
    story.end("a-1")
    for event in story.events[-2:]:
        accounts.apply(event)
    assert accounts.bill(story.now + timedelta(hours=1)).rows[0].seconds == 1


def test_several_agreements_with_a_provider_are_added_up(story):
    for name in ("a-1", "a-2"):
        story.agree(name)
        story.invoice(name, "0.1")
    (row,) = bill(story.events).rows
    assert (row.agreements, row.amount) == (2, D("0.2"))


def test_an_agreement_that_was_not_signed_is_not_billed(story):
    story.tell(
        ev.AgreementCreated,
        instance_id="i-1",
        agreement_id="a-1",
        provider_id=ALPHA,
        provider_name="alpha",
        held=D(1),
    )
    assert bill(story.events).rows == ()


def test_the_amounts_add_up_to_the_budget(story):
    story.tell(ev.PaymentLeftOver, agreement_id="a-9", provider_id=ALPHA, at_most=D("0.05"))
    made = _paid(story)
    assert made.total == D("0.35")
    assert made.total + made.left_over + made.unspent == made.budget == 1


def test_the_bill_reads_as_a_table(story):
    assert _paid(story).render().splitlines() == [
        "provider  agreements   time  amount",
        "--------  ----------  -----  ------",
        "beta               1  4.0 s    0.25",
        "alpha              1  5.0 s     0.1",
        "--------  ----------  -----  ------",
        "total              2  9.0 s    0.35",
        "of a budget of 1; 0.65 unspent",
    ]


def test_what_is_left_over_is_told_below(story):
    story.begin()
    story.tell(ev.PaymentLeftOver, agreement_id="a", provider_id=ALPHA, at_most=D("0.3"))
    assert bill(story.events).render().splitlines()[-2:] == [
        "of a budget of 1; 0.7 unspent",
        "at most 0.3 left over: invoices still to come",
    ]


def test_a_run_without_events_costs_nothing():
    assert bill([]).total == 0
