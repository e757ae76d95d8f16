"""The queue's rules as workers and the core meet them, over each kind of store."""

from __future__ import annotations

import asyncio
import errno
from dataclasses import replace

import pytest
from support.queues import DONE, ROOM, SMALL, SPEC, Worker

from requestor_sdk.model.errors import JobNotFound, JobRefused, LeaseLost, WorkerRefused
from requestor_sdk.ports.worker import (
    Completion,
    Demand,
    GpuRoom,
    KeptFile,
    LeaseState,
    RunEvent,
    RunOutcome,
    RunState,
)

FAILED = Completion(outcome=RunOutcome.failed, reason="exit_code", exit_code=3)
LONGER_THAN_A_LEASE = 31.0


async def chunks(*data):
    for one in data:
        yield one


def stage(name, seq=0):
    return RunEvent(seq=seq, type="stage", message=name)


async def test_a_run_is_claimed_done_and_over(queue, worker):
    await worker.come()
    assert await queue.submit("r1", SPEC, SMALL)
    claim = await worker.claim()
    assert claim.spec == SPEC
    assert claim.demand == SMALL
    assert await queue.run_state("r1") is RunState.assigned
    await queue.event(claim.lease, stage("preparing"))
    assert await queue.run_state("r1") is RunState.assigned
    await queue.event(claim.lease, stage("running", 1))
    assert await queue.run_state("r1") is RunState.running
    await queue.complete(claim.lease, DONE)
    run = await queue.run("r1")
    assert run.state is RunState.completed
    assert run.completion == DONE
    assert queue.changed.count("r1") == 4


async def test_a_run_is_submitted_once(queue, worker):
    assert await queue.submit("r1", SPEC, SMALL)
    assert not await queue.submit("r1", replace(SPEC, image="other"), SMALL)
    assert (await queue.run("r1")).spec == SPEC


async def test_an_id_that_leads_elsewhere_is_none(queue):
    for run_id in ("../x", "a/b", "", ".", "x" * 200, "a\0"):
        with pytest.raises(ValueError, match="id of a run"):
            await queue.submit(run_id, SPEC, SMALL)


async def test_runs_are_given_by_priority_and_then_by_age(queue, worker):
    await worker.come(total=replace(ROOM, cpu=100))
    for name, priority in (("old", 5), ("new", 5), ("urgent", 9), ("idle", 0)):
        await queue.submit(name, SPEC, Demand(cpu=1, ram_mb=1, disk_mb=1), priority=priority)
        await asyncio.sleep(0.01)
    order = [(await worker.claim()).lease.run_id for _ in range(4)]
    assert order == ["urgent", "old", "new", "idle"]


async def test_the_same_claim_gets_the_same_run_and_no_other(queue, worker):
    await worker.come()
    for n in range(2):
        await queue.submit(f"r{n}", SPEC, SMALL)
    first, again = [await worker.claim(claim_id="c1") for _ in range(2)]
    assert first == again
    both = await asyncio.gather(*(worker.claim(claim_id="c2") for _ in range(4)))
    assert len({claim.lease.fence for claim in both}) == 1
    assert both[0].lease.run_id == "r1"
    assert await worker.claim() is None


async def test_a_claim_whose_attempt_is_over_gets_nothing_and_waits_for_nothing(queue, worker):
    await worker.come()
    await queue.submit("r1", SPEC, SMALL)
    claim = await worker.claim(claim_id="c1")
    await queue.complete(claim.lease, DONE)
    await queue.submit("r2", SPEC, SMALL)
    async with asyncio.timeout(5):
        assert await worker.claim(claim_id="c1", wait=50) is None
    assert await queue.run_state("r2") is RunState.pending


async def test_a_claim_waits_for_a_run_and_gets_it_at_once(queue, worker):
    await worker.come()
    waiting = asyncio.create_task(worker.claim(wait=60))
    await asyncio.sleep(0.05)
    await queue.submit("r1", SPEC, SMALL)
    async with asyncio.timeout(1):
        assert (await waiting).lease.run_id == "r1"


