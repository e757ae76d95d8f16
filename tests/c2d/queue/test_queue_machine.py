"""Whatever workers, callers, time and crashes do, in any order, what the queue promises holds.

A run ends once and stays as it ended; it is held by one attempt or none; what a worker holds fits
into what it has; a fence that is not the held one's changes nothing; nothing is ever lost.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from support.queues import SPEC

from requestor_sdk.c2d import _rules as rules
from requestor_sdk.c2d._queue import DurableQueue
from requestor_sdk.c2d._store.memory import MemoryStore
from requestor_sdk.model.errors import LeaseLost, WorkerRefused
from requestor_sdk.ports.worker import (
    Completion,
    Demand,
    GpuRoom,
    LeaseState,
    Room,
    RunEvent,
    RunOutcome,
    RunState,
    WorkerInfo,
)
from requestor_sdk.testing import VirtualTimeLoop

ROOMS = {
    "small": Room(cpu=1, ram_mb=1000, disk_mb=1000),
    "large": Room(
        cpu=3.5,
        ram_mb=4000,
        disk_mb=4000,
        gpus=(GpuRoom(id=0, vram_mb=8), GpuRoom(id=7, vram_mb=4)),
    ),
}
demands = st.builds(
    Demand,
    cpu=st.sampled_from([0.1, 0.7, 1.0, 2.5]),
    ram_mb=st.sampled_from([1, 600, 2500]),
    disk_mb=st.sampled_from([1, 900]),
    gpus=st.sampled_from([0, 0, 0, 1, 2]),
    vram_mb=st.sampled_from([0, 3, 5]),
)
workers = st.sampled_from(sorted(ROOMS))
outcomes = st.sampled_from(list(RunOutcome))


class ByHand:
    """A clock that stands until it is put forward."""

    def __init__(self):
        self.seconds = 0.0

    def now(self):
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.seconds)

    def monotonic(self):
        return self.seconds


class QueueMachine(RuleBasedStateMachine):
    """One queue, two workers, many runs."""

    runs = Bundle("runs")
    leases = Bundle("leases")
    claims = Bundle("claims")

    def __init__(self):
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=VirtualTimeLoop)
        self.folder = Path(tempfile.mkdtemp(prefix="queue-"))
        self.clock = ByHand()
        self.count = 0
        self.submitted = set()
        self.ended = {}
        self.sessions = {}
        self.former = {}
        self.store = self.make_store()
        self.do(self.begin())

    def make_store(self):
        return MemoryStore()

    def do(self, call):
        return self.runner.run(call)

    async def begin(self):
        await self.store.open()
        self.queue = DurableQueue(self.store, self.folder / "runs", clock=self.clock)
        await self.queue.open()

    def teardown(self):
        self.do(self.bring_all_to_an_end())
        self.do(self.end())
        self.runner.close()
        shutil.rmtree(self.folder)

    async def end(self):
        await self.queue.close()
        await self.store.close()

    async def bring_all_to_an_end(self):
        """See that no run is stuck: a worker with room for everything ends each."""
        for _ in range(30):
            self.clock.seconds += 100
            await self.queue.sweep()
        gpus = tuple(GpuRoom(id=n, vram_mb=1000) for n in range(64))
        room = Room(cpu=1e3, ram_mb=10**6, disk_mb=10**6, gpus=gpus)
        info = WorkerInfo(id="last", session="s", total=room, free=room)
        await self.queue.heartbeat(info)
        while claim := await self.queue.claim(
            worker_id="last", session="s", claim_id=self.name("last"), free=room, wait=0
        ):
            await self.queue.complete(claim.lease, Completion(outcome=RunOutcome.succeeded))
        for run_id in self.submitted:
            assert (await self.queue.run(run_id)).state in rules.OVER

    def name(self, kind):
        self.count += 1
        return f"{kind}{self.count}"

    async def picture(self, run_id):
        return await self.queue.run(run_id), list(await self.queue.attempts(run_id))

    @initialize(target=runs, some=st.lists(demands, min_size=2, max_size=6))
    def there_is_something_to_do(self, some):
        for worker in ROOMS:
            self.heartbeat_of(worker, "s1", draining=False)
        return multiple(*(self.submitted_one(demand, 1, 3) for demand in some))

    @rule(target=runs, demand=demands, priority=st.integers(0, 2), lives=st.integers(1, 3))
    def submit(self, demand, priority, lives):
        return self.submitted_one(demand, priority, lives)

    def submitted_one(self, demand, priority, lives):
        run_id = self.name("r")
        new = self.queue.submit(run_id, SPEC, demand, priority=priority, max_attempts=lives)
        assert self.do(new)
        self.submitted.add(run_id)
        return run_id

    @rule(run_id=runs, demand=demands)
    def submit_again(self, run_id, demand):
        before = self.do(self.picture(run_id))
        assert not self.do(self.queue.submit(run_id, SPEC, demand))
        assert self.do(self.picture(run_id)) == before

    @rule(worker=workers, anew=st.booleans(), draining=st.sampled_from([False, False, False, True]))
    def heartbeat(self, worker, anew, draining):
        session = self.name("s") if anew else self.sessions[worker]
        self.heartbeat_of(worker, session, draining=draining)

    @rule(worker=workers)
    def a_former_process_shows_itself(self, worker):
        session = self.former.get(worker)
        if session is None:
            return
        before = [self.do(self.picture(run_id)) for run_id in sorted(self.submitted)]
        room = ROOMS[worker]
        info = WorkerInfo(id=worker, session=session, total=room, free=room)
        with pytest.raises(WorkerRefused):
            self.do(self.queue.heartbeat(info))
        after = [self.do(self.picture(run_id)) for run_id in sorted(self.submitted)]
        assert after == before

    def heartbeat_of(self, worker, session, *, draining):
        room = ROOMS[worker]
        info = WorkerInfo(id=worker, session=session, total=room, free=room, draining=draining)
        self.do(self.queue.heartbeat(info))
        if self.sessions.get(worker, session) != session:
            self.former[worker] = self.sessions[worker]
        self.sessions[worker] = session
        for run_id in self.submitted:
            held = [each for each in self.do(self.picture(run_id))[1] if each.ending is None]
            assert all(each.session == session for each in held if each.worker_id == worker)

    @rule(target=leases, worker=workers, boast=st.booleans(), most=st.integers(1, 4))
    def claim(self, worker, boast, most):
        session = self.sessions[worker]
        told = [self.claimed(worker, session, self.name("c"), boast=boast) for _ in range(most)]
        return multiple(*(lease for lease in told if lease is not None))

    @rule(worker=workers)
    def a_former_process_claims(self, worker):
        session = self.former.get(worker, "before all")
        assert self.claimed(worker, session, self.name("c"), boast=False) is None

    @rule(target=leases, lease=leases)
    def claim_again(self, lease):
        worker, session, claim_id, lease = lease
        attempt = self.do(self.picture(lease.run_id))[1][lease.attempt - 1]
        if self.sessions[worker] == session and attempt.ending is None:
            told = self.do(self.ask(worker, session, claim_id, ROOMS[worker]))
            assert told.lease == lease
        return multiple()

    def claimed(self, worker, session, claim_id, *, boast):
        free = replace(ROOMS[worker], cpu=99, ram_mb=10**6) if boast else ROOMS[worker]
        try:
            told = self.do(self.ask(worker, session, claim_id, free))
        except WorkerRefused:
            assert self.sessions[worker] != session
            return None
        if told is None:
            return None
        assert self.sessions[worker] == session
        return (worker, session, claim_id, told.lease)

    def ask(self, worker, session, claim_id, free):
        return self.queue.claim(
            worker_id=worker, session=session, claim_id=claim_id, free=free, wait=0
        )

    @rule(lease=leases, outcome=outcomes)
    def complete(self, lease, outcome):
        completion = Completion(outcome=outcome, message=self.name("m"))
        self.fenced(lease, self.queue.complete(lease[3], completion), ends=completion)

    @rule(lease=leases)
    def release(self, lease):
        self.fenced(lease, self.queue.release(lease[3], "no"))

    @rule(lease=leases, stage=st.sampled_from(["preparing", "running", "publishing", "odd"]))
    def event(self, lease, stage):
        event = RunEvent(seq=self.count % 3, type="stage", message=stage)
        self.fenced(lease, self.queue.event(lease[3], event))

    @rule(lease=consumes(leases), kind=st.sampled_from(["fence", "attempt", "run", "worker"]))
    def say_something_with_a_wrong_fence(self, lease, kind):
        worker, _, _, right = lease
        wrong = {
            "fence": replace(right, fence=right.fence + "x"),
            "attempt": replace(right, attempt=right.attempt + 1),
            "run": replace(right, run_id="none"),
            "worker": right,
        }[kind]
        as_one = "other" if kind == "worker" else worker
        before = self.do(self.picture(right.run_id))
        with pytest.raises(LeaseLost):
            done = Completion(outcome=RunOutcome.succeeded)
            self.do(self.queue.complete(wrong, done, worker_id=as_one))
        assert self.do(self.queue.renew(as_one, [(wrong, 0.9)])) == [LeaseState.lost]
        assert self.do(self.picture(right.run_id)) == before

    def fenced(self, lease, call, *, ends=None):
        """Do what has to have a lease, and see that it had its effect, or none."""
        lease = lease[3]
        before = self.do(self.picture(lease.run_id))
        attempt = before[1][lease.attempt - 1]
        try:
            self.do(call)
        except LeaseLost:
            assert attempt.ending is not None
            assert self.do(self.picture(lease.run_id)) == before
            return
        if attempt.ending is not None:
            # Only one that is told of its own completion once more is not refused.
            assert ends is not None
            assert attempt.ending == "completed"
            assert self.do(self.picture(lease.run_id)) == before
        elif ends is not None:
            assert self.do(self.queue.run(lease.run_id)).completion == ends

    @rule(chosen=st.lists(leases, max_size=4), progress=st.none() | st.floats(0, 1))
    def renew(self, chosen, progress):
        for worker in ROOMS:
            mine = [lease for name, _, _, lease in chosen if name == worker]
            held = [self.do(self.picture(lease.run_id))[1][lease.attempt - 1] for lease in mine]
            told = self.do(self.queue.renew(worker, [(lease, progress) for lease in mine]))
            for lease, attempt, state in zip(mine, held, told, strict=True):
                assert (state is LeaseState.lost) == (attempt.ending is not None)
                if state is not LeaseState.lost:
                    asked = self.do(self.queue.run(lease.run_id)).cancel
                    assert (state is LeaseState.cancel) == asked

    @rule(run_id=runs)
    def cancel(self, run_id):
        self.do(self.queue.cancel(run_id))

    @rule(seconds=st.sampled_from([1, 10, 25, 40]))
    def time_passes(self, seconds):
        self.clock.seconds += seconds
        self.do(self.queue.sweep())

    @rule()
    def the_server_is_replaced(self):
        self.do(self.replaced())

    async def replaced(self):
        """Close the queue, and open another over the same store."""
        await self.queue.close()
        self.former.clear()  # who came before whom is known as long as the process lives
        self.queue = DurableQueue(self.store, self.folder / "runs", clock=self.clock)
        await self.queue.open()

    @invariant()
    def all_holds(self):
        self.do(self.look())

    async def look(self):
        held = {worker: [] for worker in ROOMS}
        for run_id in self.submitted:
            run, attempts = await self.picture(run_id)
            assert run.lapses <= run.max_attempts
            holding = [attempt for attempt in attempts if attempt.ending is None]
            assert [attempt.number for attempt in attempts] == list(range(1, run.attempt + 1))
            if run.state in rules.OVER:
                assert holding == []
                assert self.ended.setdefault(run_id, run) == run
            elif run.state is RunState.pending:
                assert holding == []
                assert run_id not in self.ended
            else:
                assert [attempt.number for attempt in holding] == [run.attempt]
                assert run_id not in self.ended
                held[holding[0].worker_id].append(holding[0])
        for worker, attempts in held.items():
            self.fits(ROOMS[worker], attempts)

    def fits(self, room, attempts):
        assert sum(each.demand.cpu for each in attempts) <= room.cpu + 1e-6
        assert sum(each.demand.ram_mb for each in attempts) <= room.ram_mb
        assert sum(each.demand.disk_mb for each in attempts) <= room.disk_mb
        for gpu in room.gpus:
            on_it = [each.demand.vram_mb for each in attempts if gpu.id in each.gpus]
            assert sum(on_it) <= gpu.vram_mb
        assert all(len(set(each.gpus)) == each.demand.gpus for each in attempts)


class SqliteMachine(QueueMachine):
    """The same on a file, whose process may end at any time."""

    def make_store(self):
        from requestor_sdk.c2d._store.sqlite import SqliteStore

        return SqliteStore(self.folder / "c2d.sqlite")

    async def replaced(self):
        """Let the first one go without a word, as a killed process would."""
        dead, dead_queue = self.store, self.queue
        self.former.clear()  # who came before whom is known as long as the process lives
        self.store = self.make_store()
        await self.begin()
        await dead_queue.close()
        await dead.close()


class PostgresMachine(SqliteMachine):
    """The same in a database, served by one host after another."""

    def make_store(self):
        from requestor_sdk.c2d._store.postgres import PostgresStore

        return PostgresStore(self.url)


def check(machine, examples, steps=40):
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_the_queue_keeps_its_promises_in_memory():
    check(QueueMachine, 120)


def test_the_queue_keeps_its_promises_in_sqlite_killed_at_any_time():
    pytest.importorskip("sqlalchemy", reason="the extra `serve` is not installed")
    check(SqliteMachine, 20)


def test_the_queue_keeps_its_promises_in_postgresql_killed_at_any_time(postgres):
    pytest.importorskip("sqlalchemy", reason="the extra `serve` is not installed")

    class Machine(PostgresMachine):
        def __init__(self):
            self.url = postgres.empty_database()
            super().__init__()

    check(Machine, 5, 30)
