"""The parts of a worker by themselves: its ledger, journal, voice, and settings."""

from __future__ import annotations

import asyncio
import errno
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from requestor_sdk.c2d._rules import MAX_EVENTS, MAX_TOLD
from requestor_sdk.model.errors import JobRefused, LeaseLost, NotAvailable, StoreFailed, UsageError
from requestor_sdk.ports.worker import (
    Completion,
    Demand,
    GpuRoom,
    KeptFile,
    Lease,
    Room,
    RunOutcome,
)
from requestor_sdk.worker import WorkerConfig
from requestor_sdk.worker._events import FIRST_EVENTS, LAST_EVENTS, WAITING_EVENTS
from requestor_sdk.worker._job import room_for
from requestor_sdk.worker._journal import Journal
from requestor_sdk.worker._ledger import Ledger
from requestor_sdk.worker._outputs import printable
from requestor_sdk.worker._room import detect_room
from requestor_sdk.worker._teller import Teller

LEASE = Lease(run_id="run", attempt=2, fence="fence")

demands = st.builds(
    Demand,
    cpu=st.sampled_from([0.1, 0.3, 0.5, 1.0, 2.0, 3.0]),
    ram_mb=st.integers(0, 600),
    disk_mb=st.integers(0, 600),
    gpus=st.integers(0, 3),
    vram_mb=st.sampled_from([0, 1, 4000, 8000, 16000]),
)
TOTAL = Room(
    cpu=4,
    ram_mb=1000,
    disk_mb=1000,
    gpus=(GpuRoom(id=0, vram_mb=8000), GpuRoom(id=3, vram_mb=16000)),
)


@settings(max_examples=300)
@given(
    st.lists(st.one_of(demands, st.integers(0, 10)), max_size=40),
    st.integers(1, 6),
)
def test_what_is_held_is_never_more_than_there_is(steps, runs):
    ledger, held = Ledger(TOTAL, runs=runs), []
    for step in steps:
        if isinstance(step, int):
            if held:
                held.pop(step % len(held)).release()
        else:
            free = ledger.free()
            got = ledger.reserve(step)
            if got is None:
                assert free.choose(step) is None or len(held) >= runs
            else:
                held.append(got)
        assert len(held) <= runs
        assert sum(one.demand.cpu for one in held) <= TOTAL.cpu + 1e-6
        assert sum(one.demand.ram_mb for one in held) <= TOTAL.ram_mb
        assert sum(one.demand.disk_mb for one in held) <= TOTAL.disk_mb
        for gpu in TOTAL.gpus:
            users = [one for one in held if gpu.id in one.gpus]
            assert sum(one.demand.vram_mb for one in users) <= gpu.vram_mb
            assert all(len(set(one.gpus)) == one.demand.gpus for one in users)
    for one in held:
        one.release()
        one.release()
    assert ledger.free() == TOTAL
    assert ledger.idle


def test_the_gpus_that_a_run_was_given_are_the_ones_it_holds():
    ledger = Ledger(TOTAL)
    held = ledger.reserve(Demand(gpus=1, vram_mb=4000), gpus=(3,))
    assert held.gpus == (3,)
    assert ledger.reserve(Demand(gpus=1, vram_mb=9000)).gpus == (3,)
    assert ledger.reserve(Demand(gpus=1, vram_mb=4000), gpus=(3,)) is None


async def test_room_is_waited_for_until_some_is_given_back():
    ledger = Ledger(Room(cpu=1, ram_mb=100, disk_mb=100))
    held = ledger.reserve(Demand(cpu=1, ram_mb=10, disk_mb=10))
    waiting = asyncio.create_task(ledger.room())
    await asyncio.sleep(0)
    assert not waiting.done()
    held.release()
    assert (await waiting).cpu == 1


async def test_less_than_what_is_held_leaves_nothing_free():
    ledger = Ledger(TOTAL)
    ledger.reserve(Demand(cpu=2, ram_mb=500, disk_mb=1))
    ledger.resize(Room(cpu=1, ram_mb=100, disk_mb=0))
    assert ledger.free() == Room(cpu=0, ram_mb=0, disk_mb=0)
    assert ledger.reserve(Demand(cpu=0.5, ram_mb=1, disk_mb=0)) is None


def test_the_room_of_a_machine_leaves_some_to_the_worker(tmp_path):
    from requestor_sdk.worker.worker_context import detect_resources

    room = detect_room(tmp_path)
    assert 0 < room.ram_mb < detect_resources().ram_mb
    assert room.disk_mb > 0


DONE = Completion(
    outcome=RunOutcome.timed_out,
    reason="timeout",
    message="late",
    exit_code=-9,
    outputs={"a": [1, None]},
    files=(KeptFile(name="outputs/ä", size=3, sha256="0" * 64),),
    cpu_sec=1.5,
    memory_peak=7,
    duration_sec=2.0,
)


