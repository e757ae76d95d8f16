"""What lies below a folder of a sandbox, told without following a link.

Folders are opened part by part from the top, so that one which is swapped for a link meanwhile
leads nowhere.
"""

from __future__ import annotations

import os

from .transfer import Refused, resolve, step

_MAX_DEPTH = 32


def open_folder(path: str, *, make: bool) -> int:
    """Open a folder by an absolute path, made where it is missing and wanted."""
    return resolve(path.rstrip("/") + "/_", make=make)[0]


class Listing:
    """The regular files below a folder; whatever else lies there is counted only."""

    def __init__(self, path: str, limit: int) -> None:
        self.root = open_folder(path, make=False)
        self.left = limit
        self.limit = limit
        self.odd = 0
        self.todo: list[tuple[str, ...]] = [()]

    def close(self) -> None:
        """Let go of the folder."""
        os.close(self.root)

    def more(self) -> list[tuple[str, int]]:
        """Return the files of one more folder, by their paths below the first, and their sizes."""
        parts = self.todo.pop()
        folder = os.dup(self.root)
        try:
            for part in parts:
                deeper = step(folder, part, make=False)
                os.close(folder)
                folder = deeper
            return self._files(folder, parts)
        except OSError:
            self.odd += 1  # it is closed to us, or was swapped
            return []
        finally:
            os.close(folder)

    def _files(self, folder: int, parts: tuple[str, ...]) -> list[tuple[str, int]]:
        found = []
        number = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
        try:
            with os.scandir(number) as entries:
                for entry in entries:
                    self.left -= 1
                    if self.left < 0:
                        raise Refused(f"has more than {self.limit} entries")
                    if entry.is_file(follow_symlinks=False):
                        size = entry.stat(follow_symlinks=False).st_size
                        found.append(("/".join((*parts, entry.name)), size))
                    elif entry.is_dir(follow_symlinks=False) and len(parts) < _MAX_DEPTH:
                        self.todo.append((*parts, entry.name))
                    else:
                        self.odd += 1
        finally:
            os.close(number)
        return found
