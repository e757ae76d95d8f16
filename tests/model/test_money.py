"""Amounts, prices, and the decisions about offers, notes and invoices."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from requestor_sdk.model.errors import AmountError
from requestor_sdk.model.ledger import Ledger
from requestor_sdk.model.money import (
    CPU,
    DURATION,
    HOUR_SEC,
    TOLERANCE_SEC,
    Charged,
    LinearPricing,
    Terms,
    check_debit_note,
    check_invoice,
    check_offer,
    due_by_usage,
    quantized,
    room_for,
    to_amount,
    to_limit,
)

D = Decimal
amounts = st.decimals(min_value=0, max_value=1000, places=6)
prices = st.decimals(min_value=0, max_value=1, places=8)
seconds = st.decimals(min_value=0, max_value=100_000, places=3)

pricings = st.builds(LinearPricing, coeffs=st.tuples(prices, prices), fixed=prices)
HOURLY = LinearPricing(coeffs=(D("0.001"), D("0.002")), fixed=D("0.1"))
TERMS = Terms(pricing=HOURLY, threads=D(2))


# Amounts ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [D("0.1"), 0.1, "0.1"])
def test_an_amount_is_what_it_reads_as(value):
    assert to_amount(value) == D("0.1")


def test_an_integer_is_an_amount():
    assert to_amount(3) == 3


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (True, "must be a number"),
        ("ten", "must be a number"),
        (None, "must be a number"),
        (float("nan"), "must be finite"),
        (float("inf"), "must be finite"),
        (-1, "must be at least 0"),
        ("1e11", "is too large"),
    ],
)
def test_what_is_no_amount_is_refused_by_name(value, says):
    with pytest.raises(AmountError, match=f"budget {says}"):
        to_amount(value, name="budget")


def test_a_least_amount_can_be_demanded():
    with pytest.raises(AmountError, match="at least 1"):
        to_amount("0.5", least=D(1))


@given(st.floats(min_value=0, max_value=1e6))
def test_a_float_is_converted_by_its_repr(value):
    assert to_amount(value) == quantized(D(repr(value)))


@given(st.lists(amounts.map(quantized), max_size=20))
def test_sums_of_amounts_are_exact_in_any_order(values):
    assert sum(values, D(0)) == sum(reversed(values), D(0))


# Prices -------------------------------------------------------------------------------------------


@given(pricings)
def test_a_price_model_survives_the_way_through_an_offer(pricing):
    assert LinearPricing.from_properties(pricing.to_properties()) == pricing


@pytest.mark.parametrize(
    "changed",
    [
        {"golem.com.usage.vector": None},
        {"golem.com.pricing.model.linear.coeffs": "free"},
        {"golem.com.pricing.model.linear.coeffs": [0.1]},
        {"golem.com.pricing.model.linear.coeffs": [0.1, 0.1, "x"]},
        {"golem.com.pricing.model.linear.coeffs": [0.1, -0.1, 0]},
    ],
)
def test_an_offer_without_a_sound_linear_model_has_no_price(changed):
    assert LinearPricing.from_properties({**HOURLY.to_properties(), **changed}) is None


def test_a_counter_that_is_not_charged_costs_nothing():
    assert HOURLY.price(CPU) == D("0.002")
    assert HOURLY.price("golem.usage.gpu-sec") == 0


@given(pricings, seconds, seconds)
def test_no_usage_within_the_time_costs_more_than_the_worst_case(pricing, duration, cpu):
    worst = pricing.worst_case(duration, D(2))
    assert worst is not None
    assert pricing.cost((duration, min(cpu, duration * 2))) <= worst


def test_a_counter_that_time_does_not_bound_has_no_worst_case():
    odd = LinearPricing(counters=(DURATION, "golem.usage.requests"), coeffs=(D(1), D(1)))
    assert odd.worst_case(D(60), D(1)) is None
    assert Terms(pricing=odd).most(60) == 0


def test_an_unbounded_counter_at_price_zero_is_no_obstacle():
    free = LinearPricing(counters=(DURATION, "golem.usage.requests"), coeffs=(D(1), D(0)))
    assert free.worst_case(D(60), D(1)) == 60


@given(st.one_of(st.integers(-50, 0), seconds))
def test_the_most_allows_for_the_clocks_of_both_sides(duration):
    expected = HOURLY.worst_case(max(D(0), D(duration)) + TOLERANCE_SEC, D(2))
    assert TERMS.most(D(max(0, duration))) == expected


# Judgments ----------------------------------------------------------------------------------------


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


# Offers and room ----------------------------------------------------------------------------------

terms = st.builds(Terms, pricing=pricings, threads=st.integers(1, 64).map(D))
budgets = st.decimals(min_value=0, max_value=100_000, places=6)


@given(terms, seconds, seconds, st.fractions(0, 1), budgets)
def test_an_offer_that_is_taken_costs_no_more_than_the_budget_whatever_it_uses(
    offered, until, lasted, load, budget
):
    lasted = min(lasted, until)
    if check_offer(offered, seconds=until, budget=budget) is None:
        cpu = lasted * offered.threads * load.numerator / load.denominator
        assert offered.pricing.cost((lasted, cpu)) <= budget


@given(terms, seconds, budgets)
def test_an_offer_is_declined_for_its_worst_case_exactly_where_that_is_above_the_budget(
    offered, until, budget
):
    reason = check_offer(offered, seconds=until, budget=budget)
    assert (reason is None) is (offered.most(until) <= budget)
    assert reason is None or "above the whole budget" in reason


@given(terms, st.decimals(min_value="0.000001", max_value=100_000, places=6))
def test_a_limit_an_hour_holds_for_an_hour_of_all_processors_without_the_start_fee(offered, limit):
    reason = check_offer(offered, seconds=0, budget=D("1e9"), max_price_per_hour=limit)
    hour = offered.pricing.cost((HOUR_SEC, HOUR_SEC * offered.threads)) - offered.pricing.fixed
    assert (reason is None) is (round(hour, 12) <= limit)
    assert reason is None or "an hour can cost" in reason


def test_an_offer_whose_cost_time_does_not_bound_is_declined():
    assert "not linear" in (check_offer(None, seconds=1, budget=D(1)) or "")
    other = LinearPricing(counters=("golem.usage.gib",), coeffs=(D(1),)).to_properties()
    assert Terms.from_properties(other) is None
    assert (
        Terms.from_properties({**HOURLY.to_properties(), "golem.inf.cpu.threads": "many"}) is None
    )


def test_a_counter_that_is_named_twice_is_limited_by_the_sum_of_its_prices():
    twice = LinearPricing(counters=(DURATION, DURATION), coeffs=(D(0), D(1)))
    assert twice.price(DURATION) == 1
    assert Terms(pricing=twice).per_hour() == 3600


@given(terms, seconds, budgets)
def test_room_for_one_more_is_what_the_ledger_would_hold(offered, until, available):
    room = room_for(offered, seconds=until, available=available)
    assert room.enough is Ledger(available).hold("a", room.needed)


@given(terms, seconds, budgets)
def test_time_makes_the_room_that_it_is_said_to_make(offered, until, available):
    room = room_for(offered, seconds=until, available=available)
    if room.after_sec is not None:
        assert not room.enough
        later = max(D(0), until - D(repr(room.after_sec)) - D("0.001"))
        assert room_for(offered, seconds=later, available=available).enough


def test_an_offer_judged_after_the_expiry_costs_what_the_clocks_may_differ_by():
    assert TERMS.most(-100.0) == TERMS.most(0)


@pytest.mark.parametrize("value", [0, -1, "x", float("nan"), float("inf"), "1e-30"])
def test_a_limit_is_above_zero(value):
    with pytest.raises(AmountError, match="max_price_per_hour must be"):
        to_limit(value, name="max_price_per_hour")


def test_a_limit_can_be_left_out():
    assert to_limit(None, name="budget") is None
    assert to_limit("0.5", name="budget") == D("0.5")


def test_an_offer_without_a_linear_price_says_nothing_about_money():
    assert Terms.from_properties({}) is None
