"""Batches of one activity: queued in order, run one at a time, each command's outcome told."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from requestor_sdk.engine.batch import BatchRun, fail
from requestor_sdk.engine.tracebacks import told
from requestor_sdk.model import events
from requestor_sdk.model.errors import (
    NotAvailable,
    NotSupported,
    ProviderLost,
    RequestorError,
)
from requestor_sdk.model.lifecycle import Stimulus
from requestor_sdk.ports.network import Reachable
from requestor_sdk.service.script import Script

if TYPE_CHECKING:
    from requestor_sdk.engine.core import Core
    from requestor_sdk.engine.instance import Instance
    from requestor_sdk.model.market import ActivityState
    from requestor_sdk.service._handles import CommandHandle

T = TypeVar("T")


class BatchQueue:
    """The batches of one activity; the backend of its work context.

    Args:
        core: What the engine shares.
        owner: The instance; says whether it takes commands, and hears of a start and of a loss.
        attempt: The number of its attempt.
        activity_id: Where the batches go.
        scripts: How many batches were sent to it before, by an earlier process.
    """

    __slots__ = (
        "_activity_id",
        "_attempt",
        "_closed",
        "_core",
        "_current",
        "_grace_over",
        "_over",
        "_owner",
        "_queue",
        "_scripts",
        "_worker",
    )

    def __init__(
        self, core: Core, owner: Instance, *, attempt: int, activity_id: str, scripts: int = 0
    ) -> None:
        self._core = core
        self._owner = owner
        self._attempt = attempt
        self._activity_id = activity_id
        self._queue: deque[Script] | None = None
        self._worker: asyncio.Task[None] | None = None
        self._closed = False
        self._over: RequestorError | None = None
        self._scripts = scripts
        self._current: BatchRun | None = None
        self._grace_over: asyncio.Future[None] | None = None

    @property
    def idle(self) -> bool:
        """Whether no batch is in flight and none waits."""
        return self._current is None and not self._queue

    # The backend of the work context -------------------------------------------------------------

    def check_available(self) -> None:
        """Raise where the instance takes no direct commands now."""
        self._owner.check_available()

    def submit(self, script: Script) -> None:
        """Queue a script."""
        script.mark_sent()
        if self._closed:
            fail(script, 0, self._why_over())
            return
        if self._queue is None:
            self._queue = deque()
        self._queue.append(script)
        if self._worker is None:
            self._worker = self._core.spawn(self._work(), f"{self._owner.id} batches")

    def when_done(self, handle: CommandHandle[T], callback: Callable[[T], Awaitable[None]]) -> None:
        """Have a callback awaited with a command's value; its failure ends the attempt."""

        async def call() -> None:
            await handle.wait()
            if handle.error() is None:
                await callback(await handle)

        def failed(error: Exception) -> None:
            self._owner.callback_failed(error, self._attempt)

        def start() -> None:
            self._core.spawn_callback(call, "callback", self._owner.id, failed)

        handle.on_done(start)

    async def raw_state(self) -> ActivityState:
        """Ask the network for the activity's state."""
        return await self._core.network.activities.state(self._activity_id)

    def reach(self, path: str) -> int:
        """Return a descriptor of a unix socket inside, where the network can reach one."""
        network = self._core.network
        if not isinstance(network, Reachable):
            raise NotSupported(
                f"the network {network.traits.name!r} cannot reach a socket of an instance"
            )
        return network.reach(self._activity_id, path)

    async def close(self, error: RequestorError | None = None) -> None:
        """The activity is over: fail what waits, and end the batch in flight."""
        self._closed, self._over = True, error
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.cancel()
            await asyncio.wait({worker})
        while self._queue:
            fail(self._queue.popleft(), 0, self._why_over())

    def _why_over(self) -> RequestorError:
        # Made only for those who ask: most activities end with nobody waiting.
        if self._over is None:
            ids = {"instance": self._owner.id, "activity": self._activity_id}
            self._over = ProviderLost("this attempt of the instance is over", ids=ids)
        return self._over

    async def drain(self, seconds: float) -> None:
        """Let the batch in flight end within this time; give it up then, and those behind it.

        What comes after, e.g. of ``shutdown()``, does not wait for what a stop has left behind.
        """
        current = self._current
        if current is not None:
            self._grace_over = asyncio.get_running_loop().create_future()
            current.script.results.on_done(self.hurry)
            await asyncio.wait({self._grace_over}, timeout=seconds)
            self._grace_over = None
        error = NotAvailable(
            "the instance was stopped, and the batch was not over within its grace",
            ids={"instance": self._owner.id},
        )
        while self._queue:
            fail(self._queue.popleft(), 0, error)
        if current is not None and current is self._current:
            current.give_up(error)

    def hurry(self) -> None:
        """Wait no longer for the batch in flight."""
        if self._grace_over is not None and not self._grace_over.done():
            self._grace_over.set_result(None)

    # Running -------------------------------------------------------------------------------------

    async def _work(self) -> None:
        # Lives only while there is work: an idle instance has no task here, and no queue.
        try:
            while self._queue:
                await self._run(self._queue.popleft())
            self._queue = None
        finally:
            if not self._closed:
                self._worker = None

    async def _run(self, script: Script) -> None:
        self._scripts += 1
        run = self._current = BatchRun(self._core, script, f"{self._activity_id}/{self._scripts}")
        ids = {"instance_id": self._owner.id, "activity_id": self._activity_id}
        self._core.emit(
            events.ScriptSent,
            **ids,
            script_id=run.id,
            commands=tuple(item.handle.text for item in script.items),
        )
        try:
            await run.run(self._activity_id, ids, self._deployed)
        except asyncio.CancelledError:
            run.fail(self._why_over() if self._closed else NotAvailable("the engine was stopped"))
            raise
        finally:
            self._current = None
            error = script.results.error()
            line = None if error is None else _first_line(error)
            self._core.emit(events.ScriptFinished, **ids, script_id=run.id, error=line)
        if isinstance(error, ProviderLost):
            self._owner.post(Stimulus.lost, error=error, attempt=self._attempt)

    def _deployed(self) -> None:
        self._owner.deployed(self._attempt)


def _first_line(error: BaseException) -> str:
    if isinstance(error, RequestorError):
        return f"{type(error).__name__}: {error.message}".splitlines()[0]
    return told(error).splitlines()[0]
