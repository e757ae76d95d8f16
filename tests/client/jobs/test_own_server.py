"""The client at this package's own server: held requests, live logs, ranges, owners."""

import asyncio
import json

import pytest

pytest.importorskip("fastapi", reason="the extra serve is not installed")
pytest.importorskip("uvicorn", reason="the extra serve is not installed")

from networks.ocean.conftest import OTHER, WALLET

from requestor_sdk import AsyncOceanCompute, Compute, ComputeInput, MemoryJournal, OceanConfig
from requestor_sdk.client._c2d_server import JobServer, ServeConfig
from requestor_sdk.errors import (
    AssetNotConsumable,
    JobNotFound,
    JobRefused,
    NetworkInterrupted,
    NetworkUnreachable,
)
from requestor_sdk.model.jobs import JobOutcome
from requestor_sdk.networks.ocean import OceanJobs
from requestor_sdk.networks.ocean.compute import AlgorithmMetadata

pytestmark = pytest.mark.sandbox

COUNT = """
import json, os, pathlib
(did,) = json.loads(os.environ["DIDS"])
data = next(pathlib.Path("/data/inputs", did).iterdir())
pathlib.Path("/data/outputs/n").write_text(str(len(data.read_text().splitlines())))
"""


def an_asset(did, **fields):
    service = {
        "id": "c",
        "type": "compute",
        "files": [{"type": "localfile", "path": "data.csv"}],
        "compute": {"allowRawAlgorithm": True},
    }
    return {"id": did, "metadata": {"type": "dataset"}, "services": [service]} | fields