def test_a_journal_tells_after_a_crash_what_was_taken_on(tmp_path):
    journal = Journal(tmp_path / "j")
    other = Lease(run_id="other", attempt=1, fence="x")
    journal.note(LEASE, "claimed", "f1")
    journal.note(other, "claimed", "f2")
    journal.note(LEASE, "running", "f1")
    journal.completing(LEASE, DONE)
    journal.settled(other)
    journal.settled(other)
    journal._db.close()
    journal = Journal(tmp_path / "j")
    (entry,) = journal.left()
    assert (entry.lease, entry.stage, entry.folder) == (LEASE, "completing", "f1")
    assert entry.completion == DONE
    assert (tmp_path / "j").stat().st_mode & 0o077 == 0
    journal.close()
    journal.close()


def test_a_journal_is_one_process_own(tmp_path):
    journal = Journal(tmp_path / "j")
    with pytest.raises(NotAvailable, match="in use"):
        Journal(tmp_path / "j")
    journal.close()
    Journal(tmp_path / "j").close()


def test_a_journal_of_another_version_is_begun_anew(tmp_path):
    journal = Journal(tmp_path / "j")
    journal.note(LEASE, "claimed", "f")
    journal._db.execute("pragma user_version=99")
    journal.close()
    journal = Journal(tmp_path / "j")
    assert journal.left() == []
    journal.close()


@pytest.mark.parametrize("content", [b"no database at all" * 100, b"\0" * 5000])
def test_a_journal_that_cannot_be_read_is_told_as_such(tmp_path, content):
    (tmp_path / "j").write_bytes(content)
    with pytest.raises(NotAvailable):
        Journal(tmp_path / "j")


class Ear:
    """A queue that keeps what it is told."""

    def __init__(self):
        self.log_bytes = bytearray()
        self.calls = []
        self.events = []
        self.errors = []

    async def log(self, lease, offset, data):
        await asyncio.sleep(0)
        if self.errors:
            raise self.errors.pop(0)
        assert offset == len(self.log_bytes)
        self.log_bytes += data
        self.calls.append(len(data))

    async def event(self, lease, event):
        if self.errors:
            raise self.errors.pop(0)
        self.events.append(event)


@pytest.fixture
async def telling(tmp_path):
    """Makes a teller that tells, and ends it."""
    made = []

    def start(limit=1 << 20, ear=None):
        ear = ear or Ear()
        teller = Teller(ear, LEASE, tmp_path / "log", limit)
        made.append((teller, asyncio.create_task(teller.run())))
        return teller, ear, made[-1][1]

    yield start
    for teller, task in made:
        task.cancel()
        await asyncio.wait({task})
        teller.close()