async def test_a_claim_waits_until_there_is_room(queue, worker):
    await worker.come()
    half = Demand(cpu=3, ram_mb=1, disk_mb=1)
    for n in range(2):
        await queue.submit(f"r{n}", SPEC, half)
    first = await worker.claim()
    waiting = asyncio.create_task(worker.claim(wait=60))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    await queue.complete(first.lease, DONE)
    async with asyncio.timeout(1):
        assert (await waiting).lease.run_id == "r1"


async def test_a_claim_that_waited_in_vain_gets_nothing(queue, worker):
    await worker.come()
    assert await worker.claim(wait=0.05) is None


async def test_a_worker_gets_only_what_fits(queue, worker):
    await worker.come(tags=("amd64",))
    misfits = {
        "cpu": Demand(cpu=4.5, ram_mb=1, disk_mb=1),
        "ram": Demand(cpu=1, ram_mb=5000, disk_mb=1),
        "disk": Demand(cpu=1, ram_mb=1, disk_mb=5000),
        "gpus": Demand(cpu=1, ram_mb=1, disk_mb=1, gpus=2),
        "vram": Demand(cpu=1, ram_mb=1, disk_mb=1, gpus=1, vram_mb=9000),
        "tags": Demand(cpu=1, ram_mb=1, disk_mb=1, tags=("amd64", "secret")),
    }
    for name, demand in misfits.items():
        await queue.submit(name, SPEC, demand)
    assert await worker.claim() is None
    await queue.submit("fits", SPEC, Demand(cpu=4, ram_mb=4096, disk_mb=4096, tags=("amd64",)))
    assert (await worker.claim()).lease.run_id == "fits"


async def test_what_fits_is_found_behind_a_long_line_of_what_does_not(queue, worker):
    await worker.come()
    for n in range(40):
        await queue.submit(f"r{n}", SPEC, replace(SMALL, tags=("other",)))
    await queue.submit("mine", SPEC, SMALL)
    assert (await worker.claim()).lease.run_id == "mine"


async def test_a_worker_never_holds_more_than_it_has_whatever_it_says_is_free(queue, worker):
    await worker.come()
    for n in range(6):
        await queue.submit(f"r{n}", SPEC, Demand(cpu=1.5, ram_mb=1, disk_mb=1))
    claims = [await worker.claim(free=replace(ROOM, cpu=99)) for _ in range(6)]
    assert sum(claim is not None for claim in claims) == 2
    assert await worker.claim(free=replace(ROOM, cpu=0.5)) is None


async def test_gpus_are_given_by_their_memory(queue, worker):
    gpus = (GpuRoom(id=0, vram_mb=8000), GpuRoom(id=1, vram_mb=4000))
    worker.room = replace(ROOM, gpus=gpus)
    await worker.come()
    bare = Demand(cpu=0.1, ram_mb=1, disk_mb=1)
    for n, (count, vram) in enumerate([(1, 3000), (1, 3000), (1, 6000), (2, 500), (1, 0)]):
        await queue.submit(f"r{n}", SPEC, replace(bare, gpus=count, vram_mb=vram))
    claims = [await worker.claim() for _ in range(5)]
    assert [claim and (claim.lease.run_id, claim.gpus) for claim in claims] == [
        ("r0", (1,)),
        ("r1", (0,)),
        ("r3", (1, 0)),
        ("r4", (1,)),
        None,
    ]


async def test_one_that_never_came_or_drains_gets_nothing(queue, worker):
    await queue.submit("r1", SPEC, SMALL)
    assert await worker.claim() is None
    await worker.come(draining=True)
    assert await worker.claim() is None
    waiting = asyncio.create_task(worker.claim(wait=60))
    await asyncio.sleep(0.05)
    await worker.come()
    async with asyncio.timeout(1):
        assert await waiting is not None


async def test_a_process_that_another_of_its_name_replaced_is_refused(queue, worker):
    await worker.come()
    await Worker(queue, session="s2").come()
    with pytest.raises(WorkerRefused):
        await worker.claim()


