"""The few Linux calls that the standard library lacks. Must not know what a sandbox is."""

# pathlib would cost more than all else that a forked child does.
# ruff: noqa: PTH119

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import signal
import struct

CLONE_NEWNS = 0x00020000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REMOUNT, MS_NOATIME, MS_BIND, MS_REC, MS_PRIVATE = 32, 1024, 4096, 16384, 1 << 18
MNT_DETACH = 2
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36

_LOOP_CONFIGURE, _LOOP_GET_FREE, _LOOP_CLR_FD = 0x4C0A, 0x4C82, 0x4C01
_LO_AUTOCLEAR, _LO_DIRECT_IO = 4, 16
_LOOP_TRIES = 200

_SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def subreaper() -> None:
    """Let orphans of this process's children become its own children."""
    _check(_libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "prctl")


def die_with_parent() -> None:
    """Have this process killed when its parent dies."""
    _check(_libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl")


def enter(namespace: int) -> None:
    """Move this process, of one thread, into a namespace that is open under a descriptor."""
    _check(_libc.setns(namespace, 0), "setns")


def unshare_mounts() -> None:
    """Enter a private mount namespace that dies with the last process in it."""
    _check(_libc.unshare(CLONE_NEWNS), "unshare")
    mount("none", "/", "", MS_REC | MS_PRIVATE)


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    """Mount; raises OSError that names the target."""
    result = _libc.mount(
        source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), data.encode()
    )
    _check(result, f"mount {kind or 'bind'} on {target}")


def umount(target: str) -> None:
    """Detach a mount, lazily."""
    _check(_libc.umount2(target.encode(), MNT_DETACH), f"umount {target}")


def pivot(new_root: str, put_old: str) -> None:
    """Make ``new_root`` the root of this mount namespace, and let go of the old one."""
    number = _SYS_PIVOT_ROOT[os.uname().machine]
    result = _libc.syscall(ctypes.c_long(number), new_root.encode(), put_old.encode())
    _check(result, "pivot_root")
    os.chdir("/")
    umount("/" + os.path.basename(put_old))


def loop_device(backing: int, lock: str) -> tuple[str, int]:
    """Attach an open file to a free loop device that frees itself when it is unmounted.

    The lock keeps the children of one launcher from racing for the same number; other processes
    may still win it, hence the retries.
    """
    guard = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(guard, fcntl.LOCK_EX)
        control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
        try:
            for _ in range(_LOOP_TRIES):
                number = fcntl.ioctl(control, _LOOP_GET_FREE)
                path = _device_node(number)
                device = _configured(path, backing)
                if device is not None:
                    return path, device
        finally:
            os.close(control)
    finally:
        os.close(guard)
    raise OSError(errno.EBUSY, "no loop device is free")


def _device_node(number: int) -> str:
    path = f"/dev/loop{number}"
    if not os.path.exists(path):  # noqa: PTH110 - a container whose /dev is no devtmpfs
        os.mknod(path, 0o060600, os.makedev(7, number))
    return path


def _configured(path: str, backing: int) -> int | None:
    device = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    # Direct I/O keeps the same bytes from lying in the page cache twice, once of it charged to
    # nobody; not every file system can do it.
    for flags in (_LO_AUTOCLEAR | _LO_DIRECT_IO, _LO_AUTOCLEAR):
        info = struct.pack("<5Q4I64s64s32s2Q", 0, 0, 0, 0, 0, 0, 0, 0, flags, b"", b"", b"", 0, 0)
        config = struct.pack("<2I", backing, 4096) + info + bytes(64)
        try:
            fcntl.ioctl(device, _LOOP_CONFIGURE, config)
        except OSError as error:
            if error.errno == errno.EBUSY:
                break
            if not flags & _LO_DIRECT_IO:
                os.close(device)
                raise
        else:
            return device
    os.close(device)
    return None


def sparse_copy(source: str, folder: str) -> int:
    """Copy a file with holes into a nameless file of that folder; return its descriptor."""
    src = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(src).st_size
        dst = os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        os.ftruncate(dst, size)
        position = 0
        while True:
            try:
                position = os.lseek(src, position, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:  # nothing but a hole is left
                    return dst
                raise
            end = os.lseek(src, position, os.SEEK_HOLE)
            while position < end:
                block = os.pread(src, min(end - position, 1 << 20), position)
                position += os.pwrite(dst, block, position)
    finally:
        os.close(src)
