import asyncio
import os
import signal
import sys
from datetime import timedelta
from decimal import Decimal

import pytest
from provider.fake_runtime import FakeRuntime
from provider.rental import HASH, FakeImages

from requestor_sdk import vm
from requestor_sdk.client._local import LocalNetwork
from requestor_sdk.model.errors import (
    ImageNotFound,
    NotAvailable,
    NotSupported,
    ProviderLost,
    SandboxUnavailable,
)
from requestor_sdk.model.market import ActivityState, Demand, EndReason
from requestor_sdk.model.props import EXPIRATION, Payload, VmPayload
from requestor_sdk.model.script import CommandResult, Deploy, Run, Start, Transfer
from requestor_sdk.provider import ProviderConfig


@pytest.fixture
def local(tmp_path):
    return LocalNetwork(home=tmp_path, runtime=FakeRuntime(), images=FakeImages(tmp_path))


async def rent(network):
    """Rent the first that answers; returns provider, agreement and activity."""
    clock = network.agents[0]._clock
    end = clock.now() + timedelta(hours=1)
    demand = Demand(properties={EXPIRATION: int(end.timestamp() * 1000)})
    demand_id = await network.market.subscribe(demand)
    initial, *_ = await network.market.collect(demand_id)
    await network.market.counter(initial, demand)
    draft, *_ = await network.market.collect(demand_id)
    agreement = await network.market.create_agreement(draft, valid_to=end)
    await network.market.confirm(agreement)
    assert (await network.market.wait_approval(agreement, timeout=5)).approved
    return draft.provider_id, agreement, await network.activities.create(agreement)


async def run(network, activity, *commands):
    seen = []

    async def take(event):
        seen.append(event)

    await network.activities.execute(activity, commands, take)
    return [event for event in seen if isinstance(event, CommandResult)]


async def test_four_providers_with_identities_of_their_own_offer_at_once(local):
    await local.open()
    report = await local.market.match_report(Demand(properties={}))
    assert report.matching == 4
    assert len({agent.identity for agent in local.agents}) == 4
    await local.close()
    await local.close()
    assert local.agents == ()


async def test_identities_are_the_same_in_the_next_run(local):
    seen = []
    for _ in range(2):
        await local.open()
        seen.append([agent.identity for agent in local.agents])
        await local.close()
    assert seen[0] == seen[1]


async def test_providers_can_be_handed_over(tmp_path):
    own = (ProviderConfig(name="own", subnet="mine"),)
    network = LocalNetwork(providers=own, home=tmp_path, runtime=FakeRuntime())
    await network.open()
    assert [agent.config for agent in network.agents] == list(own)
    await network.close()


async def test_a_closed_network_says_so(local):
    with pytest.raises(NotAvailable):
        _ = local.market
    await local.open()
    with pytest.raises(NotAvailable):
        await local.open()
    await local.close()
    with pytest.raises(NotAvailable):
        _ = local.payments


async def test_closing_ends_what_runs_and_the_runtime(local):
    await local.open()
    _, _, activity = await rent(local)
    await run(local, activity, Deploy(), Start())
    runtime = local.runtime
    await local.close()
    assert runtime.closed == 1
    assert all(sandbox.closed for sandbox in runtime.made)


async def test_a_runtime_that_cannot_be_had_leaves_nothing_open(tmp_path):
    class Missing(FakeRuntime):
        async def open(self):
            raise SandboxUnavailable("no user namespaces", hint="enable them")

    network = LocalNetwork(home=tmp_path, runtime=Missing())
    with pytest.raises(SandboxUnavailable):
        await network.open()
    assert network.agents == ()


async def test_a_provider_that_cannot_open_closes_the_rest(tmp_path):
    runtime = FakeRuntime(isolates=False)
    configs = [ProviderConfig(name="a"), ProviderConfig(name="b", serves_others=True)]
    network = LocalNetwork(providers=configs, home=tmp_path, runtime=runtime)
    with pytest.raises(SandboxUnavailable):
        await network.open()
    assert runtime.closed == 1
    assert network.agents == ()


async def test_an_image_is_resolved_to_its_hash_before_anything_is_signed(local):
    found = await local.resolve(VmPayload(image_hash=HASH, min_mem_gib=1))
    assert (found.image_hash, found.min_mem_gib) == (HASH, 1)
    with pytest.raises(ImageNotFound):
        await local.resolve(VmPayload(image_tag="unknown"))


