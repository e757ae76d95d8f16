"""Amounts, prices, and the decisions about offers."""

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
    LinearPricing,
    Terms,
    check_offer,
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
