"""The provider of jobs put together: its own workers are looked after."""

import asyncio

import pytest

from requestor_sdk import Compute, LocalNetwork, MemoryJournal
from requestor_sdk.model.errors import NotAvailable
from requestor_sdk.model.jobs import JobOutcome
from requestor_sdk.worker._worker import Worker

pytestmark = pytest.mark.sandbox


@pytest.mark.parametrize("error", [NotAvailable("the journal is in use"), RuntimeError("a defect")])
async def test_a_worker_within_that_ends_by_an_error_is_told_and_begun_anew(
    monkeypatch, caplog, error
):
    whole, tries = Worker.run, []

    async def run(worker):
        tries.append(worker)
        if len(tries) == 1:
            raise error
        await whole(worker)

    monkeypatch.setattr(Worker, "run", run)
    monkeypatch.setattr("requestor_sdk.client._job_host.AGAIN_SEC", 0.1)
    async with (
        asyncio.timeout(30),
        Compute(network=LocalNetwork(providers=1), journal=MemoryJournal()) as compute,
    ):
        job = await compute.submit_job(None, "print('done')")
        assert (await job.wait()).outcome is JobOutcome.succeeded
    assert str(error) in caplog.text
    assert len(tries) == 2


async def test_a_worker_within_that_cannot_be_begun_holds_no_end_up(monkeypatch, caplog):
    async def run(worker):
        raise RuntimeError("again and again")

    monkeypatch.setattr(Worker, "run", run)
    async with (
        asyncio.timeout(20),
        Compute(network=LocalNetwork(providers=1), journal=MemoryJournal()) as compute,
    ):
        await compute.submit_job(None, "print('done')")
        await asyncio.sleep(0.1)
    assert "again and again" in caplog.text
