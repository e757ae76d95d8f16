"""The host keeps a worker working, whatever befalls one."""

from __future__ import annotations

import asyncio

import requestor_sdk.client._job_host as module
from requestor_sdk.c2d._store.memory import MemoryStore
from requestor_sdk.c2d.catalogue import Catalogue
from requestor_sdk.client._job_host import JobHost


async def test_a_worker_that_breaks_down_is_followed_by_another(tmp_path, monkeypatch, caplog):
    made, second = [], asyncio.Event()

    class Fragile:
        def __init__(self, queue, config, **parts):
            made.append(config.id)
            self.killed = asyncio.Event()

        async def run(self):
            if len(made) == 1:
                raise RuntimeError("out of luck")
            second.set()
            await self.killed.wait()

        def kill(self):
            self.killed.set()

    monkeypatch.setattr(module, "Worker", Fragile)
    monkeypatch.setattr(module, "AGAIN_SEC", 0.0)
    host = JobHost(
        MemoryStore(), tmp_path, catalogue=Catalogue(), runtime=object(), images=object()
    )
    await host.open()
    try:
        await asyncio.wait_for(second.wait(), 10)
    finally:
        await host.close()
    assert made[0] == made[1]
    assert made[0].startswith("embedded-")
    assert "out of luck" in caplog.text


async def test_a_folder_s_workers_keep_their_names_and_other_folders_have_others(tmp_path):
    names = [module._host_id(tmp_path / one) for one in ("a", "a", "b")]
    assert names[0] == names[1] != names[2]
