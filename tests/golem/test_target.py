"""What is received by gftp comes from a stranger."""

from __future__ import annotations

import asyncio
import hashlib
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from requestor_sdk.golem import _target
from requestor_sdk.golem._answers import giving, taking
from requestor_sdk.golem._served import Refusal
from requestor_sdk.golem._source import Opener
from requestor_sdk.golem._target import EARLY, Target
from requestor_sdk.model.errors import ActivityError, NotAvailable

CONTENT = random.Random(5).randbytes(2_500_000)
SUM = hashlib.sha3_256(CONTENT).hexdigest()


def _chunks(size=100_000):
    return [(start, CONTENT[start : start + size]) for start in range(0, len(CONTENT), size)]


@settings(max_examples=25, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(50_000, 400_000))
def test_chunks_in_any_order_and_more_than_once_make_the_file(chance, size):
    async def run():
        target = Target(None, None)
        chunks = _chunks(size)
        chunks += chance.sample(chunks, 2)
        chance.shuffle(chunks)
        for offset, content in chunks:
            await target.add(offset, content)
        await target.finish(SUM)
        await target.finish(SUM)
        assert await target.content() == CONTENT

    asyncio.run(run())


async def test_half_a_file_is_never_seen_at_the_target(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    target = Target(path, None)
    await target.open()
    for offset, content in _chunks():
        await target.add(offset, content)
        assert path.read_bytes() == b"old"
    await target.finish(SUM)
    assert path.read_bytes() == CONTENT
    await target.close()
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("checksum", ["0" * 64, "", 7, {"a": 1}])
async def test_a_wrong_checksum_leaves_nothing(tmp_path, checksum):
    path = tmp_path / "file"
    target = Target(path, None)
    await target.open()
    await target.add(0, CONTENT)
    with pytest.raises(Refusal) as told:
        await target.finish(checksum)
    assert told.value.error == "IntegrityError"
    with pytest.raises(ActivityError, match="checksum"):
        await target.content()
    await target.close()
    assert list(tmp_path.iterdir()) == []


async def test_a_sender_may_tell_no_checksum():
    target = Target(None, None)
    await target.add(0, CONTENT)
    await target.finish(None)
    assert await target.content() == CONTENT


async def _refused(target, offset, content):
    with pytest.raises(Refusal) as told:
        await target.add(offset, content)
    return str(told.value.error)


async def test_the_limit_is_held_at_once():
    target = Target(None, 1000)
    await target.add(0, bytes(1000))
    assert "limit of 1000" in await _refused(target, 1000, b"x")
    with pytest.raises(ActivityError, match="limit of 1000"):
        await target.content()
    assert "limit of 1000" in await _refused(target, 0, b"")


@pytest.mark.parametrize("offset", [1001, 1 << 62])
async def test_an_offset_beyond_the_limit_is_refused(offset):
    assert "limit" in await _refused(Target(None, 1000), offset, b"")


async def test_chunks_that_come_too_early_are_kept_up_to_a_bound():
    target = Target(None, None)
    size = 1 << 20
    for index in range(1, EARLY // size + 1):
        await target.add(index * size, bytes(size))
    assert "does not come" in await _refused(target, EARLY + size, b"x")


async def test_many_tiny_early_chunks_are_bounded_too():
    target = Target(None, None)
    with pytest.raises(Refusal):
        for index in range(1, 1_000_000):
            await target.add(2 * index, b"")
    assert index < 20_000


async def test_chunks_that_overlap_are_refused():
    target = Target(None, None)
    await target.add(0, bytes(100))
    assert "overlap" in await _refused(target, 50, bytes(100))


async def test_a_gap_at_the_end_is_an_error():
    target = Target(None, None)
    await target.add(0, bytes(100))
    await target.add(200, bytes(100))
    with pytest.raises(Refusal, match="from byte 100 on"):
        await target.finish(None)


async def test_nothing_comes_after_the_end():
    target = Target(None, None)
    await target.finish(None)
    assert "has come already" in await _refused(target, 0, b"more")
    assert await target.content() == b""


async def test_a_target_that_cannot_be_written_is_told(tmp_path):
    with pytest.raises(NotAvailable, match="cannot be written"):
        await Target(tmp_path / "no" / "file", None).open()


@pytest.mark.parametrize("full_at", [1, 2, 3])
async def test_a_disk_that_is_full_is_told_to_both_sides(tmp_path, monkeypatch, full_at):
    target = Target(tmp_path / "file", None)
    await target.open()
    writes = 0
    real = Target._write

    def write(self, batch):
        nonlocal writes
        writes += 1
        if writes == full_at:
            raise OSError(28, "No space left on device")
        real(self, batch)

    monkeypatch.setattr(_target.Target, "_write", write)
    with pytest.raises(Refusal, match="No space left"):
        for offset, content in _chunks():
            await target.add(offset, content)
        await target.finish(SUM)
    with pytest.raises(ActivityError, match="No space left"):
        await target.content()
    await target.close()
    assert list(tmp_path.iterdir()) == []


async def test_what_is_closed_in_the_middle_leaves_nothing_and_says_so(tmp_path):
    target = Target(tmp_path / "file", None)
    await target.open()
    for offset, content in _chunks()[:15]:
        await target.add(offset, content)
    await target.close()
    await target.close()
    with pytest.raises(ActivityError, match="was not sent"):
        await target.content()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("component", "payload"),
    [
        ("UploadChunk", None),
        ("UploadChunk", {}),
        ("UploadChunk", {"chunk": 7}),
        ("UploadChunk", {"chunk": {"content": "text", "offset": 0}}),
        ("UploadChunk", {"chunk": {"content": b"x", "offset": -1}}),
        ("UploadChunk", {"chunk": {"content": b"x", "offset": 1.5}}),
        ("UploadChunk", {"chunk": {"content": b"x", "offset": True}}),
        ("UploadChunk", {"chunk": {"content": b"x"}}),
        ("GetChunk", {"offset": 0, "size": 1}),
        (None, None),
    ],
)
async def test_requests_that_are_none_are_refused_and_do_no_harm(component, payload):
    target = Target(None, None)
    with pytest.raises(Refusal):
        await taking(target)(component, payload)
    await target.add(0, b"fine")
    await target.finish(None)
    assert await target.content() == b"fine"


@pytest.mark.parametrize(
    ("component", "payload"),
    [
        ("GetChunk", {"offset": 6, "size": 1}),
        ("GetChunk", {"offset": 0, "size": 1 << 20}),
        ("GetChunk", {"offset": -1, "size": 1}),
        ("GetChunk", {"offset": "0", "size": 1}),
        ("GetChunk", {}),
        ("GetChunk", None),
        ("UploadChunk", {"chunk": {"content": b"x", "offset": 0}}),
    ],
)
async def test_wishes_that_are_none_are_refused(component, payload):
    source = await Opener().open(b"hello")
    with pytest.raises(Refusal):
        await giving(source, 65_000)(component, payload)
