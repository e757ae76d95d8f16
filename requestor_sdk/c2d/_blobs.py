"""The files of runs on disk: inputs, outputs and logs.

A file lies under a digest of its name, so that no name can lead anywhere else; the names themselves
are in the store. What stands under a name is whole: it is written aside, synced, and renamed.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import secrets
import shutil
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from requestor_sdk.model.errors import JobRefused
from requestor_sdk.ports.worker import KeptFile

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
    from pathlib import Path

CHUNK: Final = 1 << 20
MAX_FILES: Final = 10_000
"""Files that one attempt may leave."""

_RUN_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
_PART: Final = ".part"
_FORGOTTEN_SEC: Final = 24 * 3600.0


class Blobs:
    """The files of all runs, below one folder.

    Args:
        root: The folder; made where it is missing, for the user alone.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(mode=0o700, parents=True, exist_ok=True)

    def folder(self, run_id: str) -> Path:
        """Return the folder of a run.

        Raises:
            ValueError: That is no id of a run.
        """
        if not _RUN_ID.fullmatch(run_id):
            raise ValueError("an id of a run is letters, digits, - and _")
        return self.root / run_id

    def input(self, run_id: str, name: str) -> Path:
        """Return where an input file lies, or is to lie; its folder is there."""
        folder = self.folder(run_id) / "inputs"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder / _digest(name)

    def link_input(self, run_id: str, name: str, path: Path) -> int:
        """Have a file that stays where it is as an input; return its size."""
        target = self.input(run_id, name)
        aside = target.with_name(f"{target.name}.{secrets.token_hex(4)}{_PART}")
        aside.symlink_to(path.resolve())
        aside.replace(target)
        return target.stat().st_size

    def output(self, run_id: str, attempt: int, name: str) -> Path:
        """Return where an output file of an attempt lies."""
        return self._attempt(run_id, attempt) / "outputs" / _digest(name)

    def log(self, run_id: str, attempt: int) -> Path:
        """Return where the log of an attempt lies; there is none before it wrote something."""
        return self._attempt(run_id, attempt) / "log"

    def _attempt(self, run_id: str, attempt: int) -> Path:
        return self.folder(run_id) / f"attempt-{attempt}"

    def append(self, run_id: str, attempt: int, offset: int, data: bytes, limit: int) -> int:
        """Write what of a log is new, up to a limit; return how long it is then.

        Bytes that never came (the machine lost its power) read as line ends.

        Raises:
            ValueError: The offset is negative.
        """
        if offset < 0:
            raise ValueError("the offset of a log is not negative")
        path = self.log(run_id, attempt)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            size = os.fstat(handle).st_size
            if offset > size:
                gap = min(offset, limit) - size
                data, offset = b"\n" * max(0, gap) + data, size
            new = data[size - offset : max(0, limit - offset)]
            written = 0
            while written < len(new):
                written += os.pwrite(handle, new[written:], size + written)
            return size + written
        finally:
            os.close(handle)

    async def read(self, path: Path, offset: int = 0) -> AsyncGenerator[bytes]:
        """Yield the bytes of a file from an offset on."""
        with await asyncio.to_thread(path.open, "rb") as file:
            file.seek(offset)
            while data := await asyncio.to_thread(file.read, CHUNK):
                yield data

    async def keep(
        self, run_id: str, attempt: int, name: str, chunks: AsyncIterator[bytes], limit: int
    ) -> KeptFile:
        """Write an output file.

        Raises:
            JobRefused: All files of the attempt exceed the limit together, or are too many.
        """
        target = self.output(run_id, attempt, name)
        aside = target.with_name(f"{target.name}.{secrets.token_hex(4)}{_PART}")
        room = limit - await asyncio.to_thread(self._used, target)
        digest, size = hashlib.sha256(), 0
        file = await asyncio.to_thread(aside.open, "xb", buffering=0)
        try:
            with file:
                async for data in chunks:
                    size += len(data)
                    _check(size <= room, f"the outputs exceed {limit} bytes", run_id)
                    await asyncio.to_thread(_write, file.fileno(), data, digest)
                await asyncio.to_thread(os.fsync, file.fileno())
            await asyncio.to_thread(aside.replace, target)
        except BaseException:
            with suppress(FileNotFoundError):
                aside.unlink()
            raise
        return KeptFile(name=name, size=size, sha256=digest.hexdigest())

    def _used(self, target: Path) -> int:
        """Return how many bytes an attempt's other files take."""
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        used = count = 0
        for entry in os.scandir(target.parent):
            if entry.name != target.name:
                count += 1
                with suppress(FileNotFoundError):
                    used += entry.stat(follow_symlinks=False).st_size
        run_id = target.parent.parent.parent.name
        _check(count < MAX_FILES, f"there are more than {MAX_FILES} outputs", run_id)
        return used

    def missing(self, run_id: str, attempt: int, files: Sequence[KeptFile]) -> str | None:
        """Return the name of a file that is not there as it is told; ``None`` where all are."""
        for file in files:
            try:
                if self.output(run_id, attempt, file.name).stat().st_size == file.size:
                    continue
            except FileNotFoundError:
                pass
            return file.name
        return None

    def settle(self, run_id: str, attempt: int, files: Sequence[KeptFile]) -> None:
        """Remove what of an attempt's outputs is none of these files."""
        folder = self._attempt(run_id, attempt) / "outputs"
        kept = {_digest(file.name) for file in files}
        if folder.is_dir():
            for path in folder.iterdir():
                if path.name not in kept:
                    with suppress(FileNotFoundError):
                        path.unlink()

    def remove(self, run_id: str) -> None:
        """Remove all files of a run. Idempotent."""
        shutil.rmtree(self.folder(run_id), ignore_errors=True)

    def strangers(self, known: Iterable[str]) -> Sequence[str]:
        """Return the folders of runs that nobody knows, untouched for a day."""
        before = time.time() - _FORGOTTEN_SEC
        runs = set(known)
        return [
            entry.name
            for entry in os.scandir(self.root)
            if entry.name not in runs
            and _RUN_ID.fullmatch(entry.name)
            and entry.stat(follow_symlinks=False).st_mtime < before
        ]


def _write(handle: int, data: bytes, digest: hashlib._Hash) -> None:
    digest.update(data)
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


def _check(fits: bool, message: str, run_id: str) -> None:
    if not fits:
        raise JobRefused(message, reasons={"output": "too_large"}, ids={"run": run_id})


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:40]
