"""Container images made by hand: OCI layouts, and what ``docker save`` writes."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import platform
import shutil
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MACHINE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"


def tar(*members: tuple[str, object]) -> bytes:
    """A tar of (name, content): bytes, None for a folder, or a TarInfo without its name."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            data = b""
            if isinstance(content, tarfile.TarInfo):
                info = content
                info.name = name
            elif content is None:
                info.type, info.mode = tarfile.DIRTYPE, 0o755
            else:
                data = bytes(content)  # type: ignore[arg-type]
                info.mode = 0o755 if data.startswith((b"#!", b"\x7fELF")) else 0o644
                info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return made.getvalue()


def special(kind: bytes, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo()
    info.type, info.linkname = kind, link
    return info


def link(target: str) -> tarfile.TarInfo:
    return special(tarfile.SYMTYPE, target)


def hard(target: str) -> tarfile.TarInfo:
    return special(tarfile.LNKTYPE, target)


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@dataclass
class Made:
    """A container image, and what it is known by."""

    layers: list[bytes]
    config: dict[str, Any] = field(default_factory=dict)
    architecture: str = MACHINE
    name: str = ""
    diffs: list[str] | None = None
    nested: bool = False
    pack: Any = staticmethod(lambda data: gzip.compress(data, mtime=0))
    digests: dict[str, str] = field(default_factory=dict)

    def configuration(self) -> bytes:
        diffs = self.diffs or [f"sha256:{sha(layer)}" for layer in self.layers]
        said = {
            "os": "linux",
            "architecture": self.architecture,
            "config": self.config,
            "rootfs": {"type": "layers", "diff_ids": diffs},
        }
        return json.dumps(said).encode()

    def layout(self, folder: Path) -> Path:
        """Write an OCI layout."""
        blobs = folder / "blobs/sha256"
        blobs.mkdir(parents=True)

        def put(data: bytes, kind: str) -> dict[str, Any]:
            (blobs / sha(data)).write_bytes(data)
            return {"mediaType": kind, "digest": f"sha256:{sha(data)}", "size": len(data)}

        layers = [
            put(self.pack(layer), "application/vnd.oci.image.layer.v1.tar+gzip")
            for layer in self.layers
        ]
        config = put(self.configuration(), "application/vnd.oci.image.config.v1+json")
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers}
        top = put(json.dumps(manifest).encode(), MANIFEST)
        self.digests = {"manifest": top["digest"], "config": config["digest"]}
        if self.nested:
            other = put(b"{}", MANIFEST) | {"platform": {"os": "linux", "architecture": "s390x"}}
            mine = top | {"platform": {"os": "linux", "architecture": MACHINE}}
            index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [other, mine]}
            top = put(json.dumps(index).encode(), INDEX)
            self.digests["index"] = top["digest"]
        if self.name:
            top["annotations"] = {"io.containerd.image.name": self.name}
        (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [top]}))
        return folder

    def archive(self, file: Path, mode: str = "w") -> Path:
        """Write an OCI layout as a tar."""
        folder = self.layout(file.with_suffix(".d"))
        with tarfile.open(file, mode) as made:
            made.add(folder, ".")
        shutil.rmtree(folder)
        return file

    def saved(self, file: Path, *, flat: bool = False, mode: str = "w") -> Path:
        """Write what ``docker save`` wrote before it took to OCI layouts; flat as others do."""
        config = self.configuration()
        self.digests = {"config": f"sha256:{sha(config)}"}
        members: list[tuple[str, object]] = [(f"{sha(config)}.json", config)]
        seen: dict[bytes, str] = {}
        names = []
        for number, layer in enumerate(self.layers):
            name = f"{sha(layer)}.tar" if flat else f"{number:064x}/layer.tar"
            names.append(name)
            if not flat:
                members.append((f"{number:064x}/", None))
            same = seen.setdefault(layer, name)
            members.append((name, layer if same == name else link(f"../{same}")))
        entry = {
            "Config": f"{sha(config)}.json",
            "RepoTags": [self.name] if self.name else None,
            "Layers": names,
        }
        members.append(("manifest.json", json.dumps([entry]).encode()))
        # As they come: the description is last.
        file.write_bytes(gzip.compress(tar(*members)) if mode == "w:gz" else tar(*members))
        return file


def busybox() -> bytes | None:
    """A program that needs nothing of a file system, or None."""
    path = shutil.which("busybox")
    data = Path(path).read_bytes() if path else b""
    return data if data and b"/ld-linux" not in data and b"/ld-musl" not in data else None


def tools(program: bytes, **config: Any) -> Made:
    """A container image with a shell and little else, in two layers."""
    names = ("sh", "cat", "id", "ls", "mount", "dd", "echo", "env", "pwd", "touch", "wc", "mv")
    applets = [(f"bin/{name}", link("busybox")) for name in names]
    base = tar(("bin/busybox", program), *applets, ("etc/hidden", b"x"), ("tmp/", None))
    upper = tar(("opt/tools/hello", b"#!/bin/sh\necho hello $1\n"), ("etc/.wh.hidden", b""))
    said = {"Env": ["PATH=/opt/tools:/bin", "GREETING=from the image"], **config}
    return Made([base, upper], config=said, name="bb:1")
