"""Leases, the outbox, restarts and drains, with a queue that fails, in virtual time."""

from __future__ import annotations

import asyncio
import shutil

import pytest
from working import SMALL, done, ended, log_of, output, until

from requestor_sdk.model.errors import NotAvailable, WorkerRefused
from requestor_sdk.ports.worker import Demand, Room, RunOutcome, RunSpec, RunState

LEASE = 30.0


def script(line, **spec):
    return RunSpec(image="python", command=("/bin/sh", "-c", line), **spec)


def now():
    return asyncio.get_running_loop().time()


async def begun(queue, run_id, line, **settings):
    """Submit a run, and wait until its command runs."""
    await queue.submit(run_id, script(f"print on;{line}"), SMALL, **settings)
    log = queue.follow_log(run_id)
    assert await anext(log) == b"on\n"
    await log.aclose()


async def test_a_lease_is_held_on_for_as_long_as_a_run_takes(queue, hire):
    await hire()
    await queue.submit("run", script("sleep 1000"), SMALL)
    end = await ended(queue, "run", 2000)
    assert end.outcome is RunOutcome.succeeded
    assert len(await queue.attempts("run")) == 1


@pytest.mark.parametrize("fault", ["away", "silent", "lost"])
async def test_what_cannot_be_confirmed_in_time_is_stopped_before_its_lease_ends(
    queue, hire, faulty, unreal, fault
):
    await hire()
    await begun(queue, "run", "sleep 1000")
    await asyncio.sleep(20)
    cut = now()
    faulty.cut("event", "log", "complete", "release", "claim")
    if fault == "lost":
        faulty.away.add("renew")  # what gets there holds the lease on, and does no harm
    else:
        getattr(faulty, fault).add("renew")
    await until(lambda: not unreal.living, 100)
    assert now() - cut < LEASE
    faulty.mend()
    await until(lambda: unreal.living, 200)  # it is handed back, and given anew
    assert len(await queue.attempts("run")) == 2
    await queue.cancel("run")
    await ended(queue, "run")


async def test_a_short_absence_of_the_queue_ends_nothing(queue, hire, faulty):
    await hire()
    await begun(queue, "run", "sleep 100;print end;write /o/a 1")
    faulty.cut()
    await asyncio.sleep(18)
    faulty.mend()
    assert (await ended(queue, "run", 200)).outcome is RunOutcome.succeeded
    assert len(await queue.attempts("run")) == 1
    assert await log_of(queue, "run") == "on\nend\n"


async def test_a_run_that_the_queue_gave_to_another_is_stopped_at_the_next_renewal(
    queue, hire, unreal
):
    worker = await hire()
    await begun(queue, "run", "sleep 1000")
    attempt = (await queue.attempts("run"))[0]
    from requestor_sdk.ports.worker import Lease

    await queue.release(Lease(run_id="run", attempt=1, fence=attempt.fence), "taken away")
    await until(lambda: len(unreal.made) == 2, 60)
    assert len(unreal.living) <= 2
    await until(lambda: len(worker.worker.running) == 1, 60)
    assert [box.name for box in unreal.living] == ["run-2"]
    await queue.cancel("run")
    await ended(queue, "run")


async def test_what_finished_while_the_queue_was_away_is_told_once_it_is_back(queue, hire, faulty):
    await hire()
    spec = script("sleep 5;print end;write /data/outputs/a hello", outputs=("/data/outputs",))
    await queue.submit("run", spec, SMALL)
    await asyncio.sleep(1)
    faulty.cut()
    await asyncio.sleep(15)
    faulty.mend()
    end = await ended(queue, "run")
    assert end.outcome is RunOutcome.succeeded
    assert output(queue, "run", "outputs/a") == b"hello"
    assert await log_of(queue, "run") == "end\n"


