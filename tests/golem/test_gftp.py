"""A provider's side of gftp, against the requestor's, over a bus in memory."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import random
from contextlib import aclosing

import pytest
from golem.file_bus import NODE, FileBus
from hypothesis import given, settings
from hypothesis import strategies as st

from requestor_sdk.golem import _retries, gftp
from requestor_sdk.golem._answers import giving, taking
from requestor_sdk.golem._served import Refusal
from requestor_sdk.golem._source import Opener
from requestor_sdk.golem._target import Target
from requestor_sdk.golem.flexbuffers import decode, encode
from requestor_sdk.model.errors import (
    ActivityError,
    BadAnswer,
    NetworkError,
    NetworkInterrupted,
    NetworkTimeout,
    NetworkUnreachable,
    TransferRefused,
)

CONTENT = random.Random(7).randbytes(1_500_000)


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(_retries, "FIRST_BACKOFF_SEC", 0.0)
    monkeypatch.setattr(_retries, "LONGEST_BACKOFF_SEC", 0.0)


async def _published(bus, content=CONTENT, name=None, largest=60 * 1024):
    source = await Opener().open(content)
    return bus.serve(name or gftp.name_of(source.checksum, "00"), giving(source, largest))


async def _all(chunks):
    async with aclosing(chunks):
        return b"".join([chunk async for chunk in chunks])


async def _pieces(content, size=100_000):
    for start in range(0, len(content), size):
        yield content[start : start + size]


async def test_a_file_comes_whole_and_in_order_with_several_chunks_under_way():
    bus = FileBus()
    url = await _published(bus)
    assert await gftp.size_of(bus, url) == len(CONTENT)
    assert await _all(gftp.fetch(bus, url)) == CONTENT
    assert bus.most == gftp.IN_FLIGHT


@pytest.mark.parametrize("size", [0, 1, gftp.FETCH_CHUNK, gftp.FETCH_CHUNK + 1])
async def test_a_file_of_any_size_comes(size):
    bus = FileBus()
    assert await _all(gftp.fetch(bus, await _published(bus, CONTENT[:size]))) == CONTENT[:size]


async def test_no_more_is_asked_for_than_is_taken():
    bus = FileBus()
    async with aclosing(gftp.fetch(bus, await _published(bus))) as chunks:
        await anext(chunks)
        for _ in range(50):
            await asyncio.sleep(0)
        assert bus.calls.count("GetChunk") <= gftp.IN_FLIGHT + 1


async def test_what_is_left_in_the_middle_is_not_asked_for_any_more():
    bus = FileBus()
    async with aclosing(gftp.fetch(bus, await _published(bus))) as chunks:
        await anext(chunks)
    asked = len(bus.calls)
    for _ in range(50):
        await asyncio.sleep(0)
    assert len(bus.calls) == asked


@pytest.mark.parametrize("kind", ["sha256", "sha3_256"])
async def test_content_that_is_not_what_its_name_says_is_an_error(kind):
    bus = FileBus()
    other = hashlib.new(kind, b"other").hexdigest()
    name = other if kind == "sha3_256" else gftp.name_of(other, "00")
    url = await _published(bus, name=name)
    with pytest.raises(ActivityError, match="not what was published"):
        await _all(gftp.fetch(bus, url))


async def test_a_name_that_tells_no_checksum_is_taken_at_its_word():
    bus = FileBus()
    assert await _all(gftp.fetch(bus, await _published(bus, name="a-name"))) == CONTENT


async def test_yagnas_own_names_are_checked():
    bus = FileBus()
    url = await _published(bus, name=hashlib.sha3_256(CONTENT).hexdigest())
    assert await _all(gftp.fetch(bus, url)) == CONTENT


async def test_a_file_above_the_limit_is_refused_before_anything_of_it_comes():
    bus = FileBus()
    with pytest.raises(TransferRefused, match="limit of 1000"):
        await _all(gftp.fetch(bus, await _published(bus), limit=1000))
    assert bus.calls == ["GetMetadata"]


@pytest.mark.parametrize(
    "url",
    [
        "gftp://0x12/name",
        f"gftp://{NODE}",
        f"gftp://{NODE}/",
        f"gftp://{NODE}/../net/other",
        f"gftp://{NODE}/a/b",
        "file:///etc/passwd",
        "ftp://example.com/x",
        "",
    ],
)
async def test_urls_that_are_none_are_refused(url):
    bus = FileBus()
    with pytest.raises(TransferRefused):
        await _all(gftp.fetch(bus, url))
    with pytest.raises(TransferRefused):
        await gftp.deliver(bus, url, _pieces(b"x"))
    assert bus.calls == []


async def test_what_nobody_serves_is_told_at_once():
    bus = FileBus()
    with pytest.raises(NetworkError, match="nothing is served") as told:
        await _all(gftp.fetch(bus, f"gftp://{NODE}/nothing"))
    assert told.value.status == 404
    assert bus.calls == ["GetMetadata"]


@pytest.mark.parametrize(
    "fault",
    [
        NetworkInterrupted("broken"),
        NetworkUnreachable("gone"),
        NetworkTimeout("late"),
        NetworkError("no", status=500),
        "lost",
    ],
)
async def test_an_interruption_in_the_middle_is_made_good(fault):
    bus = FileBus()
    url = await _published(bus)
    bus.faults = [None, None, fault, fault, fault]
    assert await _all(gftp.fetch(bus, url)) == CONTENT


async def test_a_broken_connection_is_made_good_from_the_first_call_on():
    bus = FileBus()
    bus.faults = [NetworkUnreachable("gone"), NetworkInterrupted("broken")]
    assert await _all(gftp.fetch(bus, await _published(bus))) == CONTENT


async def test_what_never_worked_is_not_tried_again():
    bus = FileBus()
    bus.faults = [NetworkError("no", status=500)] * 5
    with pytest.raises(NetworkError, match="no"):
        await _all(gftp.fetch(bus, await _published(bus)))
    assert bus.calls == ["GetMetadata"]


async def test_patience_has_an_end(monkeypatch):
    monkeypatch.setattr(_retries, "PATIENCE_SEC", 0.02)
    bus = FileBus()
    url = await _published(bus)
    bus.faults = [None, *[NetworkInterrupted("broken")] * 1_000_000]
    with pytest.raises(NetworkInterrupted, match="broken"):
        await _all(gftp.fetch(bus, url))


@pytest.mark.parametrize(
    ("error", "told"),
    [
        ({"ReadError": "the disk is gone"}, "the disk is gone"),
        ("IntegrityError", "IntegrityError"),
        ({}, "{}"),
        (None, "None"),
    ],
)
async def test_errors_of_the_other_side_are_told(error, told):
    bus = FileBus()

    async def answer(*_):
        raise Refusal(error)

    with pytest.raises(ActivityError, match=told):
        await _all(gftp.fetch(bus, bus.serve("name", answer)))


@pytest.mark.parametrize("answer", [b"\xff\xff\xff", encode(7), encode({"Nor": 1})])
async def test_answers_that_are_none_are_told(answer):
    bus = FileBus()
    bus._answered = lambda *_: asyncio.sleep(0, answer)
    with pytest.raises(BadAnswer):
        await _all(gftp.fetch(bus, f"gftp://{NODE}/name"))


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"content": b"short", "offset": 0}, ActivityError),
        ({"content": 7, "offset": 0}, ActivityError),
        ({"content": bytes(1000), "offset": 1}, BadAnswer),
        (None, ActivityError),
    ],
)
async def test_chunks_that_were_not_asked_for_are_told(wrong, error):
    bus = FileBus()

    async def answer(component, _payload):
        return {"fileSize": 1000} if component == "GetMetadata" else wrong

    with pytest.raises(error):
        await _all(gftp.fetch(bus, bus.serve("name", answer)))


@pytest.mark.parametrize("size", [-1, "many", None])
async def test_sizes_that_are_none_are_told(size):
    bus = FileBus()

    async def answer(*_):
        return {"fileSize": size}

    with pytest.raises(BadAnswer):
        await gftp.size_of(bus, bus.serve("name", answer))


async def test_a_file_is_brought_whole(tmp_path):
    bus, path = FileBus(), tmp_path / "file"
    target = Target(path, None)
    await target.open()
    url = bus.serve("name", taking(target))
    assert await gftp.deliver(bus, url, _pieces(CONTENT)) == len(CONTENT)
    assert await target.content() == b""
    await target.close()
    assert path.read_bytes() == CONTENT
    assert list(tmp_path.iterdir()) == [path]
    assert 1 < bus.most <= gftp.IN_FLIGHT


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 600_000), max_size=6))
def test_pieces_of_any_size_make_the_same_file(sizes):
    content = CONTENT * 3
    cuts = [sum(sizes[:index]) for index in range(len(sizes) + 1)]

    async def pieces():
        for start, end in itertools.pairwise(cuts):
            yield content[start:end]

    async def run():
        bus, target = FileBus(), Target(None, None)
        assert await gftp.deliver(bus, bus.serve("name", taking(target)), pieces()) == cuts[-1]
        assert await target.content() == content[: cuts[-1]]

    asyncio.run(run())


@pytest.mark.parametrize("fault", [NetworkInterrupted("broken"), "lost"])
@pytest.mark.parametrize("call", [0, 1, 3, 7])
async def test_a_file_is_brought_whole_whatever_call_is_interrupted(fault, call):
    bus, target = FileBus(), Target(None, None)
    bus.faults = [*[None] * call, fault, fault]
    await gftp.deliver(bus, bus.serve("name", taking(target)), _pieces(CONTENT))
    assert await target.content() == CONTENT


async def test_a_target_that_is_full_ends_the_transfer_at_once():
    bus, target = FileBus(), Target(None, 600_000)
    read = 0

    async def endless():
        nonlocal read
        while True:
            yield bytes(100_000)
            read += 100_000

    with pytest.raises(ActivityError, match="limit of 600000"):
        await gftp.deliver(bus, bus.serve("name", taking(target)), endless())
    assert read <= 600_000 + (gftp.IN_FLIGHT + 2) * gftp.LARGEST_CHUNK
    with pytest.raises(ActivityError, match="limit of 600000"):
        await target.content()


async def test_a_source_that_fails_ends_the_transfer():
    bus, target = FileBus(), Target(None, None)

    async def failing():
        yield bytes(gftp.LARGEST_CHUNK)
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        await gftp.deliver(bus, bus.serve("name", taking(target)), failing())
    assert "UploadFinished" not in bus.calls


def _sizes(bus):
    """Note the bytes that each call carries or asks for."""
    sizes, call = [], bus.call

    async def noting(address, data, *, seconds):
        message = decode(data)
        if address.endswith("GetChunk"):
            sizes.append(message["size"])
        elif address.endswith("UploadChunk"):
            sizes.append(len(message["chunk"]["content"]))
        return await call(address, data, seconds=seconds)

    bus.call = noting
    return sizes


@pytest.mark.parametrize(
    ("largest", "most"),
    [
        (1 << 20, gftp.LARGEST_CHUNK),
        (100_000, 100_000),
        (1000, gftp.FETCH_CHUNK),
        (None, gftp.FETCH_CHUNK),
        ("many", gftp.FETCH_CHUNK),
    ],
)
async def test_chunks_grow_as_far_as_the_other_side_says(largest, most):
    bus, content = FileBus(), CONTENT * 4
    source = await Opener().open(content)
    whole = giving(source, 1 << 20)

    async def answer(component, payload):
        told = await whole(component, payload)
        return {**told, "largestChunk": largest} if component == "GetMetadata" else told

    sizes = _sizes(bus)
    assert await _all(gftp.fetch(bus, bus.serve("name", answer))) == content
    assert (sizes[0], max(sizes), sum(sizes)) == (gftp.FETCH_CHUNK, most, len(content))


async def test_chunks_of_a_file_that_is_brought_grow():
    bus, target = FileBus(), Target(None, None)
    sizes = _sizes(bus)
    await gftp.deliver(bus, bus.serve("name", taking(target)), _pieces(CONTENT * 4))
    assert (sizes[0], max(sizes)) == (gftp.FETCH_CHUNK, gftp.LARGEST_CHUNK)
    assert await target.content() == CONTENT * 4


async def test_over_a_slow_line_chunks_stay_small(monkeypatch):
    monkeypatch.setattr(gftp, "QUICK_SEC", -1.0)
    bus, target = FileBus(), Target(None, None)
    sizes = _sizes(bus)
    await gftp.deliver(bus, bus.serve("name", taking(target)), _pieces(CONTENT))
    assert max(sizes) == gftp.FETCH_CHUNK
