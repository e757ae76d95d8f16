"""How often activities are asked after where the network pushes no loss."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from requestor_sdk import Service, Settings
from requestor_sdk.clock import LoopClock
from requestor_sdk.engine.health import Health
from requestor_sdk.model.lifecycle import ServiceState
from requestor_sdk.model.market import ActivityState
from requestor_sdk.ports.network import NetworkTraits


class Asked:
    """A member that runs, and counts how often its state is asked for."""

    def __init__(self, *, pushes_loss=False, check_sec=None):
        self.times = []
        self.state = ServiceState.running
        self.id = "i-1"
        self.service = Service()
        contract = SimpleNamespace(id="a-1", use=None)
        batches = SimpleNamespace(raw_state=self.raw_state)
        self.attempt = SimpleNamespace(number=1, contract=contract, batches=batches)
        traits = NetworkTraits(name="x", pushes_loss=pushes_loss, check_sec=check_sec)
        self.core = SimpleNamespace(
            settings=Settings(unresponsive_after=30),
            network=SimpleNamespace(traits=traits),
            clock=LoopClock(),
        )

    async def raw_state(self):
        self.times.append(asyncio.get_running_loop().time())
        return ActivityState.ready

    async def during(self, seconds):
        health = Health(self.core, lambda: [self])
        checking = asyncio.create_task(health.run())
        await asyncio.sleep(seconds)
        checking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await checking
        return len(self.times)


async def test_a_network_says_how_often():
    assert await Asked(check_sec=2.0).during(19.0) == 10


async def test_otherwise_it_is_a_third_of_what_counts_as_silence():
    assert await Asked().during(19.0) == 2


async def test_it_is_never_less_often_than_silence_needs():
    assert await Asked(check_sec=500.0).during(19.0) == 2


async def test_nobody_is_asked_where_the_network_pushes_loss():
    assert await Asked(pushes_loss=True, check_sec=2.0).during(19.0) == 0
