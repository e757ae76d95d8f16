"""What is saved of a damaged journal in SQLite, and that its file stays as it is."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from requestor_sdk.model import events as ev
from requestor_sdk.model.errors import JournalDamaged
from requestor_sdk.observe._lock import is_held
from requestor_sdk.observe._records import encode
from requestor_sdk.observe._salvage import PAGE
from requestor_sdk.observe.sqlite import SqliteJournal

AT = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
COUNT = 300
LONG = 11
"""Each so manyth event does not fit on one page."""

each = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40
)
anywhere = st.integers(0, 1 << 24)


def event(number):
    if number % LONG == 0:
        return ev.CustomEvent(at=AT, name=f"<{number}>", text="y" * (3_000 + 61 * number))
    if number % 12:
        return ev.CustomEvent(at=AT, name=f"<{number}>", text="x" * (number % 300))
    return ev.InvoiceAccepted(
        at=AT, invoice_id=f"<{number}>", agreement_id="a", provider_id="p", amount=Decimal(number)
    )


TOLD = [event(number) for number in range(1, COUNT + 1)]
SHORT = [event for number, event in enumerate(TOLD, 1) if number % LONG]


def write(path):
    journal = SqliteJournal(path)
    for told in TOLD:
        journal.append(told)
    return journal


class Content(bytes):
    """Bytes that a failing test does not print."""

    __slots__ = ()

    def __repr__(self):
        return f"<{len(self)} bytes>"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The bytes of a journal that was closed."""
    path = tmp_path_factory.mktemp("whole") / "r.sqlite"
    write(path).close()
    return Content(path.read_bytes())


@pytest.fixture(scope="module")
def logged(tmp_path_factory):
    """The bytes of a journal and its log, as a killed process leaves them."""
    folder = tmp_path_factory.mktemp("logged")
    journal = write(folder / "r.sqlite")
    found = tuple(Content((folder / f"r.sqlite{end}").read_bytes()) for end in ("", "-wal"))
    journal.close()
    return found


@pytest.fixture
def path(tmp_path):
    return tmp_path / "runs" / "r.sqlite"


def place(path, content, log=None):
    shutil.rmtree(path.parent, ignore_errors=True)
    path.parent.mkdir()
    path.write_bytes(content)
    if log is not None:
        path.with_name("r.sqlite-wal").write_bytes(log)


def rescue(path):
    """Read all that can be read; nothing of it may change, come or go."""
    before = {f.name: f.read_bytes() for f in path.parent.iterdir()}
    found, damage = [], None
    try:
        for told in SqliteJournal(path).read():
            found.append(told)
    except JournalDamaged as error:
        damage = error
    assert damage is None or damage.saved == len(found)
    after = {f.name: f.read_bytes() for f in path.parent.iterdir() if f.suffix != ".sqlite-shm"}
    assert after == before
    left = iter(TOLD)
    assert all(told in left for told in found), "what was read was written, in that order"
    return found, damage


def places(content, told):
    """Where an event lies in a file: also where it lay once."""
    text, at = encode(told).encode(), -1
    while (at := content.find(text, at + 1)) >= 0:
        yield at, at + len(text)


@each
@given(cut=anywhere)
def test_a_file_cut_off_anywhere_gives_all_that_is_left_of_it(path, whole, cut):
    cut %= len(whole)
    place(path, whole[:cut])
    found, damage = rescue(path)
    there = [t for t in SHORT if all(end <= cut for _, end in places(whole, t))]
    assert [told for told in there if told not in found] == []
    assert damage is not None or cut == 0


