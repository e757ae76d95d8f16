"""Jobs on `local`: real algorithms over real files, in this process."""

import asyncio
import json
import subprocess
import sys

import pytest

from requestor_sdk import AlgorithmSpec, Compute, LocalNetwork, MemoryJournal
from requestor_sdk.errors import JobFailed, JobNotFound, JobRefused, UploadUnreadable
from requestor_sdk.model.jobs import JobOutcome

pytestmark = pytest.mark.sandbox

COUNT = """
import json, os, pathlib
(did,) = json.loads(os.environ["DIDS"])
data = next(pathlib.Path("/data/inputs", did).iterdir())
lines = data.read_text().splitlines()
print("read", len(lines), "lines")
pathlib.Path("/data/outputs/count.json").write_text(json.dumps(len(lines)))
"""


@pytest.fixture
async def compute():
    async with Compute(network=LocalNetwork(providers=1), journal=MemoryJournal()) as made:
        yield made


async def test_a_file_of_ones_own_is_counted_where_it_lies(compute, tmp_path):
    data = tmp_path / "data.csv"
    data.write_text("a\nb\nc\n")
    job = await compute.submit_job(data, COUNT)
    seen = [update.code async for update in job]
    assert seen[0] == 1
    assert seen[-1] == 70
    assert seen == sorted(seen)
    assert (await job.wait()).outcome is JobOutcome.succeeded
    assert json.loads(await job.read()) == 3
    assert [line async for line in job.logs()] == ["read 3 lines"]
    paths = await job.download(tmp_path / "results")
    assert sorted(path.name for path in paths) == ["algorithm.log", "count.json"]
    told = [event.kind for event in compute.journal.read() if "job" in event.ids()]
    assert told[0] == "ComputeJobSubmitted"
    assert told[-1] == "ComputeJobFinished"
    (over,) = [e for e in compute.journal.read() if e.kind == "ComputeJobFinished"]
    assert (over.worker.startswith("embedded-"), over.attempt) == (True, 1)
    assert over.size == sum(path.stat().st_size for path in paths)
    assert 0 < over.seconds < 60


async def test_what_fails_is_stopped_or_takes_too_long_says_so(compute):
    failing = await compute.submit_job(None, "raise SystemExit(3)")
    with pytest.raises(JobFailed, match="3"):
        await failing.wait()
    assert failing.status.exit_code == 3
    sleeping = await compute.submit_job(
        None, "import time; print('on', flush=True); time.sleep(60)"
    )
    async for line in sleeping.logs():
        assert line == "on"
        await sleeping.stop()
    assert (await sleeping.wait(check=False)).outcome is JobOutcome.stopped
    slow = await compute.submit_job(None, "import time; time.sleep(60)", max_duration=1)
    assert (await slow.wait(check=False)).outcome is JobOutcome.timed_out


async def test_custom_data_and_folders_reach_the_algorithm(compute, tmp_path):
    folder = tmp_path / "many"
    folder.mkdir()
    for name in ("a", "b"):
        (folder / name).write_text(name)
    code = """
import json, os, pathlib
(did,) = json.loads(os.environ["DIDS"])
found = [p.read_text() for p in sorted(pathlib.Path("/data/inputs", did).iterdir())]
custom = json.loads(pathlib.Path("/data/inputs/algoCustomData.json").read_text())
pathlib.Path("/data/outputs/out").write_text(json.dumps([found, custom]))
"""
    job = await compute.submit_job(folder, code, custom_data={"n": 1})
    assert json.loads(await job.read()) == [["a", "b"], {"n": 1}]


async def test_what_is_not_there_is_said(compute, tmp_path):
    with pytest.raises(UploadUnreadable):
        await compute.submit_job(tmp_path / "nothing", COUNT)
    with pytest.raises(JobRefused) as caught:
        await compute.submit_job("did:op:none", COUNT)
    assert caught.value.reasons
    with pytest.raises(JobNotFound):
        await compute.job("none")
    job = await compute.submit_job(None, AlgorithmSpec(rawcode="x", image="nowhere", tag="1"))
    assert (await job.wait(check=False)).outcome is JobOutcome.failed


async def test_a_job_is_deleted_with_all_it_left(compute):
    job = await compute.submit_job(None, "print(1)")
    await job.wait()
    assert [one.id for one in await compute.jobs()] == [job.id]
    await job.delete()
    assert await compute.jobs() == []


async def test_leaving_ends_jobs_and_removes_their_files(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", None)
    async with Compute(network=LocalNetwork(providers=1), journal=MemoryJournal()) as compute:
        await compute.submit_job(None, "import time; time.sleep(600)")
        await asyncio.sleep(0.3)
        assert list(tmp_path.glob("requestor-sdk-jobs-*"))
    assert not list(tmp_path.glob("requestor-sdk-jobs-*"))


def test_no_extra_is_needed():
    code = """
import sys
for name in ("fastapi", "uvicorn", "sqlalchemy", "psycopg", "starlette"):
    sys.modules[name] = None
import asyncio
from requestor_sdk import Compute, MemoryJournal
async def main():
    async with Compute(journal=MemoryJournal()) as compute:
        job = await compute.submit_job(None, "print('hello')")
        print([line async for line in job.logs()], (await job.wait()).outcome)
asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.strip() == "['hello'] succeeded", done.stderr
