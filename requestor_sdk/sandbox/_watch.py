"""Waits for a child process without polling: by a pidfd where there is one, else by a thread."""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import subprocess


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """How a process ended.

    Attributes:
        code: Its exit status, or the negative number of the signal that ended it.
        cpu_sec: Processor seconds of it and of all descendants that were waited for.
        memory_peak: Resident bytes of the largest of them.
    """

    code: int
    cpu_sec: float
    memory_peak: int


def watch_exit(process: subprocess.Popen[bytes]) -> asyncio.Future[Exit]:
    """Return a future of the process's end. Nothing else may wait for the process."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Exit] = loop.create_future()
    if hasattr(os, "pidfd_open"):
        pidfd = os.pidfd_open(process.pid)

        def ended() -> None:
            loop.remove_reader(pidfd)
            os.close(pidfd)
            result = _collect(process)
            if not done.done():
                done.set_result(result)

        loop.add_reader(pidfd, ended)
        return done

    def waited(future: asyncio.Future[Exit]) -> None:
        if not done.done():
            done.set_result(future.result())

    loop.run_in_executor(None, _collect, process).add_done_callback(waited)
    return done


def _collect(process: subprocess.Popen[bytes]) -> Exit:
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    unit = 1 if sys.platform == "darwin" else 1024
    return Exit(
        code=process.returncode,
        cpu_sec=usage.ru_utime + usage.ru_stime,
        memory_peak=usage.ru_maxrss * unit,
    )
