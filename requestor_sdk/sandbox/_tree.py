"""Trees of files as images know them: scanned, hashed, copied, removed.

Only regular files, folders and links; only names, contents, the x-bit and what links say. Links
that are absolute stay as they are, for inside a sandbox they mean the sandbox's own root, but one
that climbs out of the image by ``..`` is refused.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from requestor_sdk.model.errors import ImageInvalid

if TYPE_CHECKING:
    from collections.abc import Callable

_BLOCK = 1 << 20
_LENGTH = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One file, folder or link.

    Attributes:
        name: Path inside the image, without a leading slash.
        kind: ``file``, ``folder`` or ``link``.
        source: Where it is now; ``None`` for a folder that exists only inside.
        target: What a link says.
        executable: The x-bit of a file.
    """

    name: str
    kind: str
    source: Path | None
    target: str = ""
    executable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """The entries of an image, sorted by name.

    Attributes:
        entries: All of them, the root excluded.
        size: Bytes of the regular files.
    """

    entries: tuple[Entry, ...]
    size: int

    def digest(self, salt: str) -> str:
        """Return the sha3-224 of everything that makes the image, and of the salt."""
        total = hashlib.sha3_224()
        _feed(total, b"requestor-sdk image 1")
        _feed(total, salt.encode())
        for entry in self.entries:
            _feed(total, os.fsencode(entry.name))
            _feed(total, entry.kind.encode())
            _feed(total, b"x" if entry.executable else b"-")
            _feed(total, os.fsencode(entry.target))
            _feed(total, _content_hash(entry))
        return total.hexdigest()


def _feed(total: hashlib._Hash, data: bytes) -> None:
    # With its length, so that no two different trees feed the same bytes.
    total.update(len(data).to_bytes(_LENGTH, "big"))
    total.update(data)


def _content_hash(entry: Entry) -> bytes:
    if entry.kind != "file" or entry.source is None:
        return b""
    with entry.source.open("rb") as file:
        return hashlib.file_digest(file, "sha3_224").digest()


def scan(root: Path, place: Callable[[str], str]) -> Tree:
    """Read what is in a folder.

    Args:
        root: The folder.
        place: Tells where inside the image a path goes.

    Raises:
        ImageInvalid: Something that no image may hold, named by its path.
    """
    found: dict[str, Entry] = {}
    size = 0
    todo = [root]
    while todo:
        folder = todo.pop()
        for item in _items(folder):
            path = Path(item.path)
            name = place(path.relative_to(root).as_posix())
            entry = _entry(name, path)
            if name in found and found[name].kind != "folder":
                raise ImageInvalid(f"{path}: the image has {name} twice")
            found[name] = entry
            if entry.kind == "folder":
                todo.append(path)
            elif entry.kind == "file":
                size += item.stat(follow_symlinks=False).st_size
    _complete(found)
    return Tree(entries=tuple(found[name] for name in sorted(found)), size=size)


def _items(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as items:
            return list(items)
    except OSError as error:
        raise ImageInvalid(f"{folder} cannot be read: {error.strerror}") from error


def _complete(found: dict[str, Entry]) -> None:
    """Add folders that moving things around has made necessary."""
    for name in list(found):
        for parent in Path(name).parents:
            text = parent.as_posix()
            if text != "." and text not in found:
                found[text] = Entry(name=text, kind="folder", source=None)


def _entry(name: str, path: Path) -> Entry:
    try:
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            target = os.readlink(path)  # noqa: PTH115 - as it is written
            _check_link(name, path, target)
            return Entry(name=name, kind="link", source=path, target=target)
    except OSError as error:
        raise ImageInvalid(f"{path} cannot be read: {error.strerror}") from error
    if stat.S_ISDIR(mode):
        return Entry(name=name, kind="folder", source=path)
    if stat.S_ISREG(mode):
        return Entry(name=name, kind="file", source=path, executable=bool(mode & 0o111))
    raise ImageInvalid(
        f"{path} is no regular file, folder or link", hint="leave devices, sockets and pipes out"
    )


def _check_link(name: str, path: Path, target: str) -> None:
    depth = 0 if target.startswith("/") else name.count("/")
    for part in target.split("/"):
        depth += {"..": -1, "": 0, ".": 0}.get(part, 1)
        if depth < 0:
            raise ImageInvalid(f"{path} is a link out of the image, to {target}")


def copy_tree(tree: Tree, target: Path) -> None:
    """Write a tree into a new folder, with rights as a sandbox needs them."""
    gid = _sandbox_group()
    # Sandboxes of root run as a private user of that group: what the owner may, it may too.
    folder_mode, shared = (0o775, 0o020) if gid is not None else (0o755, 0)
    target.mkdir(parents=True)
    _own(target, folder_mode, gid)
    for entry in tree.entries:
        path = target / entry.name
        if entry.kind == "folder":
            path.mkdir()
            _own(path, folder_mode, gid)
        elif entry.kind == "link":
            path.symlink_to(entry.target)
        elif entry.source is not None:
            shutil.copyfile(entry.source, path, follow_symlinks=False)
            _own(path, (0o755 if entry.executable else 0o644) | shared, gid)


def _own(path: Path, mode: int, gid: int | None) -> None:
    if gid is not None:
        os.chown(path, -1, gid)
    path.chmod(mode)


def _sandbox_group() -> int | None:
    if sys.platform != "linux" or os.geteuid() != 0:
        return None
    from requestor_sdk.sandbox._ids import private_group

    return private_group()


def remove_tree(folder: Path) -> None:
    """Remove a folder and all in it, read-only folders included; links are not followed.

    Not by recursion: an archive can nest folders deeper than the interpreter's stack.
    """
    todo, seen = [folder], []
    while todo:
        here = todo.pop()
        seen.append(here)
        with contextlib.suppress(OSError):
            here.chmod(0o700)
            with os.scandir(here) as items:
                for item in items:
                    if item.is_dir(follow_symlinks=False):
                        todo.append(Path(item.path))
                    else:
                        os.unlink(item.path)  # noqa: PTH108 - no Path for each file
    for here in reversed(seen):
        with contextlib.suppress(OSError):
            here.rmdir()
