"""Compute-to-data jobs at a provider that is a process of its own, with no chain.

What is told for one core has the provider on one and the client on another, where there are two.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, aclosing, contextmanager
from pathlib import Path
from statistics import median
from urllib.parse import urlencode

import c2d_load as load
import peer
from measure import Result, call_ms

from requestor_sdk import Compute
from requestor_sdk.networks.ocean import OceanConfig
from requestor_sdk.ocean.messages import Command, checksummed, command_text, signature_of
from requestor_sdk.ports.runtime import ProcessSpec, SandboxLimits, SandboxSpec
from requestor_sdk.sandbox import open_runtime
from requestor_sdk.signing import EthSigner

_API = "/api/services"
_OWNERS = 8
_READS, _STARTS, _TIMES = 8_000, 2_000, 3
_SIZE = 256 * 1024 * 1024
_FETCHES = 5
_JOBS = 15
_TRIVIAL = "with open('/data/outputs/one', 'w') as file: file.write('1')"
_LARGE = f"""
with open("/data/outputs/large", "wb") as file:
    for _ in range({_SIZE >> 20}):
        file.write(bytes(1 << 20))
"""
_PATIENCE_SEC = 120


class Consumer:
    """Somebody who signs what it asks."""

    def __init__(self) -> None:
        self._signer = EthSigner.ephemeral()
        self.address = checksummed(self._signer.identity)
        self._nonce = 0

    def signed(self, command: Command) -> dict[str, str]:
        self._nonce += 1
        nonce = str(self._nonce)
        text = command_text(self.address, nonce, command)
        signature = signature_of(self._signer, text)
        return {"consumerAddress": self.address, "nonce": nonce, "signature": signature}

    def start(self, code: str) -> bytes:
        """Return the request that starts a job."""
        container = {"entrypoint": "python3 $ALGO", "image": "python", "tag": "3.11"}
        meta = {"rawcode": code, "language": "python", "version": "0.1", "container": container}
        body = {**self.signed(Command.free_start), "environment": "", "datasets": []}
        return load.post(
            f"{_API}/freeCompute", json.dumps({**body, "algorithm": {"meta": meta}}).encode()
        )

    def status(self, job_id: str) -> bytes:
        query = {"consumerAddress": self.address, "jobId": job_id}
        return load.get(f"{_API}/compute?{urlencode(query)}")

    def result(self, job_id: str, index: int) -> bytes:
        query = {**self.signed(Command.result), "jobId": job_id, "index": str(index)}
        return load.get(f"{_API}/computeResult?{urlencode(query)}")


def _finished(connection: load.Connection, consumer: Consumer, code: str) -> dict[str, object]:
    """Run a job, and return what is said of it at its end."""
    (job,) = json.loads(connection.ask(consumer.start(code)))
    deadline = time.monotonic() + _PATIENCE_SEC
    while job["dateFinished"] is None:
        if time.monotonic() > deadline:
            raise RuntimeError(f"it did not end: {job}")
        time.sleep(0.02)
        (job,) = json.loads(connection.ask(consumer.status(job["jobId"])))
    if job["status"] != 70 or not job["results"]:
        raise RuntimeError(f"it did not end well: {job}")
    return dict(job)


@contextmanager
def _apart() -> Iterator[Sequence[str]]:
    """Move this process off the first core; the value is a command that runs others on it."""
    if shutil.which("taskset") is None:
        raise RuntimeError("taskset is not here: install util-linux")
    cores = os.sched_getaffinity(0)
    first = min(cores)
    os.sched_setaffinity(0, cores - {first} or cores)
    try:
        yield ("taskset", "-c", str(first))
    finally:
        os.sched_setaffinity(0, cores)


@contextmanager
def _floor(prefix: Sequence[str], kind: str, argument: str) -> Iterator[int]:
    """Have the least that could answer; the value is its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    program = str(Path(__file__).with_name("c2d_floor.py"))
    process = subprocess.Popen([*prefix, sys.executable, program, kind, str(port), argument])
    try:
        _await(port)
        yield port
    finally:
        process.terminate()
        process.wait(30)


def _await(port: int) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _port(provider: peer.jobs.Provider) -> int:
    return int(provider.url.rpartition(":")[2])