@pytest.mark.parametrize(
    "name", ["claim", "heartbeat", "renew", "event", "log", "upload", "complete", "stops"]
)
async def test_a_lost_answer_of_any_call_makes_nothing_happen_twice(queue, hire, faulty, name):
    faulty.lost.add(name)
    await hire()
    for number in range(3):
        spec = script("print a;sleep 3;write /data/outputs/a b", outputs=("/data/outputs",))
        await queue.submit(f"run-{number}", spec, SMALL)
    await asyncio.sleep(10)
    faulty.mend()
    for number in range(3):
        end = await ended(queue, f"run-{number}", 200)
        assert end.outcome is RunOutcome.succeeded
        assert await log_of(queue, f"run-{number}") == "a\n"
        assert len(await queue.attempts(f"run-{number}")) == 1
        assert len(end.files) == 1


async def test_a_restarted_worker_hands_back_what_it_had_begun(queue, hire, unreal):
    first = await hire(folder="same")
    await begun(queue, "run", "sleep 20")
    await first.die()
    unreal.living.clear()  # they die with the process
    began = now()
    second = await hire(folder="same")
    await until(lambda: second.worker.running, 60)
    assert now() - began < 5, "it was not handed back, its lease had to end"
    assert (await queue.run("run")).lapses == 0
    assert (await ended(queue, "run", 100)).outcome is RunOutcome.succeeded
    assert len(await queue.attempts("run")) == 2
    await until(lambda: not list((second.folder / "runs").glob("*")))


async def test_a_restarted_worker_tells_what_had_finished_and_does_not_do_it_again(
    queue, hire, faulty, unreal
):
    first = await hire(folder="same")
    spec = script(
        "print said;sleep 2;print more;write /data/outputs/a 42", outputs=("/data/outputs",)
    )
    await queue.submit("run", spec, SMALL)
    await asyncio.sleep(1)
    faulty.cut("log", "upload", "complete", "event")
    await asyncio.sleep(5)
    assert not unreal.living
    await first.die()
    faulty.mend()
    await hire(folder="same")
    end = await ended(queue, "run", 10)
    assert end.outcome is RunOutcome.succeeded
    assert output(queue, "run", "outputs/a") == b"42"
    assert await log_of(queue, "run") == "said\nmore\n"
    assert len(unreal.made) == 1


@pytest.mark.parametrize("gone", ["all", "outputs"])
async def test_a_restarted_worker_whose_files_are_gone_tells_that_and_works_on(
    queue, hire, faulty, gone
):
    first = await hire(folder="same")
    spec = script("sleep 2;write /data/outputs/a 42", outputs=("/data/outputs",))
    await queue.submit("run", spec, SMALL)
    await asyncio.sleep(1)
    faulty.cut("log", "upload", "complete", "event")
    await asyncio.sleep(5)
    await first.die()
    for folder in (first.folder / "runs").iterdir():
        shutil.rmtree(folder if gone == "all" else folder / "out")
    faulty.mend()
    await hire(folder="same")
    end = await ended(queue, "run", 10)
    assert (end.outcome, end.reason) == (RunOutcome.failed, "outputs_invalid")
    assert (await done(queue, "next", script("sleep 1"))).outcome is RunOutcome.succeeded


async def test_what_a_restarted_worker_may_not_tell_any_more_is_dropped(
    queue, hire, faulty, unreal
):
    first = await hire(folder="same")
    await queue.submit("run", script("sleep 2"), SMALL)
    await asyncio.sleep(1)
    faulty.cut("complete", "log", "event", "renew")
    await asyncio.sleep(3)
    await first.die()
    await asyncio.sleep(LEASE * 2)  # it is nobody's by now
    faulty.mend()
    second = await hire(folder="same")
    assert (await ended(queue, "run", 100)).outcome is RunOutcome.succeeded
    assert len(await queue.attempts("run")) == 2
    assert len(unreal.made) == 2
    await until(lambda: not second.worker.running)


async def test_a_stop_lets_runs_end_and_takes_no_more(queue, hire):
    worker = await hire()
    await begun(queue, "run", "sleep 10")
    worker.worker.stop()
    await queue.submit("next", script("print x"), SMALL)
    await worker.task
    assert (await queue.run("run")).state is RunState.completed
    assert (await queue.run("next")).state is RunState.pending
    (row,) = await queue.workers()
    assert (row.draining, tuple(row.running)) == (True, ())


