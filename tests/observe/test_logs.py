"""A run in the log: levels, texts, and ids in every record."""

from __future__ import annotations

import asyncio
import logging
import re
from decimal import Decimal

import pytest
from observe.conftest import ALPHA, START

from requestor_sdk import Compute, Service
from requestor_sdk.model import events as ev
from requestor_sdk.monitoring import EventLog, LogIds
from requestor_sdk.observe.logs import IDS, Reader
from requestor_sdk.payload import VmPayload
from requestor_sdk.testing import SimulatedNetwork, VirtualTimeLoop


def pytest_asyncio_loop_factories(config, item):
    return {"virtual": VirtualTimeLoop}


class Kept(logging.Handler):
    def __init__(self):
        super().__init__()
        self.records = []

    def emit(self, record):
        self.records.append(record)


@pytest.fixture
def kept():
    """Everything that is logged meanwhile, whatever its level, as a handler with LogIds has it."""
    handler, root = Kept(), logging.getLogger()
    handler.addFilter(LogIds())
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield handler
    root.setLevel(level)
    root.removeHandler(handler)


def test_every_record_has_all_ids_and_those_of_its_event(story, kept):
    log = EventLog()
    story.lose_and_restart()
    story.tell(ev.TaskStarted, task_id="t-1", job_id="j-1", instance_id="i-1", provider_id=ALPHA,
               provider_name="alpha", attempt=1)  # fmt: skip
    for event in story.events:
        log(event)
    assert len(kept.records) == len(story.events)
    for record in kept.records:
        assert record.run_id == "r-1"
        assert all(isinstance(getattr(record, name), str) for name in IDS)
    assert (kept.records[-1].task_id, kept.records[-1].event) == ("t-1", "TaskStarted")


def test_a_record_that_names_an_agreement_has_its_instance_too(story, kept):
    story.begin()
    story.agree("a-1")
    story.note("a-1", "0.1")
    log = EventLog()
    for event in story.events:
        log(event)
    found = kept.records[-1]
    assert (found.event, found.instance_id, found.provider_id) == (
        "DebitNoteAccepted",
        "i-1",
        ALPHA,
    )


@pytest.mark.parametrize(
    ("kind", "values", "level"),
    [
        (ev.ComputationStarted, {"run_id": "r", "network": "n", "budget": Decimal(1)}, "INFO"),
        (ev.ComputationFinished, {"run_id": "r", "spent": Decimal(1)}, "INFO"),
        (ev.ComputationFinished, {"run_id": "r", "spent": Decimal(1), "error": "no"}, "ERROR"),
        (ev.NoOffersYet, {"cluster_id": "c", "offers": 0}, "WARNING"),
        (ev.StimulusIgnored, {"instance_id": "i", "state": "s", "stimulus": "x"}, "DEBUG"),
        (
            ev.ServiceFailed,
            {"instance_id": "i", "cluster_id": "c", "attempt": 1, "error": "no"},
            "ERROR",
        ),
    ],
)
def test_the_level_says_how_bad_it_is(story, kind, values, level):
    told, text, _ = Reader().read(story.tell(kind, **values))
    assert logging.getLevelName(told) == level
    assert text


TASK = {"task_id": "task-3", "job_id": "job-1"}


@pytest.mark.parametrize(
    ("kind", "values", "text"),
    [
        (ev.JobStarted, {"job_id": "job-1", "max_workers": 3}, "job-1 begins, with 3 workers at"),
        (ev.TaskFinished, {**TASK, "status": "accepted", "attempts": 1}, "task-3 is accepted"),
        (
            ev.TaskFinished,
            {**TASK, "status": "failed", "attempts": 2},
            "is failed after 2 attempts",
        ),
        (
            ev.TaskAttemptFailed,
            {**TASK, "instance_id": "i-1", "attempt": 2, "error": "no"},
            "task-3 failed in attempt 2 on i-1: no",
        ),
        (
            ev.TaskRejected,
            {**TASK, "instance_id": "i-1", "attempt": 1, "reason": "short", "retry": True},
            "the result of task-3 on i-1 was rejected, and is tried again: short",
        ),
        (ev.JobFinished, {"job_id": "job-1", "accepted": 9, "failed": 1}, "9 accepted, 1 failed"),
        (ev.JobFinished, {"job_id": "job-1", "error": "no"}, "is over, without a task: no"),
    ],
)
def test_a_log_tells_of_tasks_in_words(story, kind, values, text):
    assert text in Reader().read(story.tell(kind, **values))[1]


