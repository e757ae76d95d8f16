import asyncio

from requestor_sdk.testing import VirtualTimeLoop


def pytest_asyncio_loop_factories(config, item):
    # The tests of Golem speak to other processes, or to sockets: their time is the real one.
    if item.get_closest_marker("sandbox") or item.path.parent.name == "golem":
        return {"real": asyncio.SelectorEventLoop}
    return {"virtual": VirtualTimeLoop}
