"""The embedded network, in a process whose imports are warm."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from statistics import median

from measure import Result, call_ms

from requestor_sdk import Cluster, Compute, Service
from requestor_sdk.payload import VmPayload
from requestor_sdk.ports.runtime import Runtime, SandboxLimits, SandboxSpec
from requestor_sdk.sandbox import open_runtime
from requestor_sdk.signing import EthSigner

_IDLE_SAMPLES = 5


class Idle(Service):
    """Deploys, starts, and waits."""

    @staticmethod
    async def get_payload() -> VmPayload:
        return VmPayload(min_mem_gib=0.05, min_storage_gib=0.05)


@asynccontextmanager
async def _running(count: int) -> AsyncIterator[tuple[Cluster[Idle], float]]:
    """Have instances running; also the seconds from nothing at all to the last of them."""
    began = time.perf_counter()
    async with Compute(budget=100) as compute:
        cluster = await compute.run_service(
            Idle, num_instances=count, expiration=timedelta(minutes=15)
        )
        await cluster.wait("running", count=count)
        yield cluster, time.perf_counter() - began


async def _time_to_running(count: int) -> float:
    async with _running(count) as (_, seconds):
        return seconds


async def _bare_sandbox() -> None:
    """Start the least sandbox that there can be, and have it do nothing."""
    bwrap = _bwrap()
    argv = ("--unshare-all", "--ro-bind", "/", "/", "--", "/bin/true")
    process = await asyncio.create_subprocess_exec(bwrap, *argv)
    if await process.wait():
        raise RuntimeError("bubblewrap does not work here")


def _bwrap() -> str:
    from requestor_sdk.sandbox._bubblewrap import find_bwrap

    return str(find_bwrap())


def first_running_ms(name: str) -> Result:
    """Time from entering the Compute to the first running instance."""
    n = 7

    async def measure() -> Result:
        signer = EthSigner.ephemeral()

        async def least() -> None:
            # An agreement has two signatures; nothing can run before both are made.
            signer.sign(b"requestor")
            signer.sign(b"provider")
            await _bare_sandbox()

        times = [await _time_to_running(1) for _ in range(n + 1)]
        floor = await call_ms(least, n)
        return Result(name=name, value=median(times[1:]) * 1000, unit="ms", floor=floor, n=n)

    return asyncio.run(measure())


def hundred_running_s(name: str) -> Result:
    """Time from entering the Compute to a hundred running instances."""
    n = 3

    async def measure() -> Result:
        await _time_to_running(1)
        times = [await _time_to_running(100) for _ in range(n)]
        began = time.perf_counter()
        await asyncio.gather(*(_bare_sandbox() for _ in range(100)))
        floor = time.perf_counter() - began
        return Result(name=name, value=median(times), unit="s", floor=floor, n=n)

    return asyncio.run(measure())


def runc_sandbox_ms(name: str) -> Result:
    """Time a sandbox that runc makes, to its end; the floor is one of bubblewrap."""
    n = 20

    async def one(runtime: Runtime) -> None:
        limits = SandboxLimits(memory=64 << 20, storage=16 << 20)
        box = await runtime.create(SandboxSpec(name="bench", limits=limits))
        await box.close()

    async def measure() -> Result:
        took = []
        for kind in ("runc", "bubblewrap"):
            runtime = await open_runtime(kind)
            took.append(await call_ms(lambda made=runtime: one(made), n))
            await runtime.close()
        return Result(name=name, value=took[0], unit="ms", floor=took[1], n=n)

    return asyncio.run(measure())


def batch_ms(name: str) -> Result:
    """Time one command on an instance that runs, from asking to the result."""
    n = 200

    async def spawn() -> None:
        await (await asyncio.create_subprocess_exec("/bin/true")).wait()

    async def measure() -> Result:
        async with _running(1) as (cluster, _):
            context = cluster.instances[0].ctx
            value = await call_ms(lambda: context.run("/bin/true"), n)
        return Result(name=name, value=value, unit="ms", floor=await call_ms(spawn, n), n=n)

    return asyncio.run(measure())


def idle_cpu_percent(name: str) -> Result:
    """Measure the processor time that twenty idle instances take, sandboxes included."""

    async def measure() -> Result:
        floor = await _cpu_percent()
        async with _running(20):
            await asyncio.sleep(1)  # what starting left to do
            value = await _cpu_percent()
        return Result(name=name, value=value, unit="%", floor=floor, n=_IDLE_SAMPLES)

    return asyncio.run(measure())


async def _cpu_percent() -> float:
    samples = []
    for _ in range(_IDLE_SAMPLES):
        # What reading /proc costs this process lies outside of the two readings of its own time.
        below, own, began = _seconds_below(), time.process_time(), time.perf_counter()
        await asyncio.sleep(2)
        own, seconds = time.process_time() - own, time.perf_counter() - began
        samples.append((own + _seconds_below() - below) / seconds * 100)
    return sum(samples) / len(samples)


def _seconds_below() -> float:
    """Return the processor time of all processes below this one, in the kernel's ticks."""
    children: dict[int, list[int]] = {}
    ticks: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        fields = _stat(entry)
        if fields:
            children.setdefault(int(fields[1]), []).append(int(entry.name))
            ticks[int(entry.name)] = int(fields[11]) + int(fields[12])
    total, todo = 0, list(children.get(os.getpid(), ()))
    while todo:
        pid = todo.pop()
        total += ticks[pid]
        todo += children.get(pid, ())
    return total / os.sysconf("SC_CLK_TCK")


def _stat(entry: Path) -> list[str]:
    try:
        return (entry / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []  # it ended meanwhile