@each
@given(start=anywhere, size=st.sampled_from([1, 100, PAGE, 5 * PAGE]))
def test_a_hole_anywhere_costs_what_lay_on_its_pages_only(path, whole, start, size):
    start %= len(whole)
    torn = bytearray(whole)
    torn[start : start + size] = b"\xff" * len(torn[start : start + size])
    place(path, bytes(torn))
    found, damage = rescue(path)
    first, last = start // PAGE, (start + size - 1) // PAGE
    there = [
        told
        for told in SHORT
        if not any(first <= at // PAGE <= last for at, _ in places(whole, told))
    ]
    assert [told for told in there if told not in found] == []
    assert damage is not None or found == TOLD, "what is missing is told"


@each
@given(start=anywhere)
def test_a_log_with_a_hole_gives_what_lies_behind_it(path, logged, start):
    content, log = logged
    torn = bytearray(log)
    torn[start % len(log)] ^= 0xFF
    place(path, content, bytes(torn))
    found, damage = rescue(path)
    # What was hit is one version of one page.
    assert len(found) >= COUNT - 60
    assert damage is not None or found == TOLD[: len(found)]


@each
@given(cut=anywhere)
def test_a_log_that_a_power_cut_left_short_is_no_damage(path, logged, cut):
    content, log = logged
    place(path, content, log[: cut % (len(log) + 1)])
    found, damage = rescue(path)
    assert damage is None
    assert found == TOLD[: len(found)]


def test_events_of_any_length_are_found_without_sqlite(path):
    told = [
        ev.CustomEvent(at=AT, name=str(size), text="z" * size) for size in range(3_500, 13_000, 53)
    ]
    path.parent.mkdir()
    journal = SqliteJournal(path)
    for one in told:
        journal.append(one)
    journal.close()
    place(path, b"\xff" * 100 + path.read_bytes()[100:])
    found = []
    with pytest.raises(JournalDamaged, match="no SQLite database"):
        for one in SqliteJournal(path).read():
            found.append(one)
    assert found == told


def test_where_a_page_of_the_log_is_garbage_the_files_own_is_used(path):
    path.parent.mkdir()
    journal = SqliteJournal(path)
    for number in range(1, 6):
        journal.append(event(number))
    journal._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    journal.append(event(6))
    content = path.read_bytes()
    log = bytearray(path.with_name("r.sqlite-wal").read_bytes())
    journal.close()
    log[32 + 24 :] = b"\xff" * PAGE
    place(path, b"\xff" * 100 + content[100:], bytes(log))
    assert rescue(path)[0] == TOLD[:5]


def test_a_torn_end_that_was_never_flushed_is_no_damage_and_one_that_was_is(path):
    path.parent.mkdir()
    kinds = [12, *[1] * 10]
    journal = SqliteJournal(path)
    for number in kinds:
        journal.append(event(number))
    log = path.with_name("r.sqlite-wal")
    content, last = path.read_bytes(), log.stat().st_size
    journal.append(event(1))
    journal.append(event(3))
    unflushed = log.read_bytes()
    journal.append(event(12))
    flushed = log.read_bytes()
    journal.close()
    for torn, damaged in ((unflushed, False), (flushed, True)):
        broken = bytearray(torn)
        broken[last + 24 + 100] ^= 0xFF
        place(path, content, bytes(broken))
        found, problem = [], None
        try:
            for told in SqliteJournal(path).read():
                found.append(told)
        except JournalDamaged as error:
            problem = error
        assert (problem is not None) is damaged
        assert len(found) == (len(kinds) + 3 if damaged else len(kinds))


def test_what_is_missing_is_counted_and_named(path, whole):
    (at, _), *_ = places(whole, TOLD[149])
    torn = bytearray(whole)
    torn[at // PAGE * PAGE : (at // PAGE + 1) * PAGE] = b"\0" * PAGE
    place(path, bytes(torn))
    found, damage = rescue(path)
    missing = [number for number, told in enumerate(TOLD, 1) if told not in found]
    assert 150 in missing
    assert (
        f"{len(found)} events could be read; at least {len(missing)} events are missing, the "
        in str(damage)
    )
    assert f"first is number {missing[0]}" in str(damage)
    assert "not changed" in damage.hint


def test_a_record_that_is_garbage_is_passed_over(path, whole):
    (at, _), *_ = places(whole, TOLD[10])
    torn = bytearray(whole)
    torn[at] = ord("[")
    place(path, bytes(torn))
    found, damage = rescue(path)
    assert found == [*TOLD[:10], *TOLD[11:]]
    assert "event 11 is no record of an event" in str(damage)


def test_what_is_asked_for_by_kind_or_id_is_saved_too(path, whole):
    place(path, whole[: PAGE * 10])
    saved = rescue(path)[0]
    for options, wanted in (
        ({"ids": {"invoice": "<12>"}}, TOLD[11:12]),
        ({"kinds": ["InvoiceAccepted"]}, [t for t in saved if t.kind == "InvoiceAccepted"]),
    ):
        found = []
        with pytest.raises(JournalDamaged):
            for told in SqliteJournal(path).read(**options):
                found.append(told)
        assert found == wanted


def test_a_damaged_journal_is_not_continued_and_not_touched(path, whole):
    place(path, whole[: len(whole) // 2])
    before = path.read_bytes()
    with pytest.raises(JournalDamaged, match="events could be read") as caught:
        SqliteJournal(path).append(TOLD[0])
    assert caught.value.saved > 50
    assert path.read_bytes() == before
    assert {f.name for f in path.parent.iterdir()} == {"r.sqlite", "r.lock"}
    assert not is_held(path.with_suffix(".lock"))


def test_the_journal_of_a_living_run_is_opened_by_nothing_but_sqlite(path, monkeypatch):
    """Closing a file in a process ends the locks that this process has on it."""
    path.parent.mkdir()
    journal = write(path)
    opened = []
    real = type(path).open

    def spy(self, *args, **options):
        opened.append(self)
        return real(self, *args, **options)

    monkeypatch.setattr(type(path), "open", spy)
    assert list(journal.read()) == TOLD
    assert list(SqliteJournal(path).read()) == TOLD
    assert opened == []
    journal.close()
    assert list(journal.read()) == TOLD
    assert opened
