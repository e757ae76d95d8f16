"""Takes what a run leaves in its output folders out of the sandbox.

All of it is hostile: names, numbers and sizes are checked before anything is read, and what is
read counts, whatever was said of it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from requestor_sdk.model.errors import CommandFailed, TransferRefused
from requestor_sdk.ports.worker import KeptFile

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from requestor_sdk.ports.runtime import Sandbox, SandboxFile

_NAME_BYTES = 1024
_PART_BYTES = 255


class OutputsTooLarge(Exception):
    """There is more than may be kept; the message says of what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """What was taken out.

    Attributes:
        files: In order; the file number ``n`` lies in the folder under that number.
        left_out: What was not taken: links and the like, names that are too long, files that were
            gone or could not be read.
    """

    files: tuple[KeptFile, ...] = ()
    left_out: int = 0


async def collect(
    box: Sandbox, outputs: Sequence[str], folder: Path, *, limit: int, max_files: int
) -> Collected:
    """Copy every regular file below the output folders into a folder of the host.

    Args:
        box: Where they are.
        outputs: The folders inside. A file's name is the last part of the folder's path, and its
            own path below the folder.
        folder: Where to put them.
        limit: Bytes that all may have together.
        max_files: How many entries the folders may have.

    Raises:
        OutputsTooLarge: There are too many, or too much.
        SandboxDied: The sandbox ended meanwhile.
    """
    found: list[tuple[str, str, SandboxFile]] = []
    left_out = 0
    for output in outputs:
        try:
            listing = await box.list_files(output, limit=max_files - len(found))
        except TransferRefused as error:
            if "more than" in error.message:
                raise OutputsTooLarge(f"{output} has more than {max_files} entries") from None
            left_out += 1  # the folder itself became a link, or a file
            continue
        except CommandFailed:
            left_out += 1
            continue
        left_out += listing.left_out
        folder_path = output.rstrip("/")
        last = folder_path.rpartition("/")[2]
        found += [(f"{folder_path}/{f.name}", f"{last}/{f.name}", f) for f in listing.files]
    told = sum(file.size for _, _, file in found)
    if told > limit:
        raise OutputsTooLarge(f"the outputs have {told} bytes, and {limit} are allowed")
    return await _copy(box, found, folder, limit, left_out)


async def _copy(
    box: Sandbox,
    found: list[tuple[str, str, SandboxFile]],
    folder: Path,
    limit: int,
    left_out: int,
) -> Collected:
    kept: list[KeptFile] = []
    names: set[str] = set()
    room = limit
    for path, raw, _ in found:
        name = printable(raw)
        if name is None or name in names:
            left_out += 1
            continue
        target = folder / str(len(kept))
        try:
            file = await _take(box, path, name, target, room)
        except (TransferRefused, CommandFailed):
            target.unlink(missing_ok=True)
            left_out += 1
            continue
        names.add(name)
        room -= file.size
        kept.append(file)
    return Collected(files=tuple(kept), left_out=left_out)


async def _take(box: Sandbox, path: str, name: str, target: Path, room: int) -> KeptFile:
    digest, size = hashlib.sha256(), 0
    with target.open("xb") as file:
        async for chunk in box.read_file(path):
            size += len(chunk)
            if size > room:
                raise OutputsTooLarge(f"the outputs have more bytes than the {room} that are left")
            digest.update(chunk)
            file.write(chunk)
    return KeptFile(name=name, size=size, sha256=digest.hexdigest())


def printable(name: str) -> str | None:
    r"""Return a name as text that is safe to show and to send; ``None`` where it is too long.

    Bytes that are no UTF-8, control characters and backslashes are told as ``\xNN``.
    """
    raw = name.encode("utf-8", "surrogateescape")
    if len(raw) > _NAME_BYTES or any(len(part) > _PART_BYTES for part in raw.split(b"/")):
        return None
    return "".join(
        char if char.isprintable() and char != "\\" else _escaped(ord(char)) for char in name
    )


def _escaped(code: int) -> str:
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is no UTF-8, as os.fsdecode has it
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