@given(st.integers(0, 1 << 42))
def test_room_for_what_is_given_has_few_sizes_and_is_never_too_small(size):
    room = room_for(size)
    assert size <= room <= size + max(4 << 20, size // 8)
    assert room_for(room) == room


def test_sizes_of_a_terabyte_of_inputs_are_few_enough_to_keep_a_file_system_of_each():
    sizes, size = set(), 1
    while size < 1 << 40:
        sizes.add(room_for(size))
        size += max(1 << 20, size // 1000)
    assert len(sizes) < 200


async def test_a_log_arrives_whole_and_in_order_in_few_calls(telling):
    teller, ear, _ = telling()
    pieces = [random.randbytes(random.randrange(2000)) for _ in range(300)]
    for piece in pieces:
        await teller.log(piece)
    await asyncio.wait_for(teller.finish(), 10)
    assert bytes(ear.log_bytes) == b"".join(pieces)
    assert len(ear.calls) < 10


async def test_a_log_is_cut_at_its_limit_and_says_by_how_much(telling):
    teller, ear, _ = telling(limit=1000)
    for _ in range(30):
        await teller.log(b"x" * 100)
    await teller.finish()
    assert len(ear.log_bytes) <= 1000
    kept = ear.log_bytes.count(b"x")
    assert f"{3000 - kept} bytes more were left out" in ear.log_bytes.decode()


@pytest.mark.parametrize("full", ["in part", "at all"])
async def test_a_log_that_the_disk_does_not_take_is_cut_there_and_the_run_goes_on(telling, full):
    class Full:
        def __init__(self, file):
            self._file = file

        def write(self, data):
            room = 150 - self._file.seek(0, 2)
            if room <= 0 or (full == "at all" and room < len(data)):
                raise OSError(errno.ENOSPC, "no space left")
            return self._file.write(data[:room])

        def __getattr__(self, name):
            return getattr(self._file, name)

    teller, ear, _ = telling(limit=1000)
    teller._file = Full(teller._file)
    for _ in range(3):
        await teller.log(b"x" * 100)
    async with asyncio.timeout(5):
        await teller.finish()
    assert bytes(ear.log_bytes).startswith(b"x" * 60)
    assert len(ear.log_bytes) <= 150


async def test_a_log_of_exactly_its_limit_is_whole(telling):
    teller, ear, _ = telling(limit=1000)
    for _ in range(10):
        await teller.log(b"x" * 100)
    await teller.finish()
    assert ear.log_bytes == b"x" * 1000


async def test_of_too_many_events_the_first_and_the_last_are_told_and_the_middle_is_counted(
    telling,
):
    teller, ear, _ = telling()
    for number in range(12_000):
        teller.event("INFO", str(number))
        if number % 500 == 0:
            await asyncio.wait_for(teller._told.wait(), 10)
    teller.event("stage", "publishing")
    teller.event("ERROR", "why it failed")
    await teller.finish()
    assert [event.seq for event in ear.events] == list(range(1, len(ear.events) + 1))
    assert ear.events[-1].seq < MAX_EVENTS
    messages = [event.message for event in ear.events]
    assert messages[:FIRST_EVENTS] == [str(number) for number in range(FIRST_EVENTS)]
    assert messages[FIRST_EVENTS] == "publishing"
    said = ear.events[FIRST_EVENTS + 1]
    assert said.payload == {"left_out": 12_000 - FIRST_EVENTS - LAST_EVENTS + 1}
    last = 12_000 - LAST_EVENTS + 1
    assert messages[FIRST_EVENTS + 2 :] == [*map(str, range(last, 12_000)), "why it failed"]


async def test_events_that_come_faster_than_they_are_told_give_way_in_the_middle_alone(telling):
    teller, ear, _ = telling()
    for number in range(5_000):
        teller.event("PROGRESS", str(number))
    await asyncio.wait_for(teller._told.wait(), 10)
    teller.event("PROGRESS", "on")
    await teller.finish()
    messages = [event.message for event in ear.events]
    assert messages[:WAITING_EVENTS] == [str(number) for number in range(WAITING_EVENTS)]
    assert ear.events[WAITING_EVENTS].payload == {"left_out": 5_000 - WAITING_EVENTS - LAST_EVENTS}
    assert messages[-2:] == ["4999", "on"]


async def test_large_events_leave_the_queue_room_for_the_last(telling):
    teller, ear, _ = telling()
    for number in range(400):
        teller.event("INFO", str(number), {"x": "y" * 15_000})
        await asyncio.wait_for(teller._told.wait(), 10)
    teller.event("ERROR", "why it failed")
    await teller.finish()
    assert ear.events[-1].message == "why it failed"
    assert sum(len(str(event.payload)) + 10 for event in ear.events) < MAX_TOLD
    assert "399" in [event.message for event in ear.events]


async def test_a_store_that_fails_for_a_moment_loses_nothing(telling):
    ear = Ear()
    ear.errors = [StoreFailed("locked"), StoreFailed("locked")]
    teller, ear, _ = telling(ear=ear)
    await teller.log(b"kept")
    await asyncio.wait_for(teller.finish(), 10)
    assert ear.log_bytes == b"kept"


async def test_what_the_queue_will_not_have_is_passed_over(telling):
    ear = Ear()
    ear.errors = [JobRefused("never")]
    teller, ear, _ = telling(ear=ear)
    teller.event("INFO", "one")
    teller.event("INFO", "two")
    await asyncio.wait_for(teller.finish(), 10)
    assert [event.message for event in ear.events] == ["two"]


async def test_that_the_attempt_is_lost_ends_the_telling(telling):
    ear = Ear()
    ear.errors = [LeaseLost("over")]
    teller, _, task = telling(ear=ear)
    await teller.log(b"x")
    with pytest.raises(LeaseLost):
        await asyncio.wait_for(task, 10)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("outputs/a b.txt", "outputs/a b.txt"),
        ("ä/日本", "ä/日本"),
        ("a\nb\x1b[31m", "a\\x0ab\\x1b[31m"),
        ("\udcff", "\\xff"),
        ("back\\slash", "back\\x5cslash"),
        ("\u202e", "\\u202e"),
        ("x" * 256, None),
        ("/".join(["x" * 200] * 6), None),
    ],
)
def test_names_are_told_so_that_they_can_be_shown(name, told):
    assert printable(name) == told


@given(st.text(max_size=80))
def test_a_name_that_is_told_is_printable_and_no_two_are_told_alike(name):
    told = printable(name.replace("\ud800", "").encode("utf-8", "ignore").decode())
    assert told is None or told.isprintable()


@pytest.mark.parametrize("name", ["", " ", "a/b", "../x", "ä", "x" * 65, "-x", "a b"])
def test_a_name_that_no_worker_can_have_is_refused(tmp_path, name):
    with pytest.raises(UsageError):
        WorkerConfig(id=name, folder=tmp_path)


@pytest.mark.parametrize(
    "wrong", [{"heartbeat": 0}, {"claim_wait": -1}, {"drain_timeout": -1}, {"max_runs": 0}]
)
def test_delays_that_are_none_are_refused(tmp_path, wrong):
    with pytest.raises(UsageError):
        WorkerConfig(id="w", folder=tmp_path, **wrong)
