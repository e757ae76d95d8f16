"""Images as single files, to be sent to other machines: packed here, and taken in from there.

A pack is a plain tar of the image's tree, the same on every machine; what a container image says of
itself stands in a global header. What is taken in comes from strangers: it is bounded, and is only
kept where it is what its hash says.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from requestor_sdk.model.parsing import parse_json
from requestor_sdk.sandbox._archive import Member, told
from requestor_sdk.sandbox._image_config import read_config, write_config

if TYPE_CHECKING:
    from requestor_sdk.ports.runtime import ImageConfig
    from requestor_sdk.sandbox._tree import Entry, Tree


_CONFIG = "REQUESTOR_SDK.image"


def write_pack(tree: Tree, target: Path, config: ImageConfig | None = None) -> None:
    """Write a tree as one tar file, whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    number, name = tempfile.mkstemp(dir=target.parent, prefix=".new-")
    made = Path(name)
    try:
        said = {_CONFIG: json.dumps(write_config(config), sort_keys=True)} if config else None
        with (
            os.fdopen(number, "wb") as out,
            tarfile.open(fileobj=out, mode="w", pax_headers=said) as archive,
        ):
            for entry in tree.entries:
                _add(archive, entry)
        made.replace(target)
    except BaseException:
        made.unlink(missing_ok=True)
        raise


def pack_config(file: Path) -> ImageConfig | None:
    """Return what the image of a pack says of itself, if anything.

    Raises:
        ImageInvalid: It says it in another shape.
    """
    try:
        with tarfile.open(file, tarinfo=Member) as archive:
            archive.next()
            text = archive.pax_headers.get(_CONFIG)
    except (tarfile.TarError, OSError):
        return None
    if text is None:
        return None
    with told(file):
        said = parse_json(text)
        return read_config(said if isinstance(said, dict) else {})


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
