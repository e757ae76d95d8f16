"""Batches of one activity: queued in order, run one at a time, each command's outcome told."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, TypeVar

from requestor_sdk.engine.aio import Backoff, rest_of
from requestor_sdk.engine.tracebacks import told
from requestor_sdk.model import events
from requestor_sdk.model.errors import (
    ActivityError,
    BatchTimeout,
    CommandFailed,
    CommandSkipped,
    NetworkError,
    NetworkUnreachable,
    NotAvailable,
    NotSupported,
    ProviderLost,
    RequestorError,
)
from requestor_sdk.model.lifecycle import Stimulus
from requestor_sdk.model.script import (
    BatchEvent,
    Command,
    CommandOutput,
    CommandProgress,
    CommandResult,
    Start,
    Transfer,
)
from requestor_sdk.ports.network import Reachable
from requestor_sdk.service.script import Item, Script, with_urls

if TYPE_CHECKING:
    from requestor_sdk.engine.core import Core
    from requestor_sdk.engine.instance import Instance
    from requestor_sdk.model.market import ActivityState
    from requestor_sdk.ports.network import Incoming
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
        self._current: _BatchRun | None = None
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
            _fail(script, 0, self._why_over())
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
            _fail(self._queue.popleft(), 0, self._why_over())

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
            _fail(self._queue.popleft(), 0, error)
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
        run = self._current = _BatchRun(self._core, script, f"{self._activity_id}/{self._scripts}")
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


class _BatchRun:
    """One batch on its way."""

    def __init__(self, core: Core, script: Script, script_id: str) -> None:
        self._core = core
        self.script = script
        self.id = script_id
        self._limit: asyncio.Timeout | None = None
        self._given_up: RequestorError | None = None
        self._results: list[CommandResult] = []
        self._incoming: dict[int, Incoming] = {}
        self._heard = False

    async def run(
        self, activity_id: str, ids: dict[str, str], on_deployed: Callable[[], None]
    ) -> None:
        script = self.script
        self._ids = ids
        self._on_deployed = on_deployed
        try:
            await self._in_time(self._executed(activity_id))
        except _ConsumerError as error:
            self.fail(error.found)
        except RequestorError as error:
            self._broken_off(error)
        except OSError as error:
            if self._given_up is not None:
                self.fail(self._given_up)
            elif self._limit is not None and self._limit.expired():
                late = f"the script's time-out of {script.timeout} s passed"
                self.fail(BatchTimeout(late, ids=_named(ids)))
            else:
                failed = f"a transfer failed on this side: {error}"
                self.fail(ActivityError(failed, ids=_named(ids)))
        else:
            self._finish()

    async def _in_time(self, work: Coroutine[Any, Any, None]) -> None:
        """Await it within the script's time; what never waits has no need of a limit."""
        try:
            waits_for = work.send(None)
        except StopIteration:
            return
        async with asyncio.timeout(self.script.timeout) as self._limit:
            await rest_of(work, waits_for)

    async def _executed(self, activity_id: str) -> None:
        """Send it, again and again while no daemon listens: then nothing of it was sent.

        After any other error it may have been begun, and is not sent again: a user's batch does not
        run twice. The error is thrown in at the yield, where it is known what that means.
        """
        backoff = Backoff(self._core.dice)
        while True:
            try:
                await self._execute(activity_id)
            except NetworkUnreachable as error:
                if self._heard:
                    raise
                pause = backoff.next()
                self._core.retried(f"batches of {activity_id}")(error, pause)
                await asyncio.sleep(pause)
            else:
                return

    async def _execute(self, activity_id: str) -> None:
        execute, items = self._core.network.activities.execute, self.script.items
        if not any(isinstance(item.command, Transfer) for item in items):
            await execute(activity_id, [item.command for item in items], self._take)
            return
        async with AsyncExitStack() as stack:
            commands = [await self._prepared(i, stack) for i in range(len(items))]
            await execute(activity_id, commands, self._take)

    def give_up(self, error: RequestorError) -> None:
        """End it now, with this error for what has no outcome yet."""
        self._given_up = error
        self.fail(error)
        # One that has expired is being ended already, which may take a while.
        if self._limit is not None and not self._limit.expired():
            self._limit.reschedule(asyncio.get_running_loop().time())

    async def _prepared(self, index: int, stack: AsyncExitStack) -> Command:
        item = self.script.items[index]
        if not isinstance(item.command, Transfer):
            return item.command
        transfers = self._core.network.transfers
        if item.upload is not None:
            return with_urls(
                item, source=await stack.enter_async_context(transfers.publish(item.upload))
            )
        if item.downloads:
            limit = item.limit if item.download is None else None
            incoming = await stack.enter_async_context(
                transfers.receive(item.download, limit=limit)
            )
            self._incoming[index] = incoming
            return with_urls(item, target=incoming.url)
        return item.command

    async def _take(self, event: BatchEvent) -> None:
        self._heard = True
        if not 0 <= event.index < len(self.script.items):
            return
        item = self.script.items[event.index]
        match event:
            case CommandResult():
                await self._result(event, item)
            case CommandOutput() if item.on_output is not None:
                try:
                    heard = item.on_output(event.stream, event.data)
                    await self._core.user_code(heard, "on_output", self._ids["instance_id"])
                except Exception as error:
                    raise _ConsumerError(error) from error
            case CommandProgress():
                self._core.emit(
                    events.TransferProgress,
                    instance_id=self._ids["instance_id"],
                    script_id=self.id,
                    index=event.index,
                    done=event.done,
                    total=event.total,
                    unit=event.unit,
                )
            case _:
                return

    async def _result(self, result: CommandResult, item: Item[Any]) -> None:
        if len(self._results) != result.index:
            return  # answered twice, or out of order: the first word counts
        self._results.append(result)
        text = item.handle.text
        self._core.emit(
            events.CommandExecuted,
            instance_id=self._ids["instance_id"],
            activity_id=self._ids["activity_id"],
            script_id=self.id,
            index=result.index,
            command=text,
            success=result.success,
            message=result.message,
        )
        if not result.success:
            self.fail(_failed(result, text, self._ids))
            return
        if isinstance(item.command, Start):
            self._on_deployed()
        try:
            item.handle.succeed(item.finish(result, await self._content(item, result.index)))
        except RequestorError as error:
            item.handle.fail(error)

    async def _content(self, item: Item[Any], index: int) -> bytes:
        incoming = self._incoming.get(index)
        if incoming is None or item.download is not None:
            return b""
        return await incoming.content()

    def _broken_off(self, error: RequestorError) -> None:
        """The call failed: what it was about may have gone well all the same."""
        heard_all = 0 < len(self._results) == len(self.script.items)
        if heard_all and isinstance(error, NetworkError):
            self._finish()  # only that it is over was not heard
        else:
            self.fail(error)

    def fail(self, error: Exception) -> None:
        """Tell the first command without an outcome of the error, and the rest that they fell."""
        _fail(self.script, len(self._results) - isinstance(error, CommandFailed), error)

    def _finish(self) -> None:
        script = self.script
        if len(self._results) < len(script.items) and script.results.error() is None:
            lost = ProviderLost(
                f"the provider ended the batch after {len(self._results)} of "
                f"{len(script.items)} commands",
                ids=_named(self._ids),
            )
            self.fail(lost)
        script.results.succeed(tuple(self._results))


