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
from dataclasses import dataclass
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


@dataclass(slots=True)
class _Tally:
    """What an attempt's outputs come to, those included that are being written."""

    size: int = 0
    files: int = 0


class Blobs:
    """The files of all runs, below one folder.

    Args:
        root: The folder; made where it is missing, for the user alone.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._tallies: dict[Path, _Tally] = {}

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

    def drop_inputs(self, run_id: str) -> None:
        """Remove the inputs of a run that is over: they may be large, and nobody reads them."""
        shutil.rmtree(self.folder(run_id) / "inputs", ignore_errors=True)

    def free(self) -> int:
        """Return the bytes that are free where the files lie."""
        return shutil.disk_usage(self.root).free

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
        tally = self._tally(target.parent)
        before = _size(target)
        digest, size = hashlib.sha256(), 0
        tally.files += before is None
        try:
            _check(tally.files <= MAX_FILES, f"there are more than {MAX_FILES} outputs", run_id)
            file = await asyncio.to_thread(aside.open, "xb", buffering=0)
            with file:
                async for data in chunks:
                    size += len(data)
                    tally.size += len(data)
                    fits = tally.size - (before or 0) <= limit
                    _check(fits, f"the outputs exceed {limit} bytes", run_id)
                    await asyncio.to_thread(_write, file.fileno(), data, digest)
                await asyncio.to_thread(os.fsync, file.fileno())
            await asyncio.to_thread(aside.replace, target)
        except BaseException:
            tally.size -= size
            tally.files -= before is None
            with suppress(FileNotFoundError):
                aside.unlink()
            raise
        tally.size -= before or 0
        return KeptFile(name=name, size=size, sha256=digest.hexdigest())

    def _tally(self, folder: Path) -> _Tally:
        """Return what an attempt's outputs come to; looked up on disk once, and then counted."""
        found = self._tallies.get(folder)
        if found is None:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = self._tallies[folder] = _Tally()
            for entry in os.scandir(folder):
                found.files += 1
                with suppress(FileNotFoundError):
                    found.size += entry.stat(follow_symlinks=False).st_size
        return found

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
        self._tallies.pop(folder, None)
        kept = {_digest(file.name) for file in files}
        if folder.is_dir():
            for path in folder.iterdir():
                if path.name not in kept:
                    with suppress(FileNotFoundError):
                        path.unlink()

    def remove(self, run_id: str) -> None:
        """Remove all files of a run. Idempotent."""
        folder = self.folder(run_id)
        for known in [one for one in list(self._tallies) if folder in one.parents]:
            del self._tallies[known]
        shutil.rmtree(folder, ignore_errors=True)

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


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def _check(fits: bool, message: str, run_id: str) -> None:
    if not fits:
        raise JobRefused(message, reasons={"output": "too_large"}, ids={"run": run_id})


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:40]
