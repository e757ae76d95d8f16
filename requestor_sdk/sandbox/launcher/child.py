"""What a forked child of the launcher does until it becomes the program that makes the sandbox.

It carries out the steps of a plan that the host made. It decides nothing, and it must not
return: it ends by exec or by telling why not on the sandbox's own socket.
"""

# pathlib would cost more than all else that a forked child does.
# ruff: noqa: PTH101, PTH103, PTH112, S606

from __future__ import annotations

import fcntl
import os
import resource
import signal

from . import syscalls as sys_

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# The numbers under which the program finds its descriptors; the plan's argv names them.
COMM_FD, STATUS_FD = 0, 11
_SPARE = 16


def become(plan: dict[str, Any], comm: int, status: int, launcher: int) -> None:
    """Set up everything that the plan says, then exec. Never returns."""
    try:
        os.dup2(comm, 2)  # the program's last words reach the host
        _exec(plan, comm, status, launcher)
    except BaseException as error:  # noqa: BLE001 - told to the host, then the process ends
        os.write(2, f"sandbox set-up: {type(error).__name__}: {error}"[:2000].encode())
    finally:
        os._exit(70)


def _exec(plan: dict[str, Any], comm: int, status: int, launcher: int) -> None:
    for path in plan["join"]:
        _write(path, "0")
    _write("/proc/self/oom_score_adj", str(plan["oom_score_adj"]))
    seccomp = os.open(plan["seccomp"], os.O_RDONLY) if plan["seccomp"] else None
    if plan["steps"]:
        sys_.unshare_mounts()
        for step in plan["steps"]:
            _STEPS[step[0]](*step[1:])
    for name, value in plan["rlimits"].items():
        _limit(getattr(resource, name), value)
    _place_descriptors(comm, status, seccomp, plan["seccomp_fd"])
    if plan["uid"] is not None:
        os.setgroups([])
        os.setresgid(plan["gid"], plan["gid"], plan["gid"])
        os.setresuid(plan["uid"], plan["uid"], plan["uid"])
    # A change of user clears this, so it comes late; what the program sets for itself comes later
    # still, and a launcher that dies in between would leave it behind.
    sys_.die_with_parent()
    if os.getppid() != launcher:
        os._exit(71)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)  # what is ignored stays ignored across exec
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    os.umask(0o022)
    os.execve(plan["argv"][0], plan["argv"], {})


def _limit(which: int, value: int) -> None:
    _, hard = resource.getrlimit(which)
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(which, (value, value))


def _place_descriptors(comm: int, status: int, seccomp: int | None, seccomp_fd: int) -> None:
    # First out of the way of the fixed numbers, then onto them, so that none is overwritten.
    wanted = {COMM_FD: comm, STATUS_FD: status}
    if seccomp is not None:
        wanted[seccomp_fd] = seccomp
    spare = {number: fcntl.fcntl(fd, fcntl.F_DUPFD, _SPARE) for number, fd in wanted.items()}
    for number, fd in spare.items():
        os.dup2(fd, number)
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, 1)
    first = 3
    for number in sorted(wanted):
        if number > first:  # an empty range would be taken for all of them
            os.closerange(first, number)
        first = max(first, number + 1)
    os.closerange(first, 1 << 16)


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def _tmpfs(target: str, size: int) -> None:
    sys_.mount("tmpfs", target, "tmpfs", sys_.MS_NOSUID, f"size={size},mode=0755")


def _mkdir(target: str, mode: int) -> None:
    os.makedirs(target, exist_ok=True)
    os.chmod(target, mode)


def _bind(source: str, target: str) -> None:
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    else:
        os.close(os.open(target, os.O_CREAT | os.O_CLOEXEC, 0o644))
    sys_.mount(source, target, "", sys_.MS_BIND | sys_.MS_REC)


def _harmless(target: str) -> None:
    """Let nothing there be a program: what is bound from it later inherits that."""
    flags = sys_.MS_REMOUNT | sys_.MS_BIND | sys_.MS_NOSUID | sys_.MS_NOEXEC
    sys_.mount("", target, "", flags)


def _loop(template: str, folder: str, target: str) -> None:
    backing = sys_.sparse_copy(template, folder)
    path, device = sys_.loop_device(backing, folder + "/loop.lock")
    os.makedirs(target, exist_ok=True)
    try:
        sys_.mount(path, target, "ext4", sys_.MS_NOSUID | sys_.MS_NODEV | sys_.MS_NOATIME)
    finally:
        os.close(device)
        os.close(backing)


def _overlay(target: str, lower: str, upper: str, work: str) -> None:
    os.makedirs(target, exist_ok=True)
    data = f"lowerdir={lower}"
    if upper:
        data += f",upperdir={upper},workdir={work}"
    sys_.mount("overlay", target, "overlay", sys_.MS_NOSUID | sys_.MS_NODEV, data)


def _proc(target: str) -> None:
    os.makedirs(target, exist_ok=True)
    sys_.mount("proc", target, "proc", sys_.MS_NOSUID | sys_.MS_NODEV | sys_.MS_NOEXEC)


def _devpts(target: str, most: int) -> None:
    os.makedirs(target, exist_ok=True)
    data = f"newinstance,ptmxmode=0666,mode=620,max={most}"
    sys_.mount("devpts", target, "devpts", sys_.MS_NOSUID | sys_.MS_NOEXEC, data)


_STEPS: dict[str, Callable[..., None]] = {
    "tmpfs": _tmpfs,
    "mkdir": _mkdir,
    "symlink": os.symlink,
    "bind": _bind,
    "harmless": _harmless,
    "loop": _loop,
    "overlay": _overlay,
    "proc": _proc,
    "devpts": _devpts,
    "pivot": sys_.pivot,
}
