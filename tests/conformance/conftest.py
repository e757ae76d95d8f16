import asyncio

import pytest
from conformance.stage import Stage

from requestor_sdk.testing import VirtualTimeLoop


def pytest_asyncio_loop_factories(config, item):
    if item.get_closest_marker("devnet"):
        return {"real": asyncio.SelectorEventLoop}
    return {"virtual": VirtualTimeLoop}


@pytest.fixture
def stage():
    """Four honest providers on a simulated network."""
    return Stage()
