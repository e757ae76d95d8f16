import asyncio
import os

import pytest
from networks.stage import Stage

from requestor_sdk.model.errors import (
    ActivityError,
    NotAvailable,
    RequestorError,
    TransferRefused,
    UploadUnreadable,
)

BIG = os.urandom(1_300_000)


async def in_pieces(data, size=50_000):
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def broken():
    yield b"half"
    raise ActivityError("the disk died")


async def test_bytes_arrive_as_they_were_published_in_large_chunks():
    stage = Stage()
    async with stage.network.transfers.publish(BIG) as url:
        assert url.startswith("mem:")
        assert await stage.provider.size_of(url) == len(BIG)
        chunks = [chunk async for chunk in stage.provider.fetch(url)]
    assert b"".join(chunks) == BIG
    assert all(len(chunk) >= 65536 for chunk in chunks[:-1])


async def test_a_file_arrives_as_it_is_on_disk(tmp_path):
    source = tmp_path / "data"
    source.write_bytes(BIG)
    stage = Stage()
    async with stage.network.transfers.publish(source) as url:
        assert await stage.provider.size_of(url) == len(BIG)
        chunks = [chunk async for chunk in stage.provider.fetch(url)]
    assert b"".join(chunks) == BIG
    assert all(len(chunk) >= 65536 for chunk in chunks[:-1])


async def test_a_url_is_good_only_while_it_is_open():
    stage = Stage()
    async with stage.network.transfers.publish(b"x") as url:
        pass
    with pytest.raises(NotAvailable):
        await stage.provider.size_of(url)
    async with stage.network.transfers.receive(None) as incoming:
        pass
    with pytest.raises(TransferRefused):
        await stage.provider.deliver(incoming.url, in_pieces(b"x"))
    with pytest.raises(ActivityError):
        await incoming.content()


async def test_an_unreadable_file_is_refused_when_it_is_published(tmp_path):
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(UploadUnreadable):
            async with Stage().network.transfers.publish(path):
                pass


async def test_a_file_is_taken_into_memory():
    stage = Stage()
    async with stage.network.transfers.receive(None) as incoming:
        waiting = asyncio.create_task(incoming.content())
        await stage.settle()
        assert not waiting.done()
        assert await stage.provider.deliver(incoming.url, in_pieces(BIG)) == len(BIG)
        assert await waiting == BIG


async def test_a_file_is_taken_to_its_path_and_only_whole(tmp_path):
    target = tmp_path / "out"
    target.write_bytes(b"old")
    stage = Stage()

    async def watched():
        async for piece in in_pieces(BIG):
            assert target.read_bytes() == b"old"
            yield piece

    async with stage.network.transfers.receive(target) as incoming:
        await stage.provider.deliver(incoming.url, watched())
        assert await incoming.content() == b""
    assert target.read_bytes() == BIG
    assert list(tmp_path.iterdir()) == [target]


async def test_a_transfer_that_fails_half_way_leaves_nothing(tmp_path):
    target = tmp_path / "out"
    stage = Stage()
    async with stage.network.transfers.receive(target) as incoming:
        with pytest.raises(ActivityError):
            await stage.provider.deliver(incoming.url, broken())
        with pytest.raises(ActivityError, match="the disk died"):
            await incoming.content()
    assert list(tmp_path.iterdir()) == []


async def test_a_target_that_cannot_be_written_is_a_typed_error(tmp_path):
    stage = Stage()
    async with stage.network.transfers.receive(tmp_path / "no" / "out") as incoming:
        with pytest.raises(RequestorError, match="cannot be written"):
            await stage.provider.deliver(incoming.url, in_pieces(b"x"))


async def test_a_file_above_the_limit_is_refused_before_it_is_whole():
    stage, came = Stage(), []

    async def endless():
        while True:
            came.append(1)
            yield b"x" * 1000

    async with stage.network.transfers.receive(None, limit=10_000) as incoming:
        with pytest.raises(TransferRefused, match="10000"):
            await stage.provider.deliver(incoming.url, endless())
        assert len(came) == 11
        with pytest.raises(ActivityError, match="10000"):
            await incoming.content()
