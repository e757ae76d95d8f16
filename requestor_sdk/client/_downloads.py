"""Results onto the disk: into a folder, under names of this side's choosing, from where it broke.

A name comes from a stranger: it becomes one part of a path, whatever it says.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from requestor_sdk.model.errors import BadAnswer, NetworkError, NotAvailable

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from datetime import datetime

    from requestor_sdk.model.jobs import ResultFile
    from requestor_sdk.ports.jobs import Jobs

Progress = Callable[["ResultFile", int], None]
"""Called with a file and how many bytes of it are here."""

PART: Final = ".part"
_TRIES: Final = 5
_PAUSE_SEC: Final = 0.5
_ODD: Final = re.compile(r"[^A-Za-z0-9._ +=@-]")
_LONGEST: Final = 120


def names_for(files: Sequence[ResultFile]) -> list[str]:
    """Return a name of its own for each file; one that is taken gets the file's number."""
    taken: set[str] = set()
    made = []
    for file in files:
        name = safe_name(file.name) or f"result-{file.index}"
        if name.lower() in taken:
            name = f"{file.index}-{name}"
        while name.lower() in taken:
            name = f"_{name}"
        taken.add(name.lower())
        made.append(name)
    return made


def safe_name(name: str) -> str:
    """Return a name that is one part of a path, or nothing where none is left."""
    last = name.replace("\\", "/").rstrip("/").rpartition("/")[2]
    plain = _ODD.sub("_", last).strip(" .")
    return plain[-_LONGEST:] if plain.strip("_. ") else ""


async def download(
    jobs: Jobs,
    job_id: str,
    files: Sequence[ResultFile],
    folder: Path,
    progress: Progress | None,
    *,
    ended: datetime | None = None,
) -> list[Path]:
    """Get files of a job into a folder, and return where they are, in order.

    What is there whole is not fetched again; what is there in part goes on. A job that was started
    again has other files of the same names: each gets the time of the job's end, and a part has it
    in its name.

    Raises:
        NotAvailable: The folder cannot be written.
        JobNotFound: A result is gone.
        NetworkError: The provider stayed away.
    """
    _make(folder)
    paths = []
    stamp = None if ended is None else int(ended.timestamp())
    for file, name in zip(files, names_for(files), strict=True):
        target = folder / name
        if not _is_whole(target, file, stamp):
            await _fetch(jobs, job_id, file, target, progress, stamp=stamp)
            _stamp(target, stamp)
        elif progress is not None:
            progress(file, file.size)
        paths.append(target)
    return paths


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, error) from error


def _is_whole(target: Path, file: ResultFile, stamp: int | None) -> bool:
    if not target.is_file() or target.is_symlink():
        return False
    found = target.stat()
    return found.st_size == file.size and stamp in (None, int(found.st_mtime))


def _stamp(target: Path, stamp: int | None) -> None:
    if stamp is not None:
        with contextlib.suppress(OSError):  # then it is fetched once more, where it is asked for
            os.utime(target, (stamp, stamp))


def _part_of(target: Path, stamp: int | None) -> Path:
    """Return where a file's part lies; parts of what it was before are removed."""
    part = target.with_name(f"{target.name}{'' if stamp is None else f'.{stamp}'}{PART}")
    former = re.compile(re.escape(target.name) + r"\.[0-9]+" + re.escape(PART))
    for found in target.parent.iterdir():
        if found != part and former.fullmatch(found.name):
            found.unlink(missing_ok=True)
    return part


def _begun(part: Path, file: ResultFile) -> int:
    """Return how much of a file is here; a part that is more than the whole is none."""
    size = part.stat().st_size if part.is_file() else 0
    if size <= file.size:
        return size
    part.unlink()
    return 0


async def _fetch(
    jobs: Jobs,
    job_id: str,
    file: ResultFile,
    target: Path,
    progress: Progress | None,
    *,
    stamp: int | None,
) -> None:
    part = _part_of(target, stamp)
    tries = 0
    while True:
        before = _begun(part, file)
        try:
            await _append(jobs, job_id, file, part, before, progress)
            break
        except NetworkError as error:
            moved = part.is_file() and part.stat().st_size > before
            tries = 1 if moved else tries + 1
            if not error.may_pass or tries > _TRIES:
                raise
            await asyncio.sleep(_PAUSE_SEC * tries)
    size = part.stat().st_size
    # A node tells a log's size with its frames, and gives it without.
    if size != file.size and file.type == "output":
        part.unlink()
        raise BadAnswer(
            f"{file.name} came with {size} bytes, and has {file.size}", ids={"job": job_id}
        )
    part.replace(target)


async def _append(  # noqa: PLR0917 - called in one place
    jobs: Jobs,
    job_id: str,
    file: ResultFile,
    part: Path,
    offset: int,
    progress: Progress | None,
) -> None:
    try:
        opened = part.open("ab")
    except OSError as error:
        raise _unwritable(part, error) from error
    with opened:
        done = offset
        pieces = cast("AsyncGenerator[bytes]", jobs.result(job_id, file, offset=offset))
        async with aclosing(pieces):
            async for chunk in _limited(pieces, job_id, file, offset):
                try:
                    # The disk may be slow; others on this loop do not wait for it.
                    await asyncio.to_thread(opened.write, chunk)
                except OSError as error:
                    raise _unwritable(part, error) from error
                done += len(chunk)
                if progress is not None:
                    progress(file, done)


async def _limited(
    pieces: AsyncIterator[bytes], job_id: str, file: ResultFile, offset: int
) -> AsyncIterator[bytes]:
    """Pass on what comes, and no more of it than there is to come."""
    left = file.size - offset
    async for chunk in pieces:
        left -= len(chunk)
        if left < 0:
            raise BadAnswer(f"more than {file.size} bytes came of {file.name}", ids={"job": job_id})
        yield chunk


def _unwritable(path: Path, error: OSError) -> NotAvailable:
    return NotAvailable(
        f"{path} cannot be written: {error.strerror or error}",
        hint="name another folder; or make room for it, or the right to write it",
    )
