"""A program for ocean.py 3.1: environments, jobs of raw code and of an asset, logs, stop, delete.

Runs in ocean.py's own environment, with the provider's address and the catalogue's names in its
environment variables. It prints a line beginning with OK for each thing that it has seen.
"""

from __future__ import annotations

import json
import os
import sys
import time
import types

if sys.version_info >= (3, 11):
    # The one that ocean.py pins asks isinstance(x, Any), which only Python 3.10 and before answer.
    lenient = types.ModuleType("enforce_typing")
    lenient.enforce_types = lambda checked: checked
    sys.modules["enforce_typing"] = lenient

from eth_account import Account
from ocean_lib.agreements.consumable import AssetNotConsumable
from ocean_lib.aquarius import Aquarius
from ocean_lib.data_provider.data_service_provider import DataServiceProvider
from ocean_lib.exceptions import DataProviderException
from ocean_lib.models.compute_input import ComputeInput
from ocean_lib.ocean.ocean_compute import OceanCompute
from ocean_lib.structures.algorithm_metadata import AlgorithmMetadata

URL, CHAIN = os.environ["PEERS_OCEAN_URL"], int(os.environ["PEERS_OCEAN_CHAIN"])
PATIENCE_SEC = 60
OUTPUT = b"raw code was here\n"
RAW = f"""
import json, os
print("to the log: " + json.dumps(sorted(json.loads(os.environ["DIDS"]))))
with open("/data/outputs/said", "wb") as file:
    file.write({OUTPUT!r})
"""
SLEEPER = """
import time
print("asleep", flush=True)
time.sleep(600)
"""

compute = OceanCompute({"METADATA_CACHE_URI": URL}, DataServiceProvider)


def ok(what):
    print(f"OK {what}", flush=True)


def meta(code):
    container = {"entrypoint": "python3 $ALGO", "image": "python", "tag": "3.11"}
    container["checksum"] = "sha256:" + "0" * 64
    described = {"rawcode": code, "language": "python", "version": "0.1", "container": container}
    return AlgorithmMetadata(described)


def asset(name, of_type):
    ddo = Aquarius.get_instance(URL).get_ddo(os.environ[name])
    service = next(one for one in ddo.services if one.type == of_type)
    return ComputeInput(ddo, service)


class Job:
    """A started job, and what ocean.py says of it."""

    def __init__(self, wallet, dataset, environment, **algorithm):
        self.of = dataset.ddo, dataset.service
        self.wallet, self.did = wallet, dataset.did
        self.id = compute.start(wallet, dataset, environment, **algorithm)

    def status(self):
        return compute.status(*self.of, self.id, self.wallet)

    def until(self, *codes):
        """Return all that was said until one of these codes came, it included."""
        said, deadline = [self.status()], time.monotonic() + PATIENCE_SEC
        while said[-1]["status"] not in codes:
            assert time.monotonic() < deadline and said[-1]["ok"], said[-1]
            assert said[-1]["dateFinished"] is None, said[-1]
            time.sleep(0.05)
            said.append(self.status())
        assert all(one["jobId"] == self.id and one["statusText"] for one in said), said
        numbers = [one["status"] for one in said]
        assert numbers == sorted(numbers), numbers
        return said

    def result(self, of_type):
        listed = self.status()["results"]
        index = next(index for index, one in enumerate(listed) if one["type"] == of_type)
        content = compute.result(*self.of, self.id, index, self.wallet)
        assert len(content) == listed[index]["filesize"], (len(content), listed[index])
        return content

    def logs(self, of_type):
        return compute.compute_job_result_logs(*self.of, self.id, self.wallet, of_type)


def refused(call, error, *words):
    try:
        call()
    except error as told:
        assert all(word in str(told) for word in words), told
        return
    raise AssertionError(f"no {error.__name__}")


def environments():
    listed = compute.get_c2d_environments(URL, CHAIN)
    assert listed and all("priceMin" in one and "consumerAddress" in one for one in listed), listed
    free = compute.get_free_c2d_environment(URL, CHAIN)
    assert float(free["priceMin"]) == 0, free
    ok("environments: listed for the chain, and a free one found")
    return free["id"]


