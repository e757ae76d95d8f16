"""A process of the network: a session of its own, a log file, and an end with whoever started it.

It is started from the main thread of a process that has no other: the kernel ends it when that
thread ends, however that happens, and what runs between fork and exec may not meet a lock.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from requestor_sdk.model.errors import DevnetFailed

TAIL_LINES: Final = 15
_TAIL_BYTES: Final = 16 * 1024
_PR_SET_PDEATHSIG: Final = 1


class Child:
    """One program that can be started, killed, ended in good order, and started again.

    Args:
        name: What it is called in errors, e.g. ``provider amber``.
        command: The program and its arguments; no secret among them.
        environment: All of its environment.
        log: The file that its output is appended to.
        cwd: Where it runs.
    """

    def __init__(
        self,
        *,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        log: Path,
        cwd: Path,
    ) -> None:
        self.name = name
        self.command = tuple(command)
        self.environment = dict(environment)
        self.log = log
        self._cwd = cwd
        self._process: subprocess.Popen[bytes] | None = None
        self._ended: asyncio.Future[int] | None = None

    @property
    def pid(self) -> int | None:
        """The number of the process while it runs."""
        return self._process.pid if self._process is not None and self.running else None

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._ended is not None and not self._ended.done()

    @property
    def status(self) -> int | None:
        """The exit status of its last run, negative for a signal; ``None`` while there is none."""
        ended = self._ended
        return ended.result() if ended is not None and ended.done() else None

    def start(self, *, stdin: int = subprocess.DEVNULL) -> None:
        """Start it; does nothing where it runs already.

        Args:
            stdin: What it reads from.

        Raises:
            OSError: It cannot be run.
        """
        if self.running:
            return
        with self._opened_log() as log:
            self._process = subprocess.Popen(
                self.command,
                stdin=stdin,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.environment,
                cwd=self._cwd,
                start_new_session=True,
                preexec_fn=_dying_with_its_parent(),  # noqa: PLW1509 - there is no other thread
            )
        self._ended = asyncio.get_running_loop().create_future()
        _watch(self._process, self._ended)

    def _opened_log(self) -> Any:
        descriptor = os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        return os.fdopen(descriptor, "ab")

    async def wait(self) -> int:
        """Wait until it has ended, and return its exit status."""
        if self._ended is None:
            return 0
        return await asyncio.shield(self._ended)

    async def wait_for(self, seconds: float) -> int | None:
        """Wait until it has ended, ``seconds`` at most; ``None`` where it has not."""
        try:
            return await asyncio.wait_for(self.wait(), seconds)
        except TimeoutError:
            return None

    async def kill(self) -> None:
        """End it and all of its session by SIGKILL, and wait until it is gone. Idempotent."""
        self._signal(signal.SIGKILL)
        if self._ended is not None:
            await self.wait()

    async def stop(self, *, grace: float) -> None:
        """End it in good order; by SIGKILL what is not gone after ``grace`` seconds. Idempotent."""
        if self.running and self._process is not None:
            self._process.send_signal(signal.SIGINT)
            await self.wait_for(grace)
        await self.kill()

    def _signal(self, number: signal.Signals) -> None:
        """Send a signal to all of its session; what it started may outlive it there."""
        if self._process is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)

    def tail(self, lines: int = TAIL_LINES) -> tuple[str, ...]:
        """Return the last lines of its log."""
        return tail_of(self.log, lines)


def failed(message: str, child: Child) -> DevnetFailed:
    """Return the error that a part of the network is to blame for."""
    return DevnetFailed(
        message,
        story=child.tail(),
        hint=f"its whole log is {child.log.name} in the network's folder, if you named one",
    )


def tail_of(log: Path, lines: int = TAIL_LINES) -> tuple[str, ...]:
    """Return the last lines of a log; none where there is no log."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return ()
    return tuple(line.rstrip() for line in text.splitlines() if line.strip())[-lines:]


def _dying_with_its_parent() -> Callable[[], None] | None:
    """Return what makes the kernel end a child when this thread ends, where the kernel can."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    parent = os.getpid()

    def prepare() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before we could ask
            os._exit(1)

    return prepare


def _watch(process: subprocess.Popen[bytes], ended: asyncio.Future[int]) -> None:
    """Set the future when the process ends."""
    loop = asyncio.get_running_loop()

    def tell(status: int) -> None:
        if not ended.done():
            ended.set_result(status)

    if sys.platform == "linux":
        descriptor = os.pidfd_open(process.pid)

        def reap() -> None:
            loop.remove_reader(descriptor)
            os.close(descriptor)
            tell(process.wait())

        loop.add_reader(descriptor, reap)
    else:

        def wait() -> None:
            status = process.wait()
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(tell, status)

        threading.Thread(target=wait, daemon=True).start()
