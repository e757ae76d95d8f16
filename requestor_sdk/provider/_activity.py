"""One activity on a provider: its queue of batches, its sandbox, its meter and its end."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from requestor_sdk.model.errors import RequestorError, SandboxDied
from requestor_sdk.model.market import ActivityState
from requestor_sdk.model.money import CPU, DURATION, ZERO, LinearPricing
from requestor_sdk.model.script import BatchEvent, Command, CommandResult, Run, Terminate
from requestor_sdk.provider._commands import Commands, Emit, Workshop

if TYPE_CHECKING:
    from requestor_sdk.ports.provider import Execute
    from requestor_sdk.ports.runtime import Sandbox

BATCHES: Final = 64
"""Batches that may wait in one activity; more are refused."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tariff:
    """How an activity is billed.

    Attributes:
        pricing: The agreed prices.
        interval_sec: Seconds between two debit notes.
        on_note: Told of each debit note: its id, the activity's id and the total.
    """

    pricing: LinearPricing
    interval_sec: float
    on_note: Callable[[str, str, Decimal], None]


class LiveActivity:
    """One activity; ``live`` is its whole life and belongs to a task of its agreement."""

    def __init__(self, activity_id: str, workshop: Workshop, tariff: Tariff) -> None:
        self.id = activity_id
        self.total = ZERO
        self._workshop = workshop
        self._transport = workshop.transport
        self._clock = workshop.clock
        self._tariff = tariff
        self._commands = Commands(activity_id, workshop, self._moved)
        self._batches: deque[Execute] = deque()
        self._current: Execute | None = None
        self._given_up: set[str] = set()
        self._program: asyncio.Task[CommandResult] | None = None
        self._arrived = asyncio.Event()
        self._ending = asyncio.Event()
        self._reason: str | None = None
        self._died = False
        self._created = self._clock.monotonic()
        self._ended: float | None = None
        self._group: asyncio.TaskGroup | None = None
        self._helpers: list[asyncio.Task[None]] = []

    @property
    def sandbox(self) -> Sandbox | None:
        """Its sandbox, once it is started."""
        return self._commands.sandbox

    @property
    def ending(self) -> bool:
        """Whether it ends, or has ended."""
        return self._ending.is_set()

    def submit(self, batch: Execute) -> bool:
        """Queue a batch; ``False`` where too many wait."""
        if len(self._batches) >= BATCHES:
            return False
        self._batches.append(batch)
        self._arrived.set()
        return True

    def give_up(self, batch_id: str) -> None:
        """Drop a batch: kill its running program, and let what is behind it have its turn."""
        self._batches = deque(b for b in self._batches if b.batch_id != batch_id)
        if self._current is not None and self._current.batch_id == batch_id:
            self._given_up.add(batch_id)
            if self._program is not None:
                self._program.cancel()

    def end(self, reason: str, *, died: bool = False) -> None:
        """Let it end; the first reason stays."""
        if not self._ending.is_set():
            self._reason = reason
            self._died = died
            self._ended = self._clock.monotonic()
            self._ending.set()

    def usage(self) -> tuple[Decimal, ...]:
        """Return what was used, in the order of the agreement's counters."""
        until = self._clock.monotonic() if self._ended is None else self._ended
        known = {DURATION: until - self._created, CPU: 0.0}
        if self.sandbox is not None:
            known[CPU] = self.sandbox.usage().cpu_sec
        counters = self._tariff.pricing.counters
        return tuple(Decimal(f"{known.get(name, 0.0):.6f}") for name in counters)

    async def live(self) -> None:
        """Serve batches until the end, then leave nothing behind."""
        try:
            await self._announce()
        except RequestorError as error:
            _log.warning("activity %s does not begin: %s", self.id, error.message)
            self.end("the activity could not be announced")
            return
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                self._helpers += (
                    group.create_task(self._work()),
                    group.create_task(self._meter()),
                    group.create_task(self._tell_usage()),
                )
                await self._ending.wait()
                for helper in self._helpers:
                    helper.cancel()
                if self._died:
                    await self._report_end()
        finally:
            if self.sandbox is not None:
                await self.sandbox.close()
            self._commands.close()
        await self._send_note()
        if not self._died:
            await self._report_end()

    async def _announce(self) -> None:
        if self._transport.usage_interval_sec is not None:
            # Before all else: a requestor that sees the activity may ask for it at once.
            await self._transport.report_usage(self.id, self.usage())
        await self._transport.set_state(self.id, ActivityState.initialized)

    async def _work(self) -> None:
        while True:
            while self._batches:
                batch = self._current = self._batches.popleft()
                try:
                    await self._perform(batch)
                except RequestorError as error:
                    _log.warning("batch %s is not told of: %s", batch.batch_id, error.message)
                finally:
                    self._current = None
                    self._given_up.clear()
            self._arrived.clear()
            await self._arrived.wait()

    async def _perform(self, batch: Execute) -> None:
        async def emit(event: BatchEvent) -> None:
            await self._transport.batch_event(self.id, batch.batch_id, event)

        for index, command in enumerate(batch.commands):
            try:
                result = await self._one(index, command, emit)
            except SandboxDied as error:
                self.end(error.message, died=True)
                return
            if result is None or not result.success:
                break
            if isinstance(command, Terminate):
                await self._transport.batch_over(self.id, batch.batch_id)
                self.end("a script terminated the activity")
                return
        await self._transport.batch_over(self.id, batch.batch_id)

    async def _one(self, index: int, command: Command, emit: Emit) -> CommandResult | None:
        """Perform one command; ``None`` where its batch was given up."""
        if self._given_up:  # holds the current batch, or nothing
            return None
        if not isinstance(command, Run):
            return await self._commands.perform(index, command, emit)
        # A task of its own, so that the program can be killed without ending the activity.
        self._program = asyncio.create_task(self._commands.perform(index, command, emit))
        try:
            return await self._program
        except asyncio.CancelledError:
            if self._given_up and not self.ending:
                return None
            raise
        finally:
            self._program = None

    async def _moved(self, state: ActivityState) -> None:
        await self._transport.set_state(self.id, state)
        if state is ActivityState.ready and self.sandbox is not None and self._group is not None:
            self._helpers.append(self._group.create_task(self._watch(self.sandbox)))

    async def _watch(self, sandbox: Sandbox) -> None:
        self.end(await sandbox.wait_closed(), died=True)

    async def _meter(self) -> None:
        while True:
            await asyncio.sleep(self._tariff.interval_sec)
            await self._send_note()

    async def _tell_usage(self) -> None:
        """Tell of the usage again and again: a network may take silence for the end."""
        seconds = self._transport.usage_interval_sec
        while seconds is not None:
            await asyncio.sleep(seconds)
            try:
                await self._transport.report_usage(self.id, self.usage())
            except RequestorError as error:
                _log.info("the usage of activity %s is not told: %s", self.id, error.message)

    async def _send_note(self) -> None:
        usage = self.usage()
        # A counter that is read from outside may not fall; the total that was asked for never does.
        self.total = max(self.total, self._tariff.pricing.cost(usage))
        try:
            note_id = await self._transport.send_debit_note(
                activity_id=self.id, total=self.total, usage=usage
            )
        except RequestorError as error:
            _log.warning("no debit note for activity %s: %s", self.id, error.message)
        else:
            self._tariff.on_note(note_id, self.id, self.total)

    async def _report_end(self) -> None:
        try:
            if self._transport.usage_interval_sec is not None:
                await self._transport.report_usage(self.id, self.usage())
            await self._transport.set_state(self.id, ActivityState.terminated, self._reason)
        except RequestorError as error:
            _log.warning("the end of activity %s is not told: %s", self.id, error.message)
