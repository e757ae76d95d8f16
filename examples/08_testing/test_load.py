"""Tests of the service: hours in milliseconds, and computers that fail as they are told to."""

import asyncio
from collections import Counter

import pytest
from main import watched

from requestor_sdk import events
from requestor_sdk.testing import ProgramResult, Slow, Vanishing, simulated_providers

# What `cat` does on the simulated computers.
IDLE = {"cat": "0.05 0.03 0.01 1/99 4711\n"}


def broken_now_and_then():
    count = iter(range(10**6))

    def cat(_argv, _files):
        return ProgramResult(return_code=next(count) % 3 // 2)

    return {"cat": cat}


@pytest.mark.simulated(providers=simulated_providers(4, programs=IDLE))
async def test_it_reads_once_a_minute(simulated_compute):
    cluster = await watched(simulated_compute, 3)
    await asyncio.sleep(3600)
    assert [len(watch.loads) for watch in cluster.instances] == [60, 60, 60]
    assert set(cluster.instances[0].loads) == {0.05}


@pytest.mark.simulated(providers=simulated_providers(4, programs={"cat": "no such file"}))
async def test_what_cannot_be_read_is_counted_and_ends_nothing(simulated_compute):
    cluster = await watched(simulated_compute, 1)
    await asyncio.sleep(600)
    assert cluster.instances[0].unreadable == 10
    assert cluster.instances[0].state == "running"


@pytest.mark.simulated(providers=simulated_providers(4, programs=broken_now_and_then()))
async def test_a_reading_that_fails_is_tried_again_a_minute_later(simulated_compute):
    cluster = await watched(simulated_compute, 1)
    await asyncio.sleep(600)
    assert cluster.instances[0].unreadable > 3
    assert cluster.instances[0].state == "running"


@pytest.mark.simulated(
    providers=[
        *simulated_providers(1, programs=IDLE, behaviour=Vanishing(after=1800, seen_as="silent")),
        *simulated_providers(4, programs=IDLE, behaviour=Slow(seconds=2.0))[1:],
    ]
)
async def test_readings_survive_the_loss_of_a_computer(simulated_compute, virtual_clock):
    cluster = await watched(simulated_compute, 1)
    watch, before = cluster.instances[0], virtual_clock.now()
    lost = watch.provider_name
    await asyncio.sleep(3600)
    assert (virtual_clock.now() - before).total_seconds() == 3600
    assert watch.provider_name != lost
    assert len(watch.loads) > 50


@pytest.mark.simulated(providers=12, seed=7, faults="rough")
async def test_it_stands_rough_weather(simulated_compute):
    cluster = await watched(simulated_compute, 5)
    await asyncio.sleep(6 * 3600)
    await cluster.wait("running", count=5)
    told = Counter(event.kind for event in simulated_compute.journal.read())
    assert told[events.ServiceStateChanged.__name__] >= 10
