"""Real sandboxes for the tests, and the check that nothing of them is left."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from requestor_sdk.model.errors import SandboxUnavailable
from requestor_sdk.ports.runtime import Sandbox, SandboxLimits, SandboxSpec
from requestor_sdk.sandbox import BubblewrapRuntime, RuncRuntime

sys.path.insert(0, str(Path(__file__).parent))  # --import-mode=importlib does not
from sandboxing import MIB, groups, loops, possible


@pytest.fixture
def kind() -> str:
    """Which runtime; the whole folder runs on another by REQUESTOR_RUNTIME=runc."""
    return os.environ.get("REQUESTOR_RUNTIME", "bubblewrap")


@pytest.fixture
async def runtime(tmp_path: Path, kind: str) -> AsyncIterator[BubblewrapRuntime]:
    home = tmp_path / "home"
    made = RuncRuntime(home) if kind == "runc" else BubblewrapRuntime(home)
    try:
        await made.open()
    except SandboxUnavailable as error:
        if possible(kind):
            raise  # the program works here, so ours must
        pytest.skip(f"no sandbox here: {error.message}")
    yield made
    await made.close()
    assert not groups()
    assert not loops(home)
    assert not list((home / "run").iterdir())
    assert str(home) not in Path("/proc/self/mountinfo").read_text()


Make = Callable[..., Awaitable[Sandbox]]


@pytest.fixture
def make(runtime: BubblewrapRuntime) -> Make:
    async def create(name: str = "box", **spec: object) -> Sandbox:
        limits = SandboxLimits(
            memory=int(spec.pop("memory", 64 * MIB)),
            storage=int(spec.pop("storage", 32 * MIB)),
            processes=int(spec.pop("processes", 64)),
            cpu_threads=float(spec.pop("cpu_threads", 1.0)),
        )
        return await runtime.create(SandboxSpec(name=name, limits=limits, **spec))  # type: ignore[arg-type]

    return create


@pytest.fixture
async def box(make: Make) -> Sandbox:
    return await make()
