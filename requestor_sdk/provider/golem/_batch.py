"""One batch of an exe-unit: what its commands gave so far, for those who ask and those who listen.

Bounded in memory: results are bounded by their captures, events of a stream by ``STREAM_BYTES``.
Streamed output that nobody listens to goes into the result: between two identities of one daemon
the daemon (0.17) loses the call that would listen.
"""

from __future__ import annotations

import asyncio
import codecs
import dataclasses
from collections import deque
from collections.abc import AsyncIterator
from itertools import chain
from typing import TYPE_CHECKING, Final

from requestor_sdk.model.script import (
    BatchEvent,
    CaptureMode,
    Command,
    CommandOutput,
    CommandProgress,
    CommandResult,
    CommandStarted,
    Run,
    StreamName,
)
from requestor_sdk.provider.golem import _wire as wire

if TYPE_CHECKING:
    from collections.abc import Sequence

STREAM_BYTES: Final = 4 * 1024 * 1024
"""Bytes of streamed output that wait for who listens; where nobody does, the oldest are dropped."""
RESULT_BYTES: Final = 32 * 1024 * 1024
"""Bytes of captured output that are kept of one batch; what is beyond is dropped, and told of."""
_EVENT_BYTES: Final = 200


class Batch:
    """One batch.

    Args:
        batch_id: Its id.
        script: Its commands, as they came.
        commands: The same, as values.
        wanted: How the outputs of each are wanted back.
    """

    def __init__(
        self,
        batch_id: str,
        script: Sequence[object],
        commands: Sequence[Command],
        wanted: Sequence[wire.Wanted],
    ) -> None:
        self.id = batch_id
        self.over = not commands
        self.read = False
        self._script = script
        self._commands = commands
        self._wanted = wanted
        self.size = 0
        self._results: list[dict[str, object]] = []
        self._running: int | None = None
        self._progress: str | None = None
        self._events: deque[tuple[dict[str, object], int]] = deque()
        self._first = 0
        self._bytes = 0
        self._listeners: dict[object, int] = {}
        self._decoders: dict[tuple[int, StreamName], codecs.IncrementalDecoder] = {}
        self._waiting: set[asyncio.Future[None]] = set()

    @property
    def running(self) -> dict[str, object] | None:
        """The command that runs, as the daemon reads it; ``None`` where none does."""
        if self._running is None or self.over:
            return None
        given = self._script[self._running]
        name, fields = next(iter(given.items())) if isinstance(given, dict) else ("", {})
        state: dict[str, object] = {"command": str(name).capitalize()}
        if name == "run":
            state["params"] = [fields["entry_point"], *(fields.get("args") or ())]
        if self._progress is not None:
            state["progress"] = self._progress
        return state

    async def add(self, event: BatchEvent) -> None:
        """Take an event; waits while a listener is slow."""
        match event:
            case CommandStarted(index=index):
                self._running, self._progress = index, None
                self._push(wire.started_form(self.id, index, self._script[index]), 0)
            case CommandOutput():
                await self._room()
                self._output(event)
            case CommandProgress():
                self._progress = f"{event.done}/{event.total or '?'} {event.unit}"
                self._push(wire.progress_form(self.id, event), 0)
            case CommandResult():
                self._finished(event)
        self._wake()

    def end(self) -> None:
        """Say that nothing follows."""
        self.over = True
        self._running = None
        self._wake()

    async def results(self, last: int | None, seconds: float) -> list[dict[str, object]] | None:
        """Return the results up to a command, once it is done; ``None`` where it is not in time.

        Args:
            last: The command, whose output alone is told then; ``None`` for all: then what there
                is at the time is returned.
            seconds: How long to wait.
        """
        wanted = len(self._commands) if last is None else last + 1
        if not self.over and len(self._results) < wanted and seconds > 0:
            try:
                async with asyncio.timeout(seconds):
                    while not self.over and len(self._results) < wanted:
                        await self._change()
            except TimeoutError:
                pass
        if last is not None and len(self._results) < wanted and not self.over:
            return None
        if self.over and len(self._results) <= wanted:
            self.read = True
        if last is None:
            return list(self._results)
        told = self._results[:wanted]
        return [_quiet(one) for one in told[:-1]] + told[-1:]

    async def stream(self) -> AsyncIterator[dict[str, object]]:
        """Tell the events from the first that is kept, and new ones as they come."""
        listener = object()
        self._listeners[listener] = self._first
        try:
            while True:
                at = max(self._listeners[listener], self._first)
                if at - self._first < len(self._events):
                    event, _ = self._events[at - self._first]
                    self._listeners[listener] = at + 1
                    self._wake()
                    yield event
                elif self.over:
                    self.read = True
                    return
                else:
                    await self._change()
        finally:
            del self._listeners[listener]
            self._wake()

    def _finished(self, result: CommandResult) -> None:
        index = result.index
        for name in ("stdout", "stderr"):
            decoder = self._decoders.pop((index, name), None)
            rest = decoder.decode(b"", final=True) if decoder is not None else ""
            if rest:
                self._push(
                    wire.output_form(
                        self.id, CommandOutput(index=index, stream=name, data=b""), rest
                    ),
                    len(rest),
                )
        kept = self._bounded(result)
        self.size += len(kept.stdout) + len(kept.stderr)
        form = wire.result_form(
            kept,
            self._commands[index],
            self._wanted[index],
            last=index == len(self._commands) - 1,
        )
        self._results.append(form if self._listeners else {**form, **self._unheard(index)})
        self._push(wire.finished_form(self.id, result), 0)

    def _bounded(self, result: CommandResult) -> CommandResult:
        room = RESULT_BYTES - self.size
        if len(result.stdout) + len(result.stderr) <= room:
            return result
        stderr = result.stderr[: room // 2]
        stdout = result.stdout[: room - len(stderr)]
        dropped = "output is dropped: this batch has given too much of it"
        message = f"{result.message}; {dropped}" if result.message else dropped
        return dataclasses.replace(
            result, stdout=stdout, stderr=stderr, message=message, truncated=True
        )

    def _unheard(self, index: int) -> dict[str, object]:
        """Return what is kept of a command's streamed output, as its result tells output."""
        command = self._commands[index]
        found: dict[str, object] = {}
        for name in ("stdout", "stderr"):
            if not isinstance(command, Run) or getattr(command, name).mode != CaptureMode.stream:
                continue
            kinds = (event["kind"] for event, _ in self._events if event["index"] == index)
            pieces = [kind[name] for kind in kinds if isinstance(kind, dict) and name in kind]
            binary = name in self._wanted[index].binary
            found[name] = list(chain.from_iterable(pieces)) if binary else "".join(pieces)
        return found

    def _output(self, event: CommandOutput) -> None:
        text: str | None = None
        if event.stream not in self._wanted[event.index].binary:
            key = (event.index, event.stream)
            decoder = self._decoders.get(key)
            if decoder is None:
                decoder = codecs.getincrementaldecoder("utf-8")("replace")
                self._decoders[key] = decoder
            text = decoder.decode(event.data)
            if not text:
                return
        self._push(wire.output_form(self.id, event, text), len(event.data))

    def _push(self, event: dict[str, object], size: int) -> None:
        self._events.append((event, size + _EVENT_BYTES))
        self._bytes += size + _EVENT_BYTES
        if not self._listeners:
            while self._bytes > STREAM_BYTES and len(self._events) > 1:
                self._drop()

    async def _room(self) -> None:
        while self._bytes > STREAM_BYTES:
            heard = min(self._listeners.values(), default=self._first)
            while self._bytes > STREAM_BYTES and self._first < heard:
                self._drop()
            if not self._listeners or self._bytes <= STREAM_BYTES:
                return
            await self._change()

    def _drop(self) -> None:
        self._bytes -= self._events.popleft()[1]
        self._first += 1

    async def _change(self) -> None:
        waiting = asyncio.get_running_loop().create_future()
        self._waiting.add(waiting)
        try:
            await waiting
        finally:
            self._waiting.discard(waiting)

    def _wake(self) -> None:
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)


def _quiet(result: dict[str, object]) -> dict[str, object]:
    return {**result, "stdout": None, "stderr": None}
