"""The lock of a run: who holds it may write the run's journal, and the run counts as alive.

It is SQLite's own lock of a file beside the journal, so it works wherever SQLite does, ends with
the process however that ends, and hinders nobody who reads the journal. The file is empty and
stays: to remove it when the run ends would let two processes lock two files of one name.
"""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

from requestor_sdk.model.errors import JournalUnwritable, RunLocked
from requestor_sdk.observe._names import SUFFIX, name_of

_BUSY: Final = 5
# One who only looks whether the lock is held has it for a moment.
_PATIENCE_SEC: Final = 0.2


class RunLock:
    """Held from when it is made until it is released, or the process ends.

    Args:
        path: The file; its folder exists.
        journal: What it guards; by default the journal in SQLite of the same name, in a store.

    Raises:
        RunLocked: Somebody else holds it, in this process or another.
        JournalUnwritable: The file cannot be made.
    """

    def __init__(self, path: Path, *, journal: Path | None = None) -> None:
        self.path = path
        self._connection: sqlite3.Connection | None = None
        try:
            connection = sqlite3.connect(
                path, timeout=_PATIENCE_SEC, isolation_level=None, check_same_thread=False
            )
        except sqlite3.Error as error:
            raise _unwritable(path, error) from error
        try:
            connection.execute("PRAGMA journal_mode=MEMORY").close()
            connection.execute("BEGIN EXCLUSIVE").close()
            # A file that may only be read gives no exclusive lock, and does not say so. What is
            # written here stays in memory, and ends with the transaction.
            connection.execute("PRAGMA user_version=1").close()
        except sqlite3.Error as error:
            connection.close()
            if _is_busy(error):
                written = journal or path.with_suffix(SUFFIX)
                raise RunLocked(
                    f"the run of {written} is alive",
                    ids={"run": path.stem} if journal is None else {},
                    hint="wait until it is over, or end it; "
                    f"`requestor-sdk status {name_of(written)}` shows it meanwhile",
                ) from None
            raise _unwritable(path, error) from error
        self._connection = connection

    def release(self) -> None:
        """Let go. Idempotent."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def is_held(path: Path) -> bool:
    """Tell whether somebody holds the lock of that file. Makes no file."""
    if not path.exists():
        return False
    try:
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=0, isolation_level=None
        )
    except sqlite3.Error:
        return False
    try:
        connection.execute("SELECT 1 FROM sqlite_schema").fetchall()
    except sqlite3.Error as error:
        return _is_busy(error)
    finally:
        connection.close()
    return False


def remove_empty(path: Path) -> None:
    """Remove a file that was made for nothing, if that can be done."""
    with suppress(OSError):  # it is empty, and says nothing that is not so
        path.unlink()


def _is_busy(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == _BUSY


def _unwritable(path: Path, error: sqlite3.Error) -> JournalUnwritable:
    return JournalUnwritable(
        f"the lock {path} cannot be taken: {error}",
        hint="name another file; or make room for it, or the right to write it",
    )
