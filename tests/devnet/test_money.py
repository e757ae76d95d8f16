"""A run of the engine on a network with a chain: the books of all who took part agree."""

from __future__ import annotations

from datetime import timedelta

import pytest
from devnet.deals import PAYMENT, opened, payments, until

from requestor_sdk import Compute, Service, vm
from requestor_sdk.client._golem import GolemNetwork
from requestor_sdk.events import InvoiceAccepted
from requestor_sdk.sandbox import ImageStore

pytestmark = [
    pytest.mark.chain,
    pytest.mark.sandbox,
    pytest.mark.devnet(providers=3, chain=True, shared_images=False),
]


class Greeter(Service):
    async def run(self):
        script = self.ctx.new_script()
        script.run("/bin/sh", "-c", "echo hello")
        yield script


@pytest.fixture
def image(tmp_path):
    (tmp_path / "image" / "golem").mkdir(parents=True)
    (tmp_path / "image" / "golem" / "hello").write_text("hello")
    return ImageStore().build(tmp_path / "image")


async def run_greeters(config, payload):
    """Run some to their end; return the invoices that were accepted."""
    events = []
    network = GolemNetwork(config)
    async with Compute(budget=1, network=network, event_consumer=events.append) as compute:
        cluster = await compute.run_service(
            Greeter, num_instances=3, payload=payload, expiration=timedelta(minutes=10)
        )
        await cluster.wait_settled()
        assert [instance.failure for instance in cluster.instances] == [None] * 3
    return [event for event in events if isinstance(event, InvoiceAccepted)]


async def test_what_was_accepted_is_what_moved_and_what_providers_say_they_were_paid(devnet, image):
    chain = devnet.chain
    async with opened(devnet.config) as requestor:
        before = await chain.units(requestor.identity)
        accepted = await run_greeters(devnet.config, await vm.repo(image_hash=image.hash))
        assert len(accepted) == 3

        async def settled():
            paths = [f"{PAYMENT}/invoices/{event.invoice_id}" for event in accepted]
            return [(await requestor.call("GET", path))["status"] for path in paths]

        await until(settled, ["SETTLED"] * 3)
        moved = before - await chain.units(requestor.identity)
    owed = sum(event.amount for event in accepted)
    assert owed > 0
    assert moved == owed * 10**18

    earned = {provider.identity: 0 for provider in devnet.providers}
    for event in accepted:
        earned[event.provider_id] += event.amount
    for provider in devnet.providers:
        assert await chain.balance(provider.identity) == earned[provider.identity]

        async def told(config=provider.config):
            async with opened(config) as daemon:
                return sum(await payments(daemon))

        await until(told, earned[provider.identity])
