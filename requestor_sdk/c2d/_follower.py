"""Follows jobs: gets their files, hands them to the queue, and walks their statuses to the end.

What is to be done for a job is read from its record each time: so a job that was left by a crash
goes on where it was, and nothing here is lost with the process.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from requestor_sdk.c2d import _walk
from requestor_sdk.c2d._clock import jumps_of
from requestor_sdk.c2d._inputs import Provisioner, ProvisioningFailed
from requestor_sdk.c2d._pool import KeyedPool
from requestor_sdk.c2d.records import ROWS_SEC
from requestor_sdk.model.errors import AssetNotConsumable, AssetNotFound, JobRefused
from requestor_sdk.model.jobs import JobCode
from requestor_sdk.ocean.requests import request_in

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence
    from pathlib import Path

    from requestor_sdk.c2d._terms import JobPlan, Rules
    from requestor_sdk.c2d.environments import EnvironmentSpec
    from requestor_sdk.c2d.records import JobRecord, JobRuns, JobStore, RunView
    from requestor_sdk.model.jobs import JobRequest, Json
    from requestor_sdk.ports.basics import Clock

_WALKS: Final = 16
_PROVISIONINGS: Final = 4
_KNOWN: Final = 64
"""New jobs whose plan is remembered; of further ones it is made anew."""
_JANITOR_SEC: Final = 30.0
_DAY: Final = 86_400.0
_AFTER_JUMP_SEC: Final = 3600.0
_NO_ROOM: Final = (
    "the results of one owner may take {kept} bytes, and with these they would take more: delete "
    "jobs that are not needed any more, and start it again"
)

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Bell:
    event: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: int = 0


class Follower:
    """Brings jobs to their end.

    Args:
        environments: Where jobs run; says how long results are kept.
        rules: Says what a request comes to.
        provisioner: Gets files.
        kept: Bytes that the results of one owner may take; ``None`` for as many as there are.
        rows_sec: How long what is known of a job is kept once it is over, and its results are gone.
    """

    def __init__(
        self,
        *,
        store: JobStore,
        runs: JobRuns,
        environments: Sequence[EnvironmentSpec],
        rules: Rules,
        provisioner: Provisioner,
        clock: Clock,
        kept: int | None = None,
        rows_sec: float = ROWS_SEC,
    ) -> None:
        self._store = store
        self._runs = runs
        self._specs = environments
        self._rules = rules
        self._provisioner = provisioner
        self._clock = clock
        self._kept = kept
        self._rows_sec = rows_sec
        self._walks = KeyedPool(self._walk, size=_WALKS, name="following the run")
        self._provisionings = KeyedPool(
            self._provision, size=_PROVISIONINGS, name="getting the files"
        )
        # A consumer's own server may take its time: it takes that of its like.
        self._fetchings = KeyedPool(
            self._provision, size=_PROVISIONINGS, name="getting foreign files"
        )
        self._new: dict[str, tuple[JobRecord, JobPlan]] = {}
        # Jobs whose run changed while they were being handed over.
        self._missed: set[str] = set()
        # Removing a run changes it, too: that is nobody's business while its job goes.
        self._leaving: set[str] = set()
        self._bells: dict[str, _Bell] = {}
        self._janitor: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Take up the jobs that are not over."""
        self._runs.on_change = self._run_changed
        for record in await self._store.jobs(open_only=True, limit=1_000_000):
            self._walks.add(record.id)
        self._janitor = asyncio.create_task(self._clean(), name="removing expired results")

    async def close(self) -> None:
        """Follow nothing more; jobs go on where their workers do. Idempotent."""
        self._runs.on_change = None
        if self._janitor is not None:
            self._janitor.cancel()
            await asyncio.wait({self._janitor})
            self._janitor = None
        await self._provisionings.close()
        await self._fetchings.close()
        await self._walks.close()

    def begin(self, record: JobRecord, plan: JobPlan) -> None:
        """Look after a new job, whose plan is known already."""
        if len(self._new) < _KNOWN:
            self._new[record.id] = (record, plan)
        self._getting(record).add(record.id, group=record.owner)

    def follow(self, job_id: str) -> None:
        """Look after a job: it is new, or something of it changed."""
        self._walks.add(job_id)

    async def interrupt(self, job_id: str) -> None:
        """Break off the fetching of a job's files."""
        self._new.pop(job_id, None)
        await self._drop(job_id)

    @asynccontextmanager
    async def let_go(self, job_id: str) -> AsyncIterator[None]:
        """Do nothing for a job that is being removed; begins once nothing is done for it."""
        self._leaving.add(job_id)
        try:
            self._new.pop(job_id, None)
            self._missed.discard(job_id)
            await self._walks.drop(job_id)
            await self._drop(job_id)
            yield
        finally:
            self._leaving.discard(job_id)

    async def request_of(self, job_id: str) -> JobRequest:
        """Return what a job was asked for as.

        Raises:
            JobRefused: That is not kept any more.
        """
        body = await self._store.request(job_id)
        if body is None:
            raise JobRefused(
                "what the job was started with is not kept any more", reasons={"jobId": "expired"}
            )
        return request_in(body)

    def _getting(self, record: JobRecord) -> KeyedPool:
        return self._fetchings if record.facts.get("foreign") else self._provisionings

    async def _drop(self, job_id: str) -> None:
        await self._provisionings.drop(job_id)
        await self._fetchings.drop(job_id)

    @contextmanager
    def listening(self, job_id: str) -> Iterator[asyncio.Event]:
        """Give what is set at a job's next change."""
        bell = self._bells.setdefault(job_id, _Bell())
        bell.waiting += 1
        try:
            yield bell.event
        finally:
            bell.waiting -= 1
            if not bell.waiting and self._bells.get(job_id) is bell:
                del self._bells[job_id]

    def ring(self, job_id: str) -> None:
        """Wake those who wait for a job's change."""
        bell = self._bells.pop(job_id, None)
        if bell is not None:
            bell.event.set()

    def ring_all(self) -> None:
        """Wake all who wait for any job's change."""
        for job_id in list(self._bells):
            self.ring(job_id)

    def _run_changed(self, run_id: str) -> None:
        self._walks.add(run_id.partition("-")[0])

    async def _walk(self, job_id: str) -> None:
        """Bring a job to where its run is."""
        if job_id in self._leaving:
            return
        record = await self._store.job(job_id)
        if record is None or record.finished is not None:
            return
        if not record.run_id:
            if record.stop:
                # It may have been handed over just before its end was asked for.
                await self._runs.forget(run_of(record))
                ended = _walk.stopped(record, now=self._now(), keep_sec=self._keep_sec(record))
                await self._change(ended, [JobCode.finished])
            else:
                self._missed.add(job_id)
                self._getting(record).add(job_id, group=record.owner)
            return
        if record.stop == 1:
            await self._runs.cancel(record.run_id)
        view = await self._runs.view(record.run_id)
        if view is None:
            await self._fail(record, JobCode.run_failed, "its run was lost")
        elif view.completion is not None:
            await self._end(record, view)
        else:
            made, codes = _walk.walked_to(record, view)
            if made is not record and not await self._change(made, codes):
                self._walks.add(job_id)

    async def _end(self, record: JobRecord, view: RunView) -> None:
        completion = view.completion
        assert completion is not None
        log = self._runs.log_path(view.id, view.attempt)
        fits = await self._has_room(record.owner, sum(file.size for file in completion.files))
        if not fits:
            completion = _walk.without_outputs(completion, _NO_ROOM.format(kept=self._kept))
        made, codes = _walk.ended(
            record,
            view,
            completion,
            now=self._now(),
            keep_sec=self._keep_sec(record),
            log_size=await asyncio.to_thread(_size, log),
        )
        if not await self._change(made, codes):
            self._walks.add(record.id)
            return
        if not fits:
            await self._runs.drop_outputs(view.id, view.attempt)
        await self._runs.drop_inputs(view.id)

    async def _has_room(self, owner: str, size: int) -> bool:
        """Tell whether an owner's results may take so many bytes more."""
        if self._kept is None or not size:
            return True
        return await self._store.kept_of(owner) + size <= self._kept

    async def _provision(self, job_id: str) -> None:
        """Get a job's files and hand it to the queue; done again from the start after a crash."""
        record, plan = self._new.pop(job_id, None) or (await self._store.job(job_id), None)
        missed = job_id in self._missed
        self._missed.discard(job_id)
        if record is None or record.finished is not None or record.run_id or record.stop:
            if missed and record is not None and record.finished is None:
                self._walks.add(job_id)
            return
        try:
            plan = plan or await self._rules.plan(record.owner, await self.request_of(job_id))
        except (JobRefused, AssetNotConsumable, AssetNotFound) as error:
            # It was taken when it was asked for; the catalogue is another now.
            await self._fail(record, JobCode.data_failed, error.message)
            return
        if plan.datasets:
            # Their files may take their time.
            codes = _walk.between(record.code, JobCode.configuring_volumes)
            begun = await self._change(replace(record, code=codes[-1]), codes) if codes else record
            if begun is None:
                self._walks.add(job_id)
                return
            record = begun
        await self._hand_over(record, plan)

    async def _hand_over(self, record: JobRecord, plan: JobPlan) -> None:
        run_id = run_of(record)
        try:
            await self._provisioner.submit(run_id, plan, owner=record.owner)
        except ProvisioningFailed as error:
            await self._runs.forget(run_id)
            await self._fail(record, error.job_code, error.message)
            return
        codes = _walk.between(record.code, JobCode.provisioned)
        ready = replace(record, code=int(JobCode.provisioned), run_id=run_id)
        if await self._change(ready, codes) is None or record.id in self._missed:
            self._missed.discard(record.id)
            self._walks.add(record.id)

    async def _fail(self, record: JobRecord, code: JobCode, message: str) -> None:
        made = _walk.failed(record, code, message, now=self._now(), keep_sec=self._keep_sec(record))
        if not await self._change(made, [int(code)]):
            self._walks.add(record.id)

    async def _change(self, record: JobRecord, walked: Sequence[int]) -> JobRecord | None:
        """Keep a job that was read at its present revision; ``None`` where it changed since."""
        made = replace(record, revision=record.revision + 1)
        if not await self._store.change_job(made, at=self._now(), walked=walked):
            return None
        self.ring(record.id)
        return made

    async def _clean(self) -> None:
        """Remove what is kept past its time, until cancelled.

        What a date that jumped says is over is left for a while: the date may be put right again.
        """
        jumps = jumps_of(self._clock)
        while True:
            self._now()
            if jumps != jumps_of(self._clock):
                jumps = jumps_of(self._clock)
                await asyncio.sleep(_AFTER_JUMP_SEC)
                continue
            try:
                while found := await self._store.expired(self._now()):
                    if not all([await self._expire(record) for record in found]):
                        break
                before = self._now() - self._rows_sec
                while found := await self._store.done(before):
                    for record in found:
                        await self._forget(record)
                await self._store.remove_tokens(self._now())
            except Exception:  # noqa: BLE001 - logged, and tried again
                _log.exception("what is over could not be removed; again later")
            await asyncio.sleep(_JANITOR_SEC)

    async def _expire(self, record: JobRecord) -> bool:
        """Remove what is large of a job that is over; tell whether it was as it was read."""
        facts: dict[str, Json] = {**record.facts, "results": []}
        if not await self._change_quietly(replace(record, expires=None, kept=0, facts=facts)):
            return False
        await self._store.forget_request(record.id)
        if record.run_id:
            await self._runs.forget(record.run_id)
        return True

    async def _forget(self, record: JobRecord) -> None:
        """Remove all that is known of a job that has long been over."""
        async with self.let_go(record.id):
            # A crash may have left its files.
            await self._runs.forget(record.run_id or run_of(record))
            await self._store.remove_job(record.id)
        self.ring(record.id)

    async def _change_quietly(self, record: JobRecord) -> bool:
        made = replace(record, revision=record.revision + 1)
        return await self._store.change_job(made, at=self._now())

    def _keep_sec(self, record: JobRecord) -> float:
        return self._spec(record).results_days * _DAY

    def _spec(self, record: JobRecord) -> EnvironmentSpec:
        name = record.facts.get("environment")
        return next((one for one in self._specs if one.id == name), self._specs[0])

    def _now(self) -> float:
        return self._clock.now().timestamp()


def run_of(record: JobRecord) -> str:
    """Return the id of a job's run; a restart's is another."""
    return f"{record.id}-{round_of(record)}"


def round_of(record: JobRecord) -> int:
    """Return which run of a job is its present one, from 1; a restart is another."""
    count = record.facts.get("round")
    return count if isinstance(count, int) else 1


def _size(path: Path) -> int | None:
    """Return how long a log is; ``None`` where nothing was ever written."""
    try:
        return path.stat().st_size
    except OSError:
        return None
