"""The ledger in any order of calls, right or wrong, on the whole and on parts of it."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from requestor_sdk.model.ledger import Ledger
from requestor_sdk.model.money import ROUNDING

D = Decimal
NAMES = st.sampled_from(["a", "b", "c", "d", "e"])
LIMITS = {"": None, "small": D(20), "wide": D(500)}
AMOUNTS = st.decimals(-10, 150, places=3)


class LedgerMachine(RuleBasedStateMachine):
    """Keeps a second book, agreement by agreement, and compares."""

    def __init__(self):
        super().__init__()
        self.ledger = Ledger(D(100))
        for name, limit in LIMITS.items():
            self.ledger.part(name, limit)
        self.parts = {}
        self.spent = dict.fromkeys(LIMITS, D(0))
        self.budget = D(100)

    def known(self, name):
        return name in self.ledger.open_agreements()

    @rule(name=NAMES, amount=AMOUNTS, part=st.sampled_from(sorted(LIMITS)))
    def hold(self, name, amount, part):
        room, known = self.ledger.room(part), self.known(name)
        assert self.ledger.hold(name, amount, part) is (not known and 0 <= amount <= room)
        if not known and 0 <= amount <= room:
            self.parts[name] = part

    @rule(name=NAMES, amount=AMOUNTS)
    def extend(self, name, amount):
        cap, living = self.ledger.payable_for(name), self.known(name)
        if self.ledger.extend(name, amount):
            assert living
            assert self.ledger.payable_for(name) == max(cap, amount)
        else:
            assert self.ledger.payable_for(name) == cap

    @rule(name=NAMES, total=AMOUNTS)
    def accept(self, name, total):
        cap, before = self.ledger.payable_for(name), self.ledger.accepted(name)
        known = self.known(name)
        right = known and (total <= cap or total <= before)
        assert self.ledger.accept(name, total) is right
        if known:
            self.spent[self.parts[name]] += self.ledger.accepted(name) - before

    @rule(name=NAMES)
    def accept_all_and_what_the_other_side_rounds_it_up_by(self, name):
        self.accept_rounded(name, self.ledger.payable_for(name) + ROUNDING)

    def accept_rounded(self, name, total):
        before, available = self.ledger.accepted(name), self.ledger.available
        if self.ledger.accept(name, total):
            self.spent[self.parts[name]] += total - before
            assert self.ledger.accepted(name) == total
            assert self.ledger.available >= available - ROUNDING
        else:
            assert self.ledger.accepted(name) == before

    @rule(name=NAMES, most=AMOUNTS)
    def end(self, name, most):
        cap = max(self.ledger.payable_for(name), self.ledger.accepted(name))
        self.ledger.end(name, most)
        assert self.ledger.payable_for(name) <= cap
        assert not self.ledger.extend(name, cap + 1)

    @rule(name=NAMES)
    def give_up(self, name):
        before, kept = self.ledger.available, self.ledger.give_up(name)
        assert self.ledger.available == before + kept
        assert self.ledger.give_up(name) == 0
        self.ledger.settle(name)

    @rule(name=NAMES)
    def settle(self, name):
        rest = max(D(0), self.ledger.payable_for(name) - self.ledger.accepted(name))
        assert self.ledger.settle(name) == rest
        assert not self.known(name)

    @precondition(lambda self: self.ledger.open_agreements())
    @rule(data=st.data())
    def rename(self, data):
        old = data.draw(st.sampled_from(self.ledger.open_agreements()))
        new = data.draw(st.sampled_from(["a", "b", "c", "d", "e"]))
        if not self.known(new):
            cap = self.ledger.payable_for(old)
            self.ledger.rename(old, new)
            self.parts[new] = self.parts[old]
            assert not self.known(old)
            assert self.ledger.payable_for(new) == cap

    @rule(amount=st.decimals(0, 10, places=3))
    def add(self, amount):
        before = self.ledger.available
        self.ledger.add(amount)
        self.budget += amount
        assert self.ledger.available == before + amount

    @precondition(lambda self: not self.ledger.open_agreements())
    @rule()
    def all_settled_means_nothing_is_bound(self):
        for name in LIMITS:
            part = self.ledger.part(name)
            assert (part.held, part.payable) == (0, 0)

    @invariant()
    def the_ledger_is_sound(self):
        ledger = self.ledger
        assert ledger.check() == ()
        assert ledger.budget == self.budget
        assert ledger.budget == ledger.available + ledger.held + ledger.payable + ledger.spent
        assert ledger.available >= 0
        for name, limit in LIMITS.items():
            part = ledger.part(name)
            assert part.spent == self.spent[name]
            assert 0 <= ledger.room(name) <= ledger.available
            assert ledger.limit_of(name) == min(ledger.budget, limit or ledger.budget)
            assert limit is None or part.held + part.payable + part.spent <= limit


LedgerMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
TestLedger = LedgerMachine.TestCase


def test_an_ended_agreement_moves_what_can_still_be_asked_for_to_payable():
    ledger = Ledger(D(10))
    assert ledger.hold("a", D(5))
    assert ledger.accept("a", D(1))
    ledger.end("a", D(3))
    assert (ledger.held, ledger.payable, ledger.spent) == (0, 2, 1)
    assert ledger.accept("a", D(3))
    assert (ledger.payable, ledger.spent) == (0, 3)


def test_what_is_above_the_cap_by_the_rounding_is_counted_where_there_is_room_for_it():
    ledger = Ledger(D(2))
    assert ledger.hold("a", D(1))
    assert not ledger.accept("a", D(1) + 2 * ROUNDING)
    assert ledger.accept("a", D(1) + ROUNDING)
    assert (ledger.held, ledger.spent) == (0, 1 + ROUNDING)
    assert not ledger.hold("b", D(1))
    ledger.end("a", D(0))
    assert ledger.settle("a") == 0
    assert ledger.check() == ()
    assert ledger.hold("b", 1 - ROUNDING)
    assert not ledger.accept("b", D(1)), "there is no room for the rounding"
    assert ledger.spent == 1 + ROUNDING


def test_one_that_was_given_up_keeps_nothing_and_is_accepted_where_there_is_room():
    ledger = Ledger(D(10))
    ledger.hold("a", D(6))
    ledger.accept("a", D(2))
    ledger.end("a", D(5))
    assert ledger.give_up("a") == 3
    assert (ledger.payable, ledger.spent, ledger.open_agreements()) == (0, 2, ())
    assert not ledger.extend("a", D(6))
    assert ledger.hold("b", D(7))
    assert not ledger.accept("a", D(4)), "only 1 is free"
    assert ledger.accept("a", D(3))
    assert (ledger.available, ledger.settle("a")) == (0, 0)
    assert ledger.check() == ()


def test_a_part_leaves_to_others_what_it_may_not_use():
    ledger = Ledger(D(10))
    ledger.part("mine", D(4))
    assert not ledger.hold("a", D(5), "mine")
    assert ledger.hold("a", D(4), "mine")
    assert ledger.room("mine") == 0
    assert not ledger.hold("b", D(1), "mine")
    assert ledger.hold("b", D(6), "other")


def test_what_a_held_agreement_is_extended_by_must_fit_the_whole_and_its_part():
    ledger = Ledger(D(10))
    ledger.part("mine", D(4))
    assert ledger.hold("a", D(3), "mine")
    assert ledger.extend("a", D(4))
    assert not ledger.extend("a", D(5))
    assert ledger.held == 4
    assert ledger.hold("b", D(6), "other")
    assert not ledger.extend("b", D(7))


def test_only_a_living_agreement_is_extended():
    ledger = Ledger(D(10))
    assert not ledger.extend("a", D(1))
    assert ledger.hold("a", D(3))
    ledger.rename("a", "b")
    assert ledger.extend("b", D(4))
    ledger.end("b", D(2))
    assert not ledger.extend("b", D(5))


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("held", D(1), "differ from its entries"),
        ("spent", D(11), "above the budget"),
        ("spent", D(-1), "negative"),
        ("spent", D(1), "do not make up the whole"),
    ],
)
def test_a_corrupt_ledger_says_what_is_wrong(field, value, says):
    ledger = Ledger(D(10))
    setattr(ledger._whole, field, value)
    assert any(says in line for line in ledger.check())
