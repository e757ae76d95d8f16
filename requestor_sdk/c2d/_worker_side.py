"""The queue as workers see it: ``ports.worker.RunQueue`` over the rules, a store and files.

Each call but ``heartbeat`` and ``claim`` may be held against the worker that makes it, which the
worker API does: a lease of another worker is no lease.
"""

from __future__ import annotations

import asyncio
import secrets
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Final

from requestor_sdk.c2d import _claims as claims
from requestor_sdk.c2d import _rules as rules
from requestor_sdk.c2d import _topics as topics
from requestor_sdk.c2d._blobs import Blobs
from requestor_sdk.clock import LoopClock
from requestor_sdk.model.errors import JobNotFound

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
    from pathlib import Path

    from requestor_sdk.c2d._store.port import Reading, Store, Writing
    from requestor_sdk.c2d._store.rows import AttemptRow, RunRow
    from requestor_sdk.ports.basics import Clock
    from requestor_sdk.ports.worker import (
        Claim,
        Completion,
        KeptFile,
        Lease,
        LeaseState,
        Room,
        RunEvent,
        RunState,
        WorkerInfo,
    )

LEASE_SEC: Final = 30.0
MAX_WAIT_SEC: Final = 60.0
"""The longest that a call is held."""


class WorkerSide:
    """What ``DurableQueue`` is to workers."""

    def __init__(
        self,
        store: Store,
        folder: Path,
        *,
        clock: Clock | None = None,
        lease_sec: float = LEASE_SEC,
        on_change: Callable[[str], None] | None = None,
    ) -> None:
        self._store = store
        self._clock = clock or LoopClock()
        self._lease_sec = lease_sec
        self._closed = False
        self.blobs = Blobs(folder)
        self.on_change = on_change
        store.tap(self._rang)

    async def heartbeat(self, worker: WorkerInfo) -> None:
        """Register, or show that it lives.

        Raises:
            WorkerRefused: Another process of this worker has registered since.
        """
        now = self._now()
        await self._store.write(lambda tx: claims.register(tx, worker, now))

    async def claim(
        self, *, worker_id: str, session: str, claim_id: str, free: Room, wait: float
    ) -> Claim | None:
        """Take the first run that fits; waits for one so many seconds."""
        deadline = self._clock.monotonic() + min(wait, MAX_WAIT_SEC)
        asking = claims.Asking(
            worker_id=worker_id,
            session=session,
            claim_id=claim_id,
            free=free,
            fence=secrets.token_urlsafe(24),
            lease_sec=self._lease_sec,
        )
        with self._store.listen(topics.LINE) as ear:
            while not self._closed:
                now = self._now()
                answer = await self._store.write(partial(claims.claim, asking=asking, now=now))
                if answer.final:
                    return answer.claim
                left = deadline - self._clock.monotonic()
                if left <= 0:
                    return None
                due = await self._store.read(partial(_next_due, now=now))
                await ear.heard(self._slice(left if due is None else min(left, due - now)))
        return None

    async def renew(
        self,
        worker_id: str,
        leases: Sequence[tuple[Lease, float | None]],
    ) -> Sequence[LeaseState]:
        """Hold leases on; each comes with its progress (0 to 1)."""
        until = self._now() + self._lease_sec
        # In one order, so that two renewals never wait for one another's rows.
        places = sorted(range(len(leases)), key=lambda place: leases[place][0].run_id)

        def do(tx: Writing) -> Sequence[LeaseState]:
            told = {
                place: rules.renew(tx, *leases[place], worker_id=worker_id, until=until)
                for place in places
            }
            return [told[place] for place in range(len(leases))]

        return await self._store.write(do)

    async def stops(
        self, *, worker_id: str, session: str, known: Sequence[str], wait: float
    ) -> Sequence[Lease]:
        """Return held leases whose end is asked for, as soon as there is one."""
        deadline = self._clock.monotonic() + min(wait, MAX_WAIT_SEC)
        being_ended = frozenset(known)
        with self._store.listen(topics.topic_of_worker(worker_id), topics.LINE) as ear:
            while not self._closed:
                found = await self._store.read(
                    lambda tx: rules.to_stop(tx, worker_id, session, being_ended)
                )
                left = deadline - self._clock.monotonic()
                if found or left <= 0:
                    return found
                await ear.heard(self._slice(left))
        return ()

    async def release(self, lease: Lease, reason: str, *, worker_id: str | None = None) -> None:
        """Hand a run back undone."""
        now = self._now()
        await self._store.write(lambda tx: rules.release(tx, lease, reason, worker_id, now))
        await self._drop_outputs(lease.run_id, lease.attempt)

    async def event(self, lease: Lease, event: RunEvent, *, worker_id: str | None = None) -> None:
        """Tell of something."""
        now = self._now()
        await self._store.write(lambda tx: rules.note(tx, lease, event, worker_id, now))

    async def log(
        self, lease: Lease, offset: int, data: bytes, *, worker_id: str | None = None
    ) -> None:
        """Append to the attempt's log what begins at a byte offset."""
        run, attempt = await self._held(lease, worker_id)
        await asyncio.to_thread(
            self.blobs.append, run.id, attempt.number, offset, data, run.spec.log_limit
        )
        self._store.ring(topics.topic_of_news(run.id))

    async def fetch(
        self, lease: Lease, name: str, *, worker_id: str | None = None
    ) -> AsyncGenerator[bytes]:
        """Yield an input file.

        Raises:
            JobNotFound: The run has no such input.
        """
        run, _ = await self._held(lease, worker_id)
        path = self.blobs.input(run.id, name)
        if not path.is_file():
            raise JobNotFound(f"the run has no input {name!r}", ids={"run": run.id})
        async with aclosing(self.blobs.read(path)) as chunks:
            async for data in chunks:
                yield data

    async def upload(
        self,
        lease: Lease,
        name: str,
        chunks: AsyncIterator[bytes],
        *,
        worker_id: str | None = None,
    ) -> KeptFile:
        """Keep an output file; the same name replaces what came before."""
        run, attempt = await self._held(lease, worker_id)
        limit = run.spec.output_limit
        kept = await self.blobs.keep(run.id, attempt.number, name, chunks, limit)
        await self._held(lease, worker_id)
        return kept

    async def complete(
        self, lease: Lease, completion: Completion, *, worker_id: str | None = None
    ) -> None:
        """End an attempt. Told twice with the same fence, it counts once.

        Raises:
            ValueError: It names a file that was not uploaded.
        """
        missing = await asyncio.to_thread(self._missing, lease, completion)
        now = self._now()

        def do(tx: Writing) -> bool:
            if missing is not None:
                rules.held(tx, lease, worker_id)
                raise ValueError(f"the file {missing!r} was not uploaded")
            return rules.complete(tx, lease, completion, worker_id, now)

        if await self._store.write(do):
            files = completion.files
            await asyncio.to_thread(self.blobs.settle, lease.run_id, lease.attempt, files)

    async def run_state(self, run_id: str) -> RunState:
        """Return how a run stands."""
        run = await self._store.read(lambda tx: tx.run(run_id))
        if run is None:
            raise rules.lost(run_id)
        return run.state

    def _now(self) -> float:
        return self._clock.now().timestamp()

    def _slice(self, left: float) -> float:
        return max(0.0, min(left, self._store.poll_sec))

    def _rang(self, topic: str) -> None:
        run_id = topics.run_of_topic(topic)
        if run_id is not None and self.on_change is not None:
            self.on_change(run_id)

    def _missing(self, lease: Lease, completion: Completion) -> str | None:
        try:
            return self.blobs.missing(lease.run_id, lease.attempt, completion.files)
        except ValueError:
            raise rules.lost(lease.run_id) from None

    async def _held(self, lease: Lease, worker_id: str | None) -> tuple[RunRow, AttemptRow]:
        def do(tx: Reading) -> tuple[RunRow, AttemptRow]:
            return rules.held(tx, lease, worker_id)

        return await self._store.read(do)

    async def _drop_outputs(self, run_id: str, attempt: int) -> None:
        await asyncio.to_thread(self.blobs.settle, run_id, attempt, ())


def _next_due(tx: Reading, now: float) -> float | None:
    return tx.next_due(now)