class _ConsumerError(Exception):
    """What a user's ``on_output`` raised, kept apart from what the network raises."""

    def __init__(self, found: Exception) -> None:
        super().__init__(found)
        self.found = found


def _fail(script: Script, index: int, error: Exception) -> None:
    script.results.fail(error)
    failed = error if isinstance(error, CommandFailed) else None
    for place, item in enumerate(script.items):
        if place < index:
            continue
        if place == index or failed is None:
            item.handle.fail(error)
        else:
            item.handle.fail(
                CommandSkipped(
                    f"{item.handle.text!r} never ran: an earlier command of its batch failed",
                    ids=failed.ids,
                )
            )


def _failed(result: CommandResult, text: str, ids: dict[str, str]) -> CommandFailed:
    return CommandFailed(
        f"{text!r} failed: {result.message or 'no reason was given'}",
        command=text,
        stdout=result.stdout,
        stderr=result.stderr,
        return_code=result.return_code,
        ids=_named(ids),
    )


def _named(ids: dict[str, str]) -> dict[str, str]:
    return {name.removesuffix("_id"): value for name, value in ids.items()}


def _first_line(error: BaseException) -> str:
    if isinstance(error, RequestorError):
        return f"{type(error).__name__}: {error.message}".splitlines()[0]
    return told(error).splitlines()[0]
