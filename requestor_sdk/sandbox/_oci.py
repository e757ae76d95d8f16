"""Reads container images from files: OCI layouts and what ``docker save`` writes, folder or tar.

Nobody vouches for them: each blob must be what its digest says and each layer what the
configuration says, before any of it is kept. No registry is spoken to.
https://github.com/opencontainers/image-spec/blob/main/image-layout.md
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import platform
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from requestor_sdk.model.errors import ImageInvalid
from requestor_sdk.model.parsing import parse_json
from requestor_sdk.sandbox._archive import ENTRIES, Member, told
from requestor_sdk.sandbox._image_config import read_config
from requestor_sdk.sandbox._layers import Rootfs
from requestor_sdk.sandbox._references import as_digest, parse
from requestor_sdk.sandbox._streams import BLOCK, Hashed, plain

if TYPE_CHECKING:
    from pathlib import Path

    from requestor_sdk.ports.runtime import ImageConfig
    from requestor_sdk.sandbox._blobs import Blobs

LAYOUT, INDEX, SAVED = "oci-layout", "index.json", "manifest.json"
_MAX_JSON = 4 << 20
_MAX_LAYERS = 1000
_MAX_NESTING = 4
_INDEXES = frozenset(
    {
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
    }
)
_MANIFESTS = frozenset(
    {
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    }
)
_NAMES = ("io.containerd.image.name", "org.opencontainers.image.ref.name")
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One layer.

    Attributes:
        blob: Its name among the blobs.
        digest: What the blob must be, or empty: then only its content is checked.
        diff: What its unpacked tar must be.
    """

    blob: str
    digest: str
    diff: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """An image as it was found, nothing of it unpacked yet.

    Attributes:
        name: What it calls itself, or empty.
        digests: Its manifest, index and configuration, as ``sha256:...``.
    """

    name: str
    config: ImageConfig
    layers: tuple[Layer, ...]
    digests: tuple[str, ...]


def is_container(blobs: Blobs) -> bool:
    """Whether that is an OCI layout, or something that ``docker save`` wrote."""
    if blobs.has(LAYOUT) and blobs.has(INDEX):
        return True
    if not blobs.has(SAVED):
        return False
    try:
        said = _json(blobs, SAVED)
    except ImageInvalid:
        return False
    return isinstance(said, list) and all(isinstance(i, dict) and "Layers" in i for i in said)


def find_container(blobs: Blobs, tag: str | None) -> Container:
    """Read what the image is, for this machine.

    Args:
        blobs: Where it is.
        tag: Which one is meant where there are several.

    Raises:
        ImageInvalid: It is damaged, of another machine, or there are several and none is meant.
    """
    with told(blobs):
        try:
            if blobs.has(LAYOUT):
                return _of_layout(blobs, tag)
            return _of_saved(blobs, tag)
        except (KeyError, TypeError, AttributeError) as error:
            raise ImageInvalid(f"{blobs} is not as the specification says: {error!r}") from error


def unpack_layers(blobs: Blobs, container: Container, target: Path, limit: int) -> None:
    """Lay the layers over each other in a new folder.

    Raises:
        ImageInvalid: A layer is not what its digest says, or has what no image may have.
    """
    target.mkdir()
    rootfs = Rootfs(target, limit)
    for layer in container.layers:
        with told(f"{blobs}: layer {layer.diff}"):
            _apply(blobs, layer, rootfs, limit)
    with told(blobs):
        rootfs.make_folder(container.config.cwd)


# -- what it is


