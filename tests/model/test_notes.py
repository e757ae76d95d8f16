"""The decisions about debit notes and invoices."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from requestor_sdk.model.money import LinearPricing, Terms, quantized
from requestor_sdk.model.notes import Charged, check_debit_note, check_invoice, due_by_usage

D = Decimal
seconds = st.decimals(min_value=0, max_value=100_000, places=3)
HOURLY = LinearPricing(coeffs=(D("0.001"), D("0.002")), fixed=D("0.1"))
TERMS = Terms(pricing=HOURLY, threads=D(2))


def _note(**changed):
    usage = changed.pop("usage", (D(100), D(50)))
    values = {"total": HOURLY.cost(usage[:2]) if len(usage) == 2 else D(0), "usage": usage}
    values |= {"elapsed_sec": D(100), "accepted": D(0), **changed}
    return check_debit_note(TERMS, **values)


@given(seconds, st.decimals(min_value=0, max_value=2, places=3), st.decimals(0, 1, places=3))
def test_an_honest_note_is_right(elapsed, load, discount):
    usage = (elapsed, quantized(elapsed * load))
    total = quantized(HOURLY.cost(usage) * discount)
    assert _note(usage=usage, total=total, elapsed_sec=elapsed) is None


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"usage": (D(1),)}, "the usage vector has 1 counters, the agreement 2"),
        ({"usage": (D("NaN"), D(0)), "total": D(0)}, "no finite number"),
        ({"total": D("Infinity")}, "no finite number"),
        ({"total": D("1e-19")}, "smallest units"),
        ({"usage": (D(-1), D(0))}, "a usage counter is negative"),
        ({"previous_usage": (D(101), D(0))}, "a usage counter fell"),
        ({"total": D(9)}, "above usage x agreed price"),
        ({"total": D("0.1"), "accepted": D("0.2")}, "the total fell from 0.2 to 0.1"),
        ({"elapsed_sec": D(10)}, "duration_sec says 100 s, and at most 15 s can have passed"),
        ({"usage": (D(100), D(300))}, "cpu_sec says 300 s, and at most 210 s can have passed"),
        ({"elapsed_sec": D(10), "lasted_sec": D(100)}, "the most that 10 s can have cost"),
    ],
)
def test_a_wrong_note_is_rejected_with_the_reason(changed, says):
    assert says in (_note(**changed) or "")


@pytest.mark.parametrize(
    ("usage", "due"),
    [
        ((D(50), D(10)), HOURLY.cost((D(50), D(10)))),
        ((D(50),), None),
        ((D("NaN"), D(0)), None),
        ((D(-1), D(0)), None),
        ((D(5), D(0)), None),  # it fell
        ((D(500), D(0)), None),  # so long did it not last
    ],
)
def test_a_usage_that_can_be_right_comes_to_what_its_price_is(usage, due):
    told = due_by_usage(TERMS, usage=usage, lasted_sec=D(100), previous_usage=(D(10), D(0)))
    assert told == due


def _invoice(**changed):
    activity = {
        name: changed.pop(name, value)
        for name, value in (("noted", D("0.3")), ("noted_at_sec", D(0)), ("elapsed_sec", D(100)))
    }
    values = {"amount": D("0.3"), "activities": (Charged(**activity),), "payable": D(1)}
    return check_invoice(TERMS, **{**values, **changed})


def test_an_invoice_over_several_activities_may_ask_for_each_and_for_each_start_fee():
    two = (Charged(elapsed_sec=D(100), noted=D("0.3")), Charged(elapsed_sec=D(50), noted=D("0.2")))
    assert _invoice(amount=D("0.5"), activities=two) is None
    most = TERMS.most(D(100)) + TERMS.most(D(50))
    unnoted = tuple(Charged(elapsed_sec=each.elapsed_sec) for each in two)
    assert _invoice(amount=most, activities=unnoted) is None
    assert "the most that 150 s" in (_invoice(amount=most + 1, activities=unnoted) or "")
    late = tuple(Charged(elapsed_sec=D(9), noted=D("0.1"), noted_at_sec=D(9)) for _ in two)
    assert "above the last debit notes, 0.2" in (_invoice(amount=D("0.33"), activities=late) or "")


def test_an_honest_invoice_is_right_with_or_without_a_note_before_it():
    assert _invoice() is None
    assert _invoice(noted=None) is None


def test_an_invoice_may_be_above_a_note_by_what_the_time_since_it_can_have_cost():
    assert _invoice(noted=D("0.2"), noted_at_sec=D(50)) is None


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"amount": D(-1)}, "negative"),
        ({"amount": D("NaN")}, "no finite number"),
        ({"amount": D("1e-19")}, "smallest units"),
        (
            {"noted": D("0.2"), "noted_at_sec": D(100)},
            "above the last debit notes, 0.2",
        ),
        ({"noted": None, "amount": D(2), "payable": D(9)}, "the most that 100 s can have cost"),
        ({"payable": D("0.2")}, "above 0.2, which is held"),
    ],
)
def test_a_wrong_invoice_is_rejected_with_the_reason(changed, says):
    assert says in (_invoice(**changed) or "")
