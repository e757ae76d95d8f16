import asyncio

from requestor_sdk.testing import VirtualTimeLoop


def pytest_asyncio_loop_factories(config, item):
    if item.get_closest_marker("sandbox"):
        return {"real": asyncio.SelectorEventLoop}
    return {"virtual": VirtualTimeLoop}
