"""Asks the queue for runs, one asking at a time, for what is free and no more.

No asking is left in the air: one that is given up because the worker stops is read once more, with
no room to take anything new, and what it was given meanwhile is handed back.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from typing import TYPE_CHECKING, Any, Final, TypeVar

from requestor_sdk.model.errors import LeaseLost
from requestor_sdk.worker._ledger import NOTHING
from requestor_sdk.worker._retry import PASSING, Patience, may_pass, patiently

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from requestor_sdk.ports.worker import Claim, Room, RunQueue
    from requestor_sdk.worker._config import WorkerConfig
    from requestor_sdk.worker._ledger import Ledger

PARTLY_SEC: Final = 3.0
"""How long an asking may wait while runs are going on: what they free is not in it."""
AT_ONCE_SEC: Final = 0.2
"""An asking that waited no longer for its nothing is not followed by another at once."""
T = TypeVar("T")
_log = logging.getLogger(__name__)


class Claims:
    """The asking of one worker.

    Args:
        queue: Whom it asks.
        config: The worker's.
        session: Of this process of it.
        ledger: Says what is free.
        draining: Set once nothing more is to be taken.
        take: Begins a run; false where it does not fit.
    """

    def __init__(
        self,
        queue: RunQueue,
        config: WorkerConfig,
        session: str,
        *,
        ledger: Ledger,
        draining: asyncio.Event,
        take: Callable[[Claim], bool],
    ) -> None:
        self._queue = queue
        self._config = config
        self._session = session
        self._ledger = ledger
        self._draining = draining
        self._take = take

    async def run(self) -> None:
        """Take runs until the worker stops.

        Raises:
            WorkerRefused: The token is not this worker's.
            NetworkError: An answer that another try would not change.
        """
        patience = Patience()
        claim_id, asked = secrets.token_hex(16), False
        while not self._draining.is_set():
            free = await self._while_open(self._ledger.room())
            if free is None:
                break
            asked, began = True, asyncio.get_running_loop().time()
            try:
                claim = await self._while_open(self._ask(claim_id, free, self._patience()))
            except PASSING as error:
                if not may_pass(error):
                    raise
                # The same id once more: what it was given, if anything, is given again.
                _log.warning("worker %s can take no runs: %s", self._config.id, error)
                await self._while_open(patience.wait())
                continue
            if claim is None and self._draining.is_set():
                break
            claim_id, asked = secrets.token_hex(16), False
            if claim is None:
                took = asyncio.get_running_loop().time() - began
                if took < AT_ONCE_SEC:  # a queue that ends says so at once, again and again
                    await self._while_open(patience.wait())
                    continue
            elif self._draining.is_set() or not self._take(claim):
                await self._hand_back(claim)
                await self._while_open(patience.wait())
                continue
            patience.reset()
        given = await self._given(claim_id) if asked else None
        if given is not None:
            await self._hand_back(given)

    def _patience(self) -> float:
        """Return how long an asking may wait."""
        wait = self._config.claim_wait
        return wait if self._ledger.idle else min(wait, PARTLY_SEC)

    async def _ask(self, claim_id: str, free: Room, wait: float) -> Claim | None:
        return await self._queue.claim(
            worker_id=self._config.id,
            session=self._session,
            claim_id=claim_id,
            free=free,
            wait=wait,
        )

    async def _given(self, claim_id: str) -> Claim | None:
        """Return what an asking that was given up, or whose answer was lost, has got."""
        try:
            async with asyncio.timeout(self._config.settle_timeout):
                return await patiently(lambda: self._ask(claim_id, NOTHING, 0.0))
        except (TimeoutError, *PASSING) as error:
            # The end of the lease does the same, later.
            _log.warning("worker %s: its last asking is lost: %s", self._config.id, error)
            return None

    async def _hand_back(self, claim: Claim) -> None:
        try:
            async with asyncio.timeout(self._config.settle_timeout):
                await patiently(lambda: self._queue.release(claim.lease, "it has no room for it"))
        except (LeaseLost, TimeoutError, *PASSING) as error:
            _log.info("run %s is not handed back: %s", claim.lease.run_id, error)

    async def _while_open(self, doing: Coroutine[Any, Any, T]) -> T | None:
        """Do something that is given up, for ``None``, when the worker stops."""
        task = asyncio.ensure_future(doing)
        closing = asyncio.ensure_future(self._draining.wait())
        try:
            await asyncio.wait({task, closing}, return_when=asyncio.FIRST_COMPLETED)
            return task.result() if task.done() else None
        finally:
            task.cancel()
            closing.cancel()
            await asyncio.wait({task, closing})
