"""Programs of handlers on the real daemon: a batch a call, by a small client inside the payload."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from handlers import served
from handlers.served import Ask, Said, echo, nap

from requestor_sdk import Compute, HandlerCluster, HandlerService, RestartPolicy
from requestor_sdk.client._handler_ways import BatchWay
from requestor_sdk.model.errors import CallFailed
from requestor_sdk.networks.golem import GolemNetwork
from requestor_sdk.sandbox import ImageStore

pytestmark = [
    pytest.mark.devnet(providers=2),
    pytest.mark.sandbox,
    pytest.mark.timeout(180),
]


class Served(HandlerService):
    program = Path(served.__file__)


async def test_handlers_are_called_through_the_daemon_and_outlive_a_provider(devnet):
    network = GolemNetwork(devnet.config, images=ImageStore())
    async with Compute(network=network, budget=10) as compute:
        restart = RestartPolicy(when="on-failure", max_attempts=3)
        cluster = await compute.run_service(Served, num_instances=2, restart=restart)
        first, second = await cluster.wait("running")
        assert isinstance(first.handler_transport(), BatchWay)
        assert await first.call(echo, Ask(text="ä")) == Said(text="ä")
        with pytest.raises(CallFailed, match="ValueError: not good"):
            await second.call(echo, Ask(text="raise"))
        balanced = HandlerCluster(cluster, patience=90)
        calls = [asyncio.create_task(balanced.call(nap, Ask(number=1))) for _ in range(4)]
        async with asyncio.timeout(60):
            while [balanced.calls(each) for each in (first, second)] != [2, 2]:
                await asyncio.sleep(0.02)
        (victim,) = (one for one in devnet.providers if one.name == first.provider_name)
        await victim.kill()
        assert [each.text for each in await asyncio.gather(*calls)] == ["slept"] * 4