async def test_a_new_session_frees_what_the_former_held(queue, worker):
    await worker.come()
    await queue.submit("r1", SPEC, SMALL)
    old = await worker.claim()
    await Worker(queue, session="s2").come()
    assert await queue.run_state("r1") is RunState.pending
    with pytest.raises(LeaseLost):
        await queue.complete(old.lease, DONE)
    new = await Worker(queue, session="s2").claim()
    assert new.lease.attempt == 2


async def test_a_heartbeat_of_the_same_session_frees_nothing(queue, worker):
    await worker.come()
    await queue.submit("r1", SPEC, SMALL)
    claim = await worker.claim()
    await worker.come(running=("r1",))
    await queue.complete(claim.lease, DONE)


async def test_a_completion_kept_from_a_former_session_counts_before_the_new_one_comes(
    queue, worker
):
    await worker.come()
    await queue.submit("r1", SPEC, SMALL)
    claim = await worker.claim()
    await queue.complete(claim.lease, DONE)
    await Worker(queue, session="s2").come()
    assert await queue.run_state("r1") is RunState.completed


async def test_the_sweeper_goes_on_after_a_disk_that_failed(
    queue, worker, clock, monkeypatch, caplog
):
    def fail(*_):
        raise OSError(errno.EMFILE, "too many open files")

    await worker.come()
    await queue.submit("r1", SPEC, SMALL)
    await worker.claim()
    with monkeypatch.context() as patch:
        patch.setattr(queue.blobs, "settle", fail)
        clock.ahead += LONGER_THAN_A_LEASE
        await asyncio.sleep(6)
    assert "too many open files" in caplog.text
    assert not queue._sweeper.done()
    assert await queue.run_state("r1") is RunState.pending


async def test_a_lease_that_is_renewed_lasts(queue, worker, clock):
    await worker.come()
    await queue.submit("r1", SPEC, SMALL)
    claim = await worker.claim()
    for _ in range(4):
        clock.ahead += 20
        assert await queue.renew("w1", [(claim.lease, 0.5)]) == [LeaseState.ok]
        assert not await queue.sweep()
    assert (await queue.attempts("r1"))[0].progress == 0.5


async def test_what_is_not_renewed_is_somebody_elses(queue, worker, clock):
    await worker.come()
    other = await Worker(queue, id="w2").come()
    await queue.submit("r1", SPEC, SMALL)
    lost = (await worker.claim()).lease
    waiting = asyncio.create_task(other.claim(wait=60))
    await asyncio.sleep(0.05)
    clock.ahead += LONGER_THAN_A_LEASE
    assert await queue.sweep() == ["r1"]
    async with asyncio.timeout(1):
        taken = (await waiting).lease
    assert (taken.attempt, taken.run_id) == (2, "r1")
    assert taken.fence != lost.fence

    assert await queue.renew("w1", [(lost, None)]) == [LeaseState.lost]
    for call in (
        queue.complete(lost, DONE),
        queue.release(lost, "late"),
        queue.event(lost, stage("running")),
        queue.log(lost, 0, b"late"),
        queue.upload(lost, "a", chunks(b"late")),
        anext(queue.fetch(lost, "algorithm")),
    ):
        with pytest.raises(LeaseLost):
            await call
    assert await queue.run_state("r1") is RunState.assigned
    assert queue.blobs.log("r1", 1).exists() is False
    await queue.complete(taken, DONE)
    assert (await queue.run("r1")).attempt == 2


async def test_a_fence_that_is_wrong_changes_nothing(queue, worker):
    await worker.come()
    await queue.submit("r1", SPEC, SMALL)
    lease = (await worker.claim()).lease
    for wrong in (
        replace(lease, fence="x"),
        replace(lease, fence=""),
        replace(lease, fence="\ud800"),
        replace(lease, attempt=2),
        replace(lease, run_id="r2"),
        replace(lease, run_id="../../etc"),
    ):
        with pytest.raises(LeaseLost):
            await queue.complete(wrong, DONE)
        assert await queue.renew("w1", [(wrong, None)]) == [LeaseState.lost]
    assert await queue.renew("w2", [(lease, None)]) == [LeaseState.lost]
    with pytest.raises(LeaseLost):
        await queue.complete(lease, DONE, worker_id="w2")
    await queue.complete(lease, DONE, worker_id="w1")


