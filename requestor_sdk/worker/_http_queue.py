"""The queue of another host, over its worker API: ``ports.worker.RunQueue`` by HTTP.

Says what each verb of the port is on the wire; ``_worker_api`` knows how it is said.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from requestor_sdk.model.errors import BadAnswer, NetworkInterrupted, NetworkTimeout
from requestor_sdk.model.fields import to_json
from requestor_sdk.ports.worker import Claim, KeptFile, Lease, LeaseState, RunState
from requestor_sdk.worker._answers import field, read
from requestor_sdk.worker._worker_api import CALL_SEC, WorkerApi

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from pathlib import Path

    from requestor_sdk.ports.worker import Completion, Room, RunEvent, WorkerInfo

MARGIN_SEC: Final = 15.0
"""Seconds that a call which waits may take beyond the time that it waits."""
SILENCE_SEC: Final = 60.0
"""Seconds for which nothing of a file moves, after which its server is taken to be gone."""


class HttpQueue:
    """The queue of a server.

    Args:
        url: The server, e.g. ``https://jobs.example:8030``; what follows the port is put before
            the paths.
        worker_id: The worker that the token is of.
        token: As ``requestor-sdk c2d token`` gave it.
        ca: A file with the certificates that the server's is to be signed by; by default those
            that the machine trusts.
    """

    def __init__(self, url: str, *, worker_id: str, token: str, ca: Path | None = None) -> None:
        self._api = WorkerApi(url, worker_id=worker_id, token=token, ca=ca)

    def __repr__(self) -> str:
        """Name the server."""
        return f"<queue of {self._api.shown}>"

    async def open(self) -> None:
        """Get ready; nothing is sent yet.

        Raises:
            UsageError: The certificates cannot be read.
        """
        await self._api.open()

    async def close(self) -> None:
        """Let go. Idempotent."""
        await self._api.close()

    async def heartbeat(self, worker: WorkerInfo) -> None:
        """Register, or show that it lives."""
        await self._api.call("PUT", f"/workers/{quote(worker.id, safe='')}", body=to_json(worker))

    async def claim(
        self, *, worker_id: str, session: str, claim_id: str, free: Room, wait: float
    ) -> Claim | None:
        """Take the first run that fits; waits for one so many seconds."""
        said = await self._api.call(
            "POST",
            f"/workers/{quote(worker_id, safe='')}/claims",
            body={
                "session": session,
                "claim_id": claim_id,
                "free": to_json(free),
                "wait": wait,
            },
            seconds=wait + MARGIN_SEC,
        )
        return None if said is None else read(Claim, said)

    async def renew(
        self, worker_id: str, leases: Sequence[tuple[Lease, float | None]]
    ) -> Sequence[LeaseState]:
        """Hold leases on."""
        said = await self._api.call(
            "POST",
            f"/workers/{quote(worker_id, safe='')}/renewals",
            body={
                "leases": [
                    {"lease": to_json(lease), "progress": progress} for lease, progress in leases
                ]
            },
        )
        states = field(said, "states", list)
        if len(states) != len(leases) or not set(states) <= set(LeaseState):
            raise BadAnswer("the answer to a renewal is none")
        return [LeaseState(state) for state in states]

    async def stops(
        self, *, worker_id: str, session: str, known: Sequence[str], wait: float
    ) -> Sequence[Lease]:
        """Return held leases whose end is asked for."""
        said = await self._api.call(
            "POST",
            f"/workers/{quote(worker_id, safe='')}/stops",
            body={"session": session, "known": list(known), "wait": wait},
            seconds=wait + MARGIN_SEC,
        )
        return [read(Lease, lease) for lease in field(said, "leases", list)]

    async def release(self, lease: Lease, reason: str) -> None:
        """Hand a run back undone."""
        await self._attempt(lease, "POST", "/release", body={"reason": reason})

    async def event(self, lease: Lease, event: RunEvent) -> None:
        """Tell of something."""
        await self._attempt(lease, "POST", "/events", body=to_json(event))

    async def log(self, lease: Lease, offset: int, data: bytes) -> None:
        """Append to the attempt's log what begins at a byte offset."""
        await self._attempt(lease, "POST", "/log", params={"offset": str(offset)}, data=data)

    async def fetch(self, lease: Lease, name: str) -> AsyncIterator[bytes]:
        """Yield an input file."""
        async with self._api.request(
            "GET",
            _path(lease, "/inputs"),
            params={"name": name},
            headers={"Fence": lease.fence},
            seconds=None,
            silence=SILENCE_SEC,
        ) as response:
            size = 0
            async for chunk in response.content.iter_any():
                size += len(chunk)
                yield chunk
            if response.content_length not in (None, size):
                raise NetworkInterrupted(f"the input {name!r} ended early")

    async def upload(self, lease: Lease, name: str, chunks: AsyncIterator[bytes]) -> KeptFile:
        """Keep an output file."""
        loop = asyncio.get_running_loop()
        async with _idle("PUT of an output") as idle:

            async def sent() -> AsyncIterator[bytes]:
                async for chunk in chunks:
                    idle.reschedule(loop.time() + SILENCE_SEC)
                    yield chunk

            said = await self._attempt(
                lease, "PUT", "/outputs", params={"name": name}, data=sent(), seconds=None
            )
        kept: KeptFile = read(KeptFile, said)
        return kept

    async def complete(self, lease: Lease, completion: Completion) -> None:
        """End an attempt."""
        await self._attempt(lease, "POST", "/complete", body=to_json(completion))

    async def run_state(self, run_id: str) -> RunState:
        """Return how a run stands."""
        said = await self._api.call("GET", f"/runs/{quote(run_id, safe='')}/state")
        state = field(said, "state", str)
        if state not in set(RunState):
            raise BadAnswer("the answer is no state of a run")
        return RunState(state)

    async def _attempt(
        self,
        lease: Lease,
        method: str,
        path: str,
        *,
        body: object = None,
        data: object = None,
        params: Mapping[str, str] | None = None,
        seconds: float | None = CALL_SEC,
    ) -> Any:
        return await self._api.call(
            method,
            _path(lease, path),
            body=body,
            data=data,
            params=params,
            headers={"Fence": lease.fence},
            seconds=seconds,
        )


def _path(lease: Lease, path: str) -> str:
    return f"/runs/{quote(lease.run_id, safe='')}/attempts/{lease.attempt}{path}"


@asynccontextmanager
async def _idle(what: str) -> AsyncIterator[asyncio.Timeout]:
    """Bound not how long something takes, but how long nothing of it moves."""
    try:
        async with asyncio.timeout(SILENCE_SEC) as limit:
            yield limit
    except TimeoutError:
        raise NetworkTimeout(f"{what}: nothing moved for {SILENCE_SEC:g} s") from None
