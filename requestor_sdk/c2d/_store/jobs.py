"""The store of jobs over a store of transactions: what ``records.JobStore`` asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from requestor_sdk.c2d._store.keys import environment_of
from requestor_sdk.c2d.records import NonceTaken, OrderTaken, TooMany

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from requestor_sdk.c2d._store.port import Store, Writing
    from requestor_sdk.c2d.records import Bounds, JobRecord, TokenRecord
    from requestor_sdk.model.jobs import Json


def topic_of_job(job_id: str) -> str:
    """Return what rings when a job changes."""
    return f"job:{job_id}"


class StoredJobs:
    """Jobs, nonces, tokens and used orders of a store; see ``records.JobStore``."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def add_job(
        self,
        job: JobRecord,
        *,
        request: Mapping[str, Json] | None = None,
        orders: Sequence[str] = (),
        bounds: Bounds | None = None,
    ) -> None:
        """Keep a new job, its first status with its time, and the orders that it uses up.

        Raises:
            OrderTaken: One of the orders was used before.
            TooMany: It is one too many.
        """

        def do(tx: Writing) -> None:
            _check(tx, job, bounds)
            for order in orders:
                if not tx.use_order(order, job.id):
                    raise OrderTaken("an order was used before")
            tx.insert_job(job)
            if request is not None:
                tx.put_request(job.id, request)
            tx.add_statuses(job.id, [job.code], job.created)

        await self._store.write(do)

    async def change_job(
        self,
        job: JobRecord,
        *,
        at: float,
        walked: Sequence[int] = (),
        bounds: Bounds | None = None,
    ) -> bool:
        """Replace a job whose kept revision is one less; tell whether it was that.

        Raises:
            TooMany: It is one too many.
        """

        def do(tx: Writing) -> bool:
            _check(tx, job, bounds)
            if not tx.change_job(job):
                return False
            tx.add_statuses(job.id, walked, at)
            tx.ring(topic_of_job(job.id))
            return True

        return await self._store.write(do)

    async def job(self, job_id: str) -> JobRecord | None:
        """Return a job."""
        return await self._store.read(lambda tx: tx.job(job_id))

    async def request(self, job_id: str) -> Mapping[str, Json] | None:
        """Return what was asked for when a job was started."""
        return await self._store.read(lambda tx: tx.request(job_id))

    async def forget_request(self, job_id: str) -> None:
        """Remove what a job was started with. Idempotent."""
        await self._store.write(lambda tx: tx.delete_request(job_id))

    async def job_of_run(self, run_id: str) -> JobRecord | None:
        """Return the job that has this run now."""
        return await self._store.read(lambda tx: tx.job_of_run(run_id))

    async def jobs(
        self,
        *,
        owner: str | None = None,
        did: str | None = None,
        open_only: bool = False,
        limit: int = 1000,
        after: JobRecord | None = None,
    ) -> Sequence[JobRecord]:
        """Return jobs, newest first; ``open_only`` for those that are not over."""
        place = None if after is None else (after.created, after.id)
        return await self._store.read(
            lambda tx: tx.jobs(owner=owner, did=did, open_only=open_only, limit=limit, after=place)
        )

    async def count_open(self) -> Mapping[str, int]:
        """Return how many jobs are not over, by the environment."""
        return await self._store.read(lambda tx: tx.count_open())

    async def kept_of(self, owner: str) -> int:
        """Return how many bytes the results of an owner's jobs take."""
        return await self._store.read(lambda tx: tx.kept_of(owner))

    async def done(self, before: float, *, limit: int = 100) -> Sequence[JobRecord]:
        """Return jobs that were over before a time, and whose results are gone."""
        return await self._store.read(lambda tx: tx.done(before, limit=limit))

    async def statuses(self, job_id: str) -> Sequence[tuple[int, float]]:
        """Return each status that a job went through, with its time, oldest first."""
        return await self._store.read(lambda tx: tx.statuses(job_id))

    async def expired(self, now: float, *, limit: int = 100) -> Sequence[JobRecord]:
        """Return jobs whose results are to be removed by now."""
        return await self._store.read(lambda tx: tx.expired(now, limit=limit))

    async def remove_job(self, job_id: str) -> None:
        """Remove a job with its statuses; used orders stay used. Idempotent."""

        def do(tx: Writing) -> None:
            tx.delete_job(job_id)
            tx.ring(topic_of_job(job_id))

        await self._store.write(do)

    async def nonce(self, address: str) -> int:
        """Return the last nonce of an address (lower case); 0 where there is none."""
        return await self._store.read(lambda tx: tx.nonce(address))

    async def raise_nonce(self, address: str, nonce: int) -> None:
        """Keep a nonce.

        Raises:
            NonceTaken: It is not higher than the one that is kept.
        """

        def do(tx: Writing) -> int | None:
            return None if tx.raise_nonce(address, nonce) else tx.nonce(address)

        kept = await self._store.write(do)
        if kept is not None:
            raise NonceTaken(kept)

    async def add_token(self, token: TokenRecord) -> None:
        """Keep a token."""
        await self._store.write(lambda tx: tx.put_token(token))

    async def token(self, digest: str) -> TokenRecord | None:
        """Return a token; ``None`` where it is unknown or was taken back."""
        return await self._store.read(lambda tx: tx.token(digest))

    async def remove_token(self, digest: str) -> None:
        """Take a token back. Idempotent."""
        await self._store.write(lambda tx: tx.delete_token(digest))

    async def remove_tokens(self, before: float) -> int:
        """Forget the tokens that expired before a time; tell how many."""
        return await self._store.write(lambda tx: tx.delete_tokens(before))


def _check(tx: Writing, job: JobRecord, bounds: Bounds | None) -> None:
    if bounds is None:
        return
    tx.alone(job.owner)
    most = bounds.of_environment
    if most is not None and tx.open_in(environment_of(job)) >= most:
        raise TooMany("of_environment")
    if bounds.of_owner is not None and tx.open_of(job.owner) >= bounds.of_owner:
        raise TooMany("of_owner")
    if bounds.kept is not None and tx.kept_of(job.owner) >= bounds.kept:
        raise TooMany("kept")
