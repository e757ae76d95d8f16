"""The provider of jobs: takes them, gets their files, hands them to the queue, follows their runs.

Knows no HTTP and no worker. Every call is made for an owner and sees that owner's jobs alone:
another's are as if they were not there. Who the owner is was proven before (``auth``).
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from requestor_sdk.c2d import _walk
from requestor_sdk.c2d._admission import Admission
from requestor_sdk.c2d._follower import Follower, round_of, run_of
from requestor_sdk.c2d._inputs import Provisioner
from requestor_sdk.c2d._terms import Rules
from requestor_sdk.c2d.records import ROWS_SEC, JobRecord, OrderTaken, TooMany
from requestor_sdk.model.errors import (
    JobNotFound,
    JobRefused,
    NotAvailable,
)
from requestor_sdk.model.jobs import JobCode
from requestor_sdk.ocean.requests import node_start

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from requestor_sdk.c2d._files import Files
    from requestor_sdk.c2d._terms import JobPlan
    from requestor_sdk.c2d.catalogue import Catalogue
    from requestor_sdk.c2d.environments import EnvironmentSpec
    from requestor_sdk.c2d.orders import Orders
    from requestor_sdk.c2d.records import JobRuns, JobStore
    from requestor_sdk.model.jobs import Environment, JobRequest, JobStatus, ResultFile
    from requestor_sdk.ports.basics import Clock

OWNED: Final = 1000
_LOOK_SEC: Final = 2.0
"""How often who waits looks by itself: another server's changes may not ring here."""
_TRIES: Final = 100
_PAGE: Final = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A result, and the file that holds it."""

    file: ResultFile
    path: Path


class JobCore:
    """Jobs of a provider, for all their owners.

    Args:
        store: Keeps jobs. Opened and closed by who made it, as is ``runs``.
        runs: Has them run; its ``on_change`` is taken.
        catalogue: The assets.
        environments: Where jobs run.
        files: Fetches files; closed with the core.
        clock: The time of statuses.
        address: What orders are paid to.
        orders: Checks them; ``None`` where nothing can be paid.
        images: Tells the names of the images that jobs can have; called in a thread.
        owned: How many open jobs an owner may have.
        kept: Bytes that the results of one owner may take; ``None`` for as many as there are.
        rows_sec: How long what is known of a job is kept once it is over and its results are gone.
    """

    def __init__(
        self,
        *,
        store: JobStore,
        runs: JobRuns,
        catalogue: Catalogue,
        environments: Sequence[EnvironmentSpec],
        files: Files,
        clock: Clock,
        address: str = "",
        orders: Orders | None = None,
        images: Callable[[], Sequence[str]] = tuple,
        owned: int = OWNED,
        kept: int | None = None,
        rows_sec: float = ROWS_SEC,
    ) -> None:
        self.catalogue = catalogue
        self.specs = tuple(environments)
        self.files = files
        self._store = store
        self._runs = runs
        self._clock = clock
        self._address = address
        self._rules = Rules(catalogue, self.specs, files)
        self._follower = Follower(
            store=store,
            runs=runs,
            environments=self.specs,
            rules=self._rules,
            provisioner=Provisioner(files, catalogue, runs),
            clock=clock,
            kept=kept,
            rows_sec=rows_sec,
        )
        self._admission = Admission(runs, orders, owned=owned, kept=kept)
        self._images = images
        self._opened = False
        self._hurried = False

    async def open(self) -> None:
        """Take up the jobs that are not over."""
        if self._opened:
            raise NotAvailable("the provider of jobs is open already")
        self._opened = True
        await self._follower.open()

    async def close(self) -> None:
        """Follow nothing more; jobs go on where their workers do. Idempotent."""
        self._opened = False
        await self._follower.close()
        await self.files.close()

    def wake(self) -> None:
        """Let all who wait for changes go: the server is about to end."""
        self._hurried = True
        self._follower.ring_all()

    async def environments(self) -> tuple[Environment, ...]:
        """Return where jobs can run."""
        open_in = await self._store.count_open()
        images = await asyncio.to_thread(self._images)
        return tuple(
            spec.shown(
                consumer_address=self._address, open_jobs=open_in.get(spec.id, 0), images=images
            )
            for spec in self.specs
        )

    async def plan(self, owner: str, request: JobRequest) -> JobPlan:
        """Return what a request would come to. Raises as ``submit``, but for orders."""
        return await self._rules.plan(owner, request)

    async def submit(self, owner: str, request: JobRequest, *, shown_owner: str = "") -> JobRecord:
        """Start a job: it is kept when this returns.

        Args:
            owner: The address, lower case.
            request: What is asked for.
            shown_owner: The address as its owner writes it.

        Raises:
            JobRefused: It is not taken; nothing was started.
            AssetNotConsumable: The owner may not use one of its assets.
        """
        plan = await self._rules.plan(owner, request)
        bounds = self._admission.bounds(plan)
        order, orders = await self._admission.pay(owner, plan)
        record = JobRecord(
            id=secrets.token_hex(16),
            owner=owner,
            dids=plan.dids,
            code=int(JobCode.warming_up),
            created=self._now(),
            facts={
                "owner": shown_owner or owner,
                "environment": plan.environment.id,
                "algorithm": plan.algorithm.did,
                "duration": plan.duration,
                "free": plan.environment.free,
                "order": order,
                "round": 1,
                "metadata": dict(request.metadata),
                "foreign": plan.foreign,
            },
        )
        try:
            await self._store.add_job(
                record, request=node_start(request), orders=orders, bounds=bounds
            )
        except OrderTaken:
            raise JobRefused(
                "the order was used before", reasons={"order": "in_use_or_not_on_chain"}
            ) from None
        except TooMany as reached:
            raise self._admission.refused(reached.bound) from None
        self._follower.begin(record, plan)
        return record

    async def restart(self, owner: str, job_id: str) -> JobRecord:
        """Start a job of the owner's that is over once more, as it was asked for.

        Raises:
            JobNotFound: There is none.
            JobRefused: It is not over, was paid for (an order pays once), or is not taken any more.
        """
        record = await self.record(owner, job_id)
        if record.finished is None:
            raise JobRefused("the job is not over yet", reasons={"jobId": "running"})
        if not record.facts.get("free"):
            raise JobRefused(
                "an order pays for one start", reasons={"order": "in_use_or_not_on_chain"}
            )
        plan = await self._rules.plan(owner, await self._follower.request_of(job_id))
        bounds = self._admission.bounds(plan)
        again = replace(
            record,
            code=int(JobCode.warming_up),
            finished=None,
            expires=None,
            stop=0,
            kept=0,
            run_id="",
            facts={
                **{name: value for name, value in record.facts.items() if name not in _OF_A_RUN},
                "round": round_of(record) + 1,
            },
            revision=record.revision + 1,
        )
        try:
            begun = await self._store.change_job(
                again, at=self._now(), walked=[again.code], bounds=bounds
            )
        except TooMany as reached:
            raise self._admission.refused(reached.bound) from None
        if not begun:
            raise JobRefused("the job was started meanwhile", reasons={"jobId": "running"})
        if record.run_id:
            await self._runs.forget(record.run_id)
        self._follower.ring(job_id)
        self._follower.follow(job_id)
        return again

    async def jobs(
        self, owner: str, *, did: str | None = None, limit: int = 1000, results: int | None = None
    ) -> Sequence[JobRecord]:
        """Return the owner's jobs, newest first; only those on a document where one is named.

        Args:
            owner: The address, lower case.
            did: The document.
            limit: How many at most.
            results: No more once those that are returned have so many results.
        """
        found: list[JobRecord] = []
        while len(found) < limit:
            page = await self._store.jobs(
                owner=owner,
                did=did,
                limit=min(_PAGE, limit - len(found)),
                after=found[-1] if found else None,
            )
            found.extend(page)
            listed = sum(map(_listed, page))
            results = None if results is None else results - listed
            if len(page) < _PAGE or (results is not None and results <= 0):
                break
        return found

    async def record(self, owner: str, job_id: str) -> JobRecord:
        """Return a job of the owner's.

        Raises:
            JobNotFound: There is none.
        """
        return await self.found(job_id, owner=owner)

    async def status(self, owner: str, job_id: str) -> JobStatus:
        """Return how a job of the owner's stands. Raises as ``record``."""
        return _walk.status_of(await self.record(owner, job_id))

    async def statuses(self, owner: str, job_id: str) -> Sequence[tuple[int, float]]:
        """Return each status that a job went through, with its time. Raises as ``record``."""
        await self.record(owner, job_id)
        return await self._store.statuses(job_id)

    async def changed(
        self, owner: str, job_id: str, *, after: int, timeout: float | None = None
    ) -> JobRecord:
        """Return a job once its revision is another than ``after``, or the time is over.

        Raises:
            JobNotFound: There is none, or it was deleted meanwhile.
        """
        loop = asyncio.get_running_loop()
        until = None if timeout is None else loop.time() + timeout
        while True:
            with self._follower.listening(job_id) as event:
                record = await self.record(owner, job_id)
                left = _LOOK_SEC if until is None else min(_LOOK_SEC, until - loop.time())
                if record.revision != after or left <= 0 or self._hurried:
                    return record
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(left):
                        await event.wait()

    async def found(self, job_id: str, *, owner: str | None = None) -> JobRecord:
        """Return a job to who knows its id; where an owner is named, only that owner's.

        Raises:
            JobNotFound: There is none.
        """
        found = await self._store.job(job_id)
        if found is None or (owner is not None and found.owner != owner):
            raise JobNotFound("there is no such job of this owner", ids={"job": job_id})
        return found

    async def other_than(
        self, record: JobRecord, code: int, *, attempt: int, timeout: float
    ) -> JobRecord:
        """Return a job once its status or its attempt is another, it is over, or the time is.

        Raises:
            JobNotFound: It was deleted meanwhile.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout
        while (
            record.code == code
            and _walk.attempt_of(record) == attempt
            and record.finished is None
            and not self._hurried
        ):
            if (left := until - loop.time()) <= 0:
                break
            record = await self.changed(
                record.owner, record.id, after=record.revision, timeout=left
            )
        return record

    async def updates(self, owner: str, job_id: str) -> AsyncIterator[JobStatus]:
        """Yield a job's status now, and each change of it, until it is over."""
        record = await self.record(owner, job_id)
        while True:
            yield _walk.status_of(record)
            if record.finished is not None or self._hurried:
                return
            record = await self.changed(owner, job_id, after=record.revision)

    async def logs(self, owner: str, job_id: str, *, offset: int = 0) -> AsyncIterator[bytes]:
        """Yield what the algorithm writes, from a byte on, until the job is over.

        Raises:
            JobNotFound: There is no such job.
        """
        record = await self.record(owner, job_id)
        while not record.run_id and record.finished is None and not self._hurried:
            record = await self.changed(owner, job_id, after=record.revision)
        if record.run_id:
            async for data in self._runs.log(record.run_id, offset=offset):
                yield data

    async def result(self, owner: str, job_id: str, index: int) -> Result:
        """Return a result of a job that is over.

        Raises:
            JobNotFound: There is no such job, or no such result of it any more.
        """
        record = await self.record(owner, job_id)
        results = _walk.results_of(record.facts)
        if not results:
            raise JobNotFound("No results for job", ids={"job": job_id})
        if index < 0:
            raise JobNotFound("Negative index", ids={"job": job_id})
        if index >= len(results):
            raise JobNotFound("No such index", ids={"job": job_id})
        file, kept = results[index]
        number = _walk.attempt_of(record)
        path = (
            self._runs.output_path(record.run_id, number, kept)
            if kept
            else self._runs.log_path(record.run_id, number)
        )
        return Result(file=file, path=path)

    async def stop(self, owner: str, job_id: str) -> JobRecord:
        """Ask for a job's end. One that is over stays as it is. Idempotent."""
        for _ in range(_TRIES):
            record = await self.record(owner, job_id)
            if record.finished is not None or record.stop:
                break
            asked = replace(record, stop=1, revision=record.revision + 1)
            if await self._store.change_job(asked, at=self._now()):
                record = asked
                self._follower.ring(job_id)
                break
        else:
            raise NotAvailable("the job changes too fast to be stopped", ids={"job": job_id})
        if record.finished is None:
            # What is being fetched for it is not waited for.
            await self._follower.interrupt(job_id)
            self._follower.follow(job_id)
        return record

    async def delete(self, owner: str, job_id: str) -> JobRecord | None:
        """Stop a job and remove everything of it; ``None`` where there is none. Idempotent."""
        try:
            record = await self.record(owner, job_id)
        except JobNotFound:
            return None
        async with self._follower.let_go(job_id):
            # A run's id is known before it is submitted: what was half submitted goes, too.
            await self._runs.forget(record.run_id or run_of(record))
            await self._store.remove_job(job_id)
        self._follower.ring(job_id)
        return record

    def _now(self) -> float:
        return self._clock.now().timestamp()


def _listed(record: JobRecord) -> int:
    results = record.facts.get("results")
    return len(results) if isinstance(results, list) else 0


_OF_A_RUN: Final = frozenset(
    {
        "attempt",
        "worker",
        "outcome",
        "exit_code",
        "oom",
        "error",
        "results",
        "cpu_sec",
        "memory_peak",
        "duration_sec",
    }
)
"""The facts that a restart begins without."""
