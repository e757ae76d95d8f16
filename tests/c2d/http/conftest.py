"""The provider served on loopback, without workers: tests do the runs themselves."""

from __future__ import annotations

import aiohttp
import pytest
from support.jobs import CONTAINER, Consumer, ddo, doer_of, local

pytest.importorskip("fastapi", reason="the extra `serve` is not installed")

ADDRESS = "0x" + "ab" * 20
NOBODY = "0x" + "00" * 19 + "01"


@pytest.fixture
def documents(tmp_path):
    """Give the catalogue: data, algorithms, and assets that not everybody may use."""
    (tmp_path / "data.csv").write_text("a,b\n1,2\n")
    (tmp_path / "more.csv").write_text("c\n3\n")
    (tmp_path / "algo.py").write_text("print('an asset')\n")
    data = local("data.csv", "more.csv")
    closed = {"publisherTrustedAlgorithmPublishers": [], "allowRawAlgorithm": False}
    trusting = {"publisherTrustedAlgorithms": [{"did": "did:op:algo"}]}
    only = {"allow": [{"type": "address", "values": [NOBODY]}]}
    about = {"language": "python", "version": "1", "container": CONTAINER}
    return [
        ddo("data", data),
        ddo("other", local("more.csv")),
        ddo("netted", local("more.csv"), rules={"allowNetworkAccess": True}),
        ddo("closed", data, rules=closed),
        ddo("trusting", data, rules={**closed, **trusting}),
        ddo("denied", data, credentials=only),
        ddo("disabled", data, nft={"state": 1}),
        ddo("download", local("more.csv"), kind="access"),
        ddo("algo", local("algo.py"), kind="access", algorithm=about),
        ddo("rogue", local("algo.py"), kind="access", algorithm=about),
    ]


@pytest.fixture
async def host(tmp_path, documents):
    from requestor_sdk.c2d._store.sqlite import SqliteStore
    from requestor_sdk.c2d.catalogue import Catalogue
    from requestor_sdk.client._job_host import JobHost

    host = JobHost(
        SqliteStore(tmp_path / "c2d.sqlite"),
        tmp_path / "host",
        catalogue=Catalogue.of(documents, folder=tmp_path),
        workers=0,
        address=ADDRESS,
    )
    await host.open()
    yield host
    await host.close()


@pytest.fixture
async def url(host):
    from support.serving import served

    from requestor_sdk.c2d._http.app import create_app
    from requestor_sdk.c2d.auth import Auth

    app = create_app(host.core, Auth(host.jobs, host.clock), address=ADDRESS, chain_id=8996)
    async with served(app) as address:
        yield address
        host.core.wake()


@pytest.fixture
async def session():
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
def consumer(session, url):
    return Consumer(session, url)


@pytest.fixture
def stranger(session, url):
    return Consumer(session, url)


@pytest.fixture
def doer(host):
    return doer_of(host.queue)
