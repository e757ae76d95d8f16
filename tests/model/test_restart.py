"""The restart policy: which endings call for another attempt, and how many and how soon."""

from __future__ import annotations

from datetime import timedelta
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from requestor_sdk.model.errors import AmountError, UsageError
from requestor_sdk.model.lifecycle import Record
from requestor_sdk.model.restart import RenewalPolicy, RestartPolicy, When

NEVER_STARTED = Record(cause="start failed")
FAILED = Record(started=True, cause="lost")
DONE = Record(started=True)


@pytest.mark.parametrize(
    ("when", "wanted"),
    [
        ("never", []),
        ("unstarted", [NEVER_STARTED]),
        ("on-failure", [NEVER_STARTED, FAILED]),
        ("always", [NEVER_STARTED, FAILED, DONE]),
    ],
)
def test_the_kind_of_ending_decides(when, wanted):
    policy = RestartPolicy(when=when)
    assert [r for r in (NEVER_STARTED, FAILED, DONE) if policy.wants(r)] == wanted


def test_every_word_for_when_is_understood():
    assert all(isinstance(RestartPolicy(when=word).wants(DONE), bool) for word in get_args(When))


def test_without_a_limit_there_is_always_another_attempt():
    assert RestartPolicy().allows(list(range(1000)), 1000)


@given(st.lists(st.floats(0, 100), max_size=10), st.integers(1, 10))
def test_a_limit_counts_all_attempts_of_a_life(attempts, limit):
    assert RestartPolicy(max_attempts=limit).allows(attempts, 100) is (len(attempts) < limit)


def test_a_window_forgets_what_is_older():
    policy = RestartPolicy(max_attempts=2, window=timedelta(seconds=10))
    assert not policy.allows([1, 2], 5)
    assert policy.allows([1, 2], 11)


@given(st.integers(0, 10_000), st.integers(0, 10_000))
def test_the_pause_grows_with_failures_and_never_above_its_limit(fewer, more):
    policy = RestartPolicy()
    fewer, more = sorted((fewer, more))
    assert policy.pause(fewer) <= policy.pause(more) <= 60


def test_the_pause_doubles():
    policy = RestartPolicy(backoff=timedelta(seconds=1), backoff_max=timedelta(seconds=5))
    assert [policy.pause(n) for n in range(5)] == [0, 1, 2, 4, 5]


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        ({"when": "sometimes"}, UsageError, "never, unstarted, on-failure, always"),
        ({"max_attempts": 0}, AmountError, "at least 1"),
        ({"backoff": timedelta(seconds=-1)}, AmountError, "backoff must not be negative"),
        ({"backoff_max": timedelta(seconds=-1)}, AmountError, "backoff_max must not"),
        ({"window": timedelta(0)}, AmountError, "window must be positive"),
    ],
)
def test_what_makes_no_sense_is_refused(wrong, error, says):
    with pytest.raises(error, match=says):
        RestartPolicy(**wrong)


@pytest.mark.parametrize("name", ["backoff", "backoff_max", "window"])
def test_a_time_that_is_no_timedelta_is_refused_by_name(name):
    with pytest.raises(UsageError, match=f"{name} must be a timedelta, not 5"):
        RestartPolicy(**{name: 5})


def test_a_renewal_begins_so_long_before_the_instance_has_to_be_stopped():
    policy = RenewalPolicy(before=timedelta(minutes=5))
    assert policy.begins_after(timedelta(hours=1), 70) == 3600 - 70 - 300
    assert policy.begins_after(timedelta(minutes=6), 70) < 0


@pytest.mark.parametrize(
    ("before", "error"), [(timedelta(0), AmountError), (5, UsageError), (None, UsageError)]
)
def test_a_renewal_that_begins_at_no_time_is_refused(before, error):
    with pytest.raises(error, match="before"):
        RenewalPolicy(before=before)
