"""Unpacks archives that nobody vouches for.

Nothing is written outside the target: members are checked by name first, parents are never
links, and whatever is no regular file, folder or link is refused.
"""

from __future__ import annotations

import errno
import lzma
import shutil
import subprocess
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from tarfile import HeaderError, ReadError
from typing import Self

from requestor_sdk.model.errors import ImageInvalid

ENTRIES = 1_000_000
"""Members that an archive may have, and an image of several layers in all."""
_SQUASHFS = (b"hsqs", b"sqsh")
_HEAD = 4096
_SQUASHFS_TIMEOUT_S = 600
# Long names and the like; all of it is read into memory.
_MAX_EXTENSION = 1 << 20
_ENDS = ("EOFHeaderError", "EmptyHeaderError")
_EXTENSIONS = frozenset(b"LKxgX")
# What an archive's own names can lead to; anything else is the machine's fault, not the archive's.
_BY_NAMES = frozenset(
    {errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.EINVAL, errno.ELOOP}
)


# Headers are nested, numbers and names in them made up: the library checks little of it.
_BROKEN = (
    tarfile.TarError,
    EOFError,
    zlib.error,
    lzma.LZMAError,
    ValueError,
    ArithmeticError,
    LookupError,
    RecursionError,
)


class Member(tarfile.TarInfo):
    """A member whose extended headers are bounded: they are read into memory as a whole.

    The library takes a broken header for the archive's end, and says nothing; this does not.
    """

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> Self:
        """Read the next header."""
        try:
            return super().fromtarfile(tarfile)
        except HeaderError as error:
            if type(error).__name__ in _ENDS:
                raise
            raise ReadError(str(error)) from error

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type[0] in _EXTENSIONS and not 0 <= self.size <= _MAX_EXTENSION:
            raise ReadError(f"a header of {self.size} bytes")
        made: tarfile.TarInfo = super()._proc_member(archive)  # type: ignore[misc]
        if made.size < 0:
            raise ReadError(f"{made.name}: a size below zero")
        return made


def members(
    archive: tarfile.TarFile, file: object, most: int = ENTRIES
) -> Iterator[tarfile.TarInfo]:
    """Go through an archive once; what has been passed is forgotten.

    Raises:
        ImageInvalid: It has more members than any image.
    """
    for number, member in enumerate(archive):
        if number >= most:
            raise ImageInvalid(f"{file} has more than {most} members")
        yield member
        archive.members = []  # type: ignore[attr-defined]


@contextmanager
def told(file: object) -> Iterator[None]:
    """Turn what a broken archive makes the libraries raise into ImageInvalid."""
    try:
        yield
    except ImageInvalid:
        raise
    except OSError as error:
        if error.errno is not None and error.errno not in _BY_NAMES:
            raise
        raise ImageInvalid(f"{file} cannot be unpacked: {error}") from error
    except _BROKEN as error:
        raise ImageInvalid(f"{file} cannot be unpacked: {error}") from error


def unpack(file: Path, target: Path, *, limit: int | None = None) -> None:
    """Unpack a tar (plain, gz, bz2, xz) or a squashfs into a new folder.

    Args:
        file: The archive.
        target: The folder.
        limit: Bytes of all files together at most.

    Raises:
        ImageInvalid: It cannot be read, or a member of it is refused, by name.
    """
    target.mkdir()
    with file.open("rb") as stream:
        head = stream.read(_HEAD)
    if head[:4] in _SQUASHFS:
        if limit is not None:
            _check_squashed(file, limit)
        _unsquash(file, target)
        return
    if file.suffix == ".gvmi":
        raise ImageInvalid(
            f"{file} is no squashfs", hint="build it with gvmkit-build, or import a tar"
        )
    with told(file), tarfile.open(file, tarinfo=Member) as archive:
        total = 0
        for member in members(archive, file):
            total += member.size
            _check_size(file, total, limit)
            _extract(archive, member, target)


def _extract(archive: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    path = _inside(member.name, target)
    if path == target:
        return
    if member.isdir():
        _parents(path, target)
        if path.is_symlink() or (path.exists() and not path.is_dir()):
            raise ImageInvalid(f"{member.name}: in the archive as a folder and as something else")
        path.mkdir(exist_ok=True)
        return
    _parents(path.parent, target)
    if path.is_dir() and not path.is_symlink():
        raise ImageInvalid(f"{member.name}: in the archive as a folder and as something else")
    path.unlink(missing_ok=True)
    if member.issym():
        path.symlink_to(member.linkname)  # whether it leads out is checked when the tree is scanned
    elif member.islnk():
        source = _inside(member.linkname, target)
        if source.is_symlink() or not source.is_file():
            raise ImageInvalid(f"{member.name}: a hard link to {member.linkname}, which is no file")
        _parents(source.parent, target)
        shutil.copy(source, path)
    elif member.isreg():
        _write(archive, member, path)
    else:
        raise ImageInvalid(
            f"{member.name}: is no regular file, folder or link",
            hint="leave devices and pipes out of the archive",
        )


def _write(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    stream = archive.extractfile(member)
    assert stream is not None
    with stream, path.open("xb") as out:
        shutil.copyfileobj(stream, out)
    path.chmod(0o755 if member.mode & 0o111 else 0o644)


def _inside(name: str, target: Path) -> Path:
    parts = PurePosixPath(name).parts
    if ".." in parts or "\0" in name or name.startswith("/"):
        raise ImageInvalid(f"{name}: leads out of the archive")
    return target.joinpath(*parts)


def _parents(folder: Path, target: Path) -> None:
    """Make the folders above a member, and refuse to go through a link."""
    here = target
    for part in folder.relative_to(target).parts:
        here = here / part
        if here.is_symlink():
            raise ImageInvalid(f"{here.relative_to(target)}: the archive writes through a link")
        here.mkdir(exist_ok=True)


def _check_size(file: Path, total: int, limit: int | None) -> None:
    if limit is not None and total > limit:
        raise ImageInvalid(f"{file} holds more than {limit} bytes")


def _check_squashed(file: Path, limit: int) -> None:
    """Refuse a squashfs that would be too large, before anything of it is written."""
    listed = _run_unsquashfs(file, ["-lln"])
    total = 0
    for line in listed.splitlines():
        fields = line.split()
        if line.startswith("-") and len(fields) > 2 and fields[2].isdigit():
            total += int(fields[2])
            _check_size(file, total, limit)


def _unsquash(file: Path, target: Path) -> None:
    _run_unsquashfs(file, ["-no-xattrs", "-no-progress", "-force", "-dest", str(target)])


def _run_unsquashfs(file: Path, options: list[str]) -> str:
    program = shutil.which("unsquashfs")
    if program is None:
        raise ImageInvalid(
            f"{file} is a squashfs, and unsquashfs is not installed",
            hint="install squashfs-tools (apt install squashfs-tools), or import a tar",
        )
    argv = [program, *options, str(file)]
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, timeout=_SQUASHFS_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ImageInvalid(f"{file} cannot be unpacked: {error}") from error
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["unsquashfs failed"]
        raise ImageInvalid(f"{file} cannot be unpacked: {lines[-1]}")
    return done.stdout
