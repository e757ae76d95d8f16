"""The engine at scale, over the simulated network: no latency, no sandbox, a real event loop.

The floor is what bare asyncio takes for as many instances, each a task of twelve requests to a
server task over a queue, answered by futures, with one event record for each request.
"""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import time
from collections import deque
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

from measure import Result

from requestor_sdk import Compute, MemoryJournal, Service
from requestor_sdk.clock import LoopClock
from requestor_sdk.model.events import CustomEvent, Event
from requestor_sdk.payload import VmPayload
from requestor_sdk.testing import SimulatedNetwork, SimulatedProvider

_HOPS = 12
_EVENTS = 1_000_000
_PROVIDERS = [SimulatedProvider(name=f"p-{n}", capacity=1_000) for n in range(100)]


class Idle(Service):
    """Deploys, starts, and waits to be stopped."""

    @staticmethod
    async def get_payload() -> VmPayload:
        return VmPayload()


async def _lives(count: int) -> float:
    """Return the processor seconds of so many whole lives, from the demand to the paid invoice."""
    await _live_and_pay(1)  # loads what is loaded once a process: that is no part of a life
    gc.collect()
    began = time.process_time()
    await _live_and_pay(count)
    return time.process_time() - began


async def _live_and_pay(count: int) -> None:
    network = SimulatedNetwork(providers=_PROVIDERS, seed=1, latency=0)
    async with Compute(budget=10**9, network=network, journal=MemoryJournal(1000)) as compute:
        cluster = await compute.run_service(
            Idle, num_instances=count, expiration=timedelta(minutes=30)
        )
        await cluster.wait("running", count=count)
        await cluster.stop()
    if compute.budget.payable or compute.budget.held:
        raise RuntimeError("not all invoices were paid")


async def _floor(count: int) -> float:
    """Return what bare asyncio takes for as many requests, replies and records."""
    queue: asyncio.Queue[tuple[int, asyncio.Future[int]]] = asyncio.Queue()
    loop, clock = asyncio.get_running_loop(), LoopClock(datetime(2026, 1, 1, tzinfo=UTC))
    records: deque[CustomEvent] = deque(maxlen=1000)

    async def serve() -> None:
        while True:
            request, reply = await queue.get()
            reply.set_result(request)

    async def live(number: int) -> None:
        for hop in range(_HOPS):
            reply: asyncio.Future[int] = loop.create_future()
            await queue.put((hop, reply))
            await reply
            records.append(CustomEvent(at=clock.now(), name="hop", text=f"i-{number}"))

    gc.collect()
    began = time.process_time()
    server = asyncio.create_task(serve())
    async with asyncio.TaskGroup() as group:
        for number in range(count):
            group.create_task(live(number))
    server.cancel()
    return time.process_time() - began


def ten_thousand_vs_floor(name: str) -> Result:
    """Whole lives of 10,000 simulated instances, against bare asyncio."""
    n, lives, floors = 5, [], []
    for _ in range(n):
        floors.append(_in_a_process_of_its_own("_floor", 10_000))
        lives.append(_in_a_process_of_its_own("_lives", 10_000))
    return Result(name=name, value=median(lives), unit="cpu s", floor=median(floors), n=n)


def ten_thousand_over_one_thousand(name: str) -> Result:
    """What an instance costs among 10,000, against one among 1,000."""
    n, many, few = 3, [], []
    for _ in range(n):
        few.append(median(_in_a_process_of_its_own("_lives", 1_000) for _ in range(3)) / 1_000)
        many.append(_in_a_process_of_its_own("_lives", 10_000) / 10_000)
    ms = 1_000
    return Result(name=name, value=median(many) * ms, unit="cpu ms", floor=median(few) * ms, n=n)


def _resident_kib() -> float:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024


_IDLE = 5_000


async def _idle_instances_kib(count: int) -> float:
    """Return the memory of one more running idle instance, its provider's side included."""
    network = SimulatedNetwork(providers=_PROVIDERS, seed=1, latency=0)
    async with Compute(budget=10**9, network=network, journal=MemoryJournal(1000)) as compute:
        life = timedelta(minutes=30)
        warm = await compute.run_service(Idle, num_instances=100, expiration=life)
        await warm.wait("running", count=100)
        before = _resident_kib()
        cluster = await compute.run_service(Idle, num_instances=count, expiration=life)
        await cluster.wait("running", count=count)
        return (_resident_kib() - before) / count


async def _idle_tasks_kib(count: int) -> float:
    """Return the memory of one more task that waits."""

    async def idle() -> None:
        await asyncio.get_running_loop().create_future()

    before = _resident_kib()
    tasks = [asyncio.create_task(idle()) for _ in range(count)]
    await asyncio.sleep(0)
    found = (_resident_kib() - before) / count
    for task in tasks:
        task.cancel()
    return found


def idle_instance_kib(name: str) -> Result:
    """Memory of a running idle instance; the floor is a bare task."""
    floor = _in_a_process_of_its_own("_idle_tasks_kib", _IDLE)
    value = _in_a_process_of_its_own("_idle_instances_kib", _IDLE)
    return Result(name=name, value=value, unit="KiB", floor=floor, n=_IDLE)


def _in_a_process_of_its_own(measure: str, count: int) -> float:
    """Measure in a new interpreter, in which nothing was measured before.

    Memory that was used and freed would hide what is used, and makes what comes after it slower:
    of bare asyncio by a third after ten thousand whole lives. Not in a fork, which inherits it.
    """
    code = f"import asyncio, engine; print(asyncio.run(engine.{measure}({count})))"
    folder = Path(__file__).parent
    return float(subprocess.check_output([sys.executable, "-c", code], cwd=folder, text=True))


def events_per_s(name: str) -> Result:
    """A million events through the bus to two consumers and a bounded journal.

    The floor is the same without the bus: the event made, and the two functions called.
    """

    async def measure() -> Result:
        counts = [0, 0]

        def first(_event: Event) -> None:
            counts[0] += 1

        def second(_event: Event) -> None:
            counts[1] += 1

        network = SimulatedNetwork(providers=1, seed=1, latency=0)
        compute = Compute(
            budget=1, network=network, journal=MemoryJournal(1000), event_consumer=first
        )
        compute.add_event_consumer(second)
        async with compute:
            core = compute._engine.core
            before = _resident_kib()
            began = time.process_time()
            for number in range(_EVENTS):
                core.emit(CustomEvent, name="tick", text=str(number))
            took = time.process_time() - began
            grown = _resident_kib() - before
            if min(counts) < _EVENTS or grown > 16 * 1024:
                raise RuntimeError(f"{counts} events came through, and {grown:.0f} KiB stayed")
            began = time.process_time()
            for number in range(_EVENTS):
                event = CustomEvent(at=core.clock.now(), name="tick", text=str(number))
                first(event)
                second(event)
            floor = time.process_time() - began
        return Result(name=name, value=_EVENTS / took, unit="1/s", floor=_EVENTS / floor, n=_EVENTS)

    return asyncio.run(measure())
