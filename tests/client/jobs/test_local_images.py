"""Jobs on `local` whose algorithms run in container images of this machine's store."""

import pytest
from support.containers import busybox, tools

from requestor_sdk import AlgorithmSpec, Compute, LocalNetwork, MemoryJournal
from requestor_sdk.model.jobs import JobOutcome
from requestor_sdk.sandbox import ImageStore

pytestmark = pytest.mark.sandbox

COUNT = """
for file in /data/inputs/*/*; do wc -l < $file; done > /data/outputs/lines
echo $GREETING
"""


@pytest.fixture
def made(tmp_path, monkeypatch):
    program = busybox()
    if program is None:
        pytest.skip("needs busybox-static: apt install busybox-static")
    monkeypatch.setenv("REQUESTOR_SDK_HOME", str(tmp_path / "home"))
    made = tools(program)
    ImageStore().add(made.archive(tmp_path / "bb.tar"))
    return made


def algorithm(checksum="", tag="1"):
    return AlgorithmSpec(
        rawcode=COUNT, entrypoint="/bin/sh $ALGO", image="bb", tag=tag, checksum=checksum
    )


async def test_an_algorithm_runs_in_the_image_that_it_names_and_pins(made, tmp_path):
    (tmp_path / "data.csv").write_text("a\nb\nc\n")
    async with Compute(network=LocalNetwork(providers=1), journal=MemoryJournal()) as compute:
        pinned = algorithm(made.digests["manifest"])
        job = await compute.submit_job(tmp_path / "data.csv", pinned)
        status = await job.wait()
        assert status.outcome is JobOutcome.succeeded
        assert (await job.read()).strip() == b"3"
        assert [line async for line in job.logs()] == ["from the image"]


async def test_an_image_that_is_missing_or_another_one_is_told_by_its_own_status(made):
    async with Compute(network=LocalNetwork(providers=1), journal=MemoryJournal()) as compute:
        for spec, told in (
            (algorithm("sha256:" + "0" * 64, tag="9"), "does not have the algorithm's image"),
            (algorithm("sha256:" + "0" * 64), "image cannot be used"),
        ):
            job = await compute.submit_job(None, spec)
            status = await job.wait(check=False)
            assert (status.code, status.outcome) == (11, JobOutcome.failed)
            assert told in (status.error or "")