async def test_renewals_are_answered_in_their_order(queue, worker):
    await worker.come()
    leases = []
    for n in (3, 1, 2):
        await queue.submit(f"r{n}", SPEC, SMALL)
        leases.append((await worker.claim()).lease)
    await queue.complete(leases[0], DONE)
    await queue.cancel("r2")
    told = await queue.renew("w1", [(lease, None) for lease in leases])
    assert told == [LeaseState.lost, LeaseState.ok, LeaseState.cancel]
    assert await queue.renew("w1", []) == []


async def test_a_run_whose_workers_are_lost_again_and_again_fails(queue, worker, clock):
    await worker.come()
    await queue.submit("r1", SPEC, SMALL, max_attempts=3)
    for _ in range(3):
        assert await worker.claim() is not None
        clock.ahead += LONGER_THAN_A_LEASE
        await queue.sweep()
    run = await queue.run("r1")
    assert run.state is RunState.failed
    assert run.completion.reason == "worker_lost"
    assert "3 times" in run.completion.message
    assert await worker.claim() is None


async def test_what_is_handed_back_is_another_workers_at_once(queue, worker):
    await worker.come()
    other = await Worker(queue, id="w2").come()
    await queue.submit("r1", SPEC, SMALL, max_attempts=1)
    lease = (await worker.claim()).lease
    waiting = asyncio.create_task(other.claim(wait=60))
    await asyncio.sleep(0.05)
    await queue.release(lease, "draining")
    async with asyncio.timeout(1):
        assert (await waiting).lease.attempt == 2


async def test_what_is_handed_back_again_and_again_waits_longer_and_is_given_up(
    queue, worker, clock
):
    await worker.come()
    await queue.submit("r1", SPEC, SMALL)
    pauses = []
    for _ in range(20):
        pause = 0
        while (claim := await worker.claim()) is None:
            pause += 1
            clock.ahead += 1
        pauses.append(pause)
        await queue.release(claim.lease, "no sandbox")
    assert pauses[:4] == [0, 0, 0, 0]
    assert pauses[4] in {1, 2}
    assert max(pauses) in {60, 61}
    run = await queue.run("r1")
    assert run.state is RunState.failed
    assert run.completion.message == "it was handed back 20 times: no sandbox"


async def test_one_that_waits_for_a_run_whose_time_comes_gets_it_then(queue, worker):
    await worker.come()
    await queue.submit("r1", SPEC, SMALL)
    for _ in range(4):
        await queue.release((await worker.claim()).lease, "no sandbox")
    assert await worker.claim() is None
    async with asyncio.timeout(5):
        assert await worker.claim(wait=60) is not None


async def test_a_completion_counts_once(queue, worker):
    await worker.come()
    await queue.submit("r1", SPEC, SMALL)
    lease = (await worker.claim()).lease
    await asyncio.gather(*(queue.complete(lease, DONE) for _ in range(3)))
    await queue.complete(lease, FAILED)
    assert (await queue.run("r1")).completion == DONE
    with pytest.raises(LeaseLost):
        await queue.release(lease, "late")


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        (RunOutcome.failed, RunState.failed),
        (RunOutcome.timed_out, RunState.failed),
        (RunOutcome.cancelled, RunState.cancelled),
    ],
)
async def test_an_end_that_is_no_success_is_the_end_all_the_same(queue, worker, outcome, state):
    await worker.come()
    await queue.submit("r1", SPEC, SMALL)
    lease = (await worker.claim()).lease
    await queue.complete(lease, Completion(outcome=outcome, reason="x", message="\0\ud800"))
    run = await queue.run("r1")
    assert run.state is state
    assert run.completion.message == "\0\ud800"
    assert await worker.claim() is None


