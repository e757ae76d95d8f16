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

from requestor_sdk.model.errors import ImageInvalid, ImageNotFound
from requestor_sdk.ports.runtime import ImageConfig, ImageRef
from requestor_sdk.sandbox._archive import unpack
from requestor_sdk.sandbox._blobs import (
    Blobs,
    FolderBlobs,
    TarBlobs,
    looks_like_container,
    plain_tar,
)
from requestor_sdk.sandbox._image_config import read_config, write_config
from requestor_sdk.sandbox._kinds import (
    Kind,
    Staging,
    as_is,
    check_tag,
    detect,
    file_name,
    is_tag,
    laid_over,
    matches,
    salt,
)
from requestor_sdk.sandbox._oci import find_container, is_container, unpack_layers
from requestor_sdk.sandbox._packs import file_hash, pack_config, write_pack
from requestor_sdk.sandbox._references import Reference, as_digest, as_hash, parse
from requestor_sdk.sandbox._tree import Tree, copy_tree, remove_tree, scan
from requestor_sdk.settings import data_home

_DIGESTS = "digests"
"""Folder of an image whose files' names are the sha256 that container tools know it by."""
_TAKEN = "taken"
"""Marks an image that came from another machine; its time is when it was last used."""
IMAGE = 32 << 30
"""Bytes that an image may have, unless it is said otherwise."""
_HASH = re.compile(r"[0-9a-f]{56}")


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

    def find(self, name: str, *, checksum: str = "") -> ImageRef | None:
        """Return an image by the name that containers have; ``None`` is the bare base.

        Args:
            name: ``name``, ``name:tag`` or ``name@sha256:...``; without a tag it is ``latest``.
                ``python``, with any tag, is the base.
            checksum: What it must be: ``sha256:...`` of its manifest, index or configuration, or
                the ``hash`` of an ``ImageRef``; empty where it is not pinned.

        Raises:
            ImageNotFound: It is not here; the hint names the command that would add it.
            ImageInvalid: The image of that name is another one than the checksum says.
        """
        wanted = parse(name)
        if wanted.is_base:
            return None
        pins = [pin for pin in (wanted.pin, checksum.strip()) if pin]
        for pin in pins:
            if not as_digest(pin) and not as_hash(pin):
                raise ImageInvalid(
                    f"{pin!r} is no checksum of an image", hint="it is sha256: and 64 hex digits"
                )
        here = [self._named(wanted, name), *(self._pinned(pin, wanted) for pin in pins[:1])]
        known = [image for image in here if image is not None]
        for image in known:
            if all(matches(image, pin) for pin in pins):
                return image
        if known:
            wrong, right = " and ".join(pins), ", ".join((*known[0].digests, known[0].hash))
            raise ImageInvalid(
                f"the image {wanted.key} here is not {wrong}; its checksums are {right}",
                hint="requestor-sdk image list --json",
            )
        raise ImageNotFound(
            f"there is no image {name!r} in {self._root}",
            hint=f"requestor-sdk image add FOLDER|TAR --tag {wanted.key}",
        )

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
        check_tag(tag)
        if not source.is_dir():
            raise ImageInvalid(
                f"{source} is no folder", hint="name a folder with the image's files"
            )
        return self._store(source, tag, kind)

    def add(self, source: Path | str, tag: str | None = None, *, limit: int = IMAGE) -> ImageRef:
        """Store whatever holds an image, and take what it is from what is in it.

        That is a container image as a folder or a tar (an OCI layout, or what ``docker save``
        writes), any other folder, or any other archive.

        Args:
            source: The folder or file.
            tag: The name to give it; by default the one that a container image names itself by.
            limit: Bytes of all its files together at most, those of lower layers included.

        Raises:
            ImageInvalid: It cannot be read, is damaged, or holds what no image may.
        """
        path = Path(source)
        check_tag(tag)
        if path.is_dir():
            blobs = FolderBlobs(path)
            return (
                self._contained(blobs, tag, limit) if is_container(blobs) else self.build(path, tag)
            )
        return self.import_file(path, tag, limit=limit)

    def import_file(
        self,
        file: Path | str,
        tag: str | None = None,
        *,
        kind: Kind | None = None,
        limit: int = IMAGE,
    ) -> ImageRef:
        """Store the content of an archive.

        It is a tar, plain or compressed, a squashfs .gvmi, or a tar that holds a container image.

        Raises:
            ImageInvalid: It cannot be read, or holds what no image may; the member is named.
        """
        source = Path(file)
        check_tag(tag)
        if not source.is_file():
            raise ImageInvalid(
                f"{source} is no file", hint="name a .tar, .tar.gz, .tar.xz or .gvmi"
            )
        with self._staging() as staging:
            if kind is None and looks_like_container(source):
                with plain_tar(source, staging, limit) as stream:
                    blobs = TarBlobs(stream, str(source))
                    if is_container(blobs):
                        return self._contained(blobs, tag, limit)
            unpack(source, staging / "unpacked", limit=limit)
            return self._store(staging / "unpacked", tag, kind)

    def _contained(self, blobs: Blobs, tag: str | None, limit: int) -> ImageRef:
        found = find_container(blobs, tag)
        if tag is None and is_tag(found.name):
            tag = found.name
        with self._staging() as staging:
            unpack_layers(blobs, found, staging / "rootfs", limit)
            image = self._store(staging / "rootfs", tag, "rootfs", found.config)
        marks = self._root / image.hash / _DIGESTS
        marks.mkdir(exist_ok=True)
        for digest in found.digests:
            (marks / digest.removeprefix("sha256:")).touch()
        return self._load(image.hash, tag) or image

    def pack(self, image: ImageRef) -> Path:
        """Return one file that holds an image; made once, and kept as long as the image is.

        Raises:
            ImageInvalid: The image cannot be read.
        """
        target = self._root / "packs" / f"{image.hash}.tar"
        if not target.is_file():
            write_pack(scan(image.path, as_is), target, image.config)
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
            config = pack_config(file)
            kinds: tuple[Kind, ...] = ("layer", "rootfs")
            for kind in kinds:
                tree = scan(made, laid_over if kind == "layer" else as_is)
                if tree.digest(salt(kind, config)) == wanted:
                    return self._store(made, None, kind, config)
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
        """Remove an image with all its tags, by its hash, a checksum of it or one of its tags.

        Raises:
            ImageNotFound: There is none of that name.
        """
        tags, name = self._tags(), parse(hash_or_tag)
        found = self._named(name, hash_or_tag) or self._pinned(name.pin or hash_or_tag, name)
        if found is None:
            raise self._missing(as_hash(hash_or_tag) or None, hash_or_tag)
        wanted = found.hash
        for tag, value in tags.items():
            if value == wanted:
                (self._root / "tags" / file_name(tag)).unlink(missing_ok=True)
        (self._root / "packs" / f"{wanted}.tar").unlink(missing_ok=True)
        # Renamed first: an image is there as a whole or not at all.
        doomed = self._root / f".gone-{secrets.token_hex(8)}"
        try:
            (self._root / wanted).rename(doomed)
        except FileNotFoundError:
            return
        remove_tree(doomed)

    # -- inside

    def _named(self, wanted: Reference, text: str) -> ImageRef | None:
        tags = self._tags()
        digest = tags.get(text) or next(
            (tags[tag] for tag in sorted(tags) if parse(tag).key == wanted.key), None
        )
        if digest is None:
            digest = as_hash(wanted.name)
        return self._load(digest, wanted.key)

    def _pinned(self, pin: str, wanted: Reference) -> ImageRef | None:
        digest = as_digest(pin).removeprefix("sha256:")
        for mark in self._root.glob(f"{'?' * 56}/{_DIGESTS}/{digest}") if digest else ():
            return self._load(mark.parent.parent.name, wanted.key)
        return self._load(as_hash(pin), wanted.key)

    def _store(
        self,
        source: Path,
        tag: str | None,
        kind: Kind | None,
        config: ImageConfig | None = None,
    ) -> ImageRef:
        kind = kind or detect(source)
        tree = scan(source, laid_over if kind == "layer" else as_is)
        if not tree.entries:
            raise ImageInvalid(f"{source} is empty", hint="put the image's files into it first")
        digest = tree.digest(salt(kind, config))
        target = self._root / digest
        if not target.is_dir():
            self._write(tree, kind, config, target)
        if tag is not None:
            self._write_tag(tag, digest)
        found = self._load(digest, tag)
        if found is None:
            raise ImageInvalid(f"image {digest} was removed while it was stored")
        return found

    def _write(self, tree: Tree, kind: Kind, config: ImageConfig | None, target: Path) -> None:
        with self._staging() as staging:
            made = staging / "image"
            copy_tree(tree, made / "root")
            if scan(made / "root", as_is).digest(salt(kind, config)) != target.name:
                raise ImageInvalid("the folder changed while it was stored", hint="try again")
            said: dict[str, object] = {"kind": kind, "size": tree.size}
            if config is not None:
                said["config"] = write_config(config)
            (made / "image.json").write_text(json.dumps(said))
            try:
                made.rename(target)
            except OSError:
                if not target.is_dir():  # else somebody else has stored the same image meanwhile
                    raise

    def _staging(self) -> Staging:
        self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
        return Staging(self._root)

    def _write_tag(self, tag: str, digest: str) -> None:
        folder = self._root / "tags"
        folder.mkdir(exist_ok=True)
        number, name = tempfile.mkstemp(dir=folder, prefix=".new-")
        with os.fdopen(number, "w") as file:
            file.write(json.dumps({"tag": tag, "hash": digest}))
        Path(name).replace(folder / file_name(tag))

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
        marks = sorted(path.name for path in (self._root / digest / _DIGESTS).glob("?" * 64))
        return ImageRef(
            hash=digest,
            path=self._root / digest / "root",
            kind=kind,
            tag=tag,
            size=int(said["size"]),
            config=read_config(said["config"]) if said.get("config") else None,
            digests=tuple(f"sha256:{mark}" for mark in marks),
        )

    def _missing(self, image_hash: str | None, tag: str | None) -> ImageNotFound:
        named = f"--tag {tag or image_hash or 'NAME'}"
        what = f"with the hash {image_hash}" if image_hash else f"with the tag {tag!r}"
        if image_hash is None and tag is None:
            what = "without a hash or a tag"
        hint = f"requestor-sdk image build DIR {named}, or requestor-sdk image import FILE {named}"
        return ImageNotFound(f"there is no image {what} in {self._root}", hint=hint)
