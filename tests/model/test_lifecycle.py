"""The lifecycle table: row by row as the contract states it, and the traces it can make."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from requestor_sdk.model.lifecycle import (
    TABLE,
    Effect,
    Record,
    Rule,
    ServiceState,
    Step,
    Stimulus,
    Target,
    is_available,
    rule_for,
    step,
)

S, E = ServiceState, Stimulus

# The contract, a line a rule: from | stimuli | if these fields hold | to, and what changes.
# END means pending where the policy allows a restart, and terminated where it does not.
CONTRACT = """
pending      | ready                        |                 | starting
pending      | creation_refused agreement_ended |                 | END
pending      | stop suspend expired cancel  |                 | terminated stop_asked
starting     | start_done                   |                 | running started
starting     | start_done                   | suspend_asked   | suspended started
starting     | start_failed lost            |                 | END
starting     | stop expiring                |                 | stopping stop_asked
starting     | agreement_ended              |                 | stopping
starting     | suspend                      |                 | starting suspend_asked
starting     | silent                       |                 | unresponsive behind=starting
starting     | expired cancel               |                 | terminated stop_asked
running      | run_done run_failed          |                 | stopping
running      | agreement_ended              |                 | stopping
running      | stop expiring                |                 | stopping stop_asked
running      | suspend                      |                 | suspended
running      | silent                       |                 | unresponsive behind=running
running      | lost                         |                 | END
running      | expired cancel               |                 | terminated stop_asked
unresponsive | answers                      | stop_asked      | stopping
unresponsive | answers                      | behind=stopping | stopping
unresponsive | answers                      | suspend_asked started | suspended
unresponsive | answers                      | behind=starting | starting
unresponsive | answers                      | behind=running  | running
unresponsive | start_done                   | behind=starting | unresponsive behind=running started
unresponsive | run_done run_failed          | behind=running  | unresponsive behind=stopping
unresponsive | start_failed deadline lost   |                 | END
unresponsive | agreement_ended              |                 | END
unresponsive | stop expiring                |                 | unresponsive stop_asked
unresponsive | suspend                      | behind=running  | suspended
unresponsive | suspend                      | behind=starting | unresponsive suspend_asked
unresponsive | suspend                      | stop_asked      | unresponsive suspend_asked
unresponsive | expired cancel               |                 | terminated stop_asked
stopping     | shutdown_over lost           |                 | END
stopping     | stop expiring                |                 | stopping stop_asked
stopping     | expired cancel               |                 | terminated stop_asked
suspended    | resume                       |                 | running
suspended    | stop                         |                 | stopping stop_asked
suspended    | lost agreement_ended         |                 | terminated
suspended    | expired                      |                 | terminated stop_asked
"""


def _with(record: Record, fields: list[str]) -> Record:
    for field in fields:
        name, _, value = field.partition("=")
        record = replace(record, **{name: S(value) if value else True})
    return record


def _rows() -> list[tuple[str, Record, Stimulus, str, list[str]]]:
    rows = []
    for line in CONTRACT.strip().splitlines():
        state, stimuli, fields, after = (part.strip() for part in line.split("|"))
        before = _with(Record(state=S(state)), fields.split())
        if before.state is S.unresponsive and before.behind is None:
            before = replace(before, behind=S.running)
        target, *marks = after.split()
        for name in stimuli.split():
            label = f"{state}, {name}{' if ' + fields if fields else ''} -> {after}"
            rows.append((label, before, E[name], target, marks))
    return rows


ROWS = _rows()


def _play(before: Record, stimulus: Stimulus, *, restart: bool) -> Step:
    return step(before, stimulus, may_restart=lambda _: restart)


@pytest.mark.parametrize(
    ("before", "stimulus", "target", "marks"), [row[1:] for row in ROWS], ids=[r[0] for r in ROWS]
)
def test_a_row_of_the_contract_is_what_the_table_does(before, stimulus, target, marks):
    if target == "END":
        ended = _play(before, stimulus, restart=False).record
        assert ended.state is S.terminated
        again = _play(before, stimulus, restart=True).record
        assert (again.state, again.attempt) == (S.pending, before.attempt + 1)
        return
    after = _play(before, stimulus, restart=True).record
    expected = _with(replace(before, state=S(target)), marks)
    if after.state is not S.unresponsive:
        expected = replace(expected, behind=None)
    if after.state is S.suspended:
        expected = replace(expected, suspend_asked=False)
    assert after == expected


@pytest.mark.parametrize("state", list(S))
@pytest.mark.parametrize("stimulus", list(E), ids=lambda stimulus: stimulus.name)
def test_what_the_contract_does_not_list_changes_nothing(state, stimulus):
    listed = any(row[1].state is state and row[2] is stimulus for row in ROWS)
    assert (stimulus in TABLE[state]) is listed
    if not listed:
        before = Record(state=state, cause="kept")
        assert _play(before, stimulus, restart=True) == Step(record=before)


def _records():
    """Return every record there can be; there are few enough to try them all."""
    for state, stop, suspend, started, deployed in product(S, *[(False, True)] * 4):
        for behind in (S.starting, S.running, S.stopping) if state is S.unresponsive else (None,):
            yield Record(
                state=state,
                behind=behind,
                stop_asked=stop,
                suspend_asked=suspend,
                started=started,
                deployed=deployed,
                attempt=3,
            )


RECORDS = tuple(_records())


@pytest.fixture(params=list(E), ids=lambda stimulus: stimulus.name)
def stimulus(request):
    return request.param


@pytest.mark.parametrize("restart", [False, True], ids=["for good", "with restarts"])
def test_the_table_is_total(stimulus, restart):
    for record in RECORDS:
        outcome = _play(record, stimulus, restart=restart)
        assert isinstance(outcome.record.state, S)
        assert (outcome.record.behind is not None) is (outcome.record.state is S.unresponsive)
        if outcome.rule is None:
            assert outcome == Step(record=record)


def test_the_policy_is_asked_at_most_once_and_never_after_a_stop(stimulus):
    for record in RECORDS:
        asked: list[Record] = []
        outcome = step(record, stimulus, may_restart=lambda r, seen=asked: bool(seen.append(r)))
        assert len(asked) <= 1
        assert not (asked and (record.stop_asked or outcome.record.state is not S.terminated))


def test_the_cause_of_a_failure_is_kept_for_the_rest_of_its_attempt_only(stimulus):
    for record in RECORDS:
        outcome = step(record, stimulus, cause="it broke", may_restart=lambda _: True)
        if outcome.record.attempt > record.attempt:
            assert outcome.record.cause is None
        elif outcome.rule is not None:
            assert outcome.record.cause == "it broke"


# Traces -------------------------------------------------------------------------------------------

stories = st.lists(st.tuples(st.sampled_from(E), st.booleans()), max_size=60)


def _trace(story: list[tuple[Stimulus, bool]]) -> list[tuple[Record, Stimulus, Step]]:
    record, trace = Record(), []
    for stimulus, restart in story:
        outcome = _play(record, stimulus, restart=restart)
        trace.append((record, stimulus, outcome))
        record = outcome.record
    return trace


def _attempts(trace: list[tuple[Record, Stimulus, Step]]) -> dict[int, list]:
    found: dict[int, list] = {}
    for entry in trace:
        found.setdefault(entry[0].attempt, []).append(entry)
    return found


@given(stories)
def test_nothing_runs_before_a_start_that_succeeded(story):
    for steps in _attempts(_trace(story)).values():
        succeeded = False
        for before, stimulus, outcome in steps:
            after = outcome.record
            succeeded |= stimulus is E.start_done and outcome.rule is not None
            if after.attempt == before.attempt:
                assert after.started is succeeded
                assert after.state not in (S.running, S.suspended) or succeeded


@given(stories)
def test_shutdown_is_begun_at_most_once_an_attempt(story):
    for steps in _attempts(_trace(story)).values():
        begun = [
            outcome
            for before, _, outcome in steps
            if outcome.record.state is S.stopping and before.state is not S.stopping
        ]
        assert len(begun) <= 1
        assert all(Effect.run_handler in outcome.effects for outcome in begun)


@given(stories)
def test_a_stop_is_for_good(story):
    stopped = False
    for _, _, outcome in _trace(story):
        stopped |= outcome.record.stop_asked
        assert outcome.record.stop_asked is stopped
        assert not (stopped and Effect.acquire in outcome.effects)
        assert not (stopped and outcome.record.state is S.pending)


@given(stories)
def test_terminated_is_final(story):
    for before, _, outcome in _trace(story):
        if before.state is S.terminated:
            assert outcome == Step(record=before)


@given(stories)
def test_every_attempt_is_released_once_and_the_end_is_told_once(story):
    trace = _trace(story)
    last = trace[-1][2].record if trace else Record()
    for number, steps in _attempts(trace).items():
        released = sum(outcome.effects.count(Effect.release) for _, _, outcome in steps)
        over = number < last.attempt or last.state is S.terminated
        assert released == int(over)
    told = sum(outcome.effects.count(Effect.finish) for _, _, outcome in trace)
    assert told == int(last.state is S.terminated)


@given(stories)
def test_a_deadline_runs_exactly_while_the_provider_is_silent(story):
    armed = False
    for _, _, outcome in _trace(story):
        if Effect.arm_deadline in outcome.effects:
            assert not armed
            armed = True
        if Effect.cut_deadline in outcome.effects:
            assert armed
        if Effect.clear_deadline in outcome.effects:
            assert armed
            armed = False
        assert armed is (outcome.record.state is S.unresponsive)


@given(stories)
def test_a_handler_is_closed_before_the_next_one_runs_and_before_the_release(story):
    for _, _, outcome in _trace(story):
        effects = outcome.effects
        if Effect.close_handler in effects:
            assert effects[0] is Effect.close_handler
        if Effect.release in effects:
            assert effects[-2] is Effect.release
            assert effects[-1] in (Effect.acquire, Effect.finish)


@given(stories)
def test_only_an_attempt_that_ends_begins_another(story):
    for before, _, outcome in _trace(story):
        grown = outcome.record.attempt - before.attempt
        assert grown == int(Effect.acquire in outcome.effects)


def test_a_stop_cuts_the_deadline_of_a_silent_provider_once():
    silent = Record(state=S.unresponsive, behind=S.running)
    first = step(silent, E.stop)
    assert first.effects == (Effect.cut_deadline,)
    assert step(first.record, E.stop).effects == ()


def test_an_answer_lets_the_handler_go_on_where_it_was():
    answered = step(Record(state=S.unresponsive, behind=S.starting), E.answers)
    assert answered.effects == (Effect.clear_deadline, Effect.run_handler)


def test_a_stop_meanwhile_closes_the_handler_and_runs_shutdown_on_an_answer():
    silent = Record(state=S.unresponsive, behind=S.running, started=True, stop_asked=True)
    assert step(silent, E.answers).effects == (
        Effect.close_handler,
        Effect.clear_deadline,
        Effect.run_handler,
    )


def test_each_rule_of_the_table_can_be_reached():
    reached = {id(rule_for(row[1], row[2])) for row in ROWS}
    rules = [
        rule for row in TABLE.values() for alternatives in row.values() for rule in alternatives
    ]
    assert {id(rule) for rule in rules} <= reached
    assert all(isinstance(rule, Rule) for rule in rules)


def test_only_states_with_a_handler_take_commands():
    assert {state for state in S if is_available(state)} == {S.starting, S.running, S.stopping}


def test_targets_that_are_no_states_are_named_apart_from_states():
    assert not {target.value for target in Target} & {state.value for state in S}


def test_a_record_that_is_deployed_differs_in_nothing_else():
    record = Record(state=S.starting, suspend_asked=True, cause="slow", attempt=3)
    assert record.with_deployed() == replace(record, deployed=True)
