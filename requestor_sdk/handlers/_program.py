"""A program that serves handlers, from its first moment to its drain.

It can be asked how it is before init is done; in the drain it takes nothing more and lets calls
end. Knows no HTTP.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from requestor_sdk.handlers._desk import CallDesk
from requestor_sdk.handlers._inline import LoopRunner
from requestor_sdk.handlers._lane import Lane, Runner
from requestor_sdk.handlers._logger import logger, where
from requestor_sdk.handlers._metrics import LaneMetrics
from requestor_sdk.handlers._outbox import Outbox
from requestor_sdk.handlers._processes import InitFailed, ProcessRunner
from requestor_sdk.handlers._setup import Setup
from requestor_sdk.handlers._signature import Codec
from requestor_sdk.handlers._store import CallStore
from requestor_sdk.handlers._threads import ThreadRunner

if TYPE_CHECKING:
    from requestor_sdk.handlers._clerk import Plain
    from requestor_sdk.handlers._options import ServeOptions
    from requestor_sdk.handlers._signature import HandlerSpec
    from requestor_sdk.handlers._zygote import Zygote

_CALLBACK_SEC: Final = 5.0
"""Seconds at most that the last ends have to reach the callback, at the end of the program."""

_LOOK_SEC: Final = 1.0
"""Seconds that the answer to readiness waits for a store."""


class Phase(StrEnum):
    """Where a program is."""

    starting = "starting"
    ready = "ready"
    draining = "draining"
    failed = "failed"


class StartFailed(Exception):
    """The program did not come to take calls; the message says why, without values."""


class Program:
    """Handlers at work.

    Args:
        specs: The handlers.
        init: The init function, or ``None``.
        options: How they are served.
        zygote: Where handler processes are forked from, where a handler wants any.
    """

    def __init__(
        self,
        specs: Mapping[str, HandlerSpec],
        init: Callable[[], Any] | None,
        options: ServeOptions,
        zygote: Zygote | None,
    ) -> None:
        self.specs = dict(specs)
        self.options = options
        self.phase = Phase.starting
        self.failure = ""
        self._since = time.monotonic()
        here = {k: v for k, v in self.specs.items() if v.limits.isolation != "process"}
        # Where every handler has its own process, init has no business in this one.
        self._setup = Setup(here, init if here or not self.specs else None)
        self._zygote = zygote
        self._store = CallStore(options.store, keep=options.keep) if options.store else None
        self.desk = CallDesk(keep=options.keep, store=self._store)
        self._runners: dict[str, Any] = {}
        self.threads: ThreadRunner
        self._init: asyncio.Task[None] | None = None
        self._ended = False

    # Begin ---------------------------------------------------------------------------------------

    async def open(self, plain: Plain) -> None:
        """Open the store and make what calls go through. Then ``init`` is to be run.

        Args:
            plain: Reads and answers plain calls.

        Raises:
            StoreUnusable: The store cannot be used.
        """
        options = self.options
        if self._store is not None:
            await self._store.open()
        grace, limit = options.stop_grace, options.output_limit
        self._runners["loop"] = LoopRunner(self._setup.resolve, grace=grace, limit=limit)
        self._runners["thread"] = self.threads = ThreadRunner(
            self._setup.resolve, limit=limit, desk=self.desk, plain=plain
        )
        if self._zygote is not None:
            self._runners["process"] = ProcessRunner(
                self._zygote, grace=grace, init_timeout=options.init_timeout
            )
        for spec in self.specs.values():
            runner: Runner = self._runners[spec.limits.isolation]
            lane = Lane(spec, Codec(spec.shape), runner, self.desk, LaneMetrics())
            self.desk.lanes[spec.name] = lane
        if options.callback_url:
            self.desk.outbox = Outbox(
                options.callback_url,
                secret=options.callback_secret,
                timeout=options.callback_timeout,
                attempts=options.callback_attempts,
                delivered=self.desk.delivered,
                more=self.desk.undelivered,
            )
            self.desk.outbox.open()

    async def init(self) -> None:
        """Run init; then take calls, those of an earlier process first.

        Raises:
            StartFailed: Init raised, or took too long.
        """
        self._init = asyncio.ensure_future(self._run_init())
        try:
            async with asyncio.timeout(self.options.init_timeout):
                await self._init
        except TimeoutError:
            self._fail(f"init took longer than {self.options.init_timeout:g} s")
        except InitFailed as error:
            self._fail(f"init failed in a handler process: {error.error.type}")
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - SystemExit of init is a failure, too
            raised = error.error if isinstance(error, _Exited) else error
            logger.error("init failed: %s at %s", type(raised).__name__, where(raised))
            self._fail(f"init raised {type(raised).__name__}")
        await self.desk.take_up()
        self.phase = Phase.ready

    def _fail(self, why: str) -> None:
        self.phase, self.failure = Phase.failed, why
        self.desk.closed = why
        raise StartFailed(why) from None

    async def _run_init(self) -> None:
        await self._setup.run(_in_thread)
        if "process" in self._runners:
            await self._runners["process"].open()

    # How it is -----------------------------------------------------------------------------------

    def not_ready(self) -> str | None:
        """Return why it takes no calls; ``None`` where it does."""
        if self.phase is Phase.starting:
            return f"starting: init has run for {time.monotonic() - self._since:.0f} s"
        if self.phase is Phase.draining:
            return "draining: the program ends"
        if self.phase is Phase.failed:
            return f"failed: {self.failure}"
        if self._store is not None and self._store.broken:
            return "the store cannot be written"
        broken = self._runners["process"].broken if "process" in self._runners else None
        if broken is not None:
            return f"init failed in a handler process: {broken.type}"
        return None

    async def look_again(self) -> None:
        """Look whether a store that could not be written can be: nobody calls who is told so."""
        if self._store is not None:
            await self._store.try_again(_LOOK_SEC)

    def samples(self) -> Iterable[tuple[str, str, float]]:
        """Return what there is to count: metric, labels, value."""
        self.desk.hear()
        for name, lane in self.desk.lanes.items():
            yield from lane.metrics.samples(name)
            label = f'function="{name}"'
            yield "handlers_queued", label, lane.queued
            yield "handlers_working", label, lane.working
            yield "handlers_abandoned", label, lane.abandoned
        yield "handlers_ready", "", int(self.not_ready() is None)
        yield "handlers_stalls_total", "", self._runners["loop"].watch.stalls
        processes = self._runners.get("process")
        if processes is not None:
            yield "handlers_processes", "", processes.processes
            yield "handlers_process_restarts_total", "", processes.restarts
        if self.desk.outbox is not None:
            for result, count in sorted(self.desk.outbox.results.items()):
                yield "handlers_callbacks_total", f'result="{result}"', count
            yield "handlers_callbacks_waiting", "", self.desk.outbox.waiting

    # End -----------------------------------------------------------------------------------------

    async def drain(self, hurry: asyncio.Event) -> None:
        """Take no more calls and let those that were taken end, for as long as the grace.

        Args:
            hurry: Set, it ends the grace.
        """
        if self.phase is Phase.ready:
            self.phase = Phase.draining
        self.desk.closed = self.desk.closed or "draining"
        for lane in self.desk.lanes.values():
            lane.recall()
        quiet = asyncio.ensure_future(self.desk.quiet())
        hurried = asyncio.ensure_future(hurry.wait())
        await asyncio.wait(
            {quiet, hurried}, timeout=self.options.grace, return_when=asyncio.FIRST_COMPLETED
        )
        why = "the program ended"
        for lane in self.desk.lanes.values():
            if self.desk.keeps:
                lane.open = False  # they wait in the store, for the next start
            else:
                lane.reject_waiting(why)
            lane.stop_all(why)
        await asyncio.wait({quiet}, timeout=self._stop_sec() if not self.desk.keeps else 0.0)
        await self._settled()
        for task in (quiet, hurried):
            task.cancel()
        await asyncio.gather(quiet, hurried, return_exceptions=True)

    def _stop_sec(self) -> float:
        return 2 * self.options.stop_grace + 1

    async def _settled(self) -> None:
        """Wait until what was stopped has its end."""
        try:
            async with asyncio.timeout(self._stop_sec()):
                for lane in self.desk.lanes.values():
                    for call in lane.at_work():
                        await call.over()
        except TimeoutError:
            logger.error("calls did not end when they were stopped")

    async def close(self) -> None:
        """Send the last ends, take the objects down, close the store. Idempotent."""
        if self._ended:
            return
        self._ended = True
        if self._init is not None and not self._init.done():
            self._init.cancel()
            await asyncio.wait({self._init})
        if self.desk.outbox is not None:
            await self.desk.outbox.drain(min(_CALLBACK_SEC, self.options.grace))
            await self.desk.outbox.close()
        for runner in self._runners.values():
            await runner.close()
        try:
            async with asyncio.timeout(self.options.stop_grace):
                await self._setup.close()
        except Exception as error:  # noqa: BLE001 - a user's exit hook; the end goes on
            logger.error("leaving failed: %s at %s", type(error).__name__, where(error))
        if self._store is not None:
            await self._store.close()


async def _in_thread(function: Callable[[], Any]) -> Any:
    """Await a function that may block for ever: in a daemon thread, which can be left behind."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()

    def settle(value: Any, error: BaseException | None) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(value)
        else:
            # SystemExit of a user's init must not end the event loop; StopIteration cannot be set.
            plain = isinstance(error, Exception) and not isinstance(error, StopIteration)
            future.set_exception(error if plain else _Exited(error))

    def run() -> None:
        value, error = None, None
        try:
            value = function()
        except BaseException as raised:  # noqa: BLE001 - handed over
            error = raised
        try:
            loop.call_soon_threadsafe(settle, value, error)
        except RuntimeError:
            return  # the loop is closed: nobody waits any more

    threading.Thread(target=run, name="handlers-init", daemon=True).start()
    return await future


class _Exited(Exception):
    """A user's function raised what would end a thread."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(type(error).__name__)
        self.error = error
