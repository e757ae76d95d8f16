"""Jobs by `Compute`, at the two stand-ins of real servers."""

import asyncio
import os
from pathlib import Path

import pytest
from networks.ocean.conftest import OTHER, WALLET
from networks.ocean.standins import ClassicProvider, OceanNodeStandIn

from requestor_sdk import Compute, MemoryJournal, events
from requestor_sdk.errors import (
    AmountError,
    BadAnswer,
    JobFailed,
    JobNotFound,
    NetworkUnreachable,
    NotAvailable,
    NotSupported,
    UploadUnreadable,
    UsageError,
)
from requestor_sdk.model.jobs import AlgorithmSpec, AssetRef, JobOutcome
from requestor_sdk.networks.ocean import OceanConfig


@pytest.fixture
async def classic():
    async with ClassicProvider().serving() as server:
        server.assets["did:op:1"] = {"id": "did:op:1"}
        yield server


@pytest.fixture
async def node():
    async with OceanNodeStandIn().serving() as server:
        yield server


def compute_at(server, wallet=WALLET, **options):
    options.setdefault("journal", MemoryJournal())
    return Compute(ocean=OceanConfig(url=server.url, wallet=wallet), **options)


def kinds(compute):
    return [event.kind for event in compute.journal.read()]


async def test_a_job_is_followed_to_its_end_and_written_down(classic):
    compute = compute_at(classic)
    async with compute:
        job = await compute.submit_job("did:op:1", "print(1)")

        async def go():
            for code in (20, 40):
                await asyncio.sleep(5)
                classic.set(job.id, status=code, statusText=f"at {code}")
            await asyncio.sleep(5)
            # News of a job that is where it was: no event of its own.
            classic.set(job.id, results=[{"filename": "a", "filesize": 1, "type": "output"}])
            await asyncio.sleep(5)
            classic.finish(job.id, {"a": ("output", b"x")})

        going = asyncio.create_task(go())
        assert [update.code async for update in job] == [1, 20, 40, 40, 70]
        await going
        assert (await job.wait()).outcome is JobOutcome.succeeded
        assert job.outcome is JobOutcome.succeeded
        # Asked again it tells all of it again.
        assert [update.code async for update in job] == [1, 20, 40, 40, 70]
        told = [e for e in compute.journal.read() if "job" in e.ids()]
    assert [event.kind for event in told] == [
        "ComputeJobSubmitted",
        *["ComputeJobStatusChanged"] * 4,
        "ComputeJobFinished",
    ]
    assert told[0].provider_name == classic.url
    assert told[0].datasets == ("did:op:1",)
    assert told[-1].outcome == "succeeded"
    for event in told:
        assert events.from_record(event.to_record()) == event


@pytest.mark.parametrize(
    ("fields", "outcome", "words"),
    [
        ({"status": 31, "statusText": "Data provisioning failed"}, "failed", "Data provisioning"),
        ({"stopreq": 1}, "stopped", "was stopped"),
        ({"stopreq": 2}, "timed_out", "took longer"),
    ],
)
async def test_a_job_that_did_not_succeed_is_an_error_for_who_waits(
    classic, fields, outcome, words
):
    async with compute_at(classic) as compute:
        job = await compute.submit_job("did:op:1", "print(1)")
        classic.finish(job.id, {}, **fields)
        with pytest.raises(JobFailed, match=words) as caught:
            await job.wait()
        assert caught.value.ids == {"job": job.id}
        assert (await job.wait(check=False)).outcome == outcome


async def test_who_waits_with_a_limit_does_not_end_the_job(classic):
    async with compute_at(classic) as compute:
        job = await compute.submit_job("did:op:1", "print(1)")
        with pytest.raises(TimeoutError):
            await job.wait(timeout=10)
        classic.finish(job.id, {})
        assert (await job.wait()).over


async def test_results_are_downloaded_with_progress_under_safe_names(classic, tmp_path):
    files = {
        "../../escape": ("output", b"1"),
        "a/escape": ("output", b"22"),
        "..": ("output", b"333"),
        "C:\\x\\con.txt": ("output", b"4"),
        "algorithm.log": ("algorithmLog", b"log\n"),
        "empty": ("output", b""),
    }
    async with compute_at(classic) as compute:
        job = await compute.submit_job("did:op:1", "print(1)")
        classic.finish(job.id, files)
        seen = []
        paths = await job.download(tmp_path / "r", progress=lambda f, n: seen.append((f.index, n)))
        assert [path.read_bytes() for path in paths] == [c for _, c in files.values()]
        assert {path.parent for path in paths} == {tmp_path / "r"}
        assert [path.name for path in paths[:4]] == ["escape", "1-escape", "result-2", "con.txt"]
        assert seen[0] == (0, 1)
        assert not list(tmp_path.rglob("*.part"))
        only = await job.download(tmp_path / "o", logs=False)
        assert len(only) == 5
        with pytest.raises(JobNotFound, match="left"):
            await job.read()
        assert await job.read("a/escape") == b"22"


