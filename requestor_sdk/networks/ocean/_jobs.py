"""Jobs of an Ocean provider, as one consumer: implements the port ``Jobs`` over HTTP.

Puts the parts together. What a server sends is told in values of the model; a start is sent once.
"""

from __future__ import annotations

import dataclasses
import decimal
from typing import TYPE_CHECKING, Any, Final

from requestor_sdk.model.errors import JobNotFound, JobRefused, NoFreeEnvironment, NotAvailable
from requestor_sdk.networks.ocean._http import Http
from requestor_sdk.networks.ocean._logs import read_logs
from requestor_sdk.networks.ocean._node import OceanNode
from requestor_sdk.networks.ocean._results import read_result
from requestor_sdk.networks.ocean._watch import Watch
from requestor_sdk.ocean.environments import environment_from
from requestor_sdk.ocean.messages import Generation, checksummed
from requestor_sdk.ocean.statuses import status_from

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from requestor_sdk.model.jobs import Environment, JobRequest, JobStatus, Json, ResultFile
    from requestor_sdk.networks.ocean._config import OceanConfig

DEFAULT_DURATION_SEC: Final = 3600


class OceanJobs:
    """A provider of jobs over the Ocean protocol, whichever generation it is of.

    Args:
        config: Where it is, and who asks.
        node: The server, where somebody else has it open, and closes it.
    """

    def __init__(self, config: OceanConfig, *, node: OceanNode | None = None) -> None:
        self.config = config
        self._signer = config.signer()
        self._shared = node is not None
        self._node = node or OceanNode(Http(config.url, call_sec=config.call_sec))
        self._watch: Watch | None = None

    @property
    def consumer(self) -> str:
        """The address that owns the jobs, in mixed case."""
        return checksummed(self._signer.identity)

    @property
    def node(self) -> OceanNode:
        """The server."""
        return self._node

    async def open(self) -> None:
        """Ask the server what it is.

        Raises:
            NetworkUnreachable: Nobody answers.
            NotSupported: It is no provider of jobs.
        """
        if self._watch is not None:
            return
        try:
            await self._node.probe()
        except BaseException:
            await self._node.close()
            raise
        self._watch = Watch(self._node, self._signer, poll_sec=self.config.poll_sec)

    async def close(self) -> None:
        """Let go. Jobs go on. Idempotent."""
        watch, self._watch = self._watch, None
        if watch is not None:
            await watch.close()
        if not self._shared:
            await self._node.close()

    async def environments(self) -> Sequence[Environment]:
        """Return where jobs can run."""
        self._opened()
        return [environment_from(e) for e in await self._node.environments(self.config.chain_id)]

    async def submit(self, request: JobRequest) -> JobStatus:
        """Start a job; never sent twice by itself.

        Where the request names no environment and the server wants one, the first is taken that
        costs nothing. In one that costs something of a node the price of the whole duration is
        offered from the escrow.

        Raises:
            JobRefused: The provider does not take it; the message says what of it, and why.
            NoFreeEnvironment: Every environment costs something, and none was named.
            NetworkInterrupted: The answer was lost: it may have started (``jobs`` tells).
        """
        self._opened()
        environment: Mapping[str, Any] = {}
        if not self._node.ours:
            environment = await self._environment(request.environment)
            request = dataclasses.replace(request, environment=str(environment["id"]))
        read = environment_from(environment) if environment else None
        extra: dict[str, Json] = {}
        if self._node.generation is not Generation.classic and read is not None and not read.free:
            seconds = int(request.max_duration) or DEFAULT_DURATION_SEC
            extra = payment_of(environment, seconds)
        job = await self._node.start(
            self._signer, request, free=read is None or read.free, extra=extra
        )
        return status_from(job, job_id=str(job["jobId"]))

    async def _environment(self, wanted: str) -> Mapping[str, Any]:
        found = await self._node.environments(self.config.chain_id)
        for one in found:
            if str(one["id"]) == wanted or (not wanted and environment_from(one).free):
                return one
        if wanted:
            known = ", ".join(str(one["id"]) for one in found) or "none"
            raise JobRefused(
                f"the provider has no environment {wanted!r}; it has: {known}",
                reasons={"environment": "not_found"},
            )
        raise NoFreeEnvironment(
            "the provider has no environment that costs nothing",
            hint="`requestor-sdk c2d environments` lists them; name one by environment=",
        )

    async def jobs(self) -> Sequence[JobStatus]:
        """Return the consumer's jobs, newest first."""
        self._opened()
        found = [status_from(job) for job in await self._node.jobs(self._signer)]
        return sorted(found, key=lambda status: status.created_at, reverse=True)

    async def status(self, job_id: str) -> JobStatus:
        """Return how a job stands.

        Raises:
            JobNotFound: The provider knows no such job of this consumer.
        """
        self._opened()
        return status_from(await self._node.job(self._signer, job_id), job_id=job_id)

    async def updates(self, job_id: str) -> AsyncIterator[JobStatus]:
        """Yield the status now, and each change of it, until the job is over."""
        async for status in self._opened().updates(job_id):
            yield status

    async def logs(self, job_id: str) -> AsyncIterator[bytes]:
        """Yield what the algorithm writes, from its beginning until the job is over."""
        async for chunk in read_logs(self._node, self._signer, self._opened(), job_id):
            yield chunk

    async def result(
        self, job_id: str, file: ResultFile, *, offset: int = 0
    ) -> AsyncIterator[bytes]:
        """Yield the bytes of a result from an offset on.

        Raises:
            JobNotFound: There is no such job, or no such result of it any more.
            BadAnswer: What the server sends is not this result.
        """
        self._opened()
        async for chunk in read_result(self._node, self._signer, job_id, file, offset=offset):
            yield chunk

    async def stop(self, job_id: str) -> JobStatus:
        """Ask for a job's end; it is over once its updates say so. Idempotent."""
        self._opened()
        answered = await self._node.stop(self._signer, job_id)
        if not answered:
            raise JobNotFound("the provider has no such job of this wallet", ids={"job": job_id})
        return await self.status(job_id)

    async def delete(self, job_id: str) -> None:
        """Stop a job and remove everything of it. Idempotent.

        Raises:
            NotSupported: A node cannot remove; the job is stopped all the same.
        """
        self._opened()
        try:
            if not self._node.ours and not (await self.status(job_id)).over:
                await self._node.stop(self._signer, job_id)
            await self._node.delete(self._signer, job_id)
        except JobNotFound:
            return

    def _opened(self) -> Watch:
        if self._watch is None:
            raise NotAvailable("the connection to the provider is closed", hint="open() it first")
        return self._watch

    def __repr__(self) -> str:
        return f"<OceanJobs at {self.config.url} as {self.consumer}>"


def payment_of(environment: Mapping[str, Any], seconds: int) -> dict[str, Json]:
    """Return the fields by which a node is paid from its escrow for so many seconds.

    Raises:
        JobRefused: The environment does not say in what it is paid.
    """
    fees = environment.get("fees")
    chains = list(fees) if isinstance(fees, dict) else []
    token = environment_from(environment).fee_token
    if not chains or not token:
        raise JobRefused(
            "the environment costs something, and does not say in which token",
            reasons={"environment": "no_fee_token"},
        )
    chain: Json = int(chains[0]) if str(chains[0]).isdigit() else str(chains[0])
    resources = _least(environment)
    payment: dict[str, Json] = {"chainId": chain, "token": token, "resources": resources}
    return {"payment": payment, "maxJobDuration": seconds, "resources": resources}


def _least(environment: Mapping[str, Any]) -> list[Json]:
    """Return the least of each resource that the environment gives."""
    found: list[Json] = []
    entries = environment.get("resources")
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, dict) and entry.get("id"):
            try:
                amount = decimal.Decimal(str(entry.get("min") or 0))
            except decimal.InvalidOperation:
                continue
            if amount > 0:
                found.append({"id": str(entry["id"]), "amount": float(amount)})
    return found
