"""Workers in virtual time: a real queue that can be away, a runtime without processes."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from requestor_sdk.testing import VirtualTimeLoop

sys.path.insert(0, str(Path(__file__).parent))
from unreal import Faulty, NoImages, UnrealRuntime

sys.path.insert(0, str(Path(__file__).parent.parent))
from working import ROOM, Hired


def pytest_asyncio_loop_factories(config, item):
    return {"virtual": VirtualTimeLoop}


@pytest.fixture
def faulty(queue):
    return Faulty(queue)


@pytest.fixture
def unreal():
    return UnrealRuntime()


@pytest.fixture
async def hire(faulty, unreal, tmp_path):
    """Starts a worker on the faulty queue; in the end nothing of it may be left."""
    hired = []

    async def start(name="w", **settings):
        folder = tmp_path / settings.pop("folder", name)
        settings = {"room": ROOM, **settings}
        one = Hired(faulty, folder, unreal, NoImages(), name, settings)
        hired.append(one)
        return one

    yield start
    faulty.mend()
    await asyncio.gather(*(one.stop() for one in hired if not one.task.done()))
    for one in hired:
        one.check_nothing_left()
    assert not unreal.living
