"""Pumps one handler of a user: an async generator that yields scripts, in a task of its own.

A task and not a cancel scope: a scope would cut an awaiting ``finally`` of the user's. The pump
tracks the generators that the handler iterates and closes them innermost first, so that
``async for script in super().start(): yield script`` leaves nothing half-done behind.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncGenerator, Callable
from typing import Any, Final

from requestor_sdk.model.errors import HandlerError, HandlerStuck
from requestor_sdk.service import _current
from requestor_sdk.service.script import Script

logger: logging.Logger = logging.getLogger("requestor_sdk.engine")

Generator = AsyncGenerator[Script, Any]

Submit = Callable[[Script], None]
"""Queues a script; its ``results`` tell of the end."""


class Pump:
    """One handler of one attempt, being pumped.

    Args:
        generator: What the handler's call returned.
        submit: Queues a script that was yielded.
        on_done: Called once with this and the handler's error, or ``None``; not where it was
            closed.
        owner: Whose handler it is, e.g. ``i-1``.
        handler: Which it is, e.g. ``run``.
        attempt: Of which attempt.

    Attributes:
        name: For the task and for messages, e.g. ``i-1 run``.
        over: Whether the handler ended by itself: nothing of it is left to be closed.
        close_error: What it raised while it was being closed.
    """

    __slots__ = (
        "__weakref__",
        "_closing",
        "_ending",
        "_generator",
        "_generators",
        "_inject",
        "_on_done",
        "_owner",
        "_submit",
        "_waiting_for",
        "_withheld",
        "attempt",
        "close_error",
        "handler",
        "name",
        "over",
        "task",
    )

    def __init__(
        self,
        generator: Generator,
        submit: Submit,
        on_done: Callable[[Pump, BaseException | None], None],
        *,
        owner: str,
        handler: str,
        attempt: int = 1,
    ) -> None:
        self.name: str = f"{owner} {handler}"
        self._owner = owner
        self.handler: str = handler
        self.attempt: int = attempt
        self._generators: list[AsyncGenerator[Any, Any]] | None = None
        self._generator = generator
        self._submit = submit
        self._on_done = on_done
        self._closing = False
        self._ending = False
        self._withheld = False
        self._inject: BaseException | None = None
        self._waiting_for: Script | None = None
        self.close_error: BaseException | None = None
        self.over: bool = False
        self.task: asyncio.Task[None] = asyncio.get_running_loop().create_task(
            self._main(), name=self.name
        )

    # The task ------------------------------------------------------------------------------------

    async def _main(self) -> None:
        task = self.task
        _current.instance_id.set(self._owner)
        _PUMPS[task] = self
        error: BaseException | None = None
        try:
            await self._drive()
        except BaseException as failed:  # noqa: BLE001 - the user's own error: passed on, as it is
            error = failed
        self._ending = True
        self._waiting_for = None
        await self._close_generators()
        _PUMPS.pop(task, None)
        if self._closing:
            self.close_error = self.close_error or _real(error)
        else:
            self.over = True
            self._on_done(self, error or self.close_error)
        if isinstance(error, KeyboardInterrupt | SystemExit):
            # Meant for the whole program, which it leaves by the loop: nobody else reads it here.
            task.add_done_callback(_read)
            raise error

    async def _drive(self) -> None:
        value: Any = None
        error: BaseException | None = None
        while not self._withheld:
            _look_after_hook()
            try:
                if error is None:
                    script = await self._generator.asend(value)
                else:
                    script = await self._generator.athrow(error)
            except StopAsyncIteration:
                return
            if self._closing:
                raise HandlerError(f"{self.name} yielded a script while it was being closed")
            value, error = await self._at_yield(script)

    def withhold(self) -> None:
        """Do not begin it, where it has not begun yet: what it was for is over already."""
        self._withheld = self.task not in _PUMPS and not self.task.done()

    async def _at_yield(self, script: object) -> tuple[Any, BaseException | None]:
        """Send what was yielded; return the value or the error that the yield is to have."""
        if not isinstance(script, Script):
            return None, HandlerError(
                f"{self.name} yielded {script!r}; a handler yields scripts",
                hint="script = self.ctx.new_script(); script.run(...); yield script",
            )
        try:
            self._submit(script)
            if not script.wait_for_results:
                return script.results, None
            self._waiting_for = script
            await script.results.wait()
        except asyncio.CancelledError as cancelled:
            if self._inject is not None:
                return None, self._inject
            if self._closing:
                raise
            # Not ours: a time-out that the user opened around the yield. It is his to see.
            return None, cancelled
        except Exception as failed:  # noqa: BLE001 - refused by the engine: told at the yield
            return None, failed
        finally:
            self._waiting_for = None
        if self._closing and self._inject is None:
            raise asyncio.CancelledError
        return script.results, self._inject or script.results.error()

    async def _close_generators(self) -> None:
        """Close what is still open of the handler and of what it iterated, innermost first."""
        for generator in [*reversed(self._generators or ()), self._generator]:
            if generator.ag_running:
                continue
            try:
                await generator.aclose()
            except asyncio.CancelledError:
                continue
            except BaseException as error:  # noqa: BLE001 - the user's `finally` failed: it is told
                self.close_error = error
                if str(error) == _YIELDED_WHILE_CLOSED and isinstance(error, RuntimeError):
                    self.close_error = HandlerError(
                        f"{self.name} yielded a script while it was being closed ({error})"
                    )
                    await _finish(generator)
        self._generators = None

    def track(self, generator: AsyncGenerator[Any, Any]) -> None:
        """Remember a generator that the handler began to iterate."""
        if generator is self._generator:
            return
        known = self._generators or []
        if len(known) >= 8:
            known = [g for g in known if getattr(g, "ag_frame", None)]
        known.append(generator)
        self._generators = known

    # The end -------------------------------------------------------------------------------------

    async def close(
        self, *, grace: float, close_timeout: float, error: BaseException | None = None
    ) -> HandlerStuck | None:
        """End the handler: let a batch in flight go on for ``grace`` seconds, then close it.

        Args:
            grace: Seconds for the batch in flight, if the handler is at a yield.
            close_timeout: Seconds that the handler may take to end, after each cancellation.
            error: Raised at the yield that the handler is at, if it is at one.

        Returns:
            The error that names the handler where it would not end.
        """
        self._closing = True
        if self.task.done():
            return None
        script, cancels = self._waiting_for, 2
        if script is not None and error is not None:
            # The first cancellation is what brings the error to the yield.
            self._inject, cancels = error, 3
        elif script is not None and grace > 0:
            await self._wait_for_results(script, grace)
        if self._ending or (script is not None and self._inject is None and script.results.done()):
            # It ends by itself already: a cancellation now would cut an awaiting `finally`.
            await asyncio.wait({self.task}, timeout=close_timeout)
            cancels = 1
        for _ in range(cancels):
            if self.task.done():
                return None
            self.task.cancel()
            await self._ended(close_timeout)
        if self.task.done():
            return None
        self.task.add_done_callback(_consume)
        return HandlerStuck(
            f"{self.name} swallowed its cancellation twice and was left to itself",
            hint="do not catch asyncio.CancelledError in a handler without raising it again",
        )

    async def _ended(self, seconds: float) -> None:
        """Wait for the end of the task; most end within a turn or two of the loop."""
        for _ in range(_TURNS):
            await asyncio.sleep(0)
            if self.task.done():
                return
        await asyncio.wait({self.task}, timeout=seconds)

    async def _wait_for_results(self, script: Script, seconds: float) -> None:
        """Wait for the batch in flight, or until the handler is cancelled over it."""
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def wake(_task: object = None) -> None:
            if not over.done():
                over.set_result(None)

        script.results.on_done(wake)
        self.task.add_done_callback(wake)
        await asyncio.wait({over}, timeout=seconds)


_TURNS: Final = 3

_YIELDED_WHILE_CLOSED = "async generator ignored GeneratorExit"


async def _finish(generator: AsyncGenerator[Any, Any]) -> None:
    """Close a generator that yielded in its first closing, so that it is not left to gc."""
    try:
        await generator.aclose()
    except (RuntimeError, StopAsyncIteration):
        pass


def _real(error: BaseException | None) -> BaseException | None:
    return None if isinstance(error, asyncio.CancelledError | GeneratorExit) else error


def _read(task: asyncio.Task[None]) -> None:
    if not task.cancelled():
        task.exception()


def _consume(task: asyncio.Task[None]) -> None:
    """Read the outcome of a task that was abandoned, so that it makes no noise at its end."""
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.warning("abandoned handler %s ended with %r", task.get_name(), error)


_PUMPS: dict[asyncio.Task[None], Pump] = {}


class _Hook:
    """Tells pumps of the generators that their handlers begin to iterate.

    Python calls one hook a thread at the first iteration of an async generator. asyncio sets its
    own there whenever the loop begins to run, which is why ours is looked after at each step; what
    was there is called on.
    """

    def __init__(self, before: Callable[[AsyncGenerator[Any, Any]], None] | None) -> None:
        self._before = before

    def __call__(self, generator: AsyncGenerator[Any, Any]) -> None:
        if self._before is not None:
            self._before(generator)
        task = asyncio.current_task()
        pump = _PUMPS.get(task) if task is not None else None
        if pump is not None:
            pump.track(generator)


def _look_after_hook() -> None:
    found = sys.get_asyncgen_hooks().firstiter
    if not isinstance(found, _Hook):
        sys.set_asyncgen_hooks(firstiter=_Hook(found))
