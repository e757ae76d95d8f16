"""One batch under way: its results by long poll, its output and progress by a stream beside it.

The results are what counts. They are asked for again after any failure of the daemon, and the batch
itself is never sent again. A stream that breaks, or that the provider does not speak, costs
progress and nothing else: what was printed is in the result, too, and what was not heard of it is
told then.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

from requestor_sdk.golem._cursor import POLL_SEC
from requestor_sdk.golem._reading import record
from requestor_sdk.golem.flexbuffers import decode, encode
from requestor_sdk.model.errors import BadAnswer, NetworkError
from requestor_sdk.model.script import (
    BatchEvent,
    CaptureMode,
    Command,
    CommandOutput,
    Deploy,
    Run,
    Transfer,
)
from requestor_sdk.networks.golem import _sse
from requestor_sdk.networks.golem._commands import (
    Finished,
    bytes_of,
    event_from,
    event_of,
    result_of,
)
from requestor_sdk.networks.golem._presence import (
    AGAIN_SEC,
    API,
    Presence,
    is_unheard,
    is_unknown,
    lost,
)

if TYPE_CHECKING:
    from requestor_sdk.golem import Daemon
    from requestor_sdk.golem._direct import SharedBus
    from requestor_sdk.golem._reading import Record
    from requestor_sdk.model.script import StreamName

logger: logging.Logger = logging.getLogger("requestor_sdk.networks.golem")

Told = BatchEvent | Finished | None
"""What a stream tells; ``None`` for what is of no use."""
OnEvent = Callable[[BatchEvent], Awaitable[None]]

WHOLE_SEC: Final = 0.5
"""Seconds for which all results are waited for at once, before each is waited for by itself."""
PROGRESS_AFTER_SEC: Final = 1.0
"""Seconds after which a transfer or deployment is worth being told of."""
TAIL_SEC: Final = 2.0
"""Seconds that the stream has to tell the rest of a command whose result is there."""
BUS_SEC: Final = 5.0
"""Seconds that a connection to the bus is waited for."""
FAILING_SEC: Final = 60.0
"""Seconds for which a provider may answer with errors, before its batch is given up."""

_FIRST_PAUSE_SEC: Final = 0.1
_LONGEST_PAUSE_SEC: Final = 2.0
_STREAMS: Final[tuple[StreamName, ...]] = ("stdout", "stderr")


class Batch:
    """A batch that was sent.

    Args:
        daemon: Open while this is used.
        presence: Which exe-units are there.
        activity_id: Where it runs.
        batch_id: What the daemon calls it.
        commands: What it does.
        on_event: Takes its events.
        bus: The daemon's, where it may be listened to.
    """

    def __init__(
        self,
        daemon: Daemon,
        presence: Presence,
        *,
        activity_id: str,
        batch_id: str,
        commands: Sequence[Command],
        on_event: OnEvent,
        bus: SharedBus | None = None,
    ) -> None:
        self._daemon = daemon
        self._bus = bus
        self._batch_id = batch_id
        self._presence = presence
        self._activity_id = activity_id
        self._path = f"{API}/{activity_id}/exec/{batch_id}"
        self._commands = commands
        self._on_event = on_event
        self._next = 0
        self._failing_since: float | None = None
        self._pause = 0.0
        self._streamed = frozenset(i for i, c in enumerate(commands) if _is_streamed(c))
        self._heard: dict[tuple[int, str], int] = {}
        self._stream: _Stream | None = None
        self._telling = asyncio.Lock()

    async def run(self) -> None:
        """Pass on its events until it is over.

        Raises:
            ProviderLost: The activity is dead.
            NetworkError: The provider answers with errors, or with what is no answer.
        """
        progresses = any(isinstance(one, Deploy | Transfer) for one in self._commands)
        if not self._streamed and not progresses:
            await self._results()
            return
        self._stream = _Stream(len(self._commands))
        try:
            async with asyncio.TaskGroup() as group:
                streaming = group.create_task(self._listen(self._stream), name="batch stream")
                await self._results()
                streaming.cancel()
        except BaseExceptionGroup as failed:
            raise failed.exceptions[0] from None  # one is told more plainly than a group

    # Results -------------------------------------------------------------------------------------

    async def _results(self) -> None:
        loop, count = asyncio.get_running_loop(), len(self._commands)
        whole = count > 1
        while self._next < count:
            params = {} if whole else {"commandIndex": self._next}
            seconds, began, before = WHOLE_SEC if whole else POLL_SEC, loop.time(), self._next
            try:
                found = await self._daemon.poll(self._path, params=params, seconds=seconds)
            except BadAnswer:
                raise
            except NetworkError as error:
                await self._wait_out(error)
                continue
            self._failing_since = None
            self._presence.heard(self._activity_id)
            if not await self._take(found):
                return
            if self._next > before:
                self._pause = 0.0
            elif loop.time() - began < AGAIN_SEC / 2:
                await self._rest()  # it answers at once that there is nothing
            whole = self._next > before and count - self._next > 1

    async def _take(self, found: Sequence[Record]) -> bool:
        """Pass on the results that follow; ``False`` where one failed: nothing comes after it."""
        for one in found:
            index = one.get("index")
            if not isinstance(index, int) or isinstance(index, bool):
                raise BadAnswer(f"a result of a batch has no place in it: {index!r:.80}")
            if index != self._next or index >= len(self._commands):
                continue
            if index in self._streamed:
                await self._tell_rest(index, one)
            result = result_of(one, index, self._commands[index])
            self._next += 1
            async with self._telling:
                await self._on_event(result)
            if not result.success:
                return False
        return True

    async def _wait_out(self, error: NetworkError) -> None:
        """Wait before the next question, or raise what ends the batch."""
        self._presence.note(error)
        if is_unknown(error) or error.status == 404:
            raise lost(self._activity_id, f"the batch is not known any more: {error.message}")
        if not error.may_pass:
            raise error
        loop = asyncio.get_running_loop()
        if is_unheard(error):
            await asyncio.sleep(AGAIN_SEC)
            if await self._is_gone():
                raise lost(self._activity_id, f"the exe-unit is gone: {error.message}")
            return
        if error.status is not None:
            self._failing_since = self._failing_since or loop.time()
            if loop.time() - self._failing_since > FAILING_SEC:
                raise error
        logger.info("activity %s: %s", self._activity_id, error.message)
        await self._rest()

    async def _is_gone(self) -> bool:
        try:
            return await self._presence.is_gone(self._activity_id)
        except NetworkError as error:
            logger.info("activity %s: %s", self._activity_id, error.message)
            return False

    async def _rest(self) -> None:
        self._pause = min(max(2 * self._pause, _FIRST_PAUSE_SEC), _LONGEST_PAUSE_SEC)
        await asyncio.sleep(self._pause * random.uniform(0.5, 1.0))  # noqa: S311 - spreads load

    # Stream --------------------------------------------------------------------------------------

    async def _listen(self, stream: _Stream) -> None:
        try:
            if not self._streamed:
                await asyncio.sleep(PROGRESS_AFTER_SEC)
            # By the bus first: what comes of the REST API may hang, and tell nothing for ever.
            for told in (self._by_bus(), self._by_rest()):
                async with aclosing(told):
                    if await self._heard_all(stream, told):
                        return
        finally:
            stream.close()

    async def _heard_all(self, stream: _Stream, told: AsyncIterator[Told]) -> bool:
        """Pass on what is told; ``False`` where nothing was, and it may be had in another way."""
        anything = False
        try:
            async for event in told:
                anything = True
                if isinstance(event, Finished):
                    stream.finish(event)
                elif event is not None:
                    await self._pass_on(event)
                if stream.done >= len(self._commands):
                    return True
        except NetworkError as error:
            logger.info("no stream of activity %s: %s", self._activity_id, error.message)
        return anything

    async def _by_rest(self) -> AsyncGenerator[Told, None]:
        headers = {"Accept": "text/event-stream"}
        async with self._daemon.stream(self._path, headers=headers) as chunks:
            async for text in _sse.events(chunks.iter_any()):
                yield event_of(text)

    async def _by_bus(self) -> AsyncGenerator[Told, None]:
        """Listen to an exe-unit of the same daemon, whose streams the REST API loses."""
        shared = self._bus
        bus = None if shared is None else await shared.take()
        if bus is None or shared is None:
            return
        try:
            address = f"/public/exeunit/{self._activity_id}/StreamExecBatchResults"
            ids = {"activity_id": self._activity_id, "batch_id": self._batch_id}
            async with aclosing(bus.stream(address, encode(ids), seconds=BUS_SEC)) as parts:
                async for part in parts:
                    yield event_from(record(decode(part), "a part of a stream").get("Ok"))
        finally:
            await shared.leave()

    async def _pass_on(self, event: BatchEvent) -> None:
        if not self._next <= event.index < len(self._commands):
            return  # its result was told already
        if isinstance(event, CommandOutput):
            if event.index not in self._streamed:
                return  # it comes with the result
            key = (event.index, event.stream)
            self._heard[key] = self._heard.get(key, 0) + len(event.data)
        async with self._telling:
            await self._on_event(event)

    async def _tell_rest(self, index: int, result: Record) -> None:
        """Tell what a command printed and the stream did not."""
        stream = self._stream
        if stream is not None and await stream.told(index, TAIL_SEC) and self._heard_of(index):
            return
        for name in _STREAMS:
            rest = bytes_of(result.get(name))[self._heard.get((index, name), 0) :]
            if rest and _mode_of(self._commands[index], name) is CaptureMode.stream:
                async with self._telling:
                    await self._on_event(CommandOutput(index=index, stream=name, data=rest))

    def _heard_of(self, index: int) -> bool:
        return any((index, name) in self._heard for name in _STREAMS)


class _Stream:
    """How far a stream is."""

    def __init__(self, count: int) -> None:
        self.done = 0
        self._count = count
        self._closed = False
        self._moved = asyncio.Event()

    def finish(self, index: int) -> None:
        self.done = max(self.done, index + 1)
        self._moved.set()

    def close(self) -> None:
        self._closed = True
        self._moved.set()

    async def told(self, index: int, seconds: float) -> bool:
        """Wait until all of a command is told; ``False`` where it will not be, or not in time."""
        try:
            async with asyncio.timeout(seconds):
                while self.done <= index and not self._closed:
                    self._moved.clear()
                    await self._moved.wait()
        except TimeoutError:
            pass
        return self.done > index


def _is_streamed(command: Command) -> bool:
    return any(_mode_of(command, name) is CaptureMode.stream for name in _STREAMS)


def _mode_of(command: Command, name: StreamName) -> CaptureMode | None:
    if not isinstance(command, Run):
        return None
    return (command.stdout if name == "stdout" else command.stderr).mode
