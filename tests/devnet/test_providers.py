"""Providers of a network: each serves as itself, can be killed and started again, and leaves."""

from __future__ import annotations

from pathlib import Path

import pytest
from devnet.deals import MARKET, opened

from requestor_sdk.devnet import Devnet
from requestor_sdk.model.errors import DevnetFailed

pytestmark = [pytest.mark.devnet(providers=2), pytest.mark.sandbox]


async def offers_of(config):
    async with opened(config) as daemon:
        return await daemon.call("GET", f"{MARKET}/offers")


async def test_each_provider_serves_as_itself_once_the_network_is_up(devnet):
    assert [provider.name for provider in devnet.providers] == ["amber", "birch"]
    for provider in devnet.providers:
        offers = await offers_of(provider.config)
        assert {offer["providerId"] for offer in offers} == {provider.identity}
        assert {offer["properties"]["golem.node.debug.subnet"] for offer in offers} == {"local"}


async def test_a_provider_is_killed_and_serves_again_after_a_restart(devnet):
    amber, birch = devnet.providers
    first = amber.pid
    await amber.kill()
    assert (amber.pid, birch.pid is None) == (None, False)
    await amber.restart()
    assert amber.pid not in (None, first)
    assert await offers_of(amber.config)


async def test_a_key_is_on_no_command_line_and_in_no_log(devnet):
    keys = [config.app_key for config in (devnet.config, *devnet.provider_configs)]
    seen = [Path(f"/proc/{one.pid}/cmdline").read_text() for one in devnet.providers]
    seen += [path.read_text() for path in devnet.folder.glob("*.log")]
    seen += [path.read_text() for path in devnet.folder.glob("provider-*.json")]
    assert [key for key in keys if any(key in text for text in seen)] == []


async def test_a_provider_that_cannot_serve_is_told_of_with_the_end_of_its_log(tmp_path):
    wrong = [{"name": "wrong", "runtime": "there-is-none"}]
    with pytest.raises(DevnetFailed, match="provider wrong ended with status 1") as told:
        await Devnet(providers=wrong, folder=tmp_path / "net").__aenter__()
    assert any("there-is-none" in line for line in told.value.story)


async def test_providers_end_with_their_network(tmp_path):
    async with Devnet(providers=1, folder=tmp_path / "net") as network:
        pid = network.providers[0].pid
    assert not Path(f"/proc/{pid}").exists()
    assert "leaving" in (tmp_path / "net" / "provider-amber.log").read_text()
