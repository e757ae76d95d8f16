"""What an image is by its files, and the small rules of the store: tags, names, folders aside."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from requestor_sdk.model.errors import ImageInvalid
from requestor_sdk.sandbox._image_config import write_config
from requestor_sdk.sandbox._references import as_digest, as_hash
from requestor_sdk.sandbox._tree import remove_tree

if TYPE_CHECKING:
    from requestor_sdk.ports.runtime import ImageConfig, ImageRef

Kind = Literal["layer", "rootfs"]
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/@+-]{0,127}")
_USR_FOLDERS = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")


class Staging:
    """A folder aside, removed again whatever happens."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._path: Path | None = None

    def __enter__(self) -> Path:
        self._path = Path(tempfile.mkdtemp(dir=self._root, prefix=".new-"))
        return self._path

    def __exit__(self, *_: object) -> None:
        if self._path is not None:
            remove_tree(self._path)


def detect(folder: Path) -> Kind:
    """Tell a whole root file system from what is laid over the base."""
    shell = any(
        (folder / name / "sh").exists() or (folder / name / "sh").is_symlink()
        for name in ("bin", "usr/bin")
    )
    whole = (folder / "usr" / "bin").is_dir() and (folder / "etc").is_dir()
    return "rootfs" if shell or whole else "layer"


def salt(kind: Kind, config: ImageConfig | None) -> str:
    """Return what makes an image beside its files."""
    if config is None:
        return kind
    return f"{kind} {json.dumps(write_config(config), sort_keys=True)}"


def matches(image: ImageRef, pin: str) -> bool:
    """Whether an image is the one of that checksum or hash."""
    return as_hash(pin) == image.hash or as_digest(pin) in image.digests


def as_is(path: str) -> str:
    """Where a whole root's file goes."""
    return path


def laid_over(path: str) -> str:
    """Where a layer's file goes: /bin and its like are links to /usr in the base."""
    first = path.partition("/")[0]
    return f"usr/{path}" if first in _USR_FOLDERS else path


def is_tag(text: str) -> bool:
    """Whether a text can be a tag."""
    return bool(_TAG.fullmatch(text)) and not as_digest(text)


def check_tag(tag: str | None) -> None:
    """Refuse what can be no tag.

    Raises:
        ImageInvalid: It is none.
    """
    if tag is not None and as_digest(tag):
        raise ImageInvalid(f"{tag!r} is a checksum, and no tag", hint="name it as name:tag")
    if tag is not None and not _TAG.fullmatch(tag):
        raise ImageInvalid(
            f"{tag!r} is no tag",
            hint="use letters, digits and _.:/@+-, beginning with one of the former",
        )


def file_name(tag: str) -> str:
    """Return the name of the file that holds a tag."""
    return tag.encode().hex() + ".json"