async def test_a_run_that_waits_is_cancelled_at_once(queue, worker):
    await worker.come()
    await queue.submit("r1", SPEC, SMALL)
    for _ in range(2):
        assert await queue.cancel("r1") is RunState.cancelled
    assert await worker.claim() is None
    assert (await queue.run("r1")).completion.outcome is RunOutcome.cancelled
    assert await queue.cancel("nothing") is None


async def test_a_worker_hears_at_once_what_it_has_to_stop(queue, worker):
    await worker.come()
    await queue.submit("r1", SPEC, SMALL)
    lease = (await worker.claim()).lease

    def stops(known=(), wait=60.0):
        return queue.stops(worker_id="w1", session="s1", known=known, wait=wait)

    waiting = asyncio.create_task(stops())
    await asyncio.sleep(0.05)
    assert await queue.cancel("r1") is RunState.assigned
    async with asyncio.timeout(1):
        assert await waiting == [lease]
    assert list(await stops(known=[lease.fence], wait=0.01)) == []
    assert await queue.renew("w1", [(lease, None)]) == [LeaseState.cancel]
    await queue.complete(lease, Completion(outcome=RunOutcome.cancelled, reason="cancelled"))
    assert await queue.run_state("r1") is RunState.cancelled
    assert list(await stops(wait=0.0)) == []


@pytest.mark.parametrize("end", ["release", "lapse", "session"])
async def test_a_run_that_is_to_end_is_not_tried_again(queue, worker, clock, end):
    await worker.come()
    await queue.submit("r1", SPEC, SMALL)
    lease = (await worker.claim()).lease
    await queue.cancel("r1")
    if end == "release":
        await queue.release(lease, "stopping")
    elif end == "lapse":
        clock.ahead += LONGER_THAN_A_LEASE
        await queue.sweep()
    else:
        await Worker(queue, session="s2").come()
    assert await queue.run_state("r1") is RunState.cancelled


async def test_a_run_that_ended_before_its_cancellation_came_is_what_it_was(queue, worker):
    await worker.come()
    await queue.submit("r1", SPEC, SMALL)
    lease = (await worker.claim()).lease
    await queue.cancel("r1")
    await queue.complete(lease, DONE)
    assert await queue.run_state("r1") is RunState.completed
    assert await queue.cancel("r1") is RunState.completed


async def test_events_count_once_and_come_in_order(queue, worker):
    await worker.come()
    await queue.submit("r1", SPEC, SMALL)
    lease = (await worker.claim()).lease
    events = [
        RunEvent(seq=n, type="PROGRESS", message=f"{n}", payload={"text": "\0\ud800", "n": [n]})
        for n in (2, 0, 1, 2)
    ]
    for event in events:
        await queue.event(lease, event)
    told = await queue.events("r1")
    assert [(row.seq, row.message, row.payload) for row in told] == [
        (n, f"{n}", {"text": "\0\ud800", "n": [n]}) for n in range(3)
    ]
    assert [row.seq for row in await queue.events("r1", after=(1, 0))] == [1, 2]


async def test_events_are_kept_up_to_a_bound_and_stages_beyond_it(queue, worker, store):
    await worker.come()
    await queue.submit("r1", SPEC, SMALL)
    lease = (await worker.claim()).lease
    large = {"text": "x" * 500_000}
    for seq in range(8):
        await queue.event(lease, RunEvent(seq=seq, type="INFO", payload=large))
    await queue.event(lease, RunEvent(seq=10**6, type="INFO"))
    assert len(await queue.events("r1")) == 4
    for seq, name in enumerate(["running", "preparing", "running", "odd", "publishing"]):
        await queue.event(lease, stage(name, 10**6 + seq))
    told = [row.message for row in await queue.events("r1") if row.type == "stage"]
    assert told == ["running", "publishing"]
    assert (await queue.attempts("r1"))[0].stage == "publishing"
    assert await queue.run_state("r1") is RunState.running