def submit_to_finished_ms(name: str) -> Result:
    """Time a trivial job from before it is submitted to when its consumer knows that it is over.

    By this package's own client, which holds a request until there is something new. The floor is
    the same process in the same sandbox, with nobody between.
    """

    async def measure() -> Result:
        signer = EthSigner.ephemeral()
        with peer.jobs.provider() as provider:
            config = OceanConfig(url=provider.url, wallet=signer)
            async with Compute(ocean=config) as compute:

                async def ours() -> None:
                    job = await compute.submit_job(None, _TRIVIAL)
                    await job.wait()

                value = await call_ms(ours, _JOBS)
        return Result(name=name, value=value, unit="ms", floor=await _bare_ms(), n=_JOBS)

    return asyncio.run(measure())


async def _bare_ms() -> float:
    """Time the trivial algorithm in a sandbox: made, its file put in, run, its output taken out."""
    limits = SandboxLimits(memory=1 << 30, storage=1 << 30)
    runtime = await open_runtime()
    numbers = itertools.count()

    async def ignore(stream: str, data: bytes) -> None:
        del stream, data

    async def code() -> AsyncIterator[bytes]:
        yield _TRIVIAL.encode()

    async def bare() -> None:
        sandbox = await runtime.create(SandboxSpec(name=f"bare-{next(numbers)}", limits=limits))
        try:
            await sandbox.write_file("/data/outputs/none", code())
            await sandbox.write_file("/data/algorithm", code())
            command = ProcessSpec(argv=("python3", "/data/algorithm"))
            if (await sandbox.run(command, ignore)).return_code:
                raise RuntimeError("the bare algorithm failed")
            async with aclosing(sandbox.read_file("/data/outputs/one")) as chunks:
                async for _ in chunks:
                    pass
        finally:
            await sandbox.close()

    try:
        return await call_ms(bare, _JOBS)
    finally:
        await runtime.close()


def status_per_s(name: str) -> Result:
    """Count reads of a finished job's status, on one core."""
    consumer = Consumer()
    with _apart() as core, peer.jobs.provider(prefix=core) as provider:
        port = _port(provider)
        connection = load.Connection(port)
        request = consumer.status(str(_finished(connection, consumer, _TRIVIAL)["jobId"]))
        size = len(connection.ask(request))
        connection.close()
        queues = [[request] * (_READS // _OWNERS)] * _OWNERS
        with _floor(core, "status", str(size)) as bare:
            # In turns: whatever else this machine does, it does to both.
            pairs = [(load.rate(port, queues), load.rate(bare, queues)) for _ in range(_TIMES)]
    return _per_s(name, pairs)


def start_per_s(name: str) -> Result:
    """Count jobs that are taken on, on one core: signatures checked, the jobs on disk.

    No worker is there, so that none of that core's time goes into running them.
    """
    consumers = [Consumer() for _ in range(_OWNERS)]
    each = range(_STARTS // _OWNERS // _TIMES)
    made = [[[one.start(_TRIVIAL) for _ in each] for one in consumers] for _ in range(_TIMES)]
    with ExitStack() as stack:
        core = stack.enter_context(_apart())
        provider = stack.enter_context(peer.jobs.provider("--workers", "0", prefix=core))
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        bare = stack.enter_context(_floor(core, "start", folder))
        pairs = [(load.rate(_port(provider), one), load.rate(bare, one)) for one in made]
    return _per_s(name, pairs)


def _per_s(name: str, pairs: Sequence[tuple[float, float]]) -> Result:
    value, floor = (median(one) for one in zip(*pairs, strict=True))
    return Result(name=name, value=value, unit="1/s", n=len(pairs), floor=floor)


def result_mb_s(name: str) -> Result:
    """Return the megabytes a second that a result comes with, from disk over loopback."""
    consumer = Consumer()

    def seconds(connection: load.Connection, request: bytes) -> float:
        began = time.perf_counter()
        size = connection.swallow(request)
        if size != _SIZE:
            raise RuntimeError(f"{size} bytes came, and {_SIZE} should")
        return time.perf_counter() - began

    with ExitStack() as stack:
        core = stack.enter_context(_apart())
        file = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "large"
        file.write_bytes(bytes(_SIZE))
        provider = stack.enter_context(peer.jobs.provider(prefix=core))
        ours = load.Connection(_port(provider))
        stack.callback(ours.close)
        job_id = str(_finished(ours, consumer, _LARGE)["jobId"])
        bare = load.Connection(stack.enter_context(_floor(core, "result", str(file))))
        stack.callback(bare.close)
        pairs = [
            (seconds(ours, consumer.result(job_id, 0)), seconds(bare, load.get("/")))
            for _ in range(_FETCHES)
        ]
    value, floor = (_SIZE / 1e6 / median(one) for one in zip(*pairs, strict=True))
    return Result(name=name, value=value, unit="MB/s", n=_FETCHES, floor=floor)
