"""Golem for real: the daemon, closed to the outside, and providers of ours, on this machine.

One network serves all measures of a run. Each measure takes turns between the floor, which is bare
aiohttp, and ours, so that what the machine does meanwhile meets both, and gives the medians.
"""

from __future__ import annotations

import asyncio
import atexit
import gc
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import cache
from statistics import median
from typing import Any

import peer
from golem_floor import LIFE, Floor
from measure import Result

from requestor_sdk import Cluster, Compute, Service
from requestor_sdk.devnet import Devnet
from requestor_sdk.golem import GolemConfig
from requestor_sdk.payload import VmPayload

# One that has room for all: the older SDK takes an agreement of each provider about once a second.
_PROVIDERS = 1
_MANY = 50
_OFFERS_SEC = 30
_PATIENCE_SEC = 300


class Idle(Service):
    """Deploys, starts, and waits."""

    @staticmethod
    async def get_payload() -> VmPayload:
        return VmPayload(min_mem_gib=0.05, min_storage_gib=0.05)


def _preset(number: int) -> dict[str, Any]:
    """Return what one provider lets: room for two crowds, and offers for one at any time."""
    return {
        "name": f"bench-{number}",
        "memory_gib": 0.25,
        "storage_gib": 1.0,
        "cpu_threads": 1,
        "max_agreements": 2 * _MANY,
        "offers": _MANY // _PROVIDERS + 2,
    }


@cache
def _network() -> Devnet:
    """Have the network up, and point this process at it."""
    network = Devnet(providers=[_preset(number) for number in range(_PROVIDERS)])
    network.start()
    atexit.register(network.stop)
    os.environ.update(network.environment())
    return network


def _config() -> GolemConfig:
    return _network().config


@asynccontextmanager
async def _floor(count: int) -> AsyncIterator[tuple[Floor, float]]:
    """Have activities running by bare calls; also the seconds that it took from nothing."""
    floor = Floor(_config())
    began = time.perf_counter()
    await floor.open()
    try:
        await floor.rent(count)
        yield floor, time.perf_counter() - began
    finally:
        await floor.close()


@asynccontextmanager
async def _ours(count: int) -> AsyncIterator[tuple[Cluster[Idle], float]]:
    """Have instances running; also the seconds that it took from nothing."""
    _config()
    began = time.perf_counter()
    async with Compute(budget=10, network="golem") as compute:
        cluster = await compute.run_service(Idle, num_instances=count, expiration=LIFE)
        await cluster.wait("running", count=count)
        yield cluster, time.perf_counter() - began


async def _offered(count: int) -> None:
    """Wait until what the last measure had is let again."""
    floor = Floor(_config())
    await floor.open()
    try:
        async with asyncio.timeout(_OFFERS_SEC):
            await floor.offered(count)
    except TimeoutError:
        raise RuntimeError(f"there are no {count} offers: {_network().logs(5)}") from None
    finally:
        await floor.close()


async def _starts(count: int, turns: int) -> tuple[list[float], list[float]]:
    """Return the seconds to running, of ours and of the floor; the first turn does not count."""
    times: tuple[list[float], list[float]] = [], []
    for _ in range(turns + 1):
        for having, found in ((_floor(count), times[1]), (_ours(count), times[0])):
            await _offered(count)
            gc.collect()
            async with having as (_, seconds):
                found.append(seconds)
    return times[0][1:], times[1][1:]


def _measured(measure: Callable[[], Awaitable[Result]]) -> Result:
    async def bounded() -> Result:
        async with asyncio.timeout(_PATIENCE_SEC):
            return await measure()

    return asyncio.run(bounded())


def _starts_vs_floor(name: str, count: int, turns: int) -> Result:
    async def measure() -> Result:
        ours, floor = await _starts(count, turns)
        return Result(name=name, value=median(ours), unit="s", floor=median(floor), n=turns)

    return _measured(measure)


def twenty_vs_floor(name: str) -> Result:
    """Time 20 instances from nothing to running, against bare calls."""
    return _starts_vs_floor(name, 20, 7)


def fifty_vs_floor(name: str) -> Result:
    """Time 50 instances from nothing to running, against bare calls."""
    return _starts_vs_floor(name, _MANY, 5)


def twenty_vs_yapapi(name: str) -> Result:
    """Time 20 instances from nothing to running, against the older SDK."""

    async def measure() -> Result:
        count, turns = 20, 3
        ours, floor = await _starts(count, turns)
        await _offered(count)
        theirs = await peer.yapapi_seconds_to_running(_config(), count)
        return Result(
            name=name, value=median(ours), unit="s", floor=median(floor), peer=theirs, n=turns
        )

    peer.fetch()
    return _measured(measure)


def batch_vs_floor(name: str) -> Result:
    """Time one command on an instance that runs, from asking to the result, against bare calls."""

    async def measure() -> Result:
        n, warm = 400, 20
        times: tuple[list[float], list[float]] = [], []
        await _offered(2)
        async with _floor(1) as (floor, _), _ours(1) as (cluster, _):
            context, activity = cluster.instances[0].ctx, floor.rented[0].activity
            for _ in range(n + warm):
                times[1].append(await _ms(floor.batch(activity)))
                times[0].append(await _ms(context.run("/bin/true")))
        ours, least = (median(found[warm:]) for found in times)
        return Result(name=name, value=ours, unit="ms", floor=least, n=n)

    return _measured(measure)


async def _ms(batch: Awaitable[object]) -> float:
    began = time.perf_counter()
    await batch
    return (time.perf_counter() - began) * 1000


def batches_vs_floor(name: str) -> Result:
    """Count commands a second over fifty activities at one time, against bare calls."""

    async def measure() -> Result:
        turns, each = 5, 10
        rates: tuple[list[float], list[float]] = [], []
        await _offered(_MANY)
        async with _floor(_MANY) as (floor, _), _ours(_MANY) as (cluster, _):
            for _ in range(turns + 1):
                rates[1].append(await floor.batches(each))
                rates[0].append(await _batches(cluster, each))
        ours, most = (median(found[1:]) for found in rates)
        return Result(name=name, value=ours, unit="1/s", floor=most, n=turns * each * _MANY)

    return _measured(measure)


async def _batches(cluster: Cluster[Idle], each: int) -> float:
    contexts = [one.ctx for one in cluster.instances]

    async def some(context: Any) -> None:
        for _ in range(each):
            await context.run("/bin/true")

    began = time.perf_counter()
    await asyncio.gather(*(some(context) for context in contexts))
    return each * len(contexts) / (time.perf_counter() - began)