async def test_a_log_is_what_came_at_each_offset_first(queue, worker):
    await worker.come()
    await queue.submit("r1", SPEC, SMALL)
    lease = (await worker.claim()).lease
    for offset, data in ((0, b"hello "), (0, b"hello "), (3, b"lo world"), (2, b"XX"), (11, b"")):
        await queue.log(lease, offset, data)
    assert queue.blobs.log("r1", 1).read_bytes() == b"hello world"
    await queue.log(lease, 990, b"y" * 5000)
    kept = queue.blobs.log("r1", 1).read_bytes()
    assert len(kept) == SPEC.log_limit
    assert kept[11:990] == b"\n" * 979
    await queue.log(lease, 10**15, b"far")
    assert queue.blobs.log("r1", 1).stat().st_size == SPEC.log_limit


async def test_a_log_is_followed_until_the_run_is_over(queue, worker):
    await worker.come()
    await queue.submit("r1", SPEC, SMALL)
    seen = []

    async def follow():
        async for data in queue.follow_log("r1"):
            seen.append(data)

    following = asyncio.create_task(follow())
    lease = (await worker.claim()).lease
    await queue.log(lease, 0, b"one\n")
    await asyncio.sleep(0.1)
    assert b"".join(seen) == b"one\n"
    await queue.log(lease, 4, b"two\n")
    await queue.complete(lease, DONE)
    async with asyncio.timeout(5):
        await following
    assert b"".join(seen) == b"one\ntwo\n"
    assert b"".join([data async for data in queue.follow_log("r1", offset=5)]) == b"wo\n"


async def test_a_followed_log_goes_on_with_the_next_attempts(queue, worker):
    await worker.come()
    await queue.submit("r1", SPEC, SMALL)
    lease = (await worker.claim()).lease
    await queue.log(lease, 0, b"first\n")
    await queue.release(lease, "draining")
    lease = (await worker.claim()).lease
    await queue.log(lease, 0, b"second\n")
    await queue.complete(lease, DONE)
    told = b"".join([data async for data in queue.follow_log("r1")])
    assert told == b"first\n[the worker was lost: attempt 2]\nsecond\n"
    with pytest.raises(JobNotFound):
        await anext(queue.follow_log("r2"))


async def test_inputs_are_the_runs_own(queue, worker, tmp_path):
    await worker.come()
    data = b"x" * 3_000_000
    queue.blobs.input("r1", "algorithm").write_bytes(data)
    outside = tmp_path / "data.csv"
    outside.write_bytes(b"1,2")
    assert queue.blobs.link_input("r1", "../data", outside) == 3
    await queue.submit("r1", SPEC, SMALL)
    lease = (await worker.claim()).lease
    assert b"".join([chunk async for chunk in queue.fetch(lease, "algorithm")]) == data
    assert b"".join([chunk async for chunk in queue.fetch(lease, "../data")]) == b"1,2"
    for name in ("none", "../../r1/inputs/algorithm", "/etc/passwd", ""):
        with pytest.raises(JobNotFound):
            await anext(queue.fetch(lease, name))


async def test_outputs_are_whole_and_lead_nowhere_else(queue, worker, tmp_path):
    await worker.come()
    await queue.submit("r1", SPEC, SMALL)
    lease = (await worker.claim()).lease
    names = ("a.txt", "../../evil", "/etc/passwd", "sub/dir", "ü\ud800", "x" * 3000)
    kept = [await queue.upload(lease, name, chunks(b"12", name[:1].encode("utf-8", "replace")))
            for name in names]  # fmt: skip
    kept[0] = await queue.upload(lease, "a.txt", chunks(b"new"))
    await queue.complete(lease, replace(DONE, files=tuple(kept)))
    assert queue.blobs.output("r1", 1, "a.txt").read_bytes() == b"new"
    inside = tmp_path / "runs"
    below = {path for path in tmp_path.rglob("*") if path.is_file() and "sqlite" not in path.name}
    assert all(inside in path.parents for path in below)
    assert len(below) == len(names)
    assert (await queue.run("r1")).completion.files == tuple(kept)


