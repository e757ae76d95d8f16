"""One batch of commands on its way: sent, heard of, and each command's outcome told.

It never sends twice what may have been begun: a user's batch does not run two times.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from requestor_sdk.engine.aio import Backoff, rest_of
from requestor_sdk.model import events
from requestor_sdk.model.errors import (
    ActivityError,
    BatchTimeout,
    CommandFailed,
    CommandSkipped,
    NetworkError,
    NetworkUnreachable,
    ProviderLost,
    RequestorError,
)
from requestor_sdk.model.script import (
    BatchEvent,
    Command,
    CommandOutput,
    CommandProgress,
    CommandResult,
    Start,
    Transfer,
)
from requestor_sdk.service.script import Item, Script, with_urls

if TYPE_CHECKING:
    from requestor_sdk.engine.core import Core
    from requestor_sdk.ports.network import Incoming


class BatchRun:
    """One batch on its way.

    Args:
        core: What the engine shares.
        script: What is to be done.
        script_id: Its id, for events.
    """

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
        """Send it and tell of each command's outcome, until it is over.

        Args:
            activity_id: Where it goes.
            ids: Of the instance and the activity, for events and errors.
            on_deployed: Called once the runtime is started.
        """
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
        fail(self.script, len(self._results) - isinstance(error, CommandFailed), error)

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


def fail(script: Script, index: int, error: Exception) -> None:
    """Tell one command of a script of an error, and those after it that they fell."""
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
