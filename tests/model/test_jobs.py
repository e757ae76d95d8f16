"""Jobs as values."""

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest

from requestor_sdk.model.jobs import FAILED, JobCode, JobOutcome, JobStatus, ResultFile, stage


@pytest.mark.parametrize("outcome", [None, *JobOutcome])
def test_a_job_is_over_once_it_has_an_outcome_whatever_its_number_is(outcome):
    status = JobStatus(
        id="j", owner="0x", code=99, text="?", created_at=datetime.now(UTC), outcome=outcome
    )
    assert status.over == (outcome is not None)


def test_what_failed_is_told_by_other_numbers_than_what_goes_on_or_is_finished():
    going_on = {JobCode.warming_up, JobCode.started, JobCode.running, JobCode.publishing}
    assert not FAILED & {*going_on, JobCode.finished, JobCode.settling, JobCode.stopped}


def test_a_job_is_shown_as_an_instance_that_goes_the_same_way():
    codes = [JobCode.warming_up, JobCode.configuring_volumes, JobCode.running, JobCode.filtering]
    assert [stage(code) for code in codes] == ["pending", "starting", "running", "stopping"]
    assert stage(99) == "stopping"


def test_a_job_tells_how_long_it_took_and_how_much_it_left():
    begun = datetime(2026, 1, 1, tzinfo=UTC)
    left = tuple(ResultFile(index=n, name=f"{n}", size=10 + n) for n in range(2))
    status = JobStatus(id="j", owner="0x", code=40, text="", created_at=begun, results=left)
    assert (status.seconds, status.size) == (None, 21)
    ended = dataclasses.replace(status, finished_at=begun + timedelta(seconds=90))
    assert ended.seconds == 90
    # A provider whose clock was set back, and one that does not tell when it began.
    assert dataclasses.replace(ended, finished_at=begun - timedelta(seconds=1)).seconds == 0
    nowhere = datetime.fromtimestamp(0, UTC)
    assert dataclasses.replace(ended, created_at=nowhere).seconds is None