def raw_code(wallet, dataset, environment):
    job = Job(wallet, dataset, environment, algorithm_meta=meta(RAW))
    ok("raw code: started")
    last = job.until(70)[-1]
    assert last["statusText"] == "Job finished" and float(last["dateFinished"]) > 0, last
    assert last["owner"].lower() == wallet.address.lower() and last["documentId"] == job.did, last
    ok("raw code: its status went up to 70")
    assert job.result("output") == OUTPUT
    assert job.logs("output") == [OUTPUT]
    ok("raw code: the result's bytes came as they are")
    short = job.did.removeprefix("did:op:")
    (log,) = job.logs("algorithmLog")
    assert f'to the log: ["{short}"]' in log.decode(), log
    ok("raw code: what it wrote is in the log, and it was told the dataset's name")
    return job


def algorithm_asset(wallet, dataset, environment):
    algorithm = asset("PEERS_OCEAN_ALGORITHM", "access")
    custom = {"column": "age"}
    started = {"algorithm": algorithm, "algorithm_algocustomdata": custom}
    job = Job(wallet, dataset, environment, **started)
    ok("asset: started")
    last = job.until(70)[-1]
    assert last["algoDID"] == algorithm.did and last["inputDID"] == [dataset.did], last
    ok("asset: its status went up to 70, and names algorithm and dataset")
    found = json.loads(job.result("output"))
    assert found == json.loads(os.environ["PEERS_OCEAN_EXPECTED"]), found
    ok("asset: its result over the dataset is right")


def not_for_others(job):
    other = Account.create()
    _, service = job.of
    refused(
        lambda: DataServiceProvider.compute_job_result(job.id, 0, service, other),
        DataProviderException,
    )
    for call in (DataServiceProvider.stop_compute_job, DataServiceProvider.delete_compute_job):
        refused(
            lambda call=call: call(job.did, job.id, service, other),
            (DataProviderException, IndexError),
        )
    assert job.result("output") == OUTPUT
    ok("others: neither result, nor stop, nor delete")


def not_allowed(wallet, environment):
    denied = asset("PEERS_OCEAN_DENIED", "compute")
    refused(lambda: Job(wallet, denied, environment, algorithm_meta=meta(RAW)), AssetNotConsumable)
    trusting = asset("PEERS_OCEAN_TRUSTING", "compute")
    refused(
        lambda: Job(wallet, trusting, environment, algorithm_meta=meta(RAW)),
        DataProviderException,
        "no_raw_algo_allowed",
    )
    ok("rules: an asset that allows others only, and one that takes no raw code, say so")


def initialized(wallet, dataset, environment):
    answer = DataServiceProvider.initialize_compute(
        [dataset.as_dictionary()],
        meta(RAW).as_dictionary(),
        dataset.service.service_endpoint,
        wallet.address,
        environment,
        int(time.time()) + 60,
    )
    assert len(answer.json()["datasets"]) == 1, answer.json()
    ok("initialize: told what the dataset takes")


def stopped(wallet, dataset, environment):
    job = Job(wallet, dataset, environment, algorithm_meta=meta(SLEEPER))
    job.until(40)
    said = compute.stop(*job.of, job.id, wallet)
    assert (said["status"], said["statusText"]) == (7, "Job stopped"), said
    last = job.until(70)[-1]
    assert last["stopreq"] == 1 and last["dateFinished"], last
    ok("stop: answered, and the job ended")


def deleted(job):
    said = DataServiceProvider.delete_compute_job(job.did, job.id, job.of[1], job.wallet)
    assert (said["status"], said["statusText"]) == (8, "Job deleted successfully"), said
    refused(job.status, IndexError)
    refused(
        lambda: DataServiceProvider.compute_job_result(job.id, 0, job.of[1], job.wallet),
        DataProviderException,
    )
    ok("delete: answered, and nothing of the job is left")


def main():
    wallet = Account.create()
    environment = environments()
    dataset = asset("PEERS_OCEAN_DATASET", "compute")
    initialized(wallet, dataset, environment)
    job = raw_code(wallet, dataset, environment)
    algorithm_asset(wallet, dataset, environment)
    not_for_others(job)
    not_allowed(wallet, environment)
    stopped(wallet, dataset, environment)
    deleted(job)


main()
