"""Finding a payload's unix socket from the host, step by step, so that nothing leads elsewhere.

What is inside a sandbox is hostile: an absolute link in the place of the socket would be followed
on the host, and a caller would speak to a program of the host.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path, PurePosixPath
from typing import Final

from requestor_sdk.model.errors import NotAvailable, NotSupported, TransferRefused

_O_PATH: Final = getattr(os, "O_PATH", 0)


def open_socket(root: Path, path: str) -> int:
    """Return a descriptor (``O_PATH``) of the socket at a payload's path.

    Args:
        root: The payload's root, as this process sees it.
        path: Absolute, inside.

    Raises:
        TransferRefused: The path is not absolute, passes through a link, or ends at no socket.
        NotAvailable: There is nothing at that path.
        NotSupported: This platform has no such descriptors.
    """
    if not _O_PATH:
        raise NotSupported("sockets of a payload are reached on Linux only")
    parts = PurePosixPath(path).parts
    if not path.startswith("/") or "\0" in path or ".." in parts or len(parts) < 2:
        raise TransferRefused(f"{path!r} is no absolute path of a socket")
    try:
        here = os.open(root, _O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        for part in parts[1:]:
            folder, here = here, -1
            try:
                here = os.open(part, _O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            finally:
                os.close(folder)
    except FileNotFoundError:
        raise NotAvailable(f"there is nothing at {path}") from None
    except OSError as error:
        raise TransferRefused(f"the path {path}: {error.strerror}") from None
    if not stat.S_ISSOCK(os.fstat(here).st_mode):
        os.close(here)
        raise TransferRefused(f"there is no socket at {path}")
    return here
