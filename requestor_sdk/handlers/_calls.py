"""A call while the program knows it: its state, who waits for it, and the parts it has sent.

Belongs to the event loop; nothing here blocks or writes.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from requestor_sdk.handlers._model import CallFailure, Outcome, Record, Status

if TYPE_CHECKING:
    from pydantic import BaseModel

    from requestor_sdk.handlers._lane import Lane, Work


def digest_of(body: bytes) -> bytes:
    """Return what tells one input from another."""
    return hashlib.blake2b(body, digest_size=16).digest()


class Call:
    """One accepted call.

    Attributes:
        value: The input as a model; dropped at the end.
        parts: What a stream has sent so far, each as JSON.
        queued_at: Since when it waits, by the monotonic clock: the other one can be set.
        work: What works on it; ``None`` while it waits, and afterwards.
        accepted: Done once the store has it; ``None`` where nothing waits for that.
    """

    __slots__ = (
        "_then",
        "_waiters",
        "accepted",
        "accepted_at",
        "attempt",
        "body",
        "delivered",
        "digest",
        "ending",
        "finished_at",
        "id",
        "lane",
        "notify",
        "outcome",
        "parts",
        "queued_at",
        "size",
        "started_at",
        "status",
        "value",
        "work",
    )

    def __init__(
        self, call_id: str, lane: Lane, body: bytes, value: BaseModel | None, *, notify: bool
    ) -> None:
        self.id = call_id
        self.lane = lane
        self.body = body
        self.value = value
        self.notify = notify
        self.digest = b""
        self.attempt = 1
        self.status = Status.queued
        self.accepted_at = time.time()
        self.queued_at = 0.0
        self.started_at: float | None = None
        self.finished_at: float | None = None
        self.outcome: Outcome | None = None
        self.delivered = False
        # No lists until there is something in them: thousands of calls are kept, and each list is
        # one more thing for the garbage collector to visit while everybody waits.
        self.parts: list[bytes] | tuple[()] = ()
        self.size = 0
        self.work: Work | None = None
        self.ending = False
        self.accepted: asyncio.Future[None] | None = None
        self._then: Callable[[Call], None] | None = None
        self._waiters: list[asyncio.Future[None]] | tuple[()] = ()

    @classmethod
    def of_record(cls, record: Record, lane: Lane) -> Call:
        """Return the call that a store had."""
        call = cls(record.id, lane, record.body, None, notify=record.notify)
        call.digest = record.digest
        call.attempt = record.attempt
        call.status = record.status
        call.accepted_at = record.accepted_at
        call.started_at, call.finished_at = record.started_at, record.finished_at
        call.delivered = record.delivered
        if record.outcome is not None:
            call.ending = True
            call.outcome = record.outcome
        return call

    def record(self) -> Record:
        """Return it as a store keeps it."""
        return Record(
            id=self.id,
            function=self.lane.spec.name,
            body=self.body,
            digest=self.digest,
            notify=self.notify,
            attempt=self.attempt,
            status=self.status,
            accepted_at=self.accepted_at,
            started_at=self.started_at,
            finished_at=self.finished_at,
            outcome=self.outcome,
            delivered=self.delivered,
        )

    # What happens --------------------------------------------------------------------------------

    def begins(self) -> None:
        """Its work begins."""
        self.status = Status.running
        self.started_at = time.time()
        self._wake()

    def add_part(self, part: bytes) -> None:
        """Its stream sent a part."""
        if isinstance(self.parts, tuple):
            self.parts = []
        self.parts.append(part)
        self.size += len(part)
        self._wake()

    def end(self, outcome: Outcome) -> None:
        """It is over; the caller has made sure that this happens once."""
        self.status, self.outcome = outcome.status, outcome
        if self.finished_at is None:
            self.finished_at = time.time()
        self.value, self.work = None, None
        # The digest tells a repetition; the input itself is not needed any more.
        self.body = b""
        self._wake()
        if self._then is not None:
            self._then(self)

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, ()
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    # Who waits -----------------------------------------------------------------------------------

    async def changed(self) -> None:
        """Wait for the next change."""
        waiter = asyncio.get_running_loop().create_future()
        if isinstance(self._waiters, tuple):
            self._waiters = []
        self._waiters.append(waiter)
        try:
            await waiter
        finally:
            if isinstance(self._waiters, list) and waiter in self._waiters:
                self._waiters.remove(waiter)

    def when_over(self, then: Callable[[Call], None]) -> None:
        """Have one function called at the end; at once where it is over."""
        if self.outcome is not None:
            then(self)
        else:
            self._then = then

    async def over(self) -> Outcome:
        """Wait for the end."""
        while self.outcome is None:
            await self.changed()
        return self.outcome


def stopped(status: Status, why: str) -> Outcome:
    """Return the outcome of a call that was not let to its end."""
    kinds = {Status.timed_out: "Timeout", Status.cancelled: "Cancelled"}
    return Outcome(
        status=status, error=CallFailure(type=kinds.get(status, "Rejected"), message=why)
    )
