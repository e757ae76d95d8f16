"""Ocean's own functions by their own names, at both generations of servers."""

import asyncio
import gc
import threading
import time
from contextlib import asynccontextmanager

import pytest
from eth_account import Account
from networks.ocean.standins import ClassicProvider, OceanNodeStandIn

from requestor_sdk.errors import (
    AssetNotConsumable,
    AssetNotFound,
    JobNotFound,
    JobRefused,
    NoFreeEnvironment,
    NotAvailable,
    UsageError,
)
from requestor_sdk.networks.ocean.blocking import OceanCompute
from requestor_sdk.networks.ocean.compute import (
    AlgorithmMetadata,
    AsyncOceanCompute,
    ComputeInput,
)
from requestor_sdk.ocean.assets import DDO

WALLET = Account.from_key(bytes(range(1, 33)))
META = AlgorithmMetadata(
    {
        "rawcode": "print(1)",
        "language": "python",
        "version": "1",
        "container": {
            "entrypoint": "python $ALGO",
            "image": "python",
            "tag": "3.11",
            "checksum": "sha256:00",
        },
    }
)


def an_asset(url, **fields):
    service = {"id": "c", "type": "compute", "serviceEndpoint": url + "/api/services/x"}
    base = {"id": "did:op:1", "metadata": {"type": "dataset"}, "services": [service]}
    return base | fields


@asynccontextmanager
async def at(server, **fields):
    server.assets["did:op:1"] = an_asset(server.url, **fields)
    ddo = DDO.from_dict(server.assets["did:op:1"])
    async with AsyncOceanCompute({"METADATA_CACHE_URI": server.url}) as compute:
        yield compute, ddo, ddo.services[0]


async def test_the_functions_do_what_they_do_in_ocean_py(classic):
    async with at(classic) as (compute, ddo, service):
        (environment,) = await compute.get_c2d_environments(service.service_endpoint, 8996)
        assert await compute.get_free_c2d_environment(service.service_endpoint, 8996) == environment
        dataset = ComputeInput(ddo, service, transfer_tx_id=b"\x01\x02", userdata={"a": 1})
        job_id = await compute.start(
            WALLET, dataset, environment["id"], algorithm_meta=META, algorithm_algocustomdata={}
        )
        (sent,) = classic.bodies
        assert sent["dataset"] == dataset.as_dictionary()
        assert sent["dataset"]["transferTxId"] == "0x0102"
        assert sent["algorithm"]["meta"]["container"]["tag"] == "3.11"
        status = await compute.status(ddo, service, job_id, WALLET)
        assert (status["ok"], status["status"]) == (True, 1)
        files = {"a": ("output", b"1"), "log": ("algorithmLog", b"2"), "b": ("output", b"3")}
        classic.finish(job_id, files)
        assert await compute.result(ddo, service, job_id, 1, WALLET) == b"2"
        logs = await compute.compute_job_result_logs(ddo, service, job_id, WALLET)
        assert logs == [b"1", b"3"]
        logs = await compute.compute_job_result_logs(ddo, service, job_id, WALLET, "algorithmLog")
        assert logs == [b"2"]
        assert (await compute.stop(ddo, service, job_id, WALLET))["stopreq"] == 1
        assert await compute.delete(ddo, service, job_id, WALLET) == {"ok": True}
        made = await compute.initialize(
            [dataset.as_dictionary()], META.as_dictionary(), classic.url, WALLET.address, "e", 5
        )
        assert made["datasets"][0]["datatoken"] == "0x1"
        assert classic.bodies[-1]["compute"] == {"env": "e", "validUntil": 5}


@pytest.mark.parametrize(
    ("status", "ok"), [(1, True), (70, True), (31, False), (32, False), (None, False)]
)
async def test_ok_is_false_where_provisioning_failed_or_nothing_is_known(classic, status, ok):
    async with at(classic) as (compute, ddo, service):
        job_id = await compute.start(
            WALLET, ComputeInput(ddo, service), "ocean-compute", algorithm_meta=META
        )
        classic.set(job_id, status=status)
        assert (await compute.status(ddo, service, job_id, WALLET))["ok"] is ok


async def test_an_algorithm_of_the_catalogue_and_its_custom_data_are_sent(classic):
    async with at(classic) as (compute, ddo, service):
        await compute.start(
            WALLET,
            ComputeInput(ddo, service),
            "ocean-compute",
            algorithm=ComputeInput(ddo, service, "0xab"),
            algorithm_algocustomdata={"n": 3},
            additional_datasets=[ComputeInput(ddo, service, "0xcd")],
        )
    (sent,) = classic.bodies
    assert sent["algorithm"]["documentId"] == "did:op:1"
    assert sent["algorithm"]["algocustomdata"] == {"n": 3}
    assert sent["additionalDatasets"][0]["transferTxId"] == "0xcd"


async def test_a_service_that_is_not_for_compute_starts_nothing(classic):
    access = {"id": "c", "type": "access", "serviceEndpoint": classic.url}
    async with at(classic, services=[access]) as (compute, ddo, service):
        with pytest.raises(UsageError, match="not compute"):
            await compute.start(WALLET, ComputeInput(ddo, service), "e", algorithm_meta=META)


@pytest.mark.parametrize(
    ("fields", "valid", "code"),
    [
        ({"nft": {"state": 1}}, True, 1),
        ({}, False, 2),
        ({"credentials": {"allow": [{"type": "address", "values": ["0x1"]}]}}, True, 3),
        ({"credentials": {"deny": [{"type": "address", "values": [WALLET.address]}]}}, True, 4),
    ],
)
async def test_what_may_not_be_used_is_said_before_anything_is_signed(classic, fields, valid, code):
    classic.valid = valid
    async with at(classic, **fields) as (compute, ddo, service):
        with pytest.raises(AssetNotConsumable) as caught:
            await compute.start(WALLET, ComputeInput(ddo, service), "e", algorithm_meta=META)
    assert caught.value.consumable_code == code
    assert classic.count("GET", "/api/services/nonce") == 0