async def test_a_payload_with_a_manifest_is_resolved_and_matched_like_any_other(local):
    manifest = vm.Manifest.build(image=HASH)
    payload = await vm.manifest(manifest)
    found = await local.resolve(payload)
    assert found.properties() == payload.properties()
    assert found.image_hash == HASH
    await local.open()
    demand = Demand(properties=found.properties(), constraints=found.constraints())
    assert (await local.market.match_report(demand)).matching > 0
    await local.close()


async def test_an_image_by_url_alone_is_refused_and_none_means_the_bare_base(local):
    for payload in (VmPayload(), Payload()):
        assert await local.resolve(payload) is payload
    with pytest.raises(NotSupported, match="does not fetch") as caught:
        await local.resolve(VmPayload(image_url="http://example.org/x.gvmi"))
    assert "requestor-sdk image import" in caught.value.hint


async def test_killing_sandboxes_sends_sigkill_to_those_of_one_provider(local, monkeypatch):
    sent = []
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append((pid, number)))
    await local.open()
    provider, _, activity = await rent(local)
    await run(local, activity, Deploy(), Start())
    others = [a.identity for a in local.agents if a.identity != provider]
    assert sum(local.kill_sandboxes(other) for other in others) == 0
    assert local.kill_sandboxes(provider) == 1
    assert sent == [(local.runtime.made[0].pid, signal.SIGKILL)]
    await local.close()


@pytest.mark.sandbox
@pytest.mark.skipif(sys.platform != "linux", reason="sandboxes are of Linux")
async def test_a_payload_really_runs_is_billed_and_its_loss_is_pushed(tmp_path):
    network = LocalNetwork(providers=1, home=tmp_path)
    await network.open()
    try:
        provider, agreement, activity = await rent(network)
        allocation = await network.payments.allocate(Decimal(1))
        async with network.transfers.publish(b"41") as url:
            results = await run(
                network,
                activity,
                Deploy(),
                Start(),
                Transfer(source=url, target="container:/data/in"),
                Run(argv=("/bin/sh", "-c", "expr $(cat /data/in) + $MORE"), env={"MORE": "1"}),
                Run(argv=("/bin/sh", "-c", "cp /data/in /data/out")),
            )
        assert [result.success for result in results] == [True] * 5, results
        assert results[3].stdout == "42\n"
        async with network.transfers.receive(tmp_path / "out") as incoming:
            await run(
                network, activity, Transfer(source="container:/data/out", target=incoming.url)
            )
            await incoming.content()
        assert (tmp_path / "out").read_bytes() == b"41"
        await network.activities.activity_events()
        sleeping = asyncio.create_task(run(network, activity, Run(argv=("/bin/sleep", "60"))))
        await asyncio.sleep(0)
        assert network.kill_sandboxes(provider) == 1
        with pytest.raises(ProviderLost):
            await asyncio.wait_for(sleeping, 10)
        (changed,) = await asyncio.wait_for(network.activities.activity_events(), 10)
        assert changed.state is ActivityState.terminated
        await network.market.terminate(agreement, EndReason(message="done"))
        found = list(await asyncio.wait_for(network.payments.payment_events(), 10))
        while not hasattr(found[-1], "amount"):
            found += await asyncio.wait_for(network.payments.payment_events(), 10)
        await network.payments.accept_invoice(found[-1], allocation)
        assert found[-1].amount == found[-2].total > 0
    finally:
        await network.close()


async def test_an_opening_that_is_cancelled_leaves_no_runtime_open(tmp_path):
    runtime = FakeRuntime()
    network = LocalNetwork(home=tmp_path, runtime=runtime)
    opening = asyncio.create_task(network.open())
    while not runtime.opened:
        await asyncio.sleep(0)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert runtime.closed == runtime.opened == 1


async def test_a_data_folder_that_cannot_be_used_is_told_with_what_moves_it():
    class Homeless(FakeRuntime):
        async def open(self):
            raise PermissionError(13, "Permission denied", "/nowhere")

    with pytest.raises(NotAvailable, match=r"cannot use its data folder.*/nowhere") as caught:
        await LocalNetwork(runtime=Homeless()).open()
    assert "REQUESTOR_SDK_HOME" in caught.value.hint