async def test_a_download_goes_on_where_it_was(classic, tmp_path):
    content = bytes(range(256)) * 100
    async with compute_at(classic) as compute:
        job = await compute.submit_job("did:op:1", "print(1)")
        classic.finish(job.id, {"a": ("output", content), "b": ("output", b"b")})
        at = int((await job.wait(check=False)).finished_at.timestamp())
        (tmp_path / f"a.{at}.part").write_bytes(content[:20_000])
        (tmp_path / f"a.{at - 1}.part").write_bytes(b"of another end")
        (tmp_path / "b").write_bytes(b"b")
        os.utime(tmp_path / "b", (at, at))
        seen = []
        paths = await job.download(tmp_path, progress=lambda f, n: seen.append((f.name, n)))
    assert paths[0].read_bytes() == content
    assert seen[0][1] > 20_000
    assert classic.count("GET", "/api/services/computeResult") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


async def test_what_a_job_left_before_it_was_started_again_is_not_taken_for_what_it_left(
    classic, tmp_path
):
    async with compute_at(classic) as compute:
        job = await compute.submit_job("did:op:1", "print(1)")
        classic.finish(job.id, {"a": ("output", b"old")}, dateFinished="1700000000")
        (path,) = await job.download(tmp_path)
        assert path.read_bytes() == b"old"
    classic.finish(job.id, {"a": ("output", b"new")}, dateFinished="1700000009")
    async with compute_at(classic) as compute:
        again = await compute.job(job.id)
        (path,) = await again.download(tmp_path)
        assert path.read_bytes() == b"new"
        await again.download(tmp_path)
    assert classic.count("GET", "/api/services/computeResult") == 2


async def test_a_download_outlives_a_connection_that_breaks(classic, tmp_path):
    async with compute_at(classic) as compute:
        job = await compute.submit_job("did:op:1", "print(1)")
        classic.finish(job.id, {"a": ("output", b"x" * 1000)})
        await job.wait()
        from aiohttp import web

        classic.fail = [web.Response(status=502), web.Response(status=503)]
        (path,) = await job.download(tmp_path)
        assert path.stat().st_size == 1000


async def test_a_server_that_sends_more_than_it_said_fills_no_disk(classic, tmp_path):
    async with compute_at(classic) as compute:
        job = await compute.submit_job("did:op:1", "print(1)")
        classic.finish(job.id, {"a": ("output", b"x" * 1000)})
        classic.files[job.id, 0] = b"x" * 1_000_000
        with pytest.raises(BadAnswer, match="more than 1000"):
            await job.download(tmp_path)
        classic.files[job.id, 0] = b"x" * 500
        for left in tmp_path.iterdir():
            left.unlink()
        with pytest.raises(BadAnswer, match="came with 500"):
            await job.download(tmp_path)


async def test_logs_come_line_by_line(node):
    async with compute_at(node) as compute:
        job = await compute.submit_job(None, AlgorithmSpec(rawcode="x"))
        short = job.id.partition("-")[2]

        async def run():
            node.set(short, status=40)
            await asyncio.sleep(5)
            node.write(short, b"eins\nzw")
            node.write(short, "ei ü\ndrei".encode())
            node.finish(short, {})

        running = asyncio.create_task(run())
        assert [line async for line in job.logs()] == ["eins", "zwei ü", "drei"]
        await running
        assert (await job.wait()).exit_code == 0


async def test_jobs_are_stopped_deleted_listed_and_taken_up_again(classic):
    async with compute_at(classic) as compute:
        job = await compute.submit_job("did:op:1", "print(1)")
    async with compute_at(classic) as compute:
        again = await compute.job(job.id)
        assert [one.id for one in await compute.jobs()] == [job.id]
        await again.stop()
        classic.finish(job.id, {}, stopreq=1)
        assert (await again.wait(check=False)).outcome is JobOutcome.stopped
        await again.delete()
        with pytest.raises(JobNotFound):
            await compute.job("nothing")
    async with compute_at(classic, OTHER) as compute:
        assert await compute.jobs() == []


async def test_jobs_that_are_only_listed_are_not_this_runs(classic):
    async with compute_at(classic) as compute:
        old = [await compute.submit_job("did:op:1", "print(1)") for _ in range(3)]
        classic.finish(old[0].id, {})
    async with compute_at(classic) as compute:
        await compute.jobs()
        one = await compute.job(old[1].id)
        assert not [e for e in compute.journal.read() if "job" in e.ids()]
        classic.finish(one.id, {})
        await one.wait()
        told = [e for e in compute.journal.read() if "job" in e.ids()]
    assert {event.job_id for event in told} == {one.id}
    assert told[-1].kind == "ComputeJobFinished"


