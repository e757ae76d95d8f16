"""Files by `Compute` on the real daemon, to and from a provider of ours."""

from __future__ import annotations

import asyncio
import hashlib
import random

import pytest

from requestor_sdk import Compute, Service
from requestor_sdk.model.errors import CommandFailed
from requestor_sdk.networks.golem import GolemNetwork
from requestor_sdk.payload import VmPayload

pytestmark = [pytest.mark.devnet(providers=2), pytest.mark.timeout(240)]

SIZE = 200 * 1024 * 1024


class Mover(Service):
    """Does what the test gives it, once."""

    def __init__(self, work, index, done):
        self.work, self.index, self.done = work, index, done

    @staticmethod
    async def get_payload():
        return VmPayload(min_mem_gib=0.05, min_storage_gib=0.5)

    async def run(self):
        try:
            result = None
            async for script in self.work(self):
                yield script
        except Exception as error:
            result = error
        self.done[self.index].set_result(result)


async def _run(network, count, work):
    loop = asyncio.get_running_loop()
    done = [loop.create_future() for _ in range(count)]
    params = [{"work": work, "index": index, "done": done} for index in range(count)]
    async with Compute(network=GolemNetwork(network.config), budget=10) as compute:
        await compute.run_service(Mover, instance_params=params)
        async with asyncio.timeout(200):
            results = await asyncio.gather(*done)
    return results


def _checksum(path):
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


async def test_200_mb_go_up_and_down_and_are_the_same(devnet, tmp_path):
    source, back = tmp_path / "source", tmp_path / "back"
    block = random.Random(4).randbytes(1 << 20)
    with source.open("wb") as file:
        for index in range(SIZE >> 20):
            file.write(index.to_bytes(8, "big") + block[8:])

    async def work(service):
        script = service.ctx.new_script()
        script.upload_file(source, "/golem/work/large")
        script.download_file("/golem/work/large", back)
        yield script

    assert await _run(devnet, 1, work) == [None]
    assert _checksum(source) == _checksum(back)


async def test_many_instances_move_files_at_once_and_a_limit_ends_but_its_command(devnet, tmp_path):
    contents = [random.Random(index).randbytes(1_000_000) for index in range(4)]

    async def work(service):
        content = contents[service.index]
        script = service.ctx.new_script()
        script.upload_bytes(content, "/golem/work/file")
        script.download_file("/golem/work/file", tmp_path / str(service.index))
        yield script
        script = service.ctx.new_script()
        script.download_bytes("/golem/work/file", limit=1000)
        yield script

    for failure in await _run(devnet, 4, work):
        with pytest.raises(CommandFailed, match="limit of 1000"):
            raise failure
    assert [(tmp_path / str(index)).read_bytes() for index in range(4)] == contents
