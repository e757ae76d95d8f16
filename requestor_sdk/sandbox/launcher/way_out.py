"""Gives a sandbox that has a network namespace of its own a way out that is filtered.

slirp4netns carries its packets as an ordinary program of the host would send them. What must not be
reached are routes of the namespace that lead nowhere, which a payload, having no capability there,
cannot change. Must not know what a sandbox is, or why an address is closed.
"""

# pathlib would cost more than all else that a forked child does.
# ruff: noqa: PTH116, S606

from __future__ import annotations

import fcntl
import os
import signal
import socket
import struct

from . import syscalls as sys_

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_NS_GET_USERNS = 0xB701
_NEWROUTE, _ERROR = 24, 2
_REQUEST_ACK_CREATE = 0x1 | 0x4 | 0x400
_MAIN_TABLE, _BY_ADMIN, _UNIVERSE, _PROHIBIT = 254, 4, 0, 8
_DESTINATION, _PRIORITY = 1, 6
# Made; EEXIST, it was named twice; EOPNOTSUPP and EAFNOSUPPORT, the kernel has no IPv6 at all.
_HARMLESS = (0, -17, -95, -97)
_READY, _LEAVE, _NET, _USER = 3, 4, 5, 6
_SPARE = 16


class WayOut:
    """The program that carries a sandbox's packets, while it starts and as long as it runs."""

    __slots__ = ("leave", "ready")

    def __init__(self, ready: int, leave: int) -> None:
        self.ready = ready
        """Where it says that it is ready; what else is said is why it never will be."""
        self.leave = leave
        """What it ends by being closed."""


def lay(plan: dict[str, Any], pid: int) -> WayOut:
    """Begin to give the namespace of a process its way out.

    Args:
        plan: ``program``, and ``closed``: packed addresses with the length of their prefix.
        pid: A process in it.
    """
    ready, ready_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    leave_read, leave = os.pipe2(os.O_CLOEXEC)
    if os.fork() == 0:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _become(plan, pid, ready_write, leave_read)
    os.close(ready_write)
    os.close(leave_read)
    return WayOut(ready, leave)


def said(way: WayOut) -> str:
    """Return why there is no way out; empty where there is one."""
    try:
        told = os.read(way.ready, 2000)
    except BlockingIOError:
        return "it says nothing"
    return "" if told == b"1" else told.decode("utf-8", "replace") or "slirp4netns has ended"


def _become(plan: dict[str, Any], pid: int, ready: int, leave: int) -> None:
    """Close routes, then become the program. Never returns."""
    try:
        net = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        user = fcntl.ioctl(net, _NS_GET_USERNS)
        own = os.stat("/proc/self/ns/user").st_ino == os.fstat(user).st_ino
        closing = os.fork()
        if closing == 0:
            _close(plan["closed"], net, None if own else user)
        if os.waitpid(closing, 0)[1] != 0:
            raise OSError(0, "routes could not be closed")  # noqa: TRY301 - told at one place
        argv = [plan["program"], "--configure", "--mtu=65520", "--disable-host-loopback"]
        argv += [f"--ready-fd={_READY}", f"--exit-fd={_LEAVE}", "--enable-seccomp"]
        # Of an ordinary user it can make no sandbox for itself: the namespace has no user 0.
        argv += ["--enable-sandbox"] if os.geteuid() == 0 else []
        argv += [] if own else [f"--userns-path=/proc/self/fd/{_USER}"]
        argv += ["--netns-type=path", f"/proc/self/fd/{_NET}", "tap0"]
        _place({_READY: ready, _LEAVE: leave, _NET: net, _USER: user})
        sys_.die_with_parent()
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        os.execve(argv[0], argv, {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin"})
    except BaseException as error:  # noqa: BLE001 - told to the launcher, then the process ends
        told = f"{type(error).__name__}: {error}".encode()
        for number in (ready, _READY):
            try:
                os.write(number, told)
                break
            except OSError:
                continue
    finally:
        os._exit(70)


def _place(wanted: dict[int, int]) -> None:
    spare = {number: fcntl.fcntl(fd, fcntl.F_DUPFD, _SPARE) for number, fd in wanted.items()}
    for number, fd in spare.items():
        os.dup2(fd, number)
    null = os.open("/dev/null", os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    os.closerange(max(wanted) + 1, 1 << 16)


def _close(closed: list[tuple[bytes, int]], net: int, user: int | None) -> None:
    """Enter a namespace and have its routes to some addresses lead nowhere. Never returns."""
    try:
        if user is not None:
            sys_.enter(user)
        sys_.enter(net)
        talk = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
        for address, length in closed:
            talk.send(_route(address, length))
            answer = talk.recv(4096)
            kind, number = struct.unpack_from("=4xH10xi", answer)
            if kind == _ERROR and number not in _HARMLESS:
                os._exit(1)
        os._exit(0)
    finally:
        os._exit(1)


def _route(address: bytes, length: int) -> bytes:
    """Return the request for a route that refuses what would take it."""
    family = socket.AF_INET if len(address) == 4 else socket.AF_INET6
    body = struct.pack(
        "=BBBBBBBBI", family, length, 0, 0, _MAIN_TABLE, _BY_ADMIN, _UNIVERSE, _PROHIBIT, 0
    )
    body += struct.pack("=HH", 4 + len(address), _DESTINATION) + address
    body += struct.pack("=HHI", 8, _PRIORITY, 1)
    return struct.pack("=IHHII", 16 + len(body), _NEWROUTE, _REQUEST_ACK_CREATE, 1, 0) + body
