"""Job objects of every server, and what they mean."""

from datetime import UTC, datetime

import pytest

from requestor_sdk.errors import BadAnswer
from requestor_sdk.model.jobs import JobOutcome, JobStatus, ResultFile
from requestor_sdk.ocean.messages import Generation
from requestor_sdk.ocean.statuses import (
    NODE_TEXTS,
    job_object,
    moment,
    outcome_of,
    results_of,
    status_from,
    text_of,
)

O = JobOutcome  # noqa: E741


@pytest.mark.parametrize(
    ("job", "outcome"),
    [
        ({"status": 1}, None),
        ({"status": 40}, None),
        ({"status": 55, "dateFinished": None}, None),
        ({"status": 31}, O.failed),
        ({"status": 32, "dateFinished": "5"}, O.failed),
        ({"status": 41, "dateFinished": "5"}, O.failed),
        ({"status": 2, "dateFinished": "5"}, O.expired),
        ({"status": 70}, O.succeeded),
        ({"status": 70, "stopreq": 1, "dateFinished": "5"}, O.stopped),
        ({"status": 70, "stopreq": 2, "dateFinished": "5"}, O.timed_out),
        ({"status": 7, "stopreq": 1}, None),
        ({"status": 7, "dateFinished": "5"}, O.stopped),
        ({"status": 8}, O.stopped),
        ({"status": 71, "terminationDetails": {"exitCode": 0}}, O.succeeded),
        ({"status": 71, "terminationDetails": {"exitCode": 3}}, O.failed),
        ({"status": 71, "terminationDetails": {"exitCode": 143}}, O.failed),
        (
            {"status": 71, "stopRequested": True, "terminationDetails": {"exitCode": -15}},
            O.stopped,
        ),
        (
            {
                "status": 71,
                "terminationDetails": {"exitCode": 143},
                "maxJobDuration": 10,
                "algoStartTimestamp": "100",
                "algoStopTimestamp": "110.5",
            },
            O.timed_out,
        ),
        ({"status": 40, "dateFinished": "5"}, O.failed),
        ({"status": 40, "dateFinished": "5", "terminationDetails": {"exitCode": 0}}, O.succeeded),
        ({"status": 5, "dateFinished": "5", "results": [{"filename": "a"}]}, O.succeeded),
        ({"status": 70, "outcome": "failed"}, O.failed),
        ({"status": 40, "outcome": None}, None),
    ],
)
def test_what_became_of_a_job_is_told_by_all_that_a_server_says(job, outcome):
    assert outcome_of(job) is outcome


@pytest.mark.parametrize("value", ["1600000000", 1600000000, 1600000000.0, "2020-09-13T12:26:40Z"])
def test_times_are_read_in_every_form(value):
    assert moment(value) == datetime(2020, 9, 13, 12, 26, 40, tzinfo=UTC)


@pytest.mark.parametrize("value", [None, "", "soon", True, "1e99", "nan"])
def test_what_is_no_time_is_none(value):
    assert moment(value) is None


@pytest.mark.parametrize("value", ["", None, {}, "x"])
def test_results_may_be_sent_as_nothing(value):
    assert results_of(value) == ()


def test_a_result_without_an_index_has_its_place():
    found = results_of(
        [{"filename": "a", "filesize": "3", "type": "configrationLog"}, {"index": 7}]
    )
    assert found[0] == ResultFile(index=0, name="a", size=3, type="configurationLog")
    assert found[1].index == 7


def test_the_id_of_the_start_call_is_kept():
    assert status_from({"jobId": "abc", "status": 1}, job_id="hash-abc").id == "hash-abc"


def test_a_job_without_a_number_is_a_bad_answer():
    with pytest.raises(BadAnswer):
        status_from({"jobId": "a"})
    with pytest.raises(BadAnswer):
        status_from({"status": 1})


def test_a_failure_says_why():
    job = {"jobId": "a", "status": 71, "terminationDetails": {"exitCode": 3}}
    assert status_from(job).error == "its process ended with 3"
    job["terminationDetails"] = {"exitCode": 137, "OOMKilled": True}
    assert status_from(job).error == "it used more memory than it may"


def test_what_a_server_says_is_one_line_that_steers_no_terminal():
    said = {"jobId": "a", "status": 31, "statusText": "\x1b[2J one\n two" + "x" * 10_000}
    status = status_from(said)
    assert status.text.startswith("?[2J one two")
    assert len(status.text) <= 500
    assert status.text.isprintable()


@pytest.mark.parametrize("told", [None, "x", -3, [], {"a": 1}, float("inf"), True])
def test_an_attempt_that_is_no_number_is_none_that_is_known(told):
    status = status_from({"jobId": "a", "status": 40, "worker": "w\n\x1b[2J", "attempt": told})
    assert (status.worker, status.attempt) == ("w ?[2J", 0)


def test_an_unknown_number_has_a_text():
    assert text_of(99) == "Status 99"
    assert text_of(71, Generation.node) == NODE_TEXTS[71]


@pytest.mark.parametrize("outcome", [None, *JobOutcome])
def test_what_is_sent_is_what_is_read(outcome):
    ended = datetime(2026, 1, 2, tzinfo=UTC)
    status = JobStatus(
        id="j1",
        owner="0xabc",
        code=40 if outcome is None else 70,
        text="text",
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        finished_at=None if outcome is None else ended,
        outcome=outcome,
        exit_code=None if outcome is None else 0,
        environment="env",
        results=(ResultFile(index=0, name="a.csv", size=5),),
        error="why" if outcome is JobOutcome.failed else None,
        worker="w1",
        attempt=2,
    )
    sent = job_object(status, did="did:op:1")
    assert status_from(sent) == status
    del sent["outcome"]
    if outcome not in (JobOutcome.failed, JobOutcome.expired):
        assert status_from(sent) == status
    for field in ("documentId", "algorithmLogUrl", "resultsUrls", "resultsDid", "stopreq"):
        assert field in sent
