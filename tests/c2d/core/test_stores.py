"""Over each kind of store a job goes the same way."""

from __future__ import annotations

import pytest
from c2d.core.conftest import OWNER, ended, request_of
from c2d.queue.conftest import make_store
from support.jobs import doer_of
from support.postgres import a_server

from requestor_sdk.model.errors import JobNotFound
from requestor_sdk.model.jobs import JobOutcome


@pytest.fixture(scope="session")
def postgres():
    with a_server() as server:
        yield server


@pytest.mark.parametrize("kind", ["memory", "sqlite", "postgres"])
async def test_a_job_is_taken_run_restarted_and_deleted(kind, make_host, tmp_path, request):
    store = make_store(kind, tmp_path, request)
    async with make_host(store) as host:
        record = await host.core.submit(OWNER, request_of("data", rawcode="print('\\0 ü')"))
        for data in (b"first", b"second"):
            await doer_of(host.queue).do(outputs={"outputs/a": data}, log=b"hi\n")
            status = await ended(host.core, record.id)
            assert status.outcome is JobOutcome.succeeded
            found = await host.core.result(OWNER, record.id, 0)
            assert found.path.read_bytes() == data
            if data == b"first":
                await host.core.restart(OWNER, record.id)
        codes = [code for code, _ in await host.core.statuses(OWNER, record.id)]
        assert codes == [1, 10, 20, 30, 40, 50, 60, 70] * 2
        assert [one.id for one in await host.core.jobs(OWNER, did="did:op:data")] == [record.id]
        await host.core.delete(OWNER, record.id)
        with pytest.raises(JobNotFound):
            await host.core.record(OWNER, record.id)
        assert (await host.core.environments())[0].running_jobs == 0
