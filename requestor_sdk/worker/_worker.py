"""The worker: heartbeats, claims, leases and attempts, each a task of its own.

Stopped once, it takes nothing more and lets its runs end; killed, it hands them back at once. What
the queue could not be told is left to its next start.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from typing import TYPE_CHECKING

from requestor_sdk.model.errors import RequestorError
from requestor_sdk.ports.worker import WorkerInfo
from requestor_sdk.worker._attempt import Attempt, Parts, Stop
from requestor_sdk.worker._claims import AT_ONCE_SEC, Claims
from requestor_sdk.worker._job import run_job
from requestor_sdk.worker._journal import Journal
from requestor_sdk.worker._lease import Holding, LeaseKeeper
from requestor_sdk.worker._ledger import Ledger
from requestor_sdk.worker._recovery import recover, sweep
from requestor_sdk.worker._retry import PASSING, Patience, may_pass, patiently
from requestor_sdk.worker._room import detect_room
from requestor_sdk.worker._stats import Stats, WorkerHealth

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from requestor_sdk.ports.runtime import Images, Runtime
    from requestor_sdk.ports.worker import Claim, Completion, Room, RunQueue
    from requestor_sdk.worker._config import WorkerConfig
    from requestor_sdk.worker._ledger import Held

_RECOVER_SEC = 15.0
"""How long what a dead process left is told of before new runs are taken."""
_log = logging.getLogger(__name__)


class Worker:
    """One worker of a queue; ``run`` is its life.

    Args:
        queue: Where it takes runs from.
        config: How it behaves.
        runtime: Makes sandboxes; open already, and not closed here.
        images: Finds images.
        work: What is done for a run; by default its command is run in a sandbox.
    """

    def __init__(
        self,
        queue: RunQueue,
        config: WorkerConfig,
        *,
        runtime: Runtime,
        images: Images,
        work: Callable[[Attempt], Awaitable[Completion]] = run_job,
    ) -> None:
        self._queue = queue
        self._config = config
        self._runtime = runtime
        self._images = images
        self._work = work
        self._session = secrets.token_hex(8)
        self._attempts: dict[asyncio.Task[None], Attempt] = {}
        self._stats = Stats()
        self._keeper = LeaseKeeper(queue, config.id, self._stats)
        self._draining = asyncio.Event()
        self._killed = asyncio.Event()

    @property
    def running(self) -> tuple[str, ...]:
        """The ids of the runs that it works on."""
        return tuple(attempt.lease.run_id for attempt in self._attempts.values())

    def health(self) -> WorkerHealth:
        """Return how it is now, and what it has done."""
        stats, slack = self._stats, self._keeper.slack
        return WorkerHealth(
            ready=stats.registered and not self._draining.is_set() and (slack is None or slack > 0),
            draining=self._draining.is_set(),
            running=len(self._attempts),
            untold=sum(attempt.untold for attempt in self._attempts.values()),
            lease_slack_sec=slack,
            claims=stats.claims,
            ended=dict(stats.ended),
            renewals=stats.renewals,
            renew_sec=stats.renew_sec,
            heartbeats_missed=stats.heartbeats_missed,
        )

    def stop(self) -> None:
        """Take nothing more; ``run`` returns once its runs have ended or were handed back."""
        self._draining.set()

    def kill(self) -> None:
        """End now: its runs are handed back without waiting for them."""
        self._draining.set()
        self._killed.set()

    async def run(self) -> None:
        """Work until it is stopped.

        Raises:
            WorkerRefused: The queue does not know the worker's token, or it is another's.
            NetworkError: The queue answers what no other try would change.
            NotAvailable: Another process of this worker is running.
        """
        self._config.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._runs = self._config.folder / "runs"
        self._ledger = Ledger(await self._room(), runs=self._config.max_runs)
        self._journal = Journal(self._config.folder / "worker.db")
        self._parts = Parts(
            queue=self._queue,
            config=self._config,
            runtime=self._runtime,
            images=self._images,
            journal=self._journal,
            stats=self._stats,
        )
        try:
            await self._live()
        except* RequestorError as errors:
            raise _first(errors) from None
        finally:
            self._journal.close()

    async def _live(self) -> None:
        async with asyncio.TaskGroup() as group:
            serving = [group.create_task(self._keeper.run(), name="worker-leases")]
            recovering = await self._recover(group)
            await self._register()
            serving.append(group.create_task(self._beat(), name="worker-heartbeat"))
            serving.append(group.create_task(self._watch_room(), name="worker-room"))
            serving.append(group.create_task(self._hear_stops(), name="worker-stops"))

            def take(claim: Claim) -> bool:
                return self._take(claim, group)

            await Claims(
                self._queue,
                self._config,
                self._session,
                ledger=self._ledger,
                draining=self._draining,
                take=take,
            ).run()
            await self._drain()
            for task in (*serving, *recovering):
                task.cancel()
        await self._beat_once()

    async def _recover(self, group: asyncio.TaskGroup) -> list[asyncio.Task[None]]:
        """Settle what a dead process left; what the queue does not take in time goes on aside."""
        entries = self._journal.left()
        sweep(self._runs, entries)
        tasks = [
            group.create_task(recover(self._parts, self._keeper, self._runs, entry))
            for entry in entries
        ]
        if tasks:
            await asyncio.wait(tasks, timeout=_RECOVER_SEC)
        return tasks

    # -- what it has, and that it lives

    async def _room(self) -> Room:
        if self._config.room is not None:
            return self._config.room
        return await asyncio.to_thread(detect_room, self._config.folder)

    async def _watch_room(self) -> None:
        while True:
            await asyncio.sleep(self._config.watch_room)
            self._ledger.resize(await self._room())

    def _info(self) -> WorkerInfo:
        return WorkerInfo(
            id=self._config.id,
            session=self._session,
            total=self._ledger.total,
            free=self._ledger.free(),
            tags=self._config.tags,
            draining=self._draining.is_set(),
            running=self.running,
        )

    async def _register(self) -> None:
        """Show itself for the first time, as soon as the queue can be reached."""
        registering = asyncio.ensure_future(patiently(lambda: self._queue.heartbeat(self._info())))
        stopping = asyncio.ensure_future(self._draining.wait())
        try:
            await asyncio.wait({registering, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if registering.done():
                registering.result()
                self._stats.registered = True
        finally:
            registering.cancel()
            stopping.cancel()
            await asyncio.wait({registering, stopping})

    async def _beat(self) -> None:
        """Show that it lives, and at once when it begins to stop."""
        while True:
            told = self._draining.is_set()
            try:
                async with asyncio.timeout(self._config.heartbeat):
                    if not told:
                        await self._draining.wait()
                    else:
                        await asyncio.Event().wait()
            except TimeoutError:
                pass
            await self._beat_once()

    async def _beat_once(self) -> None:
        try:
            async with asyncio.timeout(self._config.heartbeat):
                await self._queue.heartbeat(self._info())
        except (TimeoutError, *PASSING) as error:
            self._stats.heartbeats_missed += 1
            _log.warning("worker %s: no answer to its heartbeat: %s", self._config.id, error)

    # -- its runs

    async def _hear_stops(self) -> None:
        """Hear within a moment of what is to be stopped; the next renewal would say it, too."""
        patience = Patience()
        while True:
            known = [a.lease.fence for a in self._attempts.values() if a.stopped is not None]
            began = asyncio.get_running_loop().time()
            try:
                leases = await self._queue.stops(
                    worker_id=self._config.id,
                    session=self._session,
                    known=known,
                    wait=self._config.claim_wait,
                )
            except PASSING as error:
                if not may_pass(error):
                    raise
                await patience.wait()
                continue
            fences = {lease.fence for lease in leases}
            found = [a for a in self._attempts.values() if a.lease.fence in fences]
            for attempt in found:
                attempt.stop(Stop.cancel, "the queue says so")
            took = asyncio.get_running_loop().time() - began
            if not found and (leases or took < AT_ONCE_SEC):
                # Of a run that is just being begun, or has just ended; or the queue itself ends.
                await patience.wait()
            else:
                patience.reset()

    def _take(self, claim: Claim, group: asyncio.TaskGroup) -> bool:
        held = self._ledger.reserve(claim.demand, claim.gpus)
        if held is None:
            return False
        self._stats.claims += 1
        try:
            folder = self._runs / secrets.token_hex(8)
            attempt = Attempt(claim, self._parts, folder, gpus=held.gpus)
        except OSError as error:
            _log.error("run %s cannot be begun here: %s", claim.lease.run_id, error)
            self._journal.settled(claim.lease)
            held.release()
            return False
        task = group.create_task(self._do(attempt, held), name=f"run {claim.lease.run_id}")
        self._attempts[task] = attempt
        return True

    async def _do(self, attempt: Attempt, held: Held) -> None:
        holding = Holding(
            attempt.lease,
            attempt.claim.lease_sec,
            cancel=lambda: attempt.stop(Stop.cancel, "the queue says so"),
            doubt=lambda why: attempt.stop(Stop.unsure, why),
            lose=lambda why: attempt.stop(Stop.lost, why),
        )
        attempt.holding = holding
        self._keeper.hold(holding)
        try:
            await attempt.execute(self._work, held.release)
        finally:
            self._keeper.drop(holding)
            held.release()
            task = asyncio.current_task()
            if task is not None:
                del self._attempts[task]

    async def _drain(self) -> None:
        """Let the runs end, for a while; then hand them back; then wait until all is told."""
        await self._wait_for_runs(self._config.drain_timeout)
        for attempt in self._attempts.values():
            attempt.stop(Stop.drain, "the worker stops")
        if self._attempts:
            await asyncio.wait(self._attempts, timeout=self._config.settle_timeout)
        for task in list(self._attempts):
            task.cancel()

    async def _wait_for_runs(self, seconds: float) -> None:
        if not self._attempts:
            return
        ended = asyncio.ensure_future(asyncio.wait(self._attempts, timeout=seconds))
        killed = asyncio.ensure_future(self._killed.wait())
        try:
            await asyncio.wait({ended, killed}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ended.cancel()
            killed.cancel()
            await asyncio.wait({ended, killed})


def _first(group: BaseExceptionGroup[RequestorError]) -> BaseException:
    found: BaseException = group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found