async def test_leaving_ends_who_waits_and_not_the_job(classic):
    async with compute_at(classic) as compute:
        job = await compute.submit_job("did:op:1", "print(1)")
        waiting = asyncio.create_task(job.wait())
        await asyncio.sleep(1)
    with pytest.raises(NotAvailable):
        await waiting
    with pytest.raises(NotAvailable):
        await job.stop()
    assert classic.jobs[job.id]["stopreq"] == 0


async def test_many_who_wait_make_one_follower(classic):
    async with compute_at(classic) as compute:
        job = await compute.submit_job("did:op:1", "print(1)")
        waiting = [asyncio.create_task(job.wait()) for _ in range(20)]
        await asyncio.sleep(10)
        classic.finish(job.id, {})
        await asyncio.gather(*waiting)
    assert classic.count("GET", "/api/services/compute") < 12


async def test_nothing_can_be_bought_without_a_budget(classic):
    from requestor_sdk import Service, vm

    class Nothing(Service):
        @staticmethod
        async def get_payload():
            return await vm.repo(image_tag="python")

    async with compute_at(classic) as compute:
        with pytest.raises(AmountError, match="no budget"):
            await compute.run_service(Nothing)
        assert "AllocationRequested" not in kinds(compute)


def test_a_budget_that_is_given_must_be_above_zero():
    with pytest.raises(AmountError):
        Compute(budget=0)


async def test_a_run_of_jobs_alone_can_be_recovered_and_has_nothing_left(classic, tmp_path):
    journal = tmp_path / "run.sqlite"
    async with compute_at(classic, journal=journal) as compute:
        job = await compute.submit_job("did:op:1", "print(1)")
    async with Compute.recover(compute.run_id, journal=journal) as again:
        assert again.network.traits.name == "ocean"
        assert again.open_ids()["agreements"] == ()
        with pytest.raises(NotSupported):
            await again.submit_job("did:op:1", "print(1)")
    assert classic.jobs[job.id]["stopreq"] == 0


async def test_a_network_without_jobs_says_what_has_some():
    from requestor_sdk.testing import SimulatedNetwork

    async with Compute(budget=1, network=SimulatedNetwork(providers=1)) as compute:
        with pytest.raises(NotSupported, match="no provider of jobs"):
            await compute.submit_job(None, "print(1)")


async def test_a_provider_that_is_not_there_is_named(unused_tcp_port):
    config = OceanConfig(url=f"http://127.0.0.1:{unused_tcp_port}", wallet=WALLET)
    async with Compute(ocean=config, journal=MemoryJournal()) as compute:
        for _ in range(2):
            with pytest.raises(NetworkUnreachable, match=str(unused_tcp_port)):
                await compute.submit_job(None, "print(1)")


@pytest.mark.parametrize(
    ("dataset", "algorithm", "kind"),
    [
        ("data.csv", "print(1)", UsageError),
        (Path("data.csv"), "print(1)", UsageError),
        (3, "print(1)", UsageError),
        ("did:op:1", "count.py", UsageError),
        ("did:op:1", "", UsageError),
        ("did:op:1", 3, UsageError),
        ("did:op:1", Path("/nothing/count.py"), UploadUnreadable),
    ],
)
async def test_what_is_no_dataset_or_algorithm_is_said_before_anything_is_sent(
    classic, dataset, algorithm, kind
):
    async with compute_at(classic) as compute:
        with pytest.raises(kind):
            await compute.submit_job(dataset, algorithm)
    assert classic.bodies == []


async def test_datasets_and_algorithms_come_in_many_forms(classic, tmp_path):
    from requestor_sdk.networks.ocean.compute import AlgorithmMetadata, ComputeInput
    from requestor_sdk.ocean.assets import DDO

    ddo = DDO.from_dict({"id": "did:op:1", "services": [{"id": "c", "type": "compute"}]})
    file = tmp_path / "count.py"
    file.write_text("print(2)\n")
    async with compute_at(classic) as compute:
        await compute.submit_job(ddo, file, custom_data={"n": 1}, max_duration=5)
        await compute.submit_job([ComputeInput(ddo, ddo.services[0]), "did:op:2"], ddo)
        await compute.submit_job(AssetRef(did="did:op:1"), AlgorithmMetadata({"rawcode": "x"}))
    first, second, third = classic.bodies
    assert first["dataset"]["serviceId"] == "c"
    assert first["algorithm"]["meta"]["rawcode"] == "print(2)\n"
    assert first["algorithm"]["algocustomdata"] == {"n": 1}
    assert second["additionalDatasets"][0]["documentId"] == "did:op:2"
    assert second["algorithm"]["documentId"] == "did:op:1"
    assert third["algorithm"]["meta"]["rawcode"] == "x"
