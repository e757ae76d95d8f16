"""The catalogue: the assets that a provider has, and where their files are.

Assets are documents (DDOs) of the operator's own disk. In place of encrypted files a service has
the files themselves: ``{"type": "localfile", "path": "data.csv"}``, ``{"type": "url", "url": ...}``
or ``{"type": "raw", "text": ...}``, each with an optional ``sha256``. No consumer ever sees these.
"""

from __future__ import annotations

import copy
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from requestor_sdk.c2d._files import FileSource
from requestor_sdk.model.errors import AssetNotFound, UsageError
from requestor_sdk.ocean.assets import COMPUTE, DDO

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from requestor_sdk.ocean.assets import OceanService

_DID: Final = re.compile(r"did:[a-z0-9]{1,16}:[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_ASSETS: Final = 100_000
HIDDEN: Final = "0x"
"""What stands where a service's files were, in a document that is shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """An asset with the files of its services, by the service's id."""

    ddo: DDO
    document: Mapping[str, Any]
    files: Mapping[str, tuple[FileSource, ...]]

    @property
    def did(self) -> str:
        """Its id, ``did:op:...``."""
        return self.ddo.id

    @property
    def short(self) -> str:
        """Its id as folders are named by it inside, without ``did:op:``."""
        return short_did(self.did)

    def service(self, service_id: str, *, compute: bool = True) -> OceanService:
        """Return the service of that id, or its first one that suits where there is no id.

        Raises:
            AssetNotFound: It has no such service.
        """
        if service_id:
            return self.ddo.get_service_by_id(service_id)
        suits = [one for one in self.ddo.services if not compute or one.type == COMPUTE]
        if not suits:
            raise AssetNotFound("the asset has no service that suits", ids={"asset": self.did})
        return suits[0]


class Catalogue:
    """Assets by their id."""

    def __init__(self, assets: Iterable[Asset] = ()) -> None:
        self._assets: dict[str, Asset] = {}
        for asset in assets:
            if asset.did in self._assets:
                raise UsageError(f"two assets have the id {asset.did}")
            self._assets[asset.did] = asset

    @classmethod
    def load(cls, path: Path) -> Catalogue:
        """Read a document, a list of them, or a folder of such files (``*.json``).

        Raises:
            UsageError: Something is no asset; the message names the file and what of it.
        """
        files = sorted(path.glob("*.json")) if path.is_dir() else [path]
        if path.is_dir() and not files:
            raise UsageError(f"{path} has no *.json: these are what a catalogue is read from")
        return cls(asset for file in files for asset in _read(file))

    @classmethod
    def of(cls, documents: Iterable[Mapping[str, Any]], *, folder: Path) -> Catalogue:
        """Make one of documents; paths of files are relative to ``folder``."""
        return cls(_asset(document, folder, "the catalogue") for document in documents)

    def add(self, document: Mapping[str, Any], *, folder: Path) -> None:
        """Take in one more asset.

        Raises:
            UsageError: It is none, or there is one of its id.
        """
        made = _asset(document, folder, "the catalogue")
        if made.did in self._assets:
            raise UsageError(f"two assets have the id {made.did}")
        self._assets[made.did] = made

    def __len__(self) -> int:
        return len(self._assets)

    def get(self, did: str) -> Asset:
        """Return an asset.

        Raises:
            AssetNotFound: There is none of that id.
        """
        try:
            return self._assets[did]
        except KeyError:
            raise AssetNotFound("there is no such asset", ids={"asset": did}) from None

    def find(self, did: str) -> Asset | None:
        """Return an asset, or ``None``."""
        return self._assets.get(did)

    def dids(self) -> tuple[str, ...]:
        """Return all ids."""
        return tuple(self._assets)

    def allow_network(self) -> bool:
        """Tell whether any dataset lets algorithms have a network."""
        return any(
            service.rules.allow_network_access
            for asset in self._assets.values()
            for service in asset.ddo.services
        )

    def shown(self, did: str, *, endpoint: str = "") -> dict[str, Any]:
        """Return an asset's document as anybody may see it: without its files.

        Args:
            did: The asset's id.
            endpoint: Where services are that do not say it: this server.

        Raises:
            AssetNotFound: There is none of that id.
        """
        made = copy.deepcopy(dict(self.get(did).document))
        for service in made.get("services", ()):
            service["files"] = HIDDEN
            if endpoint and not service.get("serviceEndpoint"):
                service["serviceEndpoint"] = endpoint
        algorithm = (made.get("metadata") or {}).get("algorithm")
        if isinstance(algorithm, dict):
            algorithm.pop("rawcode", None)
            algorithm.pop("url", None)
        return made


def short_did(did: str) -> str:
    """Return an id without ``did:op:``."""
    return did.rpartition(":")[2]


def _read(file: Path) -> list[Asset]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{file} holds no JSON that can be read: {error}") from error
    documents = found if isinstance(found, list) else [found]
    if len(documents) > _ASSETS:
        raise UsageError(f"{file} holds more than {_ASSETS} assets")
    return [_asset(document, file.parent, str(file)) for document in documents]


def _asset(document: Any, folder: Path, where: str) -> Asset:
    if not isinstance(document, dict):
        raise UsageError(f"{where}: an asset has to be a JSON object")
    try:
        ddo = DDO.from_dict(document)
    except UsageError as error:
        raise UsageError(f"{where}: {error.message}") from error
    if not _DID.fullmatch(ddo.id):
        raise UsageError(f"{where}: {ddo.id!r} is no id of an asset: did:op:...")
    ids = [service.id for service in ddo.services]
    if len(set(ids)) < len(ids):
        raise UsageError(f"{where}: {ddo.id} has two services of the same id")
    where = f"{where}: {ddo.id}"
    return Asset(
        ddo=ddo,
        document=document,
        files={one.id: _sources(one, ddo, folder, where) for one in ddo.services},
    )


def _sources(service: OceanService, ddo: DDO, folder: Path, where: str) -> tuple[FileSource, ...]:
    entries = service.files
    if isinstance(entries, dict):
        entries = entries.get("files")
    algorithm = ddo.metadata.algorithm if ddo.metadata else None
    if not entries and ddo.is_algorithm and algorithm is not None:
        if algorithm.rawcode:
            return (FileSource(text=algorithm.rawcode),)
        if algorithm.url:
            return (FileSource(url=_web(algorithm.url, where)),)
    if not isinstance(entries, list) or not entries:
        raise UsageError(
            f"{where}: service {service.id} has no files: a list of localfile, url or raw"
        )
    return tuple(
        _source(entry, folder, f"{where}: service {service.id}, file {number}")
        for number, entry in enumerate(entries)
    )


def _source(entry: Any, folder: Path, where: str) -> FileSource:
    if not isinstance(entry, dict):
        raise UsageError(f"{where} is no object")
    digest = str(entry.get("sha256") or entry.get("checksum") or "").lower()
    digest = digest.removeprefix("sha256:")
    if digest and not _SHA256.fullmatch(digest):
        raise UsageError(f"{where}: its sha256 is none")
    kind = entry.get("type")
    if kind in ("localfile", "file") and isinstance(entry.get("path"), str):
        path = folder / Path(entry["path"]).expanduser()
        if not path.is_file():
            raise UsageError(f"{where}: there is no file {path}")
        return FileSource(path=path, sha256=digest)
    if kind == "url" and isinstance(entry.get("url"), str):
        return FileSource(
            url=_web(entry["url"], where), headers=_headers(entry, where), sha256=digest
        )
    if kind == "raw" and isinstance(entry.get("text"), str):
        return FileSource(text=entry["text"], sha256=digest)
    raise UsageError(f"{where} has to be a localfile with path, a url with url, or raw with text")


def _web(url: str, where: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise UsageError(f"{where}: only http and https addresses can be fetched")
    return url


def _headers(entry: Mapping[str, Any], where: str) -> dict[str, str]:
    found = entry.get("headers") or {}
    # Ocean's documents have a list of objects here, ours an object.
    if isinstance(found, list):
        found = {key: value for one in found if isinstance(one, dict) for key, value in one.items()}
    if not isinstance(found, dict) or not all(isinstance(v, str) for v in found.values()):
        raise UsageError(f"{where}: its headers are none")
    return dict(found)