async def test_an_upload_that_breaks_off_or_is_too_large_leaves_nothing(queue, worker):
    await worker.come()
    await queue.submit("r1", SPEC, SMALL)
    lease = (await worker.claim()).lease

    async def breaking():
        yield b"half"
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await queue.upload(lease, "a", breaking())
    await queue.upload(lease, "b", chunks(b"x" * 6000))
    with pytest.raises(JobRefused) as caught:
        await queue.upload(lease, "c", chunks(b"x" * 3000, b"x" * 3000))
    assert caught.value.reasons == {"output": "too_large"}
    await queue.upload(lease, "b", chunks(b"y" * 10_000))
    folder = queue.blobs.output("r1", 1, "b").parent
    assert [path.stat().st_size for path in folder.iterdir()] == [10_000]


async def test_a_completion_that_names_what_was_not_uploaded_ends_nothing(queue, worker):
    await worker.come()
    await queue.submit("r1", SPEC, SMALL)
    lease = (await worker.claim()).lease
    kept = await queue.upload(lease, "a", chunks(b"12"))
    for wrong in (replace(kept, name="b"), replace(kept, size=3)):
        with pytest.raises(ValueError, match="was not uploaded"):
            await queue.complete(lease, replace(DONE, files=(wrong,)))
    assert await queue.run_state("r1") is RunState.assigned
    await queue.complete(lease, replace(DONE, files=(kept,)))


async def test_what_an_attempt_uploaded_in_vain_is_removed(queue, worker, clock):
    await worker.come()
    await queue.submit("r1", SPEC, SMALL)
    lease = (await worker.claim()).lease
    await queue.upload(lease, "a", chunks(b"12"))
    await queue.log(lease, 0, b"hello")
    clock.ahead += LONGER_THAN_A_LEASE
    await queue.sweep()
    assert not queue.blobs.output("r1", 1, "a").exists()
    assert queue.blobs.log("r1", 1).read_bytes() == b"hello"
    lease = (await worker.claim()).lease
    kept = await queue.upload(lease, "a", chunks(b"34"))
    await queue.upload(lease, "left", chunks(b"34"))
    await queue.complete(lease, replace(DONE, files=(kept,)))
    assert queue.blobs.output("r1", 2, "a").read_bytes() == b"34"
    assert not queue.blobs.output("r1", 2, "left").exists()


async def test_a_run_that_is_removed_leaves_no_row_and_no_file(queue, worker, store):
    await worker.come()
    queue.blobs.input("r1", "algorithm").write_bytes(b"x")
    await queue.submit("r1", SPEC, SMALL)
    lease = (await worker.claim()).lease
    await queue.event(lease, stage("running"))
    await queue.log(lease, 0, b"x")
    await queue.complete(lease, DONE)
    for _ in range(2):
        await queue.remove("r1")
    assert await queue.run("r1") is None
    assert list(await queue.attempts("r1")) == list(await queue.events("r1")) == []
    assert not queue.blobs.folder("r1").exists()
    assert await worker.claim(claim_id="s1-1") is None
    with pytest.raises(LeaseLost):
        await queue.complete(lease, DONE)
    with pytest.raises(LeaseLost):
        await queue.run_state("r1")


async def test_one_that_removes_a_running_run_has_its_worker_stop_it_first(queue, worker):
    await worker.come()
    await queue.submit("r1", SPEC, SMALL)
    lease = (await worker.claim()).lease
    removing = asyncio.create_task(queue.remove("r1"))
    async with asyncio.timeout(5):
        assert await queue.stops(worker_id="w1", session="s1", known=(), wait=60) == [lease]
        await queue.complete(lease, Completion(outcome=RunOutcome.cancelled))
        await removing
    assert await queue.run("r1") is None


async def test_one_that_waits_for_an_end_is_woken_by_it(queue, worker):
    await worker.come()
    await queue.submit("r1", SPEC, SMALL)
    lease = (await worker.claim()).lease
    assert (await queue.over("r1", wait=0.01)).state is RunState.assigned
    waiting = asyncio.create_task(queue.over("r1"))
    await asyncio.sleep(0.05)
    await queue.complete(lease, DONE)
    async with asyncio.timeout(1):
        assert (await waiting).completion == DONE
    assert await queue.over("nothing") is None


