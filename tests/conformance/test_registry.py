"""The registry is whole, and the page of the documentation is what it says."""

import pytest
from conformance.registry import DEFECTS, ELSEWHERE, PAGE, RULES, page, shown_tests

SHOWN = shown_tests()
PLAIN = ("test_registry.py", "test_tables_of_the_older_sdk.py")


def test_there_are_seventeen_rules_and_thirty_six_defects():
    assert list(RULES) == list(range(1, 18))
    assert list(DEFECTS) == [f"d{number}" for number in range(1, 37)]


@pytest.mark.parametrize("number", RULES)
def test_a_test_shows_each_rule(number):
    assert any(number in one.rules for one in SHOWN)


@pytest.mark.parametrize("number", DEFECTS)
def test_a_test_shows_that_a_defect_is_not_here_or_the_reason_why_none_can_is_given(number):
    tested = any(number in one.defects for one in SHOWN)
    reason = ELSEWHERE.get(number, "")
    assert tested or reason
    # Both only where part of it is shown, and the reason says so.
    assert not (tested and reason) or reason.startswith("in part")


def test_markers_name_what_there_is_and_each_test_shows_something():
    for one in SHOWN:
        assert set(one.rules) <= set(RULES)
        assert set(one.defects) <= set(DEFECTS)
        assert one.rules or one.defects or one.file in PLAIN, one


def test_no_two_tests_have_one_name():
    names = [one.name for one in SHOWN]
    assert len(names) == len(set(names))


def test_the_page_is_what_the_registry_says():
    assert PAGE.read_text() == page(), "write it anew: cd tests && python -m conformance.registry"
