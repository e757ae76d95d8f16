"""Files between a requestor and a provider on the real daemon, by the service bus alone."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
from contextlib import AsyncExitStack, aclosing, asynccontextmanager

import pytest

from requestor_sdk.golem import Daemon, gftp
from requestor_sdk.golem.bus import Bus
from requestor_sdk.golem.flexbuffers import decode, encode
from requestor_sdk.model.errors import ActivityError, NetworkError
from requestor_sdk.networks.golem._transfers import GolemTransfers

pytestmark = [pytest.mark.devnet(providers=0, identities=3), pytest.mark.timeout(180)]

SMALL = random.Random(2).randbytes(1_000_000)
LARGE = 200 * 1024 * 1024
SHORTER = 48 * 1024 * 1024


@asynccontextmanager
async def _both(network, *, direct):
    daemon = Daemon(network.config)
    bus = Bus(network.config.gsb_url, name="provider")
    await daemon.open()
    try:
        await bus.open()
        try:
            yield GolemTransfers(daemon, direct=direct), bus
        finally:
            await bus.close()
    finally:
        await daemon.close()


@pytest.fixture(params=[True, False], ids=["bus", "web socket"])
def direct(request):
    return request.param


@pytest.fixture
async def both(devnet, direct):
    async with _both(devnet, direct=direct) as both:
        yield both


def _file(path, size):
    """Write a file whose every chunk is another."""
    block = random.Random(1).randbytes(1 << 20)
    with path.open("wb") as file:
        for index in range(size >> 20):
            file.write(index.to_bytes(8, "big") + block[8:])
    return path


@pytest.fixture
def shorter(tmp_path):
    return _file(tmp_path / "shorter", SHORTER)


def _checksum(path):
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


async def _all(chunks):
    async with aclosing(chunks):
        return b"".join([chunk async for chunk in chunks])


async def _pieces(content, size=250_000):
    for start in range(0, len(content), size):
        yield content[start : start + size]


async def _of(path):
    with path.open("rb") as file:
        while piece := file.read(1 << 18):
            yield piece


async def test_200_mb_go_down_and_up_and_are_the_same(both, direct, tmp_path):
    transfers, bus = both
    size = LARGE if direct else SHORTER
    large = _file(tmp_path / "large", size)
    fetched, back = hashlib.sha256(), tmp_path / "back"
    async with transfers.publish(large) as url:
        assert await gftp.size_of(bus, url) == size
        async with aclosing(gftp.fetch(bus, url)) as chunks:
            async for chunk in chunks:
                fetched.update(chunk)
    expected = _checksum(large)
    assert fetched.hexdigest() == expected
    async with transfers.receive(back) as incoming:
        assert await gftp.deliver(bus, incoming.url, _of(large)) == size
        assert await incoming.content() == b""
    assert _checksum(back) == expected


async def test_eight_files_at_once_in_both_directions(both):
    transfers, bus = both
    contents = [SMALL[index:] + bytes([index]) for index in range(8)]

    async def there_and_back(content):
        async with transfers.publish(content) as url, transfers.receive(None) as incoming:
            await gftp.deliver(bus, incoming.url, gftp.fetch(bus, url))
            return await incoming.content()

    assert await asyncio.gather(*map(there_and_back, contents)) == contents


async def test_the_same_content_is_served_once_however_often_it_is_published(both, tmp_path):
    transfers, bus = both
    path = tmp_path / "same"
    path.write_bytes(SMALL)
    async with AsyncExitStack() as stack:
        urls = await asyncio.gather(
            *(stack.enter_async_context(transfers.publish(one)) for one in [SMALL, path] * 3)
        )
        assert len(set(urls)) == 1
        last = await stack.enter_async_context(transfers.publish(path))
        assert last == urls[0]
    async with transfers.publish(SMALL) as again:
        assert again != urls[0]
        assert await _all(gftp.fetch(bus, again)) == SMALL
    assert not transfers._published


async def test_one_who_publishes_and_leaves_takes_nothing_from_the_other(both):
    transfers, bus = both
    async with transfers.publish(SMALL) as url:
        async with transfers.publish(SMALL) as same:
            assert same == url
        assert await _all(gftp.fetch(bus, url)) == SMALL


async def test_one_who_gives_up_while_it_is_being_bound_takes_nothing_from_the_other(both):
    transfers, bus = both

    async def hold(until):
        async with transfers.publish(SMALL) as url:
            await until.wait()
            return await _all(gftp.fetch(bus, url))

    go = asyncio.Event()
    first, second = asyncio.create_task(hold(go)), asyncio.create_task(hold(go))
    while not transfers._published:
        await asyncio.sleep(0)
    first.cancel()
    go.set()
    assert await second == SMALL
    with pytest.raises(asyncio.CancelledError):
        await first
    assert not transfers._published


async def test_the_limit_ends_a_transfer_on_both_sides(both):
    transfers, bus = both
    async with transfers.receive(None, limit=300_000) as incoming:
        with pytest.raises(ActivityError, match="limit of 300000"):
            await gftp.deliver(bus, incoming.url, _pieces(SMALL))
        with pytest.raises(ActivityError, match="limit of 300000"):
            await incoming.content()


async def test_a_wrong_checksum_is_told_to_both_sides(both, tmp_path):
    transfers, bus = both
    async with transfers.receive(tmp_path / "file") as incoming:
        base = incoming.url.replace("gftp://", "/net/").replace("/r", "/gftp/r")
        chunk = encode({"chunk": {"offset": 0, "content": SMALL[:1000]}})
        assert decode(await bus.call(base + "/UploadChunk", chunk, seconds=5)) == {"Ok": None}
        wrong = encode({"hash": "0" * 64})
        answer = decode(await bus.call(base + "/UploadFinished", wrong, seconds=5))
        assert answer == {"Err": "IntegrityError"}
        with pytest.raises(ActivityError, match="checksum"):
            await incoming.content()
    assert list(tmp_path.iterdir()) == []


async def test_a_file_that_is_changed_while_it_is_served_is_an_error(both, shorter):
    transfers, bus = both
    async with transfers.publish(shorter) as url:
        with pytest.raises(ActivityError, match="changed"):
            async with aclosing(gftp.fetch(bus, url)) as chunks:
                await anext(chunks)
                os.utime(shorter, (1, 1))
                async for _ in chunks:
                    pass
        async with transfers.publish(shorter) as fresh:
            assert fresh != url
            assert await gftp.size_of(bus, fresh) == SHORTER


async def test_what_is_not_published_any_more_is_told(both):
    transfers, bus = both
    async with transfers.publish(b"hello") as url:
        pass
    name = url.replace("sha256", "never")
    with pytest.raises(NetworkError, match="nothing is served"):
        await gftp.size_of(bus, name)


async def test_yagnas_customary_chunks_are_answered(both):
    """As the programs of others ask: 40 KiB, the last one beyond the end, without compression."""
    transfers, bus = both
    async with transfers.publish(SMALL) as url:
        base = url.replace("gftp://", "/net/").replace("/sha256", "/gftp/sha256")
        came = b""
        for offset in range(0, len(SMALL), 40 * 1024):
            asked = encode({"offset": offset, "size": 40 * 1024})
            answer = decode(await bus.call(base + "/GetChunk", asked, seconds=5))
            assert answer["Ok"]["offset"] == offset
            came += answer["Ok"]["content"]
        assert came == SMALL


async def test_a_transfer_goes_on_after_the_daemon_was_killed_and_started(
    devnet, direct, shorter, tmp_path
):
    async with _both(devnet, direct=direct) as (transfers, bus):
        fetched, back = hashlib.sha256(), tmp_path / "back"
        async with transfers.publish(shorter) as url, transfers.receive(back) as incoming:
            killed = False

            async def through():
                nonlocal killed, came
                async with aclosing(gftp.fetch(bus, url)) as chunks:
                    async for chunk in chunks:
                        fetched.update(chunk)
                        came += len(chunk)
                        yield chunk
                        if not killed and came > SHORTER // 4:
                            killed = True
                            await devnet.daemon.kill()
                            starting.append(asyncio.create_task(devnet.daemon.start()))

            came, starting = 0, []

            assert await gftp.deliver(bus, incoming.url, through()) == SHORTER
            await asyncio.gather(*starting)
            assert killed
            await incoming.content()
        assert fetched.hexdigest() == _checksum(shorter) == _checksum(back)