async def test_a_queue_that_closes_lets_those_go_who_wait(store, tmp_path):
    from requestor_sdk.c2d._queue import DurableQueue

    queue = DurableQueue(store, tmp_path / "runs")
    await queue.open()
    worker = await Worker(queue).come()
    waiting = [
        asyncio.create_task(worker.claim(wait=60)),
        asyncio.create_task(queue.stops(worker_id="w1", session="s1", known=(), wait=60)),
    ]
    await asyncio.sleep(0.05)
    await queue.close()
    await queue.close()
    async with asyncio.timeout(1):
        assert [bool(told) for told in await asyncio.gather(*waiting)] == [False, False]


async def test_runs_are_counted_by_state_and_workers_are_told(queue, worker):
    await worker.come(tags=("a",))
    for n in range(3):
        await queue.submit(f"r{n}", SPEC, SMALL)
    await queue.complete((await worker.claim()).lease, DONE)
    assert dict(await queue.counts()) == {RunState.completed: 1, RunState.pending: 2}
    (row,) = await queue.workers()
    assert (row.id, row.tags, row.total, row.session) == ("w1", ("a",), ROOM, "s1")


async def test_leases_are_extended_over_the_time_that_the_server_was_away(
    store, queue, worker, clock, tmp_path
):
    from requestor_sdk.c2d._queue import DurableQueue

    await worker.come()
    await queue.submit("r1", SPEC, SMALL)
    lease = (await worker.claim()).lease
    await queue.close()
    clock.ahead += 300
    again = DurableQueue(store, tmp_path / "runs", clock=clock)
    await again.open()
    assert await again.sweep() == []
    await again.complete(lease, DONE)
    await again.close()


async def test_folders_of_runs_that_nobody_knows_go_after_a_day(queue, store, tmp_path):
    import os

    from requestor_sdk.c2d._queue import DurableQueue

    await queue.submit("known", SPEC, SMALL)
    for name in ("known", "new", "old"):
        queue.blobs.input(name, "algorithm").write_bytes(b"x")
        if name != "new":
            os.utime(queue.blobs.folder(name), (1, 1))
    again = DurableQueue(store, tmp_path / "runs")
    await again.open()
    await again.close()
    assert {path.name for path in queue.blobs.root.iterdir()} == {"known", "new"}


async def test_hostile_completions_do_not_reach_outside(queue, worker):
    await worker.come()
    await queue.submit("r1", SPEC, SMALL)
    lease = (await worker.claim()).lease
    files = (KeptFile(name="../../../etc/passwd", size=1, sha256="0" * 64),)
    with pytest.raises(ValueError, match="was not uploaded"):
        await queue.complete(lease, replace(DONE, files=files))


async def test_runs_that_no_worker_has_room_for_are_told_of_once_and_others_are_not(
    queue, worker, clock, caplog
):
    await worker.come()
    large = Demand(cpu=1, ram_mb=512, disk_mb=1 << 20)
    await queue.submit("r1", SPEC, large)
    await queue.submit("r2", SPEC, large)
    await queue.submit("r3", SPEC, Demand(cpu=1, ram_mb=1, disk_mb=1, tags=("gold",)))
    await queue.submit("r4", SPEC, SMALL)
    for _ in range(20):
        clock.ahead += 10
        await worker.come()
        await queue._tell_of_stuck()
    said = "runs wait that no worker has room for:"
    told = [one.getMessage() for one in caplog.records if said in one.getMessage()]
    assert told == [
        f"{said} 1 processors, 512 MB of memory, 1048576 MB of disk",
        f"{said} 1 processors, 1 MB of memory, 1 MB of disk, the tags gold",
    ]


async def test_runs_that_wait_for_a_worker_that_went_away_are_told_of(queue, worker, clock):
    await worker.come()
    await queue.submit("r1", SPEC, SMALL)
    assert await queue.stuck() == []
    clock.ahead += 100
    assert len(await queue.stuck()) == 1
    await worker.come()
    assert await queue.stuck() == []
