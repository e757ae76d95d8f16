"""Paths of a payload on the host's side, where a scratch folder stands for its root."""

from __future__ import annotations

import os
import stat
from pathlib import Path, PurePosixPath

from requestor_sdk.model.errors import TransferRefused
from requestor_sdk.ports.runtime import SandboxFile, SandboxListing


def mapped(root: Path, path: str) -> Path:
    """Return where a payload's path lies below the scratch folder.

    Raises:
        TransferRefused: It is not absolute, has ``..``, passes through a link, or is there and
            is no regular file.
    """
    parts = PurePosixPath(path).parts
    if not path.startswith("/") or "\0" in path or len(parts) < 2:
        raise TransferRefused(f"{path!r} is no absolute path of a file")
    if ".." in parts:
        raise TransferRefused(f"the path {path} has '..'")
    here = root
    for number, part in enumerate(parts[1:], start=2):
        here = here / part
        try:
            mode = here.lstat().st_mode
        except FileNotFoundError:
            return root.joinpath(*parts[1:])
        except NotADirectoryError:
            break
        if stat.S_ISLNK(mode):
            raise TransferRefused(f"the path {path} passes through the link {part!r}")
        if number == len(parts) and not stat.S_ISREG(mode):
            raise TransferRefused(f"the path {path} is no regular file")
    return root.joinpath(*parts[1:])


def listed(folder: Path, limit: int) -> SandboxListing | None:
    """Return what lies below a folder, ``None`` where that is more than ``limit`` entries."""
    files, seen, left_out = list[SandboxFile](), 0, 0
    for here, folders, names in os.walk(folder):
        for name in (*folders, *names):
            seen += 1
            file = Path(here, name)
            status = file.lstat()
            if stat.S_ISREG(status.st_mode):
                inside = file.relative_to(folder).as_posix()
                files.append(SandboxFile(name=inside, size=status.st_size))
            elif not stat.S_ISDIR(status.st_mode):
                left_out += 1
        if seen > limit:
            return None
    files.sort(key=lambda file: file.name)
    return SandboxListing(files=tuple(files), left_out=left_out)