async def test_leases_are_held_on_while_a_worker_drains(queue, hire):
    worker = await hire(drain_timeout=500)
    await begun(queue, "run", "sleep 400")
    worker.worker.stop()
    await worker.task
    assert (await queue.run("run")).state is RunState.completed
    assert len(await queue.attempts("run")) == 1


async def test_what_does_not_end_in_time_is_handed_back(queue, hire, unreal):
    worker = await hire(drain_timeout=10)
    await begun(queue, "run", "sleep 1000")
    began = now()
    worker.worker.stop()
    await worker.task
    assert 9 < now() - began < 15
    run = await queue.run("run")
    assert (run.state, run.releases) == (RunState.pending, 1)


async def test_a_kill_hands_back_at_once(queue, hire):
    worker = await hire(drain_timeout=100)
    await begun(queue, "run", "sleep 1000")
    began = now()
    worker.worker.stop()
    await asyncio.sleep(1)
    worker.worker.kill()
    await worker.task
    assert now() - began < 5
    assert (await queue.run("run")).state is RunState.pending


async def test_a_stop_while_a_claim_waits_ends_at_once_and_leaves_no_run_behind(
    queue, hire, faulty
):
    worker = await hire()
    await asyncio.sleep(1)
    faulty.lost.add("claim")
    await queue.submit("run", script("sleep 1"), SMALL)
    worker.worker.stop()
    began = now()
    await asyncio.sleep(0.01)
    faulty.mend()
    await worker.task
    assert now() - began < 12
    assert (await queue.run("run")).state is RunState.pending


async def test_a_worker_that_is_stopped_before_it_is_known_ends(hire, faulty):
    faulty.cut()
    worker = await hire()
    await asyncio.sleep(5)
    worker.worker.stop()
    await asyncio.wait_for(worker.task, 30)


async def test_a_worker_that_is_refused_says_so_and_stops_what_it_does(queue, hire, faulty, unreal):
    worker = await hire()
    await begun(queue, "run", "sleep 1000")

    async def refused(*_, **__):
        raise WorkerRefused("no such token")

    faulty.renew = refused
    with pytest.raises(WorkerRefused, match="no such token"):
        await worker.task
    assert not unreal.living


async def test_a_second_process_of_the_same_worker_does_not_start(queue, hire):
    first = await hire("same")
    await begun(queue, "run", "sleep 10")
    second = await hire("same")
    with pytest.raises(NotAvailable, match="in use"):
        await second.task
    assert (await ended(queue, "run")).outcome is RunOutcome.succeeded
    await first.stop()


async def test_of_two_hosts_with_one_name_the_former_ends_and_the_other_works_on(queue, hire):
    first = await hire("same", folder="one")
    await begun(queue, "run", "sleep 50")
    second = await hire("same", folder="two")
    with pytest.raises(WorkerRefused, match="another process"):
        await asyncio.wait_for(first.task, 60)
    assert (await ended(queue, "run", 200)).outcome is RunOutcome.succeeded
    assert len(await queue.attempts("run")) == 2
    assert not second.task.done()


async def test_a_run_that_does_not_fit_is_never_begun(queue, hire, unreal):
    await hire(room=Room(cpu=2, ram_mb=100, disk_mb=100))
    await queue.submit("large", script("print x"), Demand(cpu=1, ram_mb=500, disk_mb=10))
    await queue.submit("small", script("print x"), Demand(cpu=1, ram_mb=50, disk_mb=10))
    await ended(queue, "small")
    assert (await queue.run("large")).state is RunState.pending
    assert len(unreal.made) == 1