def _of_layout(blobs: Blobs, tag: str | None) -> Container:
    found = [entry for entry in _entries(_json(blobs, INDEX)) if _is_image(entry)]
    entry = _chosen(blobs, found, tag, lambda item: [_name(item)])
    digests: list[str] = []
    for _ in range(_MAX_NESTING):
        manifest = _verified(blobs, entry, digests)
        kind = entry.get("mediaType") or manifest.get("mediaType") or ""
        if kind in _MANIFESTS or ("layers" in manifest and kind not in _INDEXES):
            return _of_manifest(blobs, manifest, _name_of(entry, found), digests)
        if kind not in _INDEXES and "manifests" not in manifest:
            break
        entry = _for_this_machine(blobs, _entries(manifest))
    raise ImageInvalid(f"{blobs} has no manifest of an image that is known here")


def _of_manifest(
    blobs: Blobs, manifest: dict[str, Any], name: str, digests: list[str]
) -> Container:
    config = _verified(blobs, manifest["config"], digests)
    layers = manifest["layers"]
    diffs = _diffs(blobs, config, len(layers))
    return Container(
        name=name,
        config=read_config(config.get("config") or {}),
        layers=tuple(
            Layer(blob=_blob(layer), digest=_digest(layer), diff=diff)
            for layer, diff in zip(layers, diffs, strict=True)
        ),
        digests=tuple(digests),
    )


def _of_saved(blobs: Blobs, tag: str | None) -> Container:
    entry = _chosen(blobs, _json(blobs, SAVED), tag, lambda item: item.get("RepoTags") or [])
    data = _read(blobs, str(entry["Config"]))
    config = _parsed(blobs, data)
    layers = [str(layer) for layer in entry["Layers"]]
    names = entry.get("RepoTags") or []
    return Container(
        name=str(names[0]) if names else "",
        config=read_config(config.get("config") or {}),
        layers=tuple(
            Layer(blob=layer, digest="", diff=diff)
            for layer, diff in zip(layers, _diffs(blobs, config, len(layers)), strict=True)
        ),
        digests=(f"sha256:{hashlib.sha256(data).hexdigest()}",),
    )


def _diffs(blobs: Blobs, config: dict[str, Any], count: int) -> list[str]:
    """Check whom the configuration is for, and return what its layers must be."""
    system, machine = str(config.get("os") or "linux"), str(config.get("architecture") or "")
    if system != "linux" or machine not in ("", _machine()):
        raise ImageInvalid(
            f"{blobs} is for {system}/{machine}, this machine is linux/{_machine()}",
            hint="fetch the image of this platform",
        )
    diffs = [as_digest(str(diff)) for diff in config["rootfs"]["diff_ids"]]
    if len(diffs) != count or not all(diffs) or not 0 < count <= _MAX_LAYERS:
        raise ImageInvalid(f"{blobs}: has {count} layers, and {len(diffs)} checksums of layers")
    return diffs


def _chosen(blobs: Blobs, found: Any, tag: str | None, names: Any) -> dict[str, Any]:
    """Return the one image that is there, or that is meant."""
    entries = [cast("dict[str, Any]", entry) for entry in found]
    if len(entries) > 1 and tag is not None:
        key = parse(tag).key
        named = [
            entry
            for entry in entries
            if any(name and key in (parse(name).key, name) for name in names(entry))
            or tag.rpartition(":")[2] in names(entry)
        ]
        entries = named or entries
    if len(entries) > 1:
        with contextlib.suppress(ImageInvalid):
            return _for_this_machine(blobs, entries)
    if len(entries) == 1:
        return entries[0]
    known = ", ".join(sorted(name for entry in entries for name in names(entry) if name))
    raise ImageInvalid(
        f"{blobs} holds {len(entries)} images" + (f": {known}" if known else ""),
        hint="say which one is meant: --tag, with its own name" if entries else "",
    )


def _for_this_machine(blobs: Blobs, entries: list[dict[str, Any]]) -> dict[str, Any]:
    found = [
        entry
        for entry in entries
        if _is_image(entry)
        and (entry.get("platform") or {}).get("os") == "linux"
        and (entry.get("platform") or {}).get("architecture") == _machine()
    ]
    if len(entries) == 1 and not entries[0].get("platform"):
        found = entries
    if len(found) != 1:
        raise ImageInvalid(
            f"{blobs} has {len(found)} images for linux/{_machine()}",
            hint="fetch the image of this platform",
        )
    return found[0]


