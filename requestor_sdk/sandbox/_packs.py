"""Images as single files, to be sent to other machines: packed here, and taken in from there.

A pack is a plain tar of the image's tree, the same on every machine. What is taken in comes from
strangers: it is bounded, and is only kept where it is what its hash says.
"""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from requestor_sdk.sandbox._tree import Entry, Tree


def write_pack(tree: Tree, target: Path) -> None:
    """Write a tree as one tar file, whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    number, name = tempfile.mkstemp(dir=target.parent, prefix=".new-")
    made = Path(name)
    try:
        with os.fdopen(number, "wb") as out, tarfile.open(fileobj=out, mode="w") as archive:
            for entry in tree.entries:
                _add(archive, entry)
        made.replace(target)
    except BaseException:
        made.unlink(missing_ok=True)
        raise


def _add(archive: tarfile.TarFile, entry: Entry) -> None:
    info = tarfile.TarInfo(entry.name)
    if entry.kind == "folder":
        info.type, info.mode = tarfile.DIRTYPE, 0o755
        archive.addfile(info)
    elif entry.kind == "link":
        info.type, info.linkname = tarfile.SYMTYPE, entry.target
        archive.addfile(info)
    elif entry.source is not None:
        info.mode = 0o755 if entry.executable else 0o644
        with entry.source.open("rb") as file:
            info.size = file.seek(0, io.SEEK_END)
            file.seek(0)
            archive.addfile(info, file)


def file_hash(file: Path) -> str:
    """Return the sha3-224 of a file: the name of an image in Golem's registry."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha3_224").hexdigest()
