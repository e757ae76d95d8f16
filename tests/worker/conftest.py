"""A queue, a runtime, and workers that take from the one and run in the other."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from requestor_sdk.c2d._queue import DurableQueue
from requestor_sdk.c2d._store.memory import MemoryStore
from requestor_sdk.model.errors import SandboxUnavailable
from requestor_sdk.sandbox import BubblewrapRuntime, ImageStore, RuncRuntime

sys.path.insert(0, str(Path(__file__).parent))  # --import-mode=importlib does not
from working import ROOM, Hired


@pytest.fixture
async def queue(tmp_path):
    store = MemoryStore()
    await store.open()
    made = DurableQueue(store, tmp_path / "queue")
    await made.open()
    yield made
    await made.close()
    await store.close()


@pytest.fixture
def kind():
    return "bubblewrap"


@pytest.fixture
async def runtime(tmp_path, kind):
    made = {"bubblewrap": BubblewrapRuntime, "runc": RuncRuntime}[kind](tmp_path / "home")
    try:
        await made.open()
    except SandboxUnavailable as error:
        pytest.skip(f"no sandbox here: {error.message}")
    await made._trial  # of its opening; it ends aside
    yield made
    left = {box.name for box in made._boxes}
    await made.close()
    assert not left, "a sandbox was left"
    assert not list((tmp_path / "home/run").iterdir())


@pytest.fixture
def images(tmp_path):
    return ImageStore(tmp_path / "home")


@pytest.fixture
async def hire(queue, runtime, images, tmp_path):
    """Starts a worker; each is stopped in the end, and has to have left nothing."""
    hired = []

    async def start(name="w", **settings):
        settings = {"room": ROOM, "stop_grace": 0.3, **settings}
        one = Hired(queue, tmp_path / name, runtime, images, name, settings)
        hired.append(one)
        return one

    yield start
    await asyncio.gather(*(one.stop() for one in hired))
    for one in hired:
        one.check_nothing_left()
