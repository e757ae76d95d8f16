"""A provider dies by SIGKILL under an instance: it is noticed soon, and another takes its place."""

from __future__ import annotations

import asyncio

import pytest
from support.books import books

from requestor_sdk import Compute, GolemNetwork, RestartPolicy, Service
from requestor_sdk import events as ev
from requestor_sdk.payload import VmPayload


class Steady(Service):
    """Works on for ever."""

    @staticmethod
    async def get_payload():
        return VmPayload(min_mem_gib=0.1, min_storage_gib=0.1)


@pytest.mark.devnet(providers=4)
@pytest.mark.timeout(120)
async def test_an_instance_of_a_provider_that_vanishes_goes_to_another(devnet):
    seen: list[ev.Event] = []
    by_identity = {provider.identity: provider for provider in devnet.providers}
    async with Compute(
        budget=1, network=GolemNetwork(devnet.config), event_consumer=seen.append
    ) as compute:
        policy = RestartPolicy(when="always", max_attempts=3, avoid_failed_provider=True)
        cluster = await compute.run_service(Steady, num_instances=1, restart=policy)
        await cluster.wait("running")
        (signed,) = (event for event in seen if isinstance(event, ev.AgreementConfirmed))
        lost = by_identity[signed.provider_id]

        await lost.kill()
        async with asyncio.timeout(60):
            while cluster.instances[0].provider_name in (None, lost.name):
                await asyncio.sleep(0.1)
            await cluster.wait("running")
        await lost.restart()
        await cluster.stop()
    async with books(devnet.config) as ledger:
        page = await ledger.page()
    assert page.living == {}
    assert page.allocations == ()
    assert page.unanswered == ()
