"""The files of attempts hold to their limits."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from requestor_sdk.c2d._blobs import Blobs
from requestor_sdk.model.errors import JobRefused
from requestor_sdk.ports.worker import KeptFile

LIMIT = 500


async def _content(size: int, pieces: int = 4) -> AsyncIterator[bytes]:
    for _ in range(pieces):
        await asyncio.sleep(0)
        yield b"x" * (size // pieces)


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(tmp_path / "runs")


def _disk(blobs: Blobs) -> int:
    return sum(path.stat().st_size for path in blobs.root.rglob("*") if path.is_file())


async def test_outputs_that_come_at_one_time_hold_to_the_limit_together(blobs: Blobs) -> None:
    uploads = (blobs.keep("run", 1, f"{n}", _content(200), LIMIT) for n in range(8))
    kept = await asyncio.gather(*uploads, return_exceptions=True)
    assert 1 <= sum(isinstance(one, KeptFile) for one in kept) <= 2
    assert all(isinstance(one, KeptFile | JobRefused) for one in kept)
    assert _disk(blobs) <= LIMIT


async def test_what_was_refused_or_replaced_takes_no_room(blobs: Blobs) -> None:
    for _ in range(5):
        await blobs.keep("run", 1, "same", _content(400), LIMIT)
        with pytest.raises(JobRefused, match="exceed 500 bytes"):
            await blobs.keep("run", 1, "other", _content(200), LIMIT)
    await blobs.keep("run", 1, "other", _content(100), LIMIT)
    with pytest.raises(JobRefused, match="exceed 500 bytes"):
        await blobs.keep("run", 1, "third", _content(4), LIMIT)
    # Another process knows what is there.
    with pytest.raises(JobRefused, match="exceed 500 bytes"):
        await Blobs(blobs.root).keep("run", 1, "third", _content(4), LIMIT)


async def test_an_attempt_has_its_own_room_and_begins_anew_once_it_is_settled(
    blobs: Blobs,
) -> None:
    for attempt in (1, 2):
        await blobs.keep("run", attempt, "one", _content(400), LIMIT)
    blobs.settle("run", 1, ())
    await blobs.keep("run", 1, "two", _content(400), LIMIT)
    blobs.remove("run")
    await blobs.keep("run", 2, "three", _content(400), LIMIT)


async def test_the_last_of_many_outputs_costs_what_the_first_does(
    blobs: Blobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0
    scan = os.scandir

    def counted(path: Path) -> object:
        nonlocal looks
        looks += 1
        return scan(path)

    monkeypatch.setattr(os, "scandir", counted)
    for n in range(20):
        await blobs.keep("run", 1, f"{n}", _content(4), LIMIT)
    assert looks <= 1


async def test_there_are_only_so_many_outputs(
    blobs: Blobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("requestor_sdk.c2d._blobs.MAX_FILES", 3)
    for n in range(3):
        await blobs.keep("run", 1, f"{n}", _content(4), LIMIT)
    await blobs.keep("run", 1, "1", _content(4), LIMIT)
    with pytest.raises(JobRefused, match="more than 3 outputs"):
        await blobs.keep("run", 1, "3", _content(4), LIMIT)
