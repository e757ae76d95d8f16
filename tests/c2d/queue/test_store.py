"""What is kept of jobs, nonces, tokens and orders: the same in memory, SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from requestor_sdk.c2d._store.jobs import StoredJobs, topic_of_job
from requestor_sdk.c2d.records import JobRecord, NonceTaken, OrderTaken, TokenRecord
from requestor_sdk.model.errors import StoreFailed

OWNER = "0x" + "ab" * 20
UNSTORABLE = ("\0", "a\0b", "\ud800", "x\udfff")


@pytest.fixture
def jobs(store):
    return StoredJobs(store)


def job(number=1, **changes):
    made = JobRecord(
        id=f"{number:032x}",
        owner=OWNER,
        dids=("did:op:1", "did:op:2"),
        created=1000.0 + number,
        facts={"environment": "small", "deep": [1, {"text": "ü\0\ud800"}], "none": None},
    )
    return replace(made, **changes)


async def test_a_job_comes_back_as_it_was_kept(jobs):
    await jobs.add_job(job())
    assert await jobs.job(job().id) == job()
    assert await jobs.statuses(job().id) == ((1, 1001.0),)


async def test_what_was_asked_for_is_kept_beside_its_job_and_goes_with_it(jobs):
    request = {"algorithm": {"meta": {"rawcode": "x" * 100_000}}, "odd": "ü\0\ud800"}
    await jobs.add_job(job(), request=request)
    await jobs.add_job(job(2))
    assert await jobs.request(job().id) == request
    assert await jobs.request(job(2).id) is None
    assert "rawcode" not in str(await jobs.jobs(owner=OWNER))
    await jobs.remove_job(job().id)
    assert await jobs.request(job().id) is None
    await jobs.add_job(job())
    assert await jobs.request(job().id) is None


async def test_a_job_is_not_kept_twice(jobs):
    await jobs.add_job(job())
    with pytest.raises(ValueError, match="already"):
        await jobs.add_job(job(code=10))
    assert (await jobs.job(job().id)).code == 1
    assert len(await jobs.statuses(job().id)) == 1


async def test_a_change_counts_only_on_the_revision_before_it(jobs):
    await jobs.add_job(job())
    walked = replace(job(), code=40, revision=1, run_id="r1")
    assert await jobs.change_job(walked, at=5.0, walked=(10, 20, 40))
    assert not await jobs.change_job(replace(walked, code=70), at=6.0, walked=(70,))
    assert await jobs.job(job().id) == walked
    assert await jobs.statuses(job().id) == ((1, 1001.0), (10, 5.0), (20, 5.0), (40, 5.0))
    assert not await jobs.change_job(job(2, revision=1), at=6.0, walked=(70,))
    assert await jobs.statuses(job(2).id) == ()


async def test_of_many_changes_at_once_one_counts(jobs):
    await jobs.add_job(job())
    told = await asyncio.gather(
        *(jobs.change_job(replace(job(), revision=1, code=n), at=1.0) for n in range(10))
    )
    assert sum(told) == 1


async def test_a_job_is_found_by_the_run_that_it_has_now(jobs):
    await jobs.add_job(job(run_id="r1"))
    assert await jobs.job_of_run("r1") == job(run_id="r1")
    await jobs.change_job(job(run_id="r2", revision=1), at=1.0)
    assert await jobs.job_of_run("r1") is None
    assert (await jobs.job_of_run("r2")).id == job().id
    assert await jobs.job_of_run("") is None


async def test_jobs_are_listed_newest_first_and_by_owner_document_and_whether_they_are_over(jobs):
    other = "0x" + "cd" * 20
    kept = [
        job(1),
        job(2, owner=other),
        job(3, dids=("did:op:3",), finished=5.0),
        job(4, dids=()),
    ]
    for each in kept:
        await jobs.add_job(each)
    assert [each.id for each in await jobs.jobs()] == [job(n).id for n in (4, 3, 2, 1)]
    assert await jobs.jobs(owner=OWNER, did="did:op:2") == [kept[0]]
    assert await jobs.jobs(owner=other) == [kept[1]]
    assert await jobs.jobs(did="did:op:3") == [kept[2]]
    assert await jobs.jobs(open_only=True, limit=2) == [kept[3], kept[1]]
    assert await jobs.jobs(limit=2, after=kept[3]) == [kept[2], kept[1]]
    assert await jobs.jobs(owner=OWNER, after=kept[2]) == [kept[0]]
    assert await jobs.jobs(after=kept[0]) == []
    assert await jobs.jobs(owner=OWNER.upper()) == []
    assert await jobs.count_open() == {"small": 3}


async def test_a_changed_job_is_found_by_its_new_documents_alone(jobs):
    await jobs.add_job(job())
    await jobs.change_job(job(dids=("did:op:9",), revision=1), at=1.0)
    assert await jobs.jobs(did="did:op:1") == []
    assert len(await jobs.jobs(did="did:op:9")) == 1


async def test_results_that_are_due_are_told_the_most_overdue_first(jobs):
    for number, expires in ((1, 30.0), (2, 10.0), (3, None), (4, 99.0)):
        await jobs.add_job(job(number, finished=1.0, expires=expires))
    assert [each.id for each in await jobs.expired(30.0)] == [job(2).id, job(1).id]
    assert [each.id for each in await jobs.expired(99.0, limit=1)] == [job(2).id]
    assert await jobs.expired(9.0) == []


async def test_a_removed_job_leaves_nothing_but_its_used_orders(jobs):
    await jobs.add_job(job(), orders=("8996:0x01",))
    for _ in range(2):
        await jobs.remove_job(job().id)
    assert await jobs.job(job().id) is None
    assert await jobs.statuses(job().id) == ()
    assert await jobs.jobs(did="did:op:1") == []
    with pytest.raises(OrderTaken):
        await jobs.add_job(job(2), orders=("8996:0x01",))


async def test_a_job_whose_order_was_used_leaves_no_trace_of_its_other_orders(jobs):
    await jobs.add_job(job(), orders=("a",))
    with pytest.raises(OrderTaken):
        await jobs.add_job(job(2), orders=("b", "a"))
    assert await jobs.job(job(2).id) is None
    await jobs.add_job(job(3), orders=("b",))


async def test_an_order_is_used_up_by_one_of_many_jobs_at_once(jobs):
    told = await asyncio.gather(
        *(jobs.add_job(job(n), orders=("one",)) for n in range(1, 9)), return_exceptions=True
    )
    assert [type(each) for each in told].count(OrderTaken) == 7
    assert len(await jobs.jobs()) == 1


async def test_a_nonce_strictly_rises(jobs):
    assert await jobs.nonce(OWNER) == 0
    await jobs.raise_nonce(OWNER, 5)
    for nonce in (5, 4, 0, -1, 2**63, 10**40):
        with pytest.raises(NonceTaken) as caught:
            await jobs.raise_nonce(OWNER, nonce)
        assert caught.value.current == 5
    await jobs.raise_nonce(OWNER, 2**63 - 1)
    assert await jobs.nonce(OWNER) == 2**63 - 1
    assert await jobs.nonce(OWNER.upper()) == 0


async def test_of_equal_nonces_at_once_one_counts(jobs):
    told = await asyncio.gather(
        *(jobs.raise_nonce(OWNER, 7) for _ in range(12)), return_exceptions=True
    )
    assert told.count(None) == 1
    assert await jobs.nonce(OWNER) == 7


async def test_a_token_is_there_until_it_is_taken_back(jobs):
    token = TokenRecord(digest="d" * 64, owner=OWNER, expires=9.0)
    await jobs.add_token(token)
    assert await jobs.token(token.digest) == token
    assert await jobs.token("e" * 64) is None
    for _ in range(2):
        await jobs.remove_token(token.digest)
    assert await jobs.token(token.digest) is None


@pytest.mark.parametrize("key", UNSTORABLE)
async def test_what_no_database_takes_as_a_key_is_found_nowhere_and_never_kept(jobs, store, key):
    assert await jobs.job(key) is None
    assert await jobs.job_of_run(key) is None
    assert list(await jobs.jobs(owner=key)) == list(await jobs.jobs(did=key)) == []
    assert await jobs.nonce(key) == 0
    assert await jobs.token(key) is None
    assert await store.read(lambda tx: tx.run(key)) is None
    assert await store.read(lambda tx: tx.worker(key)) is None
    await jobs.remove_job(key)
    await jobs.remove_token(key)
    with pytest.raises(ValueError, match="key"):
        await jobs.add_job(job(id=key))
    with pytest.raises(ValueError, match="key"):
        await jobs.raise_nonce(key, 1)
    await jobs.add_job(job())
    assert await jobs.job(job().id) == job()


async def test_who_waits_for_a_job_is_woken_by_its_change(jobs, store):
    await jobs.add_job(job())
    with store.listen(topic_of_job(job().id)) as ear:
        assert not await ear.heard(0.01)
        await jobs.change_job(job(revision=1), at=1.0)
        assert await ear.heard(5)
        assert not await ear.heard(0.01)


async def test_a_transaction_that_raises_changes_and_rings_nothing(jobs, store):
    def do(tx):
        tx.raise_nonce(OWNER, 3)
        tx.insert_job(job())
        tx.ring("topic")
        raise KeyError("no")

    with store.listen("topic") as ear:
        with pytest.raises(KeyError):
            await store.write(do)
        assert not await ear.heard(0.01)
    assert await jobs.nonce(OWNER) == 0
    assert await jobs.job(job().id) is None


async def test_one_that_raises_leaves_those_beside_it_alone(jobs, store):
    def fail(tx):
        tx.raise_nonce("0x1", 9)
        raise KeyError("no")

    told = await asyncio.gather(
        *(jobs.raise_nonce(f"0x{n}", n) if n % 2 else store.write(fail) for n in range(1, 9)),
        return_exceptions=True,
    )
    assert [type(each) for each in told] == [type(None), KeyError] * 4
    assert [await jobs.nonce(f"0x{n}") for n in (1, 3, 5, 7)] == [1, 3, 5, 7]


async def test_what_a_caller_does_with_its_own_values_changes_nothing_kept(jobs):
    facts = {"list": [1]}
    await jobs.add_job(job(facts=facts))
    facts["list"].append(2)
    assert (await jobs.job(job().id)).facts == {"list": [1]}


async def test_a_write_whose_caller_left_is_kept_all_the_same(jobs, store):
    call = asyncio.create_task(jobs.raise_nonce(OWNER, 3))
    await asyncio.sleep(0)
    call.cancel()
    await asyncio.wait({call})
    async with asyncio.timeout(30):
        while await jobs.nonce(OWNER) != 3:
            await asyncio.sleep(0.01)


async def test_one_who_cannot_hear_of_a_change_does_not_undo_it(jobs, store, caplog):
    def deaf(topic):
        raise KeyError(topic)

    store.tap(deaf)
    await jobs.add_job(job())
    assert await jobs.change_job(job(revision=1, code=40), at=1.0, walked=(40,))
    assert (await jobs.job(job().id)).code == 40
    assert "could not be told" in caplog.text


async def test_a_thread_of_the_store_that_fails_leaves_nobody_waiting(tmp_path, caplog):
    pytest.importorskip("sqlalchemy", reason="the extra `serve` is not installed")
    from requestor_sdk.c2d._store.sqlite import SqliteStore

    store = SqliteStore(tmp_path / "c2d.sqlite")
    await store.open()
    (lane,) = store._writers
    right = lane._do

    def broken(group):
        lane._do = right
        raise MemoryError

    lane._do = broken
    told = await asyncio.gather(
        *(StoredJobs(store).raise_nonce(f"0x{n}", 1) for n in range(3)), return_exceptions=True
    )
    assert [type(each) for each in told] == [StoreFailed] * 3
    await StoredJobs(store).raise_nonce("0x1", 1)
    await store.close()
    assert "the store failed at 3 calls" in caplog.text


async def test_a_full_disk_keeps_nothing_of_a_group_and_is_gone_on_from(tmp_path):
    pytest.importorskip("sqlalchemy", reason="the extra `serve` is not installed")
    from requestor_sdk.c2d._store.sqlite import SqliteStore

    store = SqliteStore(tmp_path / "c2d.sqlite")
    await store.open()
    jobs = StoredJobs(store)
    writer = store._connections[0]
    pages = writer.exec_driver_sql("PRAGMA page_count").scalar_one()
    writer.exec_driver_sql(f"PRAGMA max_page_count={pages + 2}")
    large = {"text": "x" * 100_000}
    told = await asyncio.gather(
        jobs.raise_nonce(OWNER, 5),
        jobs.add_job(job(1, facts=large), orders=("a",)),
        jobs.raise_nonce("0x2", 5),
        return_exceptions=True,
    )
    assert isinstance(told[1], StoreFailed)
    assert "full" in str(told[1])
    for error, address in ((told[0], OWNER), (told[2], "0x2")):
        assert await jobs.nonce(address) == (5 if error is None else 0)
    writer.exec_driver_sql("PRAGMA max_page_count=1000000")
    await jobs.add_job(job(1, facts=large), orders=("a",))
    await jobs.raise_nonce(OWNER, 6)
    assert (await jobs.job(job(1).id)).facts == large
    await store.close()
