"""The network as a whole: opened, closed, and asked for images."""

from __future__ import annotations

import pytest

from requestor_sdk.client.networks import make_network
from requestor_sdk.golem import GolemConfig
from requestor_sdk.golem.registry import FoundImage
from requestor_sdk.model.errors import (
    ImageNotFound,
    NetworkUnreachable,
    NotAvailable,
    UsageError,
    WrongAppKey,
)
from requestor_sdk.model.props import Payload, VmPayload
from requestor_sdk.networks.golem import GolemNetwork, _network
from requestor_sdk.ports.network import Network

HASH = "ab" * 28
OTHER = "cd" * 28
NAMES = {
    "subnet_tag": None,
    "payment_driver": None,
    "payment_network": None,
    "providers": None,
    "allow_unsandboxed": False,
}


class FakeDaemon:
    fails = False

    def __init__(self, config):
        self.config, self.version, self.opened, self.closed = config, "0.17.6", 0, 0
        self.identity = "0x" + "a" * 40

    async def open(self):
        if self.fails:
            raise NetworkUnreachable("no daemon")
        self.opened += 1

    async def close(self):
        self.closed += 1


class Store:
    def __init__(self, **known):
        self.known = known

    def resolve(self, *, image_hash=None, tag=None):
        class Image:
            hash = self.known.get(tag) or (image_hash if image_hash in self.known.values() else "")

        if not Image.hash:
            raise ImageNotFound("not here")
        return Image


@pytest.fixture
def network(monkeypatch):
    monkeypatch.setattr(_network, "Daemon", FakeDaemon)
    return GolemNetwork(GolemConfig(app_key="key"), images=Store(mine=HASH))


async def test_it_opens_once_and_closes_as_often_as_one_likes(network):
    held: Network = network
    with pytest.raises(NotAvailable):
        held.market  # noqa: B018
    await held.open(run_id="r")
    with pytest.raises(NotAvailable, match="open already"):
        await held.open(run_id="r")
    assert held.market is held.market
    for _ in range(2):
        await held.close()
    for part in ("market", "activities", "payments", "transfers"):
        with pytest.raises(NotAvailable, match="not open"):
            getattr(held, part)
    await held.open(run_id="r")
    assert network.daemon.opened == 2


async def test_a_daemon_that_is_not_there_leaves_nothing_open(network):
    network.daemon.fails = True
    with pytest.raises(NetworkUnreachable):
        await network.open()
    network.daemon.fails = False
    await network.open()


async def test_agreements_outlive_the_process_and_losses_are_looked_for(network):
    assert network.traits.outlives_process
    assert not network.traits.pushes_loss
    assert network.traits.check_sec < 5


def test_its_repr_has_no_secret(network):
    assert "key" not in repr(network)


# Images -----------------------------------------------------------------------------------------


@pytest.fixture
def registry(monkeypatch):
    asked = []

    async def find_image(**wanted):
        asked.append(wanted)
        return FoundImage(hash=OTHER, url="http://registry/x.gvmi")

    monkeypatch.setattr(_network, "find_image", find_image)
    return asked


async def test_an_image_of_this_machine_goes_before_the_registrys(network, registry, monkeypatch):
    async def published(image):
        return f"gftp://{image.hash}"

    monkeypatch.setattr(network, "_published", published)
    for wanted in (VmPayload(image_tag="mine"), VmPayload(image_hash=HASH)):
        found = await network.resolve(wanted)
        assert (found.image_hash, found.image_url) == (HASH, f"gftp://{HASH}")
    assert registry == []


async def test_an_image_that_is_not_here_is_looked_up_in_the_registry(network, registry):
    found = await network.resolve(VmPayload(image_tag="golem/alpine:latest"))
    assert (found.image_hash, found.image_url) == (OTHER, "http://registry/x.gvmi")
    await network.resolve(VmPayload(image_hash=OTHER))
    assert registry == [
        {"tag": "golem/alpine:latest", "image_hash": None},
        {"tag": None, "image_hash": OTHER},
    ]


async def test_what_names_no_image_or_its_own_address_is_left_as_it_is(network, registry):
    for payload in (Payload(), VmPayload(), VmPayload(image_hash=HASH, image_url="http://x/y")):
        assert await network.resolve(payload) is payload
    assert registry == []


# By name ----------------------------------------------------------------------------------------


def test_compute_finds_it_by_its_name_and_the_environment(monkeypatch):
    monkeypatch.setenv("YAGNA_APPKEY", "key")
    monkeypatch.setenv("YAGNA_API_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("YAGNA_SUBNET", "mine")
    monkeypatch.setenv("YAGNA_PAYMENT_NETWORK", "polygon")
    monkeypatch.setenv("YAGNA_PAYMENT_DRIVER", "erc20")
    found = make_network("golem", **NAMES)
    assert isinstance(found, GolemNetwork)
    assert (found.config.subnet, found.config.platform) == ("mine", "erc20-polygon-glm")
    named = make_network("golem", **{**NAMES, "subnet_tag": "theirs", "payment_network": "hoodi"})
    assert (named.config.subnet, named.config.platform) == ("theirs", "erc20-hoodi-tglm")


def test_without_a_key_it_is_told_how_to_have_one(monkeypatch):
    monkeypatch.delenv("YAGNA_APPKEY", raising=False)
    with pytest.raises(WrongAppKey) as caught:
        make_network("golem", **NAMES)
    assert "app-key" in caught.value.hint


def test_options_of_the_embedded_network_are_refused(monkeypatch):
    monkeypatch.setenv("YAGNA_APPKEY", "key")
    with pytest.raises(UsageError):
        make_network("golem", **{**NAMES, "providers": 3})
