"""Holds leases on: one task of its own, never behind a claim, a download or a log.

A lease counts from when its renewal was sent, by a clock that never goes back: so it ends here
before it ends at the queue. What cannot be confirmed in time is stopped.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from requestor_sdk.ports.worker import LeaseState
from requestor_sdk.worker._retry import PASSING
from requestor_sdk.worker._stats import Stats

if TYPE_CHECKING:
    from collections.abc import Callable

    from requestor_sdk.ports.worker import Lease, RunQueue

RENEWALS: Final = 3
"""How often a lease is renewed within its time."""
MARGIN: Final = 0.1
"""The part of a lease's time, at its end, that is left for stopping what runs."""
_log = logging.getLogger(__name__)


class Holding:
    """A lease that is held.

    Attributes:
        progress: How far the run is, 0 to 1; told with each renewal.
        end: Until when the lease is sure, by the loop's clock, less what stopping takes.
    """

    def __init__(
        self,
        lease: Lease,
        lease_sec: float,
        *,
        cancel: Callable[[], None],
        doubt: Callable[[str], None],
        lose: Callable[[str], None],
    ) -> None:
        self.lease = lease
        self.lease_sec = lease_sec
        self.progress: float | None = None
        self.end = 0.0
        self._cancel = cancel
        self._doubt = doubt
        self._lose = lose
        self._timer: asyncio.TimerHandle | None = None
        self.confirmed(asyncio.get_running_loop().time())

    def confirmed(self, sent: float) -> None:
        """Count the lease from when its renewal was sent."""
        self.drop()
        self.end = sent + self.lease_sec * (1 - MARGIN)
        self._timer = asyncio.get_running_loop().call_at(self.end, self._ended)

    def _ended(self) -> None:
        self._doubt("its lease could not be renewed in time")

    def heard(self, state: LeaseState, sent: float) -> None:
        """Act on what the queue says."""
        if state is LeaseState.lost:
            self.drop()
            self._lose("the queue says that it is not this worker's any more")
            return
        self.confirmed(sent)
        if state is LeaseState.cancel:
            self._cancel()

    def drop(self) -> None:
        """Stop counting."""
        if self._timer is not None:
            self._timer.cancel()


class LeaseKeeper:
    """Renews all leases of a worker.

    Args:
        queue: Where they are held.
        worker_id: Whose they are.
        stats: Counts renewals.
    """

    def __init__(self, queue: RunQueue, worker_id: str, stats: Stats | None = None) -> None:
        self._queue = queue
        self._stats = stats or Stats()
        self._worker_id = worker_id
        self._held: set[Holding] = set()
        self._fresh = asyncio.Event()

    def hold(self, holding: Holding) -> None:
        """Renew a lease from now on, at once for the first time."""
        self._held.add(holding)
        self._fresh.set()

    def drop(self, holding: Holding) -> None:
        """Renew it no more: an answer that still comes changes nothing."""
        holding.drop()
        self._held.discard(holding)

    @property
    def slack(self) -> float | None:
        """Seconds that the lease which ends first is sure; ``None`` where none is held."""
        ends = [holding.end for holding in self._held]
        return min(ends) - asyncio.get_running_loop().time() if ends else None

    async def run(self) -> None:
        """Renew, until cancelled.

        Raises:
            WorkerRefused: The token is not this worker's any more.
        """
        try:
            while True:
                self._fresh.clear()
                if not self._held:
                    await self._fresh.wait()
                    continue
                shortest = min(holding.lease_sec for holding in self._held)
                answered = await self._renew(shortest / RENEWALS)
                await self._pause(shortest / (RENEWALS if answered else RENEWALS * 4))
        finally:
            for holding in self._held:
                holding.drop()

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._fresh.wait()
        except TimeoutError:
            return

    async def _renew(self, seconds: float) -> bool:
        """Renew everything once; tell whether there was an answer."""
        held = list(self._held)
        sent = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(seconds):
                states = await self._queue.renew(
                    self._worker_id, [(holding.lease, holding.progress) for holding in held]
                )
        except TimeoutError:
            _log.warning("worker %s: leases are not renewed: no answer", self._worker_id)
            return False
        except PASSING as error:
            _log.warning("worker %s: leases are not renewed: %s", self._worker_id, error)
            return False
        self._stats.renewals += 1
        self._stats.renew_sec = asyncio.get_running_loop().time() - sent
        for holding, state in zip(held, states, strict=True):
            if holding in self._held:  # it may have been settled meanwhile
                holding.heard(state, sent)
        return True
