"""The exe-unit of one activity: answers what a requestor asks of it on the service bus.

Runs nothing itself: batches go to the agent as events, and come back as results. Answers only its
agreement's requestor; what it does not know is answered by an error, never by silence.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from requestor_sdk.golem import flexbuffers
from requestor_sdk.model.errors import NetworkError, UsageError
from requestor_sdk.model.market import ActivityState
from requestor_sdk.ports.provider import Execute
from requestor_sdk.provider.golem._batch import Batch
from requestor_sdk.provider.golem._wire import read_batch

if TYPE_CHECKING:
    from requestor_sdk.golem.bus import Answer, Call
    from requestor_sdk.model.script import BatchEvent

BATCHES: Final = 64
"""Batches that are kept of an activity; beyond them those that were read go first."""
KEPT_BYTES: Final = 128 * 1024 * 1024
"""Bytes of results that are kept of an activity; beyond them those that were read go first."""
POLL_SEC: Final = 60.0
"""Seconds that a question for results waits at most."""

_log = logging.getLogger(__name__)


class _Refused(Exception):
    """The answer is an error, as the daemon reads it."""

    def __init__(self, kind: str, message: str | None) -> None:
        super().__init__(kind)
        self.error: object = kind if message is None else {kind: message}


@dataclass(slots=True)
class Usage:
    """What an activity has used, as it was last told; ``at`` in seconds since 1970."""

    counters: list[float] = field(default_factory=list)
    at: int = 0


class ExeUnit:
    """The exe-unit of one activity.

    Args:
        activity_id: The activity.
        agreement_id: Its agreement.
        requestor_id: Who may call, in lower case.
        on_batch: Takes each batch.
    """

    def __init__(
        self,
        activity_id: str,
        agreement_id: str,
        requestor_id: str,
        on_batch: Callable[[Execute], Awaitable[None]],
    ) -> None:
        self.id = activity_id
        self.agreement_id = agreement_id
        self.address = f"/public/exeunit/{activity_id}"
        self.state = ActivityState.new
        self.reason: str | None = None
        self.untold = False
        self.usage = Usage()
        self._requestor_id = requestor_id
        self._on_batch = on_batch
        self._batches: dict[str, Batch] = {}

    @property
    def unread(self) -> bool:
        """Whether there are results that nobody asked for yet."""
        return any(not batch.read for batch in self._batches.values())

    def end(self, reason: str | None) -> None:
        """Say that it is terminated: nothing more comes of its batches."""
        self.state, self.reason = ActivityState.terminated, reason
        for batch in self._batches.values():
            batch.end()

    async def event(self, batch_id: str, event: BatchEvent) -> None:
        """Take an event of a batch; one of a batch that is not kept any more is dropped."""
        batch = self._batches.get(batch_id)
        if batch is not None:
            await batch.add(event)

    def over(self, batch_id: str) -> None:
        """Take the end of a batch."""
        batch = self._batches.get(batch_id)
        if batch is not None:
            batch.end()

    async def answer(self, call: Call) -> Answer:
        """Answer a call of the bus."""
        try:
            return await self._answer(call.component, self._fields(call))
        except _Refused as refused:
            return flexbuffers.encode({"Err": refused.error})

    async def _answer(self, component: str, fields: Mapping[str, Any]) -> Answer:
        match component:
            case "GetExecBatchResults":
                return _ok(await self._results(fields))
            case "Exec":
                return _ok(await self._exec(fields))
            case "StreamExecBatchResults":
                return self._stream(self._batch(fields, "batch_id"))
            case "GetActivityState":
                return _ok({"state": [self.state.value, None], "reason": self.reason})
            case "GetActivityUsage":
                usage = self.usage
                return _ok({"currentUsage": usage.counters, "timestamp": usage.at})
            case "GetRunningCommand":
                return _ok(self._running())
            case _:
                raise _Refused("service", f"{component} is not served by this provider")

    def _fields(self, call: Call) -> Mapping[str, Any]:
        if call.caller and self._requestor_id not in call.caller.lower():
            raise _Refused("forbidden", f"activity {self.id} is of another requestor")
        try:
            fields = flexbuffers.decode(call.data)
        except NetworkError as error:
            raise _Refused("badRequest", error.message) from None
        if not isinstance(fields, dict):
            raise _Refused("badRequest", f"{call.component}: its arguments are no map")
        named = fields.get("activityId", fields.get("activity_id", self.id))
        if named != self.id:
            raise _Refused("forbidden", "this is another activity")
        return fields

    async def _exec(self, fields: Mapping[str, Any]) -> str:
        batch_id, script = fields.get("batchId"), fields.get("exeScript")
        if not isinstance(batch_id, str) or not batch_id:
            raise _Refused("badRequest", "there is no batchId")
        if self.state is ActivityState.terminated:
            raise _Refused("service", f"the activity is terminated: {self.reason or 'no reason'}")
        if batch_id in self._batches:
            raise _Refused("badRequest", f"batch {batch_id} is here already")
        try:
            commands, wanted = read_batch(script)
        except UsageError as error:
            raise _Refused("badRequest", error.message) from None
        self._make_room()
        assert isinstance(script, list)
        self._batches[batch_id] = Batch(batch_id, script, commands, wanted)
        if commands:
            await self._on_batch(Execute(activity_id=self.id, batch_id=batch_id, commands=commands))
        return batch_id

    def _make_room(self) -> None:
        if len(self._batches) >= BATCHES and not self._drop_one():
            raise _Refused("service", f"{BATCHES} batches wait in this activity already")
        while sum(batch.size for batch in self._batches.values()) > KEPT_BYTES:
            if not self._drop_one():
                return

    def _drop_one(self) -> bool:
        """Forget a batch that is over; one that was read before one that was not."""
        over = [batch for batch in self._batches.values() if batch.over]
        gone = next((batch for batch in over if batch.read), over[0] if over else None)
        if gone is not None:
            del self._batches[gone.id]
        return gone is not None

    async def _results(self, fields: Mapping[str, Any]) -> list[dict[str, object]]:
        batch = self._batch(fields, "batchId")
        last, seconds = fields.get("commandIndex"), fields.get("timeout")
        if last is not None and (not isinstance(last, int) or last < 0):
            raise _Refused("badRequest", f"{last!r} is no commandIndex")
        if not isinstance(seconds, int | float) or not seconds >= 0:
            seconds = 0.0
        found = await batch.results(last, min(float(seconds), POLL_SEC))
        if found is None:
            raise _Refused("timeout", None)
        return found

    async def _stream(self, batch: Batch) -> AsyncIterator[bytes]:
        async for event in batch.stream():
            yield _ok(event)

    def _batch(self, fields: Mapping[str, Any], key: str) -> Batch:
        batch_id = fields.get(key)
        batch = self._batches.get(batch_id) if isinstance(batch_id, str) else None
        if batch is None:
            raise _Refused("notFound", f"batch_id = {batch_id}")
        return batch

    def _running(self) -> list[dict[str, object]]:
        running = [batch.running for batch in self._batches.values()]
        found = [one for one in running if one is not None]
        if not found:
            raise _Refused("notFound", f"no command runs in activity {self.id}")
        return found


def _ok(value: object) -> bytes:
    return flexbuffers.encode({"Ok": value})