def _is_image(entry: dict[str, Any]) -> bool:
    annotations = entry.get("annotations") or {}
    return "vnd.docker.reference.type" not in annotations


def _name(entry: dict[str, Any]) -> str:
    annotations = entry.get("annotations") or {}
    return str(next((annotations[key] for key in _NAMES if annotations.get(key)), ""))


def _name_of(entry: dict[str, Any], top: list[dict[str, Any]]) -> str:
    """Return the name of an image; a tag alone is none."""
    name = _name(entry) or (_name(top[0]) if len(top) == 1 else "")
    return name if ":" in name or "/" in name else ""


def _machine() -> str:
    return _MACHINES.get(platform.machine(), platform.machine())


# -- blobs


def _entries(index: Any) -> list[dict[str, Any]]:
    entries = index["manifests"]
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ImageInvalid("the index has no list of manifests")
    return entries


def _digest(descriptor: dict[str, Any]) -> str:
    said = str(descriptor["digest"])
    digest = as_digest(said)
    if not digest or digest != said:
        raise ImageInvalid(f"{said!r} is no sha256 digest")
    return digest


def _blob(descriptor: dict[str, Any]) -> str:
    return "blobs/sha256/" + _digest(descriptor).removeprefix("sha256:")


def _verified(blobs: Blobs, descriptor: dict[str, Any], digests: list[str]) -> dict[str, Any]:
    """Read a blob of JSON that must be what its descriptor says, and note its digest."""
    digest, data = _digest(descriptor), _read(blobs, _blob(descriptor))
    real = f"sha256:{hashlib.sha256(data).hexdigest()}"
    if real != digest or descriptor.get("size", len(data)) != len(data):
        raise ImageInvalid(f"{blobs}: the blob {digest} is another one, {real}")
    digests.append(digest)
    return _parsed(blobs, data)


def _read(blobs: Blobs, name: str) -> bytes:
    with blobs.open(name) as stream:
        data = stream.read(_MAX_JSON + 1)
    if len(data) > _MAX_JSON:
        raise ImageInvalid(f"{blobs}: {name} has more than {_MAX_JSON} bytes")
    return data


def _json(blobs: Blobs, name: str) -> Any:
    return _loaded(blobs, _read(blobs, name))


def _parsed(blobs: Blobs, data: bytes) -> dict[str, Any]:
    said = _loaded(blobs, data)
    if not isinstance(said, dict):
        raise ImageInvalid(f"{blobs}: a description that is no object")
    return said


def _loaded(blobs: Blobs, data: bytes) -> Any:
    try:
        return parse_json(data)
    except ValueError as error:
        raise ImageInvalid(f"{blobs}: a description that is no JSON: {error}") from error


# -- layers


def _apply(blobs: Blobs, layer: Layer, rootfs: Rootfs, limit: int) -> None:
    # What a tar takes beside the content of its members.
    most = limit + ENTRIES * 1024
    with blobs.open(layer.blob) as raw:
        packed = Hashed(raw, most)
        source = cast("io.BufferedReader", io.BufferedReader(packed, BLOCK))
        with plain(source) as stream:
            content = Hashed(stream, most)
            buffered = cast("BinaryIO", io.BufferedReader(content, BLOCK))
            with tarfile.open(fileobj=buffered, mode="r|", tarinfo=Member) as archive:
                rootfs.apply(archive, layer.diff)
            diff = content.rest()
        digest = packed.rest()
    if layer.digest and digest != layer.digest:
        raise ImageInvalid(f"{blobs}: the layer {layer.digest} is another one, {digest}")
    if diff != layer.diff:
        raise ImageInvalid(f"{blobs}: the content of layer {layer.diff} is another one, {diff}")
