"""Runs in container images of the local store, by each runtime; images that are not there."""

from __future__ import annotations

import pytest
from support.containers import busybox, tools
from working import done, log_of, output, put

from requestor_sdk.ports.worker import RunOutcome, RunSpec

pytestmark = pytest.mark.sandbox
OUT = ("/data/outputs",)


@pytest.fixture(params=["bubblewrap", "runc"])
def kind(request):
    return request.param


@pytest.fixture
def made(images, tmp_path):
    program = busybox()
    if program is None:
        pytest.skip("needs busybox-static: apt install busybox-static")
    made = tools(program, WorkingDir="/work/here", Entrypoint=["hello"], Cmd=["world"])
    images.add(made.archive(tmp_path / "bb.tar"))
    return made


async def test_a_run_in_a_container_image_reads_computes_and_writes(queue, hire, made):
    await hire()
    file = await put(queue, "run", "/data/inputs/abc/0", b"1\n2\n3\n")
    line = "pwd; echo $GREETING; hello you; wc -l < /data/inputs/abc/0 > /data/outputs/lines"
    spec = RunSpec(
        image="docker.io/library/bb:1",
        checksum=made.digests["manifest"],
        command=("/bin/sh", "-c", line),
        files=(file,),
        outputs=OUT,
    )
    end = await done(queue, "run", spec)
    assert (end.outcome, end.reason) == (RunOutcome.succeeded, "")
    assert await log_of(queue, "run") == "/work/here\nfrom the image\nhello you\n"
    assert output(queue, "run", "outputs/lines").strip() == b"3"


async def test_an_image_that_says_what_is_to_be_run_needs_no_command(queue, hire, made):
    await hire()
    end = await done(queue, "run", RunSpec(image="bb:1"))
    assert end.outcome is RunOutcome.succeeded
    assert await log_of(queue, "run") == "hello world\n"


async def test_an_image_that_is_not_there_or_another_one_fails_the_run_by_name(queue, hire, made):
    await hire()
    end = await done(queue, "none", RunSpec(image="bb:2", command=("true",)))
    assert (end.outcome, end.reason) == (RunOutcome.failed, "image_missing")
    assert "bb:2" in end.message
    wrong = RunSpec(image="bb:1", checksum="sha256:" + "0" * 64, command=("true",))
    end = await done(queue, "wrong", wrong)
    assert (end.outcome, end.reason) == (RunOutcome.failed, "image_invalid")
    assert made.digests["manifest"] in end.message


async def test_the_base_is_python_whatever_tag_and_checksum_it_is_asked_for_by(queue, hire, made):
    await hire()
    spec = RunSpec(
        image="python:3.6-alpine",
        checksum="sha256:" + "0" * 64,
        command=("python3", "-c", "print(1)"),
    )
    assert (await done(queue, "run", spec)).outcome is RunOutcome.succeeded
