"""The files that a container image comes as: in a folder, or in a tar that is not unpacked.

Only what lies inside is given, and only regular files; links inside a tar are followed, as
``docker save`` writes some.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import lzma
import re
import tarfile
import tempfile
from pathlib import Path
from typing import IO, TYPE_CHECKING, BinaryIO, Protocol, cast

from requestor_sdk.model.errors import ImageInvalid
from requestor_sdk.sandbox._archive import Member, members, told

if TYPE_CHECKING:
    from collections.abc import Iterator

_MAX_FILES = 20_000
_MAX_LINKS = 8
_PACKED = (b"\x1f\x8b", b"\xfd7zXZ\x00", b"BZh")
_BLOCK = 1 << 20
_MARKS = ("oci-layout", "manifest.json")
_USUAL = re.compile(
    r"blobs(/.*)?|index\.json|repositories|(sha256:)?[0-9a-f]{64}(\.json|\.tar(\.gz)?|/.*)?",
    re.DOTALL,
)


class Blobs(Protocol):
    """Files by name."""

    def has(self, name: str) -> bool:
        """Whether there is such a regular file."""
        ...

    def open(self, name: str) -> contextlib.AbstractContextManager[BinaryIO]:
        """Open one for reading.

        Raises:
            ImageInvalid: There is none.
        """
        ...


class FolderBlobs:
    """The files of a folder. No link is followed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __str__(self) -> str:
        return str(self._folder)

    def has(self, name: str) -> bool:
        """Whether there is such a regular file."""
        return self._path(name) is not None

    def open(self, name: str) -> BinaryIO:
        """Open one for reading."""
        path = self._path(name)
        if path is None:
            raise ImageInvalid(f"{self} has no file {name}")
        return path.open("rb")

    def _path(self, name: str) -> Path | None:
        parts = _parts(name)
        path = self._folder
        for part in parts or ():
            path = path / part
            if path.is_symlink():
                return None
        return path if parts and path.is_file() else None


class TarBlobs:
    """The files in a plain tar.

    Args:
        file: The tar, for reading; it stays the caller's.
        name: What to call it.

    Raises:
        ImageInvalid: It is no tar, or has too many members.
    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._name = name
        self._found: dict[str, tarfile.TarInfo] = {}
        with told(name):
            self._archive = tarfile.open(fileobj=file, mode="r:", tarinfo=Member)  # noqa: SIM115
            for member in members(self._archive, name, _MAX_FILES):
                parts = _parts(member.name)
                if parts and (member.isreg() or member.issym() or member.islnk()):
                    self._found["/".join(parts)] = member

    def __str__(self) -> str:
        return self._name

    def has(self, name: str) -> bool:
        """Whether there is such a regular file."""
        return self._member(name) is not None

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        """Open one for reading."""
        member = self._member(name)
        stream = self._archive.extractfile(member) if member is not None else None
        if stream is None:
            raise ImageInvalid(f"{self} has no file {name}")
        with stream:
            yield cast("BinaryIO", stream)

    def _member(self, name: str) -> tarfile.TarInfo | None:
        here = "/".join(_parts(name) or ())
        for _ in range(_MAX_LINKS):
            member = self._found.get(here)
            if member is None or member.isreg():
                return member
            target = member.linkname
            if member.issym():
                target = f"{here.rpartition('/')[0]}/{target}".lstrip("/")
            here = _normal(target)
        return None


@contextlib.contextmanager
def plain_tar(file: Path, aside: Path, limit: int) -> Iterator[BinaryIO]:
    """Open a tar for reading here and there: one that is packed is unpacked aside first.

    Raises:
        ImageInvalid: It cannot be unpacked, or holds more than ``limit`` bytes.
    """
    with contextlib.ExitStack() as stack:
        stream = stack.enter_context(file.open("rb"))
        if not stream.read(8).startswith(_PACKED):
            stream.seek(0)
            yield stream
            return
        plain = stack.enter_context(tempfile.TemporaryFile(dir=aside))
        with told(file):
            _unpack_stream(file, plain, limit)
        plain.seek(0)
        yield cast("BinaryIO", plain)


def looks_like_container(file: Path) -> bool:
    """Whether a tar has what marks those of container tools.

    One that is compressed is read no further than to the first member that those do not have.
    """
    with file.open("rb") as stream:
        packed = stream.read(8).startswith(_PACKED)
    try:
        with told(file), tarfile.open(file, tarinfo=Member) as archive:
            for member in members(archive, file, _MAX_FILES):
                name = "/".join(_parts(member.name) or ())
                if name in _MARKS:
                    return True
                if packed and name and not _USUAL.fullmatch(name):
                    return False
    except ImageInvalid:
        return False
    return False


def _unpack_stream(file: Path, plain: IO[bytes], limit: int) -> None:
    with file.open("rb") as stream:
        head = stream.read(3)
        stream.seek(0)
        packed: IO[bytes]
        if head.startswith(_PACKED[0]):
            packed = cast("IO[bytes]", gzip.GzipFile(fileobj=stream))
        else:
            unpacker = bz2.BZ2File if head == _PACKED[2] else lzma.LZMAFile
            packed = cast("IO[bytes]", unpacker(stream))
        left = limit
        while data := packed.read(_BLOCK):
            left -= len(data)
            if left < 0:
                raise ImageInvalid(f"{file} holds more than {limit} bytes")
            plain.write(data)


def _parts(name: str) -> list[str] | None:
    """Return the parts of a name, ``None`` where it leads out."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    return None if ".." in parts or "\0" in name else parts


def _normal(name: str) -> str:
    """Resolve ``..`` in what a link says; what would climb out stays at the top."""
    parts: list[str] = []
    for part in name.split("/"):
        if part == ".." and parts:
            parts.pop()
        elif part not in ("", ".", ".."):
            parts.append(part)
    return "/".join(parts)