class Served:
    def __init__(self, config):
        self.config = config
        self.server = None
        self.task = None

    async def start(self):
        ready = asyncio.Event()
        self.server = JobServer(self.config, tell=lambda _line: ready.set())
        self.task = asyncio.create_task(self.server.serve())
        waiting = asyncio.create_task(ready.wait())
        await asyncio.wait({waiting, self.task}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if self.task.done():
            self.task.result()
        self.url = self.server.url

    async def stop(self):
        self.server.stop()
        await self.task


@pytest.fixture
async def served(tmp_path):
    (tmp_path / "data.csv").write_text("a\nb\nc\n")
    denied = {"deny": [{"type": "address", "values": [WALLET.identity]}]}
    assets = [an_asset("did:op:1"), an_asset("did:op:denied", credentials=denied)]
    (tmp_path / "assets.json").write_text(json.dumps(assets))
    made = Served(ServeConfig(folder=tmp_path / "served", port=0, assets=tmp_path / "assets.json"))
    await made.start()
    yield made
    await made.stop()


def compute_at(served, wallet=WALLET):
    return Compute(ocean=OceanConfig(url=served.url, wallet=wallet), journal=MemoryJournal())


async def test_a_job_is_told_as_it_changes_and_asked_for_a_few_times_only(served, monkeypatch):
    from requestor_sdk.networks.ocean._http import Http

    asked = []
    call = Http.call

    async def counted(self, method, path, **options):
        asked.append((method, path))
        return await call(self, method, path, **options)

    monkeypatch.setattr(Http, "call", counted)
    async with compute_at(served) as compute:
        job = await compute.submit_job("did:op:1", COUNT + "import time; time.sleep(3)")
        seen = [update.code async for update in job]
        assert await job.read() == b"3"
    assert seen[-1] == 70
    assert seen == sorted(seen)
    assert asked.count(("GET", "/api/services/compute")) <= len(seen) + 3


async def test_logs_come_while_it_runs(served):
    code = """
import time
print("one", flush=True)
time.sleep(60)
"""
    async with compute_at(served) as compute:
        job = await compute.submit_job(None, code)
        async for line in job.logs():
            assert line == "one"
            assert job.status.outcome is None
            await job.stop()
        assert (await job.wait(check=False)).outcome is JobOutcome.stopped


async def test_what_became_of_it_is_told(served):
    async with compute_at(served) as compute:
        failed = await compute.submit_job(None, "raise SystemExit(3)")
        slow = await compute.submit_job(None, "import time; time.sleep(60)", max_duration=1)
        assert (await failed.wait(check=False)).outcome is JobOutcome.failed
        assert failed.status.exit_code == 3
        assert (await slow.wait(check=False)).outcome is JobOutcome.timed_out


async def test_a_result_goes_on_by_a_range(served, tmp_path):
    code = "import pathlib; pathlib.Path('/data/outputs/big').write_bytes(bytes(range(256)) * 9999)"
    async with compute_at(served) as compute:
        job = await compute.submit_job(None, code)
        at = int((await job.wait()).finished_at.timestamp())
        (tmp_path / "r").mkdir()
        (tmp_path / f"r/big.{at}.part").write_bytes((bytes(range(256)) * 9999)[:1_000_001])
        paths = await job.download(tmp_path / "r")
        assert paths[0].read_bytes() == bytes(range(256)) * 9999
    jobs = OceanJobs(OceanConfig(url=served.url, wallet=WALLET))
    await jobs.open()
    try:
        stream = await jobs.node.result(WALLET, job.id, 0, offset=1000)
        assert (stream.status, stream.content_range[:11]) == (206, "bytes 1000-")
        stream.close()
    finally:
        await jobs.close()


async def test_refusals_come_as_errors_of_ours(served):
    async with compute_at(served) as compute:
        with pytest.raises(AssetNotConsumable) as caught:
            await compute.submit_job("did:op:denied", COUNT)
        assert caught.value.consumable_code == 4
        with pytest.raises(JobRefused) as refused:
            await compute.submit_job("did:op:none", COUNT)
        assert "did_not_found" in refused.value.reasons.values()
        with pytest.raises(JobRefused):
            await compute.submit_job("did:op:1", COUNT, environment="none")
        with pytest.raises(JobNotFound):
            await compute.job("none")
        job = await compute.submit_job("did:op:1", COUNT)
        await job.wait()
    async with compute_at(served, OTHER) as compute:
        assert await compute.jobs() == []
        with pytest.raises(JobNotFound):
            await compute.job(job.id)


async def test_deletion_removes_all(served):
    async with compute_at(served) as compute:
        job = await compute.submit_job(None, "import time; time.sleep(60)")
        await job.delete()
        await job.delete()
        assert await compute.jobs() == []


async def test_ten_jobs_at_once_share_one_wallet(served):
    async with compute_at(served) as compute:
        jobs = await asyncio.gather(*(compute.submit_job("did:op:1", COUNT) for _ in range(10)))
        assert [await job.read() for job in jobs] == [b"3"] * 10


async def test_a_job_is_followed_over_a_restart_of_the_server(served, tmp_path):
    import dataclasses

    async with compute_at(served) as compute:
        job = await compute.submit_job("did:op:1", COUNT + "import time; time.sleep(2)")
        port = int(served.url.rpartition(":")[2])
        await served.stop()
        with pytest.raises((NetworkUnreachable, NetworkInterrupted)):
            await job.refresh()
        served.config = dataclasses.replace(served.config, port=port)
        await served.start()
        assert (await job.wait()).outcome is JobOutcome.succeeded
        assert await job.read() == b"3"


async def test_oceans_own_functions_work_here(served):
    async with AsyncOceanCompute({"METADATA_CACHE_URI": served.url}) as compute:
        from requestor_sdk.networks.ocean.compute import OceanProviders

        providers = OceanProviders()
        ddo = await providers.asset(served.url, "did:op:1")
        await providers.close()
        service = ddo.compute_service()
        environment = await compute.get_free_c2d_environment(service.service_endpoint, 8996)
        meta = AlgorithmMetadata(
            {
                "rawcode": COUNT,
                "language": "python",
                "container": {"entrypoint": "python3 $ALGO", "image": "python", "tag": "3"},
            }
        )
        job_id = await compute.start(
            WALLET, ComputeInput(ddo, service), environment["id"], algorithm_meta=meta
        )
        while (status := await compute.status(ddo, service, job_id, WALLET))["status"] < 70:
            assert status["ok"]
            await asyncio.sleep(0.1)
        assert await compute.compute_job_result_logs(ddo, service, job_id, WALLET) == [b"3"]
        assert await compute.result(ddo, service, job_id, 0, WALLET) == b"3"
        stopped = await compute.stop(ddo, service, job_id, WALLET)
        assert stopped["ok"]
        deleted = await compute.delete(ddo, service, job_id, WALLET)
        assert (deleted["ok"], deleted["status"]) == (True, 8)
