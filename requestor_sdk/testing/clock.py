"""An event loop whose time jumps to the next deadline as soon as nothing else can happen.

Time never jumps past what is really under way. In this order, when no callback is ready:

1. While a worker thread runs (``run_in_executor``, ``asyncio.to_thread``) time stands still. A
   thread that brings nothing for ``PATIENCE_SEC`` real seconds may wait for a timer itself: from
   then on time goes as it really does.
2. While something is open whose other end is not on this loop (a child process, a pipe, a socket of
   another process or machine) time goes as it really does.
3. Else it jumps. Sockets whose two ends are both on this loop, and listening ones, hold nothing up:
   what passes between them is there at once.
4. Where no timer is set and nothing of the above is under way, nothing can ever happen again: that
   is an error, and it names the tasks that wait.

A thread that is started otherwise, and calls ``call_soon_threadsafe`` one day, is not seen: hold
time by ``with loop.held():`` for as long as it runs.
"""

from __future__ import annotations

import asyncio
import math
import os
import selectors
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import Any, Final, TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

PATIENCE_SEC: Final = 2.0
"""Real seconds for which time stands still for a thread that brings nothing."""

THREADS_SEC: Final = 10.0
"""Real seconds that unknown threads have to bring something, before nothing can."""

_DELIVERY_SEC: Final = 0.001
"""Real seconds in which the system passes on what is sent between two sockets of the loop."""


class Deadlock(RuntimeError):
    """Nothing can ever happen again on a virtual loop, and tasks wait for something."""


