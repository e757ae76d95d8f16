"""The content-addressed store of images, below the user's data folder.

An image is named by what is in it, so the same folder gives the same hash on every machine. What
is stored is a copy of regular files, folders and links only; it is made aside and renamed, so
nobody ever sees half an image. Synchronous: the command line calls it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Literal

from requestor_sdk.model.errors import ImageInvalid, ImageNotFound
from requestor_sdk.ports.runtime import ImageRef
from requestor_sdk.sandbox._archive import unpack
from requestor_sdk.sandbox._packs import file_hash, write_pack
from requestor_sdk.sandbox._tree import Tree, copy_tree, remove_tree, scan
from requestor_sdk.settings import data_home

_TAKEN = "taken"
"""Marks an image that came from another machine; its time is when it was last used."""
Kind = Literal["layer", "rootfs"]
_HASH = re.compile(r"[0-9a-f]{56}")
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/@+-]{0,127}")
_USR_FOLDERS = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")


class ImageStore:
    """Images by hash and tag. Implements ``requestor_sdk.ports.runtime.Images``.

    Args:
        home: The data folder; by default the user's (``REQUESTOR_SDK_HOME``).
    """

    def __init__(self, home: Path | None = None) -> None:
        self._root = (home or data_home()) / "images"

    def resolve(self, *, image_hash: str | None = None, tag: str | None = None) -> ImageRef:
        """Return the image of that hash or tag; where both are given they must agree.

        A hash that no image has is looked up among the tags: so a program that names an image of
        another registry by its hash runs on the one that was given that hash as its tag.

        Raises:
            ImageNotFound: The hint names the command that would add it.
        """
        wanted = image_hash.lower().removeprefix("sha3:") if image_hash else None
        if wanted is None and tag is not None:
            wanted = self._tags().get(tag)
        found = self._load(wanted, tag) if wanted else None
        if found is None and wanted is not None and wanted in (tags := self._tags()):
            found = self._load(tags[wanted], tag or wanted)
        if found is None:
            raise self._missing(image_hash, tag)
        if image_hash and tag and self._tags().get(tag, found.hash) != found.hash:
            raise ImageNotFound(
                f"the tag {tag!r} is of another image than {image_hash}",
                hint="requestor-sdk image list",
            )
        return found

    def build(
        self, folder: Path | str, tag: str | None = None, *, kind: Kind | None = None
    ) -> ImageRef:
        """Store a folder as an image.

        Args:
            folder: What to lay over the base, or a whole root file system.
            tag: The name to give it; moved here from another image that has it.
            kind: Which of the two it is; by default told by what is in it.

        Raises:
            ImageInvalid: It is no folder, is empty, or holds what no image may; the path is named.
        """
        source = Path(folder)
        _check_tag(tag)
        if not source.is_dir():
            raise ImageInvalid(
                f"{source} is no folder", hint="name a folder with the image's files"
            )
        return self._store(source, tag, kind)

    def import_file(
        self, file: Path | str, tag: str | None = None, *, kind: Kind | None = None
    ) -> ImageRef:
        """Store the content of an archive (tar, plain or compressed, or a squashfs .gvmi).

        Raises:
            ImageInvalid: It cannot be read, or holds what no image may; the member is named.
        """
        source = Path(file)
        _check_tag(tag)
        if not source.is_file():
            raise ImageInvalid(
                f"{source} is no file", hint="name a .tar, .tar.gz, .tar.xz or .gvmi"
            )
        with self._staging() as staging:
            unpack(source, staging / "unpacked")
            return self._store(staging / "unpacked", tag, kind)

    def pack(self, image: ImageRef) -> Path:
        """Return one file that holds an image; made once, and kept as long as the image is.

        Raises:
            ImageInvalid: The image cannot be read.
        """
        target = self._root / "packs" / f"{image.hash}.tar"
        if not target.is_file():
            write_pack(scan(image.path, _as_is), target)
        return target

    def take(self, file: Path, *, image_hash: str, limit: int) -> ImageRef:
        """Take an image in that came as one file: a pack, or an archive named by its own hash.

        Args:
            file: The file; that of a registry gets its hash as its tag.
            image_hash: What it must be, sha3-224, 56 hex digits.
            limit: Bytes of its content at most.

        Raises:
            ImageInvalid: It is no image, another one, or too large.
        """
        wanted = image_hash.lower()
        foreign = file_hash(file) == wanted
        known = {folder.name for folder in self._root.glob("?" * 56)}
        taken = self._taken(file, wanted, limit, foreign=foreign)
        if taken.hash not in known:
            (self._root / taken.hash / _TAKEN).touch()
        return taken

    def trim(self, limit: int, *, keep: Collection[str]) -> None:
        """Remove images that were taken in, those first that were not used for longest.

        Args:
            limit: Bytes that all of them together may have.
            keep: The hashes of those that are in use; they count as used now.
        """
        for digest in keep:
            with contextlib.suppress(OSError):
                os.utime(self._root / digest / _TAKEN)
        found = sorted(
            (mark.stat().st_mtime, mark.parent.name)
            for mark in self._root.glob(f"{'?' * 56}/{_TAKEN}")
        )
        images = [image for _, name in found if (image := self._load(name, None)) is not None]
        total = sum(image.size for image in images)
        for image in images:
            if total <= limit:
                return
            if image.hash not in keep:
                with contextlib.suppress(ImageNotFound):
                    self.remove(image.hash)
                total -= image.size

    def _taken(self, file: Path, wanted: str, limit: int, *, foreign: bool) -> ImageRef:
        with self._staging() as staging:
            made = staging / "unpacked"
            unpack(file, made, limit=limit)
            if foreign:
                return self._store(made, wanted, None)
            kinds: tuple[Kind, ...] = ("layer", "rootfs")
            for kind in kinds:
                if scan(made, _laid_over if kind == "layer" else _as_is).digest(kind) == wanted:
                    return self._store(made, None, kind)
        raise ImageInvalid(f"what came is not the image {wanted}: its content is another")

    def list(self) -> tuple[ImageRef, ...]:
        """Return all images, each with one of its tags, sorted by tag and hash."""
        tags = self._tags()
        found: list[ImageRef] = []
        for folder in sorted(self._root.glob("?" * 56)):
            named = sorted(tag for tag, value in tags.items() if value == folder.name)
            for tag in named or (None,):
                image = self._load(folder.name, tag)
                if image is not None:
                    found.append(image)
        return tuple(sorted(found, key=lambda image: (image.tag or "~", image.hash)))

    def remove(self, hash_or_tag: str) -> None:
        """Remove an image with all its tags, by its hash or by one of them.

        Raises:
            ImageNotFound: There is none of that name.
        """
        tags = self._tags()
        wanted = tags.get(hash_or_tag, hash_or_tag)
        if self._load(wanted, None) is None:
            raise self._missing(wanted if _HASH.fullmatch(wanted) else None, hash_or_tag)
        for tag, value in tags.items():
            if value == wanted:
                (self._root / "tags" / _file_name(tag)).unlink(missing_ok=True)
        (self._root / "packs" / f"{wanted}.tar").unlink(missing_ok=True)
        # Renamed first: an image is there as a whole or not at all.
        doomed = self._root / f".gone-{secrets.token_hex(8)}"
        try:
            (self._root / wanted).rename(doomed)
        except FileNotFoundError:
            return
        remove_tree(doomed)

    # -- inside

    def _store(self, source: Path, tag: str | None, kind: Kind | None) -> ImageRef:
        kind = kind or _detect(source)
        tree = scan(source, _laid_over if kind == "layer" else _as_is)
        if not tree.entries:
            raise ImageInvalid(f"{source} is empty", hint="put the image's files into it first")
        digest = tree.digest(kind)
        target = self._root / digest
        if not target.is_dir():
            self._write(tree, kind, target)
        if tag is not None:
            self._write_tag(tag, digest)
        found = self._load(digest, tag)
        if found is None:
            raise ImageInvalid(f"image {digest} was removed while it was stored")
        return found

    def _write(self, tree: Tree, kind: Kind, target: Path) -> None:
        with self._staging() as staging:
            made = staging / "image"
            copy_tree(tree, made / "root")
            if scan(made / "root", _as_is).digest(kind) != target.name:
                raise ImageInvalid("the folder changed while it was stored", hint="try again")
            (made / "image.json").write_text(json.dumps({"kind": kind, "size": tree.size}))
            try:
                made.rename(target)
            except OSError:
                if not target.is_dir():  # else somebody else has stored the same image meanwhile
                    raise

    def _staging(self) -> _Staging:
        self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
        return _Staging(self._root)

    def _write_tag(self, tag: str, digest: str) -> None:
        folder = self._root / "tags"
        folder.mkdir(exist_ok=True)
        number, name = tempfile.mkstemp(dir=folder, prefix=".new-")
        with os.fdopen(number, "w") as file:
            file.write(json.dumps({"tag": tag, "hash": digest}))
        Path(name).replace(folder / _file_name(tag))

    def _tags(self) -> dict[str, str]:
        tags: dict[str, str] = {}
        for path in (self._root / "tags").glob("*.json"):
            try:
                said = json.loads(path.read_text())
                tags[str(said["tag"])] = str(said["hash"])
            except (OSError, ValueError, KeyError, TypeError):
                continue
        return tags

    def _load(self, digest: str, tag: str | None) -> ImageRef | None:
        if not _HASH.fullmatch(digest):
            return None
        try:
            said = json.loads((self._root / digest / "image.json").read_text())
        except (OSError, ValueError):
            return None
        kind: Kind = "rootfs" if said["kind"] == "rootfs" else "layer"
        path = self._root / digest / "root"
        return ImageRef(hash=digest, path=path, kind=kind, tag=tag, size=int(said["size"]))

    def _missing(self, image_hash: str | None, tag: str | None) -> ImageNotFound:
        named = f"--tag {tag or image_hash or 'NAME'}"
        what = f"with the hash {image_hash}" if image_hash else f"with the tag {tag!r}"
        if image_hash is None and tag is None:
            what = "without a hash or a tag"
        hint = f"requestor-sdk image build DIR {named}, or requestor-sdk image import FILE {named}"
        return ImageNotFound(f"there is no image {what} in {self._root}", hint=hint)


class _Staging:
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


def _detect(folder: Path) -> Kind:
    shell = any(
        (folder / name / "sh").exists() or (folder / name / "sh").is_symlink()
        for name in ("bin", "usr/bin")
    )
    whole = (folder / "usr" / "bin").is_dir() and (folder / "etc").is_dir()
    return "rootfs" if shell or whole else "layer"


def _as_is(path: str) -> str:
    return path


def _laid_over(path: str) -> str:
    """Where a layer's file goes: /bin and its like are links to /usr in the base."""
    first = path.partition("/")[0]
    return f"usr/{path}" if first in _USR_FOLDERS else path


def _check_tag(tag: str | None) -> None:
    if tag is not None and not _TAG.fullmatch(tag):
        raise ImageInvalid(
            f"{tag!r} is no tag",
            hint="use letters, digits and _.:/@+-, beginning with one of the former",
        )


def _file_name(tag: str) -> str:
    return tag.encode().hex() + ".json"