async def test_what_is_not_there_is_said_to_be_missing(classic):
    async with at(classic) as (compute, ddo, service):
        gone = DDO.from_dict(an_asset(classic.url, id="did:op:none"))
        with pytest.raises(AssetNotFound):
            await compute.start(WALLET, ComputeInput(gone, service), "e", algorithm_meta=META)
        with pytest.raises(JobNotFound):
            await compute.status(ddo, service, "none", WALLET)
        with pytest.raises(JobNotFound):
            await compute.stop(ddo, service, "none", WALLET)
        with pytest.raises(JobNotFound):
            await compute.result(ddo, service, "none", 0, WALLET)
        with pytest.raises(UsageError, match="algorithm"):
            await compute.start(WALLET, ComputeInput(ddo, service), "ocean-compute")
        with pytest.raises(JobRefused):
            await compute.start(
                WALLET,
                ComputeInput(ddo, service),
                "ocean-compute",
                algorithm_meta=AlgorithmMetadata({"language": "python"}),
            )


async def test_no_free_environment_is_an_error_of_its_own(classic):
    classic.environments[0]["priceMin"] = 2.3
    async with at(classic) as (compute, _, service):
        with pytest.raises(NoFreeEnvironment):
            await compute.get_free_c2d_environment(service.service_endpoint, 8996)


async def test_a_nodes_log_comes_without_its_frames():
    async with OceanNodeStandIn().serving() as node:
        ddo = DDO.from_dict(an_asset(node.url))
        service = ddo.services[0]
        async with AsyncOceanCompute() as compute:
            environment = await compute.get_free_c2d_environment(node.url)
            assert environment["id"] == "0xc1-0xe1"
            from requestor_sdk.model.jobs import AlgorithmSpec, JobRequest
            from requestor_sdk.networks.ocean import OceanConfig, OceanJobs

            jobs = OceanJobs(OceanConfig(url=node.url, wallet=WALLET))
            await jobs.open()
            request = JobRequest(algorithm=AlgorithmSpec(rawcode="x"))
            job_id = (await jobs.submit(request)).id
            await jobs.close()
            short = job_id.partition("-")[2]
            node.set(short, status=40)

            async def run():
                await asyncio.sleep(3)
                node.write(short, b"one\ntwo\n")
                node.finish(short, {"a": b"x"})

            running = asyncio.create_task(run())
            stream = compute.streamable_logs(ddo, service, job_id, WALLET)
            assert b"".join([chunk async for chunk in stream]) == b"one\ntwo\n"
            await running
            assert await compute.result(ddo, service, job_id, 0, WALLET) == b"one\ntwo\n"
            logs = await compute.compute_job_result_logs(
                ddo, service, job_id, WALLET, "algorithmLog"
            )
            assert logs == [b"one\ntwo\n"]


async def test_what_a_job_costs_is_asked_of_a_node_in_its_own_form():
    async with OceanNodeStandIn().serving() as node, AsyncOceanCompute() as compute:
        until = int(time.time()) + 600
        made = await compute.initialize(
            [], META.as_dictionary(), node.url, WALLET.address, "0xc1-0xe1", until
        )
    assert made["payment"]["amount"] == "5"
    (body,) = node.bodies
    assert body["payment"]["token"] == "0xt"
    assert 590 <= body["maxJobDuration"] <= 600


def serve_in_a_thread(server):
    """Serve on a loop of another thread, as a script sees it."""
    loop, ready = asyncio.new_event_loop(), threading.Event()
    ended = []

    async def main():
        ended.append(asyncio.Event())
        async with server.serving():
            ready.set()
            await ended[0].wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(main()))
    thread.start()
    assert ready.wait(10)

    def end():
        loop.call_soon_threadsafe(ended[0].set)
        thread.join(10)
        loop.close()

    return end


def test_the_blocking_face_does_the_same():
    server = ClassicProvider()
    end = serve_in_a_thread(server)
    try:
        server.assets["did:op:1"] = an_asset(server.url)
        ddo = DDO.from_dict(server.assets["did:op:1"])
        service = ddo.services[0]
        with OceanCompute({"METADATA_CACHE_URI": server.url}) as compute:
            environment = compute.get_free_c2d_environment(server.url, 8996)
            job_id = compute.start(
                WALLET, ComputeInput(ddo, service), environment["id"], None, META
            )
            assert compute.status(ddo, service, job_id, WALLET)["ok"]
            server.finish(job_id, {"a": ("output", b"1"), "log": ("algorithmLog", b"2")})
            assert compute.result(ddo, service, job_id, 0, WALLET) == b"1"
            assert compute.compute_job_result_logs(ddo, service, job_id, WALLET) == [b"1"]
            assert b"".join(compute.streamable_logs(ddo, service, job_id, WALLET)) == b"2"
            assert compute.stop(ddo, service, job_id, WALLET)["ok"]
            assert compute.delete(ddo, service, job_id, WALLET)["ok"]
        with pytest.raises(NotAvailable):
            compute.status(ddo, service, job_id, WALLET)
        compute.close()
    finally:
        end()


def test_a_blocking_face_that_is_forgotten_ends_its_thread():
    def threads():
        return [t for t in threading.enumerate() if t.name == "requestor_sdk ocean"]

    compute = OceanCompute()
    assert len(threads()) == 1
    del compute
    gc.collect()
    assert not threads()
