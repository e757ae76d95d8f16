"""Lays the layers of a container image over each other, in one folder.

A layer comes from strangers. Whatever it names, nothing is read or written outside the folder: a
link on the way is followed as if the folder were the root. Nobody else may write to the folder
meanwhile. https://github.com/opencontainers/image-spec/blob/main/layer.md
"""

from __future__ import annotations

import os
import shutil
import stat
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

from requestor_sdk.model.errors import ImageInvalid
from requestor_sdk.sandbox._archive import ENTRIES, members
from requestor_sdk.sandbox._tree import remove_tree

if TYPE_CHECKING:
    import tarfile

_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
_INTERNAL = ".wh..wh."
_MAX_LINKS = 40
_MAX_DEPTH = 512


class Rootfs:
    """The root file system that comes about.

    Args:
        root: An empty folder.
        limit: Bytes of all files of all layers together at most.
    """

    def __init__(self, root: Path, limit: int) -> None:
        self._root = root
        self._limit = limit
        self._left = ENTRIES
        self.size = 0
        # What the present layer has put there: its own whiteouts do not take it away.
        self._mine: set[Path] = set()
        self._real: set[Path] = set()

    def apply(self, archive: tarfile.TarFile, name: str) -> None:
        """Lay one layer over what is there.

        Raises:
            ImageInvalid: It has what no image may have; the member is named.
        """
        self._mine = set()
        self._real = set()
        for member in members(archive, name, self._left):
            self._left -= 1
            self._member(archive, member)

    def make_folder(self, path: str) -> None:
        """Make a folder where there is none yet."""
        self._folder(path, _parts(path))

    def _member(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        parts = _parts(member.name)
        if not parts:
            return
        last = parts[-1]
        if last.startswith(_WHITEOUT):
            self._white_out(member.name, parts[:-1], last)
            return
        if not (member.isreg() or member.isdir() or member.issym() or member.islnk()):
            if parts[0] == "dev":
                return  # a sandbox has a /dev of its own
            raise ImageInvalid(
                f"{member.name}: is no regular file, folder or link",
                hint="leave devices and pipes out of the image",
            )
        path = self._folder(member.name, parts[:-1]) / last
        if member.isdir():
            self._make_folder(path)
        elif member.issym():
            self._clear(path)
            path.symlink_to(member.linkname)  # whether it leads out is checked with the whole tree
        elif member.islnk():
            self._link(member, path)
        else:
            self._write(archive, member, path)
        self._own(path)

    def _own(self, path: Path) -> None:
        while path != self._root and path not in self._mine:
            self._mine.add(path)
            path = path.parent

    def _make_folder(self, path: Path) -> None:
        if path.is_symlink() or not path.is_dir():
            self._clear(path)
            path.mkdir()

    def _write(self, archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
        self._count(member.name, member.size)
        self._clear(path)
        stream = archive.extractfile(member)
        if stream is None:
            raise ImageInvalid(f"{member.name}: has no content")
        with stream, path.open("xb") as out:
            shutil.copyfileobj(stream, out, 1 << 20)
        if path.stat().st_size != member.size:
            raise ImageInvalid(f"{member.name}: ends before its end")
        path.chmod(0o755 if member.mode & 0o111 else 0o644)

    def _link(self, member: tarfile.TarInfo, path: Path) -> None:
        parts = _parts(member.linkname)
        source = self._found(parts[:-1])
        source = source / parts[-1] if source is not None and parts else None
        try:
            mode = source.lstat().st_mode if source is not None else 0
        except (FileNotFoundError, NotADirectoryError):
            mode = 0
        if source is None or not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
            raise ImageInvalid(f"{member.name}: a hard link to {member.linkname}, which is no file")
        if source == path:
            return
        if path in source.parents:
            raise ImageInvalid(f"{member.name}: a hard link to a file below itself")
        # In the store each name has its own copy.
        self._count(member.name, source.lstat().st_size)
        self._clear(path)
        os.link(source, path, follow_symlinks=False)

    def _count(self, name: str, size: int) -> None:
        self.size += size
        if self.size > self._limit:
            raise ImageInvalid(
                f"{name}: the image holds more than {self._limit} bytes",
                hint="import it with a higher --limit-gib, if it is meant to be so large",
            )

    # -- whiteouts

    def _white_out(self, name: str, parents: list[str], last: str) -> None:
        folder = self._found(parents)
        if last == _OPAQUE:
            if folder is not None and folder.is_dir():
                self._remove_lower(folder)
            return
        if last.startswith(_INTERNAL):
            return
        hidden = last.removeprefix(_WHITEOUT)
        if hidden in ("", ".", ".."):
            raise ImageInvalid(f"{name}: takes away nothing that has a name")
        if folder is None:
            return
        path = folder / hidden
        if path in self._mine and path.is_dir() and not path.is_symlink():
            self._remove_lower(path)
        elif path not in self._mine:
            self._clear(path)

    def _remove_lower(self, folder: Path) -> None:
        """Remove what lower layers have put into a folder; not by recursion."""
        todo = [folder]
        while todo:
            with os.scandir(todo.pop()) as items:
                for item in items:
                    path = Path(item.path)
                    if path not in self._mine:
                        self._clear(path)
                    elif item.is_dir(follow_symlinks=False):
                        todo.append(path)

    def _clear(self, path: Path) -> None:
        """Remove whatever is there."""
        if path.is_symlink() or not path.is_dir():
            path.unlink(missing_ok=True)
            return
        remove_tree(path)
        self._real.clear()

    # -- paths

    def _folder(self, name: str, parts: list[str]) -> Path:
        """Return the folder of that path, made where it is missing."""
        return self._walk(name, parts, make=True) or self._root

    def _found(self, parts: list[str]) -> Path | None:
        """Return the folder of that path, ``None`` where there is none."""
        return self._walk("", parts, make=False)

    def _walk(self, name: str, parts: list[str], *, make: bool) -> Path | None:
        """Walk down, and follow links as if the folder were the root."""
        plain = self._root.joinpath(*parts)
        if plain in self._real:
            return plain
        here, links = self._root, 0
        todo = deque(parts)
        straight = True
        while todo:
            part = todo.popleft()
            if part == "..":
                here = here.parent if here != self._root else here
                continue
            path = here / part
            try:
                mode = path.lstat().st_mode
            except FileNotFoundError:
                if not make:
                    return None
                path.mkdir()
                self._own(path)
                here = path
                continue
            if stat.S_ISLNK(mode):
                links += 1
                straight = False
                if links > _MAX_LINKS:
                    raise ImageInvalid(f"{name or part}: leads through too many links")
                target = os.readlink(path)  # noqa: PTH115 - as it is written
                here = self._root if target.startswith("/") else here
                todo.extendleft(reversed([p for p in target.split("/") if p not in ("", ".")]))
                continue
            if not stat.S_ISDIR(mode):
                if not make:
                    return None
                # The layer puts a folder where a lower one has a file.
                path.unlink()
                path.mkdir()
                self._own(path)
            here = path
        if straight:
            self._real.add(here)
        return here


def _parts(name: str) -> list[str]:
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts or "\0" in name:
        raise ImageInvalid(f"{name}: leads out of the image")
    if len(parts) > _MAX_DEPTH:
        raise ImageInvalid(f"{name[:100]}...: lies deeper than {_MAX_DEPTH} folders")
    return parts
