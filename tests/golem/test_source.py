"""What is published by gftp must stay what it was."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random

import pytest

from requestor_sdk.golem import _source
from requestor_sdk.golem._source import READ_AHEAD, WINDOWS, Changed, Opener
from requestor_sdk.model.errors import UploadUnreadable

CONTENT = random.Random(3).randbytes(3_000_000)
CHUNK = 60 * 1024


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    os.utime(path, (1, 1))
    return path


@pytest.fixture
async def source(path):
    source = await Opener().open(path)
    yield source
    source.close()


@pytest.fixture
def reads(monkeypatch):
    done = []
    real = _source._File.read

    def read(self, offset, size):
        done.append((offset, size))
        return real(self, offset, size)

    monkeypatch.setattr(_source._File, "read", read)
    return done


async def test_it_knows_its_size_and_checksum(source):
    assert source.size == len(CONTENT)
    assert source.checksum == hashlib.sha256(CONTENT).hexdigest()


async def test_any_part_can_be_read(source):
    for offset, size in [(0, 10), (2_999_990, 10), (1_000_000, 700_000), (3_000_000, 0), (5, 1)]:
        assert bytes(await source.read(offset, size)) == CONTENT[offset : offset + size]


async def test_who_reads_on_is_read_ahead_for(source, reads):
    for offset in range(0, len(CONTENT), CHUNK):
        size = min(CHUNK, len(CONTENT) - offset)
        assert bytes(await source.read(offset, size)) == CONTENT[offset : offset + size]
    assert len(reads) <= len(CONTENT) / (READ_AHEAD - CHUNK) + 1
    assert not source._windows


async def test_who_reads_here_and_there_is_not_read_ahead_for(source, reads):
    for offset in (2_000_000, 1_000_000, 500_000):
        await source.read(offset, 1000)
    assert [size for _, size in reads] == [1000] * 3


async def test_readers_at_many_places_cost_bounded_memory(source):
    for start in range(0, 2_400_000, 40_000):
        await source.read(start, 1000)
        await source.read(start + 1000, 1000)
    assert len(source._windows) <= WINDOWS
    assert len(source._ends) <= 2 * WINDOWS


async def test_readers_at_once_each_get_their_part(source):
    offsets = list(range(0, 2_900_000, 12_345))
    random.Random(1).shuffle(offsets)
    found = await asyncio.gather(*(source.read(offset, 10_000) for offset in offsets))
    for offset, part in zip(offsets, found, strict=True):
        assert bytes(part) == CONTENT[offset : offset + 10_000]


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_bytes(b"x" * len(CONTENT)),
        lambda path: path.write_bytes(CONTENT[:-1]),
        lambda path: os.truncate(path, len(CONTENT) + 1),
    ],
)
async def test_a_file_that_was_changed_is_an_error_from_then_on(path, source, change):
    await source.read(0, CHUNK)
    change(path)
    with pytest.raises(Changed):
        await source.read(2_000_000, CHUNK)
    assert not source.intact


@pytest.mark.parametrize(
    "change", [lambda path: path.unlink(), lambda path: path.with_name("new").replace(path)]
)
async def test_a_file_that_was_removed_or_replaced_is_read_on(path, source, change):
    path.with_name("new").write_bytes(b"another")
    change(path)
    assert bytes(await source.read(2_000_000, 100)) == CONTENT[2_000_000:2_000_100]


async def test_what_is_no_readable_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", tmp_path / "nothing"):
        with pytest.raises(UploadUnreadable, match=str(path)):
            await Opener().open(path)


async def test_the_checksum_of_a_file_that_stays_is_reckoned_once(path, monkeypatch):
    opener, reckoned = Opener(), []
    real = _source._File.checksum
    monkeypatch.setattr(_source._File, "checksum", lambda *args: reckoned.append(1) or real(*args))
    for _ in range(3):
        (await opener.open(path)).close()
    # It was changed a moment ago, so that another change might leave no trace.
    assert len(reckoned) == 3
    monkeypatch.setattr(_source, "_SETTLED_NS", -1)
    for _ in range(3):
        (await opener.open(path)).close()
    assert len(reckoned) == 4
    path.write_bytes(CONTENT + b"more")
    source = await opener.open(path)
    source.close()
    assert source.checksum == hashlib.sha256(CONTENT + b"more").hexdigest()


async def test_a_file_that_is_changed_while_it_is_reckoned_is_refused(path, monkeypatch):
    real = _source._File._read_at

    def read_at(self, offset, size):
        path.write_bytes(b"y" * len(CONTENT))
        return real(self, offset, size)

    monkeypatch.setattr(_source._File, "_read_at", read_at)
    with pytest.raises(UploadUnreadable, match="changed"):
        await Opener().open(path)


async def test_without_pread_the_same_is_read(path, monkeypatch):
    monkeypatch.delattr(os, "pread")
    source = await Opener().open(path)
    found = await asyncio.gather(*(source.read(offset, 999) for offset in range(0, 99_900, 999)))
    source.close()
    assert b"".join(bytes(part) for part in found) == CONTENT[:99_900]


async def test_bytes_are_published_as_they_are():
    source = await Opener().open(b"hello")
    assert (source.size, bytes(await source.read(1, 3))) == (5, b"ell")
    assert source.checksum == hashlib.sha256(b"hello").hexdigest()
