"""The queue of a run that came from none: it takes whatever it is told, and has nothing."""

# ruff: noqa: ARG002 - it has the port's shape

from __future__ import annotations

from typing import TYPE_CHECKING

from requestor_sdk.model.errors import JobFailed
from requestor_sdk.ports.worker import KeptFile, LeaseState, RunState

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from requestor_sdk.ports.worker import Claim, Completion, Lease, Room, RunEvent, WorkerInfo


class Nobody:
    """A queue that takes whatever it is told, and has nothing."""

    async def heartbeat(self, worker: WorkerInfo) -> None:
        """Take it."""

    async def claim(
        self, *, worker_id: str, session: str, claim_id: str, free: Room, wait: float
    ) -> Claim | None:
        """Have nothing."""
        return None

    async def renew(
        self, worker_id: str, leases: Sequence[tuple[Lease, float | None]]
    ) -> Sequence[LeaseState]:
        """Take it."""
        return [LeaseState.ok for _ in leases]

    async def stops(
        self, *, worker_id: str, session: str, known: Sequence[str], wait: float
    ) -> Sequence[Lease]:
        """Have nothing."""
        return ()

    async def release(self, lease: Lease, reason: str) -> None:
        """Take it."""

    async def event(self, lease: Lease, event: RunEvent) -> None:
        """Take it."""

    async def log(self, lease: Lease, offset: int, data: bytes) -> None:
        """Take it."""

    async def fetch(self, lease: Lease, name: str) -> AsyncIterator[bytes]:
        """Have nothing."""
        nothing: tuple[bytes, ...] = ()
        for chunk in nothing:
            yield chunk
        raise JobFailed(f"there is no file {name!r}")

    async def upload(self, lease: Lease, name: str, chunks: AsyncIterator[bytes]) -> KeptFile:
        """Take it."""
        size = 0
        async for chunk in chunks:
            size += len(chunk)
        return KeptFile(name=name, size=size, sha256="")

    async def complete(self, lease: Lease, completion: Completion) -> None:
        """Take it."""

    async def run_state(self, run_id: str) -> RunState:
        """Say that it runs."""
        return RunState.running