class _JumpingSelector(selectors.DefaultSelector):
    """Asks the loop what may happen to time before it waits."""

    loop: VirtualTimeLoop | None = None

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if self.loop is None:
            return super().select(timeout)
        self.loop.waiting = True
        try:
            return self._select(timeout)
        finally:
            self.loop.rounds += 1
            self.loop.waiting = False

    def _select(self, timeout: float | None) -> list[tuple[selectors.SelectorKey, int]]:
        found = super().select(0)
        if self.loop is not None and self.loop.ring_alarm():
            return found
        if found or self.loop is None or (timeout is not None and timeout <= 0):
            return found
        return self.loop.pass_time(timeout, super().select)


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Counts its own seconds, from 1000; this module says when they pass.

    Attributes:
        rounds: How many of its rounds began.
        waiting: Whether it waits between two rounds, or looks whether it has to.

    Give the class as the loop factory: ``asyncio.Runner(loop_factory=VirtualTimeLoop)``, or to
    pytest-asyncio's ``pytest_asyncio_loop_factories``.
    """

    def __init__(self) -> None:
        self.rounds: int = 0
        self.waiting: bool = False
        self._virtual = 1000.0
        self._holds = 0
        self._idle_sec = 0.0
        self._starting = 0
        self._children: list[asyncio.SubprocessTransport] = []
        self._alarm_at = math.inf
        self._alarm: Callable[[], object] = lambda: None
        selector = _JumpingSelector()
        super().__init__(selector)
        self._own_fds = frozenset(selector.get_map())
        selector.loop = self

    def time(self) -> float:
        """Return the loop's seconds."""
        return self._virtual

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let time stand still meanwhile: something happens that the loop cannot see."""
        self._holds += 1
        try:
            yield
        finally:
            self._holds -= 1

    def alarm(self, seconds: float, ring: Callable[[], object]) -> None:
        """Call a function after so many real seconds, whatever virtual time does until then.

        There is one alarm: another one takes its place.
        """
        self._alarm_at, self._alarm = time.monotonic() + seconds, ring

    def ring_alarm(self) -> bool:
        """Ring if it is time; called by the loop's selector, in each round of the loop."""
        if self._alarm_at == math.inf or time.monotonic() < self._alarm_at:
            return False
        self._alarm_at = math.inf
        self._alarm()
        return True

    # How time passes -----------------------------------------------------------------------------

    def pass_time(
        self, timeout: float | None, wait: Callable[[float | None], list[Any]]
    ) -> list[Any]:
        """Wait for what is under way, or jump; called by the loop's selector.

        Args:
            timeout: Seconds until the next timer; ``None`` where there is none.
            wait: Waits really, for so many seconds, and returns what is ready.

        Raises:
            Deadlock: There is nothing to wait for.
        """
        if self._holds and self._idle_sec < PATIENCE_SEC:
            return self._stand_still(wait)
        if self._holds or self._is_foreign_open():
            return self._go_on_really(timeout, wait)
        if len(self._registered()) > len(self._own_fds) and (found := wait(_DELIVERY_SEC)):
            return found
        if timeout is None:
            return self._nothing_to_come(wait)
        self._virtual += timeout
        return []

    def _stand_still(self, wait: Callable[[float | None], list[Any]]) -> list[Any]:
        began = time.monotonic()
        found = wait(PATIENCE_SEC - self._idle_sec)
        self._idle_sec = 0.0 if found else self._idle_sec + time.monotonic() - began
        return found

    def _go_on_really(
        self, timeout: float | None, wait: Callable[[float | None], list[Any]]
    ) -> list[Any]:
        began = time.monotonic()
        most = math.inf if timeout is None else timeout
        most = min(most, max(0.0, self._alarm_at - began))
        found = wait(None if most == math.inf else most)
        passed = time.monotonic() - began
        if found:
            self._idle_sec = 0.0
        # Never past the next timer: that would be a jump.
        self._virtual += passed if timeout is None else min(passed, timeout)
        return found

    def _nothing_to_come(self, wait: Callable[[float | None], list[Any]]) -> list[Any]:
        if _unknown_threads() and (found := wait(THREADS_SEC)):
            return found
        waiting = sorted(_told(task) for task in asyncio.all_tasks(self))
        raise Deadlock(
            "nothing can happen any more: no timer is set and no I/O is under way. Waiting:\n"
            + "\n".join(f"  {line}" for line in waiting)
        )

    # What is under way ---------------------------------------------------------------------------

    def _registered(self) -> Any:
        return self._selector.get_map()  # type: ignore[attr-defined]

    def _is_foreign_open(self) -> bool:
        """Tell whether anything is open whose other end is not on this loop."""
        self._children = [child for child in self._children if child.get_returncode() is None]
        if self._children or self._starting:
            return True
        registered = self._registered()
        if len(registered) == len(self._own_fds):
            return False
        ends = [_ends_of(fd) for fd in registered if fd not in self._own_fds]
        here = {pair for pair in ends if pair is not None}
        return any(
            pair is None or (pair != _LISTENING and (pair[1], pair[0]) not in here) for pair in ends
        )

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts
    ) -> asyncio.Future[T]:
        """Run a function in a worker thread; time stands still until it has ended."""
        future = super().run_in_executor(executor, func, *args)
        self._holds += 1  # not before: an executor that was shut down refuses
        future.add_done_callback(self._thread_done)
        return future

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:  # noqa: ARG002
        """Join the worker threads; time stands still meanwhile."""
        # The thread that joins the others is none of the executor's, and from Python 3.12 on a
        # timer runs meanwhile: time must not jump past it.
        with self.held():
            await super().shutdown_default_executor()

    def _thread_done(self, _future: asyncio.Future[Any]) -> None:
        self._holds -= 1
        self._idle_sec = 0.0

    async def subprocess_exec(self, *args: Any, **options: Any) -> Any:
        """Start a child process; time goes as it really does until it has ended."""
        return await self._started(super().subprocess_exec(*args, **options))

    async def subprocess_shell(self, *args: Any, **options: Any) -> Any:
        """Start a child process by the shell; time goes as it really does until it has ended."""
        return await self._started(super().subprocess_shell(*args, **options))

    async def _started(self, starting: Any) -> Any:
        self._starting += 1
        try:
            transport, protocol = await starting
        finally:
            self._starting -= 1
        self._children.append(transport)
        return transport, protocol


_LISTENING: Final = ("listening", "")


def _ends_of(fd: int) -> tuple[Any, Any] | None:
    """Return the addresses of a socket's own end and of its peer; ``None`` where it is no such."""
    try:
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            return None
        own = socket.socket(fileno=os.dup(fd))
    except OSError:
        return None
    with own:
        try:
            if own.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                return _LISTENING
            ends = (own.getsockname(), own.getpeername())
        except OSError:
            return None
    return ends if all(ends) else None


def _unknown_threads() -> bool:
    """Tell whether threads run that are neither this one nor idle workers of an executor."""
    return any(
        thread is not threading.current_thread() and not thread.name.startswith("asyncio_")
        for thread in threading.enumerate()
    )


def _told(task: asyncio.Task[Any]) -> str:
    frames = task.get_stack(limit=1)
    where = f", at {frames[-1].f_code.co_filename}:{frames[-1].f_lineno}" if frames else ""
    return f"{task.get_name()}: {getattr(task.get_coro(), '__qualname__', task.get_coro())}{where}"
