"""The documentation's own extension, importable without Sphinx."""

from __future__ import annotations

import sys
from pathlib import Path

from requestor_sdk.testing import VirtualTimeLoop

sys.path.insert(0, str(Path(__file__).parents[2] / "docs" / "_ext"))


def pytest_asyncio_loop_factories(config, item):
    return {"virtual": VirtualTimeLoop}