async def test_a_large_run_gets_its_turn_when_the_small_ones_have_ended(queue, hire):
    await hire(room=Room(cpu=2, ram_mb=100, disk_mb=100))
    await queue.submit("small", script("sleep 7"), Demand(cpu=1, ram_mb=10, disk_mb=10))
    await asyncio.sleep(0.1)
    await queue.submit("large", script("print x"), Demand(cpu=2, ram_mb=10, disk_mb=10))
    await ended(queue, "small")
    began = now()
    await ended(queue, "large")
    assert now() - began < 4


async def test_a_sandbox_that_dies_is_told_by_what_it_died_of(queue, hire, unreal):
    await hire()
    await begun(queue, "run", "sleep 1000")
    unreal.made[0].died.set()
    end = await ended(queue, "run")
    assert (end.outcome, end.reason) == (RunOutcome.failed, "oom_killed")


async def test_an_end_that_cannot_be_told_hurts_no_other_run(queue, hire, faulty, unreal, caplog):
    worker = await hire()
    await begun(queue, "good", "sleep 50")
    real = queue.complete
    broken = []

    async def breaks(lease, completion):
        if lease.run_id == "bad" and not broken:
            broken.append(lease)
            raise ZeroDivisionError("a defect")
        return await real(lease, completion)

    faulty.complete = breaks
    await queue.submit("bad", script("print x"), SMALL)
    assert (await ended(queue, "good", 200)).outcome is RunOutcome.succeeded
    assert (await ended(queue, "bad", 200)).outcome is RunOutcome.succeeded
    assert "its end cannot be told" in caplog.text
    del faulty.complete
    await worker.stop()
    await (await hire(folder="w")).stop()  # its next start settles what is in the journal


async def test_a_run_is_not_done_by_plain_processes_whose_paths_are_the_hosts(queue, hire, unreal):
    unreal.isolates = False
    await hire()
    await queue.submit("run", script("print x"), SMALL)
    end = await ended(queue, "run")
    assert (end.outcome, end.reason) == (RunOutcome.failed, "sandbox")
    assert not unreal.made


async def test_an_error_of_the_worker_itself_ends_its_run_and_no_other(queue, hire, unreal, caplog):
    await hire()
    await begun(queue, "good", "sleep 10")

    async def breaks(spec):
        raise ZeroDivisionError("a defect")

    real, unreal.create = unreal.create, breaks
    await queue.submit("bad", script("print x"), SMALL)
    end = await ended(queue, "bad")
    assert (end.outcome, end.reason) == (RunOutcome.failed, "sandbox")
    assert "ZeroDivisionError" in caplog.text
    unreal.create = real
    assert (await ended(queue, "good")).outcome is RunOutcome.succeeded


@pytest.mark.parametrize("how", ["stop", "kill", "cancel"])
async def test_an_end_while_outputs_are_taken_loses_none_of_them(queue, hire, unreal, how):
    unreal.list_sec = 3.0
    worker = await hire(drain_timeout=1)
    spec = script("sleep 2;write /data/outputs/a b", outputs=("/data/outputs",))
    await queue.submit("run", spec, SMALL)
    await asyncio.sleep(3)
    await queue.cancel("run") if how == "cancel" else getattr(worker.worker, how)()
    end = await ended(queue, "run")
    assert end.outcome is RunOutcome.succeeded
    assert [file.name for file in end.files] == ["outputs/a"]
    assert output(queue, "run", "outputs/a") == b"b"


async def test_what_was_stopped_in_doubt_is_handed_back_and_not_waited_for(
    queue, hire, faulty, monkeypatch
):
    monkeypatch.setattr("requestor_sdk.worker._retry.LONGEST_SEC", 0.5)
    await hire()
    await begun(queue, "run", "sleep 50")
    faulty.cut()
    await asyncio.sleep(28)
    faulty.mend()
    await asyncio.sleep(1)
    run = await queue.run("run")
    assert (run.lapses, run.releases) == (0, 1)
    assert (await ended(queue, "run", 100)).outcome is RunOutcome.succeeded


