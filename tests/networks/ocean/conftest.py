from contextlib import asynccontextmanager

import pytest

from requestor_sdk.networks.ocean import OceanConfig, OceanJobs
from requestor_sdk.signing import EthSigner

WALLET = EthSigner(bytes(range(1, 33)))
OTHER = EthSigner(bytes(range(2, 34)))


@asynccontextmanager
async def opened(server, wallet=WALLET, **options):
    jobs = OceanJobs(OceanConfig(url=server.url, wallet=wallet, **options))
    await jobs.open()
    try:
        yield jobs
    finally:
        await jobs.close()


@pytest.fixture
async def classic():
    from networks.ocean.standins import ClassicProvider

    async with ClassicProvider().serving() as server:
        server.assets["did:op:1"] = {"id": "did:op:1"}
        yield server


@pytest.fixture
async def node():
    from networks.ocean.standins import OceanNodeStandIn

    async with OceanNodeStandIn().serving() as server:
        yield server
