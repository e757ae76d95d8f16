"""The constraint language: what it reads, what it refuses, what it says of offers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from requestor_sdk.model.constraints import (
    Clause,
    Group,
    conjuncts,
    matches,
    parse,
    ruled_out,
)
from requestor_sdk.model.errors import PayloadError

names = st.from_regex(r"[a-z][a-z0-9._-]{0,12}", fullmatch=True)
values = st.from_regex(r"[a-zA-Z0-9.*_ -]{0,12}", fullmatch=True).map(str.strip)
operators = st.sampled_from(["=", "!=", ">", ">=", "<", "<="])
clauses = st.builds(Clause, names, operators, values)
filters = st.recursive(
    clauses,
    lambda inner: st.one_of(
        st.builds(Group, st.sampled_from("&|"), st.lists(inner, max_size=4).map(tuple)),
        st.builds(Group, st.just("!"), st.tuples(inner)),
    ),
    max_leaves=12,
)
properties = st.dictionaries(
    names, st.one_of(st.integers(), st.booleans(), values, st.lists(values, max_size=3))
)


@given(filters)
def test_what_is_written_is_read_back_the_same(condition):
    assert parse(str(condition)) == condition


@given(filters)
def test_blanks_and_line_ends_between_filters_do_not_matter(condition):
    assert parse(str(condition).replace("(", "\n ( ").replace(")(", ") (")) == condition


@given(filters, properties)
def test_a_filter_is_met_or_its_denial_is(condition, offer):
    assert matches(condition, offer) is not matches(Group("!", (condition,)), offer)


@given(filters, st.lists(properties, max_size=6))
def test_an_offer_is_ruled_out_by_a_part_exactly_where_it_does_not_match(condition, offers):
    counts = ruled_out(condition, offers)
    refused = [offer for offer in offers if not matches(condition, offer)]
    assert bool(counts) is bool(refused)
    assert all(0 < count <= len(offers) for _, count in counts)
    assert [count for _, count in counts] == sorted((c for _, c in counts), reverse=True)


@pytest.mark.parametrize("text", ["", "()", "  ", "(&)"])
def test_an_empty_filter_is_met_by_everything(text):
    assert matches(parse(text), {})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a=1", r"'\(' expected"),
        ("(a=1", "no comparison"),
        ("(a)", "no comparison"),
        ("(", "no comparison"),
        ("(a=1)(b=2)", "follows the end"),
        ("(&(a=1)", r"'\)' is missing"),
        ("(&(a=1)b)", r"'\)' is missing"),
        ("(!(a=1)(b=2))", "exactly one"),
        ("(!)", "exactly one"),
    ],
)
def test_what_is_no_filter_is_refused_where_it_goes_wrong(text, says):
    with pytest.raises(PayloadError, match=says):
        parse(text)


OFFER = {
    "mem": 2,
    "name": "alpha-7",
    "vpn": True,
    "runs": ["vm", "wasm"],
    "version": "1.10",
    "day": "2026-02-01",
}


@pytest.mark.parametrize(
    ("text", "met"),
    [
        ("(mem=2.0)", True),
        ("(mem!=2)", False),
        ("(mem>=2)", True),
        ("(mem>2)", False),
        ("(mem<2.5)", True),
        ("(mem<=1)", False),
        ("(mem=two)", False),
        ("(mem>two)", False),
        ("(name=alpha-*)", True),
        ("(name=*-8)", False),
        ("(name>=alpha-1)", True),
        ("(name=*)", True),
        ("(gpu=*)", False),
        ("(gpu!=nvidia)", True),
        ("(gpu>1)", False),
        ("(vpn=True)", True),
        ("(vpn=false)", False),
        ("(vpn>0)", False),
        ("(runs=wasm)", True),
        ("(runs=docker)", False),
        ("(runs!=docker)", True),
        ("(runs!=vm)", False),
        ("(version>1.9)", False),
        ("(day<2026-03-01)", True),
        ("(&(mem>1)(name=alpha*))", True),
        ("(|(mem>9)(vpn=true))", True),
        ("(|(mem>9)(vpn=false))", False),
        ("(!(mem>9))", True),
    ],
)
def test_an_offer_is_judged_by_its_properties(text, met):
    assert matches(parse(text), OFFER) is met


def test_the_parts_that_must_all_hold_are_told_apart():
    condition = parse("(&(a=1)(&(b=2)(|(c=3)(d=4))))")
    assert [str(part) for part in conjuncts(condition)] == ["(a=1)", "(b=2)", "(|(c=3)(d=4))"]


def test_the_worst_part_is_named_first():
    offers = [{"mem": 1, "gpu": "x"}, {"mem": 1}, {"mem": 4}]
    condition = parse("(&(mem>=2)(gpu=*)(mem>=1))")
    assert dict(ruled_out(condition, offers)) == {"(mem>=2)": 2, "(gpu=*)": 2}
    assert ruled_out(parse("(&(mem>=2)(mem>=4)(mem>=9))"), offers)[0] == ("(mem>=9)", 3)
