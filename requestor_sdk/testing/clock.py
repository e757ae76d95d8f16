"""An event loop whose time jumps to the next deadline as soon as nothing else can happen."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class _JumpingSelector(selectors.DefaultSelector):
    """Waits for real only while worker threads run, or while no timer is set."""

    loop: VirtualTimeLoop | None = None

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        loop = self.loop
        found = super().select(0)
        if found or loop is None or timeout == 0:
            return found
        if loop.busy_threads or timeout is None:
            found = super().select(10.0 if timeout is None else 0.01)
            if not found and timeout is None:
                raise RuntimeError("the test waits for something that nothing will bring")
            return found
        loop.jump(timeout or 0.0)
        return found


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Counts its own seconds, from 1000.

    A thread's work is waited for in real time, and time does not jump meanwhile.
    """

    def __init__(self) -> None:
        self._virtual = 1000.0
        self.busy_threads = 0
        selector = _JumpingSelector()
        super().__init__(selector)
        selector.loop = self

    def time(self) -> float:
        """Return the loop's seconds."""
        return self._virtual

    def jump(self, seconds: float) -> None:
        """Let time pass."""
        self._virtual += seconds

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts
    ) -> asyncio.Future[T]:
        """Run a function in a worker thread; time stands still until it has ended."""
        self.busy_threads += 1
        future = super().run_in_executor(executor, func, *args)
        future.add_done_callback(self._thread_done)
        return future

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:  # noqa: ARG002
        """Join the worker threads; time stands still meanwhile."""
        # The thread that joins the others is none of the executor's, and from Python 3.12 on a
        # timer runs meanwhile: time must not jump past it.
        self.busy_threads += 1
        try:
            await super().shutdown_default_executor()
        finally:
            self.busy_threads -= 1

    def _thread_done(self, _future: asyncio.Future[Any]) -> None:
        self.busy_threads -= 1