def test_a_log_tells_of_a_cluster_and_its_agreements_in_words(story):
    reader = Reader()
    begun = story.tell(ev.ClusterStarted, cluster_id="c-1", service="Web", expiration=START)
    story.agree("a-1")
    assert reader.read(begun)[1].startswith("c-1 of Web begins, until 2026-11-2")
    assert "i-1 has an agreement with alpha" in [reader.read(one)[1] for one in story.events]


def test_a_lost_instance_and_a_silent_one_are_warnings(story):
    lost = story.move("running", "pending", stimulus="lost", cause="killed")
    silent = story.move("running", "unresponsive")
    back = story.move("unresponsive", "running")
    reader = Reader()
    assert [reader.read(event)[0] for event in (lost, silent, back)] == [
        logging.WARNING,
        logging.WARNING,
        logging.INFO,
    ]


def test_another_logger_can_be_named(story, kept):
    EventLog("mine")(story.begin())
    assert [record.name for record in kept.records] == ["mine"]


class Chatty(Service):
    @staticmethod
    async def get_payload():
        return VmPayload(image_tag="any")

    async def run(self):
        script = self.ctx.new_script()
        script.run("/bin/true", env={"TOKEN": "s3cret-of-the-environment"})
        script.upload_bytes(b"s3cret-of-a-file", "/tmp/x")
        yield script
        logging.getLogger("mine").info("at work")


async def test_what_a_handler_logs_by_itself_has_the_ids_of_its_run_and_instance(kept):
    async with Compute(budget=1, network=SimulatedNetwork(), event_consumer=EventLog()) as compute:
        cluster = await compute.run_service(Chatty, num_instances=3)
        await cluster.wait("terminated")
    mine = [(r.run_id, r.instance_id) for r in kept.records if r.name == "mine"]
    assert sorted(mine) == [(compute.run_id, f"i-{number}") for number in (1, 2, 3)]


async def test_a_log_that_begins_amid_a_run_knows_which_it_is_of(kept):
    async with Compute(budget=1, network=SimulatedNetwork()) as compute:
        compute.add_event_consumer(EventLog())
        cluster = await compute.run_service(Chatty)
        await cluster.wait("terminated")
    told = [record for record in kept.records if record.name == "requestor_sdk.events"]
    assert told[0].event == "ComputationStarted"
    assert {record.run_id for record in told} == {compute.run_id}


async def test_no_record_of_a_run_has_a_secret(kept, monkeypatch):
    monkeypatch.setenv("YAGNA_APPKEY", "s3cret-app-key")
    async with Compute(budget=1, network=SimulatedNetwork(), event_consumer=EventLog()) as compute:
        cluster = await compute.run_service(Chatty)
        await cluster.wait("terminated")
    assert len(kept.records) > 20
    for record in kept.records:
        said = f"{record.getMessage()} {record.__dict__}"
        assert "s3cret" not in said
    assert not any("s3cret" in str(e.to_record()) for e in compute.journal.read())


@pytest.mark.sandbox
def test_no_record_of_a_real_run_has_a_key(kept, tmp_path, monkeypatch):
    monkeypatch.setenv("REQUESTOR_SDK_HOME", str(tmp_path))

    async def run():
        async with Compute(budget=1, event_consumer=EventLog()) as compute:
            cluster = await compute.run_service(Chatty, payload=VmPayload())
            await cluster.wait("terminated")
        return compute

    compute = asyncio.run(run())
    keys = [path.read_text().strip() for path in tmp_path.rglob("*.key")]
    assert len(keys) == 5  # the requestor's, and one of each provider
    assert all(re.fullmatch(r"[0-9a-f]{64}", key) for key in keys)
    said = "\n".join(f"{record.getMessage()} {record.__dict__}" for record in kept.records)
    said += "\n".join(str(event.to_record()) for event in compute.journal.read())
    said += compute.timeline().to_html() + compute.timeline().to_json()
    assert not [key for key in keys if key in said]
    assert "s3cret" not in said
