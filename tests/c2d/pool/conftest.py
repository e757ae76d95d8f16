"""Pools in virtual time."""

from __future__ import annotations

from requestor_sdk.testing import VirtualTimeLoop


def pytest_asyncio_loop_factories(config, item):
    return {"virtual": VirtualTimeLoop}
