"""The queue of runs that outlives its process: the rules over a store, the files on disk.

It is what workers see (``ports.worker.RunQueue``), in process or behind the worker API, and what
the core submits to. It holds no run in memory: whatever dies, the store says how things stand.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from requestor_sdk.c2d import _rules as rules
from requestor_sdk.c2d import _topics as topics
from requestor_sdk.c2d._clock import jumps_of
from requestor_sdk.c2d._store.port import MAX_SKEW_SEC
from requestor_sdk.c2d._store.rows import RunRow
from requestor_sdk.c2d._worker_side import WorkerSide
from requestor_sdk.model.errors import JobNotFound, StoreFailed
from requestor_sdk.ports.worker import GpuRoom, Room

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence

    from requestor_sdk.c2d._store.port import Reading, Writing
    from requestor_sdk.c2d._store.rows import AttemptRow, EventRow, Waiting, WorkerRow
    from requestor_sdk.ports.worker import Demand, RunSpec, RunState

_SWEEPS: Final = 6
_PAGE: Final = 100
_ENDING_SEC: Final = 5.0
_STUCK_SEC: Final = 60.0
_KINDS: Final = 100
_MUCH: Final = 1 << 40
_BOUNDLESS: Final = Room(
    cpu=_MUCH,
    ram_mb=_MUCH,
    disk_mb=_MUCH,
    gpus=tuple(GpuRoom(id=number, vram_mb=_MUCH) for number in range(64)),
)
"""A room that everything fits into."""

_log = logging.getLogger(__name__)


class DurableQueue(WorkerSide):
    """Runs, given to workers by leases.

    Args:
        store: Where the rows are; opened and closed by whoever made it.
        folder: Where the files of runs lie; shared by all hosts that share the store.
        clock: What leases go by; hosts that share a store have to agree within seconds.
        lease_sec: How long a worker has a run without renewing.
        on_change: Called with the id of a run after its state or stage changed here.
    """

    _sweeper: asyncio.Task[None] | None = None

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._told_stuck: set[str] = set()
        self._jumps = 0

    async def open(self) -> None:
        """Get ready: leases that could not be renewed while this was away get their time anew."""
        await self._lease_anew()
        await self._forget_strangers()
        self._sweeper = asyncio.create_task(self._sweep(), name="sweeper of leases")

    async def _lease_anew(self) -> None:
        """Give each lease its whole time from now on: no worker was heard for a reason of ours."""
        until = self._now() + self._lease_sec

        def do(tx: Writing) -> None:
            while due := tx.lapsed(until - 1e-3, limit=_PAGE):
                for attempt in due:
                    tx.save_attempt(replace(attempt, leased_until=until))

        await self._store.write(do)
        self._jumps = jumps_of(self._clock)

    async def close(self) -> None:
        """Stop giving runs out; who waits is told that there is nothing. Idempotent."""
        self._closed = True
        self._store.ring(topics.LINE)
        sweeper, self._sweeper = self._sweeper, None
        if sweeper is not None:
            sweeper.cancel()
            with suppress(asyncio.CancelledError):
                await sweeper

    # For the core

    async def submit(
        self,
        run_id: str,
        spec: RunSpec,
        demand: Demand,
        *,
        owner: str = "",
        priority: int = 5,
        max_attempts: int = 3,
    ) -> bool:
        """Have a run done; its inputs are there. Tell whether the id was new."""
        self.blobs.folder(run_id)
        row = RunRow(
            id=run_id,
            spec=spec,
            demand=demand,
            owner=owner,
            priority=priority,
            max_attempts=max_attempts,
            created_at=self._now(),
        )

        def do(tx: Writing) -> bool:
            new = tx.insert_run(replace(row, turn=tx.next_turn(owner, priority)))
            if new:
                tx.ring(topics.LINE)
            return new

        return await self._store.write(do)

    async def run(self, run_id: str) -> RunRow | None:
        """Return how a run stands."""
        return await self._store.read(lambda tx: tx.run(run_id))

    async def attempts(self, run_id: str) -> Sequence[AttemptRow]:
        """Return the attempts at a run, in order."""
        return await self._store.read(lambda tx: tx.attempts(run_id))

    async def events(self, run_id: str, *, after: tuple[int, int] = (0, -1)) -> Sequence[EventRow]:
        """Return what the attempts at a run told of, after an ``(attempt, seq)``."""
        return await self._store.read(lambda tx: tx.events(run_id, after=after))

    async def workers(self) -> Sequence[WorkerRow]:
        """Return all workers that ever came."""
        return await self._store.read(lambda tx: tx.workers())

    async def counts(self) -> Mapping[RunState, int]:
        """Return how many runs there are, by state."""
        return await self._store.read(lambda tx: tx.count_runs())

    async def cancel(self, run_id: str) -> RunState | None:
        """Ask for a run's end; ``None`` where there is none. Idempotent."""
        now = self._now()
        return await self._store.write(lambda tx: rules.cancel(tx, run_id, now))

    async def remove(self, run_id: str) -> None:
        """Ask for a run's end, then forget it and remove its files. Idempotent.

        A worker that does not end it within seconds finds its lease lost.
        """
        if await self.cancel(run_id) is not None:
            await self.over(run_id, wait=_ENDING_SEC)

        def do(tx: Writing) -> None:
            tx.delete_run(run_id)
            tx.ring(topics.topic_of_run(run_id))
            tx.ring(topics.LINE)

        await self._store.write(do)
        await asyncio.to_thread(self.blobs.remove, run_id)

    async def over(self, run_id: str, *, wait: float | None = None) -> RunRow | None:
        """Return a run once it is over, or how it stands after so many seconds."""
        deadline = None if wait is None else self._clock.monotonic() + wait
        with self._store.listen(topics.topic_of_run(run_id)) as ear:
            while True:
                run = await self.run(run_id)
                if run is None or run.state in rules.OVER or self._closed:
                    return run
                left = None if deadline is None else deadline - self._clock.monotonic()
                if left is not None and left <= 0:
                    return run
                await ear.heard(self._store.poll_sec if left is None else self._slice(left))

    async def follow_log(self, run_id: str, *, offset: int = 0) -> AsyncGenerator[bytes]:
        """Yield a run's log from an offset on as it grows, until the run is over.

        Where a worker is lost, the next attempt's log follows after a line that says so.

        Raises:
            JobNotFound: There is no such run.
        """
        number, place = 1, offset
        with self._store.listen(*_topics(run_id)) as ear:
            while True:
                run = await self.run(run_id)
                if run is None:
                    raise JobNotFound("there is no such run", ids={"run": run_id})
                over = run.state in rules.OVER or self._closed
                async with aclosing(self._log_from(run_id, number, place)) as chunks:
                    async for data in chunks:
                        place += len(data)
                        yield data
                if number < run.attempt:
                    number, place = number + 1, 0
                    yield f"[the worker was lost: attempt {number}]\n".encode()
                elif over:
                    return
                else:
                    await ear.heard(self._store.poll_sec)

    async def _log_from(self, run_id: str, attempt: int, offset: int) -> AsyncGenerator[bytes]:
        with suppress(FileNotFoundError):
            async with aclosing(self.blobs.read(self.blobs.log(run_id, attempt), offset)) as chunks:
                async for data in chunks:
                    yield data

    async def _forget_strangers(self) -> None:
        def known(tx: Reading, names: Sequence[str]) -> Sequence[str]:
            return [name for name in names if tx.run(name) is None]

        names = await asyncio.to_thread(self.blobs.strangers, ())
        for name in await self._store.read(lambda tx: known(tx, names)):
            await asyncio.to_thread(self.blobs.remove, name)

    async def _sweep(self) -> None:
        """Take from workers of which nothing is heard what they hold."""
        while True:
            await asyncio.sleep(self._lease_sec / _SWEEPS)
            try:
                await self._look()
                await self._tell_of_stuck()
            except (StoreFailed, OSError) as error:
                _log.warning("leases could not be looked at: %s", error)
            except Exception:  # noqa: BLE001 - logged, and tried again
                _log.exception("leases could not be looked at; again later")

    async def _look(self) -> None:
        """Sweep, unless the time itself is in doubt: it would take runs from workers that live."""
        self._now()
        skew = await self._store.skew()
        if abs(skew) > MAX_SKEW_SEC:
            _log.warning("no leases are ended here: this host's clock is %+.0f s off", skew)
        elif jumps_of(self._clock) != self._jumps:
            await self._lease_anew()
        else:
            await self.sweep()

    async def _tell_of_stuck(self) -> None:
        """Have the operator know of runs that nobody here can take, once for each kind."""
        for demand in await self.stuck():
            if demand not in self._told_stuck and len(self._told_stuck) < _KINDS:
                self._told_stuck.add(demand)
                _log.warning("runs wait that no worker has room for: %s", demand)

    async def stuck(self) -> Sequence[str]:
        """Return what runs ask for that have waited for a while, and fit into no worker alive."""
        now = self._now()

        def do(tx: Reading) -> Sequence[str]:
            late = [
                one for one in tx.waiting(_BOUNDLESS, now=now) if _since(one) < now - _STUCK_SEC
            ]
            alive = [one for one in tx.workers() if one.seen_at > now - _STUCK_SEC]
            return [
                _asked(one.demand)
                for one in late
                if not any(_could_take(worker, one.demand) for worker in alive)
            ]

        return list(dict.fromkeys(await self._store.read(do)))

    async def sweep(self) -> Sequence[str]:
        """Take from workers what they hold past its lease; return the runs."""
        now = self._now()
        swept: list[str] = []
        while due := await self._store.read(lambda tx: tx.lapsed(now, limit=_PAGE)):
            for attempt in due:
                if await self._store.write(partial(_lapse, attempt=attempt, now=now)):
                    await self._drop_outputs(attempt.run_id, attempt.number)
                    swept.append(attempt.run_id)
        return swept


def _lapse(tx: Writing, attempt: AttemptRow, now: float) -> bool:
    """Take an attempt away, unless it was renewed since it was seen."""
    tx.run(attempt.run_id)
    kept = tx.attempt(attempt.run_id, attempt.number)
    if kept is None or kept.leased_until > now:
        return False
    return rules.lapse(tx, attempt.run_id, attempt.number, now)


def _since(one: Waiting) -> float:
    return one.place[2]


def _could_take(worker: WorkerRow, demand: Demand) -> bool:
    fits = worker.total is not None and worker.total.choose(demand) is not None
    return fits and set(demand.tags) <= set(worker.tags)


def _asked(demand: Demand) -> str:
    gpus = f", {demand.gpus} GPUs of {demand.vram_mb} MB" if demand.gpus else ""
    tags = f", the tags {', '.join(sorted(demand.tags))}" if demand.tags else ""
    return (
        f"{demand.cpu:g} processors, {demand.ram_mb} MB of memory, {demand.disk_mb} MB of disk"
        f"{gpus}{tags}"
    )


def _topics(run_id: str) -> tuple[str, str]:
    return topics.topic_of_run(run_id), topics.topic_of_news(run_id)
