"""Files in and out of a sandbox, by paths that cannot lead out of it.

Each path is walked part by part without following links; a relative link is followed by hand,
an absolute one refused, and so is anything but a regular file at the end.
"""

# ruff: noqa: TRY301 - each refusal stands beside what it refuses

from __future__ import annotations

import errno
import os
import stat

_MAX_LINKS = 16


class Refused(Exception):
    """A path that a transfer must not take."""


class Upload:
    """A file that is being written: to a temporary name beside it, renamed when it is whole."""

    def __init__(self, path: str, mode: int, ident: int) -> None:
        self.mode = mode
        self.written = 0
        self.folder, self.name = resolve(path, make=True)
        self.temporary = f".{self.name[:60]}.{ident:x}.part"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            check_regular(self.folder, self.name, missing_ok=True)
            self.number = os.open(self.temporary, flags, 0o600, dir_fd=self.folder)
        except BaseException:
            os.close(self.folder)
            raise

    def write(self, data: bytes) -> None:
        """Write a chunk, whole."""
        view = memoryview(data)
        while view:
            written = os.write(self.number, view)
            self.written += written
            view = view[written:]

    def finish(self) -> int:
        """Give the file its name; return its size."""
        os.fchmod(self.number, self.mode)
        os.rename(self.temporary, self.name, src_dir_fd=self.folder, dst_dir_fd=self.folder)
        os.close(self.number)
        os.close(self.folder)
        return self.written

    def drop(self) -> None:
        """Remove what was written."""
        os.close(self.number)
        try:
            os.unlink(self.temporary, dir_fd=self.folder)
        except OSError:
            pass
        os.close(self.folder)


def open_regular(path: str) -> int:
    """Open a regular file for reading; never blocks, whatever lies there."""
    folder, name = resolve(path, make=False)
    try:
        check_regular(folder, name, missing_ok=False)
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        number = os.open(name, flags, dir_fd=folder)
    finally:
        os.close(folder)
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise Refused("is no regular file")
    return number


def resolve(path: str, *, make: bool) -> tuple[int, str]:
    """Walk to the folder of a path, link by link; return its descriptor and the last name."""
    if not path.startswith("/") or "\0" in path:
        raise Refused("is not absolute")
    todo = split(path)
    if not todo:
        raise Refused("is a folder")
    folder = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    links = 0
    try:
        while True:
            part = todo.pop(0)
            if part == "..":
                raise Refused("has '..'")
            target = link_target(folder, part)
            if target is not None:
                links += 1
                if target.startswith("/"):
                    raise Refused(f"passes through the absolute link {part!r}")
                if links > _MAX_LINKS:
                    raise Refused("passes through too many links")
                todo[:0] = split(target)
            elif todo:
                deeper = step(folder, part, make=make)
                os.close(folder)
                folder = deeper
            else:
                return folder, part
            if not todo:
                raise Refused("is a folder")
    except BaseException:
        os.close(folder)
        raise


def split(path: str) -> list[str]:
    """Return the parts of a path that say something."""
    return [part for part in path.split("/") if part not in ("", ".")]


def link_target(folder: int, part: str) -> str | None:
    """Return what a symbolic link says, ``None`` for anything else."""
    try:
        return os.readlink(part, dir_fd=folder)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOENT):
            return None
        raise


def step(folder: int, part: str, *, make: bool) -> int:
    """Open a sub-folder, made where it is missing and wanted."""
    flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(part, flags, dir_fd=folder)
    except FileNotFoundError:
        if not make:
            raise
    os.mkdir(part, 0o755, dir_fd=folder)
    return os.open(part, flags, dir_fd=folder)


def check_regular(folder: int, name: str, *, missing_ok: bool) -> None:
    """Refuse what is there and is no regular file."""
    try:
        mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
    except FileNotFoundError:
        if missing_ok:
            return
        raise
    if not stat.S_ISREG(mode):
        raise Refused("is no regular file")
