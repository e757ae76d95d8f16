"""The process that handler processes are forked from.

It is forked off before the program has an event loop, threads or a warm model, so that what it
forks is clean; it does nothing but fork, signal and wait. When the program goes away, by whatever
cause, it kills what it forked and ends. It never returns to the code that it was forked in.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import signal
import socket
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from requestor_sdk.handlers._invoke import flush_output

_RESET = ("SIGTERM", "SIGCHLD", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGALRM")


@dataclass(frozen=True, slots=True, kw_only=True)
class Zygote:
    """What the program keeps of it."""

    pid: int
    control: socket.socket


def start_zygote(work: Callable[[socket.socket], NoReturn]) -> Zygote:
    """Fork the process that forks.

    Args:
        work: What a handler process does with its socket; must not return.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    flush_output()
    with warnings.catch_warnings():
        # Libraries of numbers start threads when they load. They know of forks; Python warns.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        code = 1
        try:
            ours.close()
            _become_clean()
            os.setsid()
            _Forker(theirs, work).run()
            code = 0
        except BaseException as error:  # noqa: BLE001 - nothing may run on in the copy
            sys.excepthook(type(error), error, error.__traceback__)
        finally:
            os._exit(code)
    theirs.close()
    return Zygote(pid=pid, control=ours)


def _become_clean() -> None:
    # What the parent had may be collected in no child: it could close what is open here.
    gc.freeze()
    signal.set_wakeup_fd(-1)
    for name in _RESET:
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    # Ctrl-C goes to the whole group: the program decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class _Forker:
    """The loop of the zygote."""

    def __init__(self, control: socket.socket, work: Callable[[socket.socket], NoReturn]) -> None:
        self._control = control
        self._work = work
        self._children: set[int] = set()
        self._woken, wake = os.pipe()
        os.set_blocking(self._woken, False)
        os.set_blocking(wake, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)

    def run(self) -> None:
        try:
            while True:
                watched: list[Any] = [self._control, self._woken]
                ready, _, _ = select.select(watched, [], [])
                if self._woken in ready:
                    self._reap()
                if self._control in ready and not self._order():
                    return
        finally:
            for pid in self._children:
                _kill(pid, signal.SIGKILL)

    def _order(self) -> bool:
        data, fds, _, _ = socket.recv_fds(self._control, 4096, 1)
        if not data:
            return False
        order = json.loads(data)
        if order["do"] == "signal":
            if order["pid"] in self._children:
                _kill(order["pid"], order["signal"])
            return True
        pid = self._fork(fds[0])
        os.close(fds[0])
        self._children.add(pid)
        self._say({"is": "forked", "number": order["number"], "pid": pid})
        return True

    def _fork(self, fd: int) -> int:
        pid = os.fork()
        if pid:
            return pid
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.setsid()
            self._control.close()
            self._work(socket.socket(fileno=fd))
        except BaseException as error:  # noqa: BLE001 - nothing may run on in the copy
            sys.excepthook(type(error), error, error.__traceback__)
        finally:
            flush_output()
            os._exit(code)

    def _reap(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while os.read(self._woken, 4096):
                pass
        for pid in list(self._children):
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                continue
            # What it left behind is of its group, and nobody's business any more. Killed before
            # it is reaped: until then its number is nobody else's.
            _kill(pid, signal.SIGKILL)
            self._children.discard(pid)
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            self._say({"is": "gone", "pid": pid, "code": code})

    def _say(self, what: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):
            self._control.send(json.dumps(what).encode())


def _kill(pid: int, number: int) -> None:
    # It may not have become the leader of its group yet, or may be gone.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)
    if number == signal.SIGKILL:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, number)