async def test_what_has_finished_in_doubt_is_told_and_not_done_again(
    queue, hire, faulty, unreal, monkeypatch
):
    monkeypatch.setattr("requestor_sdk.worker._retry.LONGEST_SEC", 0.5)
    await hire()
    await begun(queue, "run", "sleep 5")
    faulty.cut()
    await asyncio.sleep(28)
    faulty.mend()
    assert (await ended(queue, "run", 100)).outcome is RunOutcome.succeeded
    assert len(unreal.made) == 1


async def test_a_queue_that_says_at_once_that_there_is_nothing_is_not_asked_without_end(
    hire, faulty
):
    async def nothing(**_):
        faulty.calls.append("asked")

    async def none(**_):
        faulty.calls.append("asked")
        return ()

    faulty.claim, faulty.stops = nothing, none
    await hire()
    await asyncio.sleep(60)
    assert faulty.calls.count("asked") < 100
    del faulty.claim, faulty.stops


async def test_a_full_disk_is_no_end_of_a_worker(queue, hire, monkeypatch, tmp_path, caplog):
    worker = await hire()
    await begun(queue, "good", "sleep 5")
    runs = worker.folder / "runs"
    runs.rename(worker.folder / "aside")
    runs.write_text("in the way")
    await queue.submit("bad", script("print x"), SMALL)
    await until(lambda: "cannot be begun here" in caplog.text, 60)
    runs.unlink()
    (worker.folder / "aside").rename(runs)
    assert (await ended(queue, "good")).outcome is RunOutcome.succeeded
    assert (await ended(queue, "bad", 300)).outcome is RunOutcome.succeeded


async def test_a_journal_that_cannot_be_written_is_no_end_of_a_worker(queue, hire, caplog):
    worker = await hire()
    await begun(queue, "run", "sleep 5")
    worker.worker._journal._db.execute("drop table attempts")
    assert (await ended(queue, "run")).outcome is RunOutcome.succeeded
    assert "journal cannot be written" in caplog.text
    worker.worker._journal._db.execute(
        "create table attempts (run_id, attempt, fence, stage, folder, completion)"
    )


async def test_a_worker_says_how_it_is(queue, hire, faulty):
    worker = await hire()
    assert not worker.worker.health().ready
    await begun(queue, "run", "sleep 100;exit 3")
    health = worker.worker.health()
    assert (health.ready, health.running, health.claims, health.untold) == (True, 1, 1, 0)
    assert 20 < health.lease_slack_sec <= LEASE
    assert health.renewals >= 1
    faulty.cut("renew", "heartbeat")
    await asyncio.sleep(15)
    assert worker.worker.health().lease_slack_sec < 15
    assert worker.worker.health().heartbeats_missed >= 1
    faulty.mend()
    faulty.cut("complete")
    await asyncio.sleep(100)
    health = worker.worker.health()
    assert (health.running, health.untold) == (1, 1)
    faulty.mend()
    await ended(queue, "run", 100)
    await until(lambda: not worker.worker.running)
    health = worker.worker.health()
    assert (health.ended, health.lease_slack_sec) == ({"failed": 1}, None)
    worker.worker.stop()
    assert worker.worker.health().draining
    assert not worker.worker.health().ready


async def test_no_fence_is_in_a_repr_or_a_log(queue, hire, faulty, caplog):
    caplog.set_level("DEBUG")
    worker = await hire()
    await begun(queue, "run", "sleep 10")
    (attempt,) = worker.worker._attempts.values()
    fence = attempt.lease.fence
    assert fence not in repr(attempt.claim) + repr(attempt) + repr(attempt.lease)
    faulty.cut()
    await asyncio.sleep(100)
    faulty.mend()
    await ended(queue, "run", 300)
    assert fence not in caplog.text


async def test_a_cancellation_while_outputs_are_told_changes_nothing(queue, hire, faulty):
    await hire()
    await queue.submit("run", script("sleep 1"), SMALL)
    faulty.cut("complete")
    await asyncio.sleep(5)
    await queue.cancel("run")
    await asyncio.sleep(1)
    faulty.mend()
    assert (await ended(queue, "run")).outcome is RunOutcome.succeeded
