import asyncio

import pytest

from requestor_sdk.testing import VirtualTimeLoop


def pytest_asyncio_loop_factories(config, item):
    return {"virtual": VirtualTimeLoop}


@pytest.fixture
def now():
    """Seconds of the loop, counted from the test's beginning."""

    class Now:
        def __init__(self):
            self.start = None

        def __call__(self):
            time = asyncio.get_running_loop().time()
            if self.start is None:
                self.start = time
            return time - self.start

    return Now()
