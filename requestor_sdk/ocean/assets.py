"""Assets (DDOs of version 4) and their services, and who may use them for what.

The rules are pure functions: a server refuses by them, a client knows before it asks. Fields that
are not named here are kept as they came.
"""

from __future__ import annotations

import hashlib
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic.alias_generators import to_camel

from requestor_sdk.model.errors import AssetNotFound, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

COMPUTE: Final = "compute"
ACCESS: Final = "access"

_USABLE_STATES: Final = (0, 5)


class _Wire(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="allow")

    def as_dictionary(self) -> dict[str, Any]:
        """Return it as it is sent."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class TrustedAlgorithm(_Wire):
    """An algorithm that a dataset's publisher trusts; '' or ``*`` stands for any checksum."""

    did: str = ""
    files_checksum: str = ""
    container_section_checksum: str = ""
    service_id: str = "*"


class ComputeRules(_Wire):
    """What a service of type compute lets jobs do."""

    allow_raw_algorithm: bool = False
    allow_network_access: bool = False
    publisher_trusted_algorithms: list[TrustedAlgorithm] = Field(default_factory=list)
    publisher_trusted_algorithm_publishers: list[str] = Field(default_factory=list)

    @field_validator(
        "publisher_trusted_algorithms", "publisher_trusted_algorithm_publishers", mode="before"
    )
    @classmethod
    def _none_is_empty(cls, value: object) -> object:
        return [] if value is None else value


class Container(_Wire):
    """The image that an algorithm runs in, and how."""

    entrypoint: str = ""
    image: str = ""
    tag: str = ""
    checksum: str = ""


class AlgorithmMeta(_Wire):
    """What an asset's metadata, or a start call, says of an algorithm."""

    url: str = ""
    rawcode: str = ""
    language: str = ""
    version: str = ""
    format: str = ""
    container: Container = Field(default_factory=Container)
    consumer_parameters: list[dict[str, Any]] = Field(default_factory=list)

    @field_validator("url", "rawcode", "language", "version", "format", mode="before")
    @classmethod
    def _none_is_empty(cls, value: object) -> object:
        return "" if value is None else value

    @field_validator("consumer_parameters", mode="before")
    @classmethod
    def _none_is_no_parameter(cls, value: object) -> object:
        return [] if value is None else value


class OceanService(_Wire):
    """A service of an asset: how it is had, and from which provider.

    Attributes:
        id: Unique within its asset.
        type: ``compute`` or ``access``.
        name: For people.
        description: Likewise.
        files: Encrypted for its provider, or the files themselves in a provider's own catalogue.
        datatoken_address: The token that an order of it costs.
        service_endpoint: The address of its provider.
        timeout: Seconds that an order of it holds; 0 for ever.
        compute: Rules, where ``type`` is ``compute``.
        consumer_parameters: What its users may set, as it declares them.
    """

    id: str
    type: str
    name: str = ""
    description: str = ""
    files: Any = None
    datatoken_address: str = ""
    service_endpoint: str = ""
    timeout: int = 0
    compute: ComputeRules | None = None
    consumer_parameters: list[dict[str, Any]] | None = None

    @property
    def rules(self) -> ComputeRules:
        """Its rules; the strictest where it names none."""
        return self.compute or ComputeRules()


class CredentialEntry(_Wire):
    """One list of those who may, or may not, use an asset."""

    type: str = "address"
    values: list[Any] = Field(default_factory=list)

    def addresses(self) -> set[str]:
        """Return its addresses, lower case."""
        found = (v.get("address", "") if isinstance(v, dict) else v for v in self.values)
        return {str(one).lower() for one in found}


class Credentials(_Wire):
    """Who may use an asset: all of ``allow`` where it is not empty, none of ``deny``."""

    allow: list[CredentialEntry] = Field(default_factory=list)
    deny: list[CredentialEntry] = Field(default_factory=list)

    @field_validator("allow", "deny", mode="before")
    @classmethod
    def _none_is_empty(cls, value: object) -> object:
        return [] if value is None else value


class Nft(_Wire):
    """An asset's token; ``state`` 0 and 5 (unlisted) can be used."""

    address: str = ""
    state: int = 0
    owner: str = ""


class Metadata(_Wire):
    """What an asset is; ``type`` is ``dataset`` or ``algorithm``."""

    type: str = "dataset"
    name: str = ""
    algorithm: AlgorithmMeta | None = None


class DDO(_Wire):
    """An asset: a dataset or an algorithm, with its services.

    Attributes:
        id: ``did:op:...``
        version: Of the form of assets.
        chain_id: The chain of its token; ``None`` in a catalogue that knows none.
        nft_address: Its token.
        metadata: What it is; ``None`` where it was disabled.
        services: How it can be had.
        credentials: Who may use it; ``None`` for everybody.
        nft: The state of its token, where a metadata store tells it.
    """

    id: str
    version: str = "4.1.0"
    chain_id: int | None = None
    nft_address: str = ""
    metadata: Metadata | None = None
    services: list[OceanService] = Field(default_factory=list)
    credentials: Credentials | None = None
    nft: Nft | None = None

    @property
    def did(self) -> str:
        """Its id, ``did:op:...``."""
        return self.id

    @property
    def is_algorithm(self) -> bool:
        """Whether it is an algorithm, and not a dataset."""
        return self.metadata is not None and self.metadata.type == "algorithm"

    @property
    def is_disabled(self) -> bool:
        """Whether nobody may use it, by its state or for want of metadata."""
        return self.metadata is None or (
            self.nft is not None and self.nft.state not in _USABLE_STATES
        )

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> DDO:
        """Read an asset as metadata stores send it, or catalogues have it.

        Raises:
            UsageError: It is none; the message names the first field that is wrong.
        """
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"]) or "the document"
            raise UsageError(f"no asset: {where}: {first['msg']}") from None

    def get_service_by_id(self, service_id: str) -> OceanService:
        """Return one of its services.

        Raises:
            AssetNotFound: It has no such service.
        """
        for service in self.services:
            if service.id == service_id:
                return service
        known = ", ".join(service.id for service in self.services) or "none"
        raise AssetNotFound(
            f"the asset has no service {service_id!r}; it has: {known}", ids={"asset": self.id}
        )

    def compute_service(self) -> OceanService:
        """Return its first service of type compute.

        Raises:
            AssetNotFound: It has none.
        """
        for service in self.services:
            if service.type == COMPUTE:
                return service
        raise AssetNotFound("the asset has no service of type compute", ids={"asset": self.id})


class ConsumableCodes(IntEnum):
    """Whether an asset can be used, and why not."""

    OK = 0
    ASSET_DISABLED = 1
    CONNECTIVITY_FAIL = 2
    CREDENTIAL_NOT_IN_ALLOW_LIST = 3
    CREDENTIAL_IN_DENY_LIST = 4
    ASSET_UNLISTED = 5


def consumable(ddo: DDO, address: str) -> ConsumableCodes:
    """Tell whether an address may use an asset: by its state, then by who is allowed and denied.

    Who is in both lists is denied. A list of a kind that is not ``address`` allows nobody.
    """
    if ddo.is_disabled:
        return ConsumableCodes.ASSET_DISABLED
    if ddo.credentials is None:
        return ConsumableCodes.OK
    wanted = address.lower()
    if _named(ddo.credentials.deny, wanted):
        return ConsumableCodes.CREDENTIAL_IN_DENY_LIST
    # An empty list of addresses restricts nobody: classic clients leave one behind.
    allow = [e for e in ddo.credentials.allow if e.type != "address" or e.values]
    if allow and not _named(allow, wanted):
        return ConsumableCodes.CREDENTIAL_NOT_IN_ALLOW_LIST
    return ConsumableCodes.OK


def _named(entries: Iterable[CredentialEntry], address: str) -> bool:
    return any(
        entry.type == "address" and (address in entry.addresses() or "*" in entry.values)
        for entry in entries
    )


def files_checksum(checksums: Sequence[str]) -> str:
    """Return the checksum of an algorithm's files: theirs, SHA-256 in hex, one after the other."""
    return "".join(checksums).lower()


def container_section_checksum(container: Container) -> str:
    """Return the checksum of an algorithm's container: of its entrypoint and its image's own."""
    return hashlib.sha256((container.entrypoint + container.checksum).encode()).hexdigest()


def untrusted_because(
    rules: ComputeRules,
    algorithm: DDO | None,
    *,
    service_id: str = "",
    files: str = "",
    container: str = "",
) -> str | None:
    """Return why a dataset's rules refuse an algorithm, as the protocol's word; ``None`` if not.

    An algorithm must pass each list that is not empty. Where both are empty none passes: that is
    today's rule; the classic Provider let every published algorithm pass.

    Args:
        rules: Of the dataset's compute service.
        algorithm: The asset; ``None`` for one that was sent along.
        service_id: Which service of the algorithm's is used.
        files: See ``files_checksum``.
        container: See ``container_section_checksum``.
    """
    if algorithm is None:
        return None if rules.allow_raw_algorithm else "no_raw_algo_allowed"
    trusted, publishers = (
        rules.publisher_trusted_algorithms,
        rules.publisher_trusted_algorithm_publishers,
    )
    if not trusted and not publishers:
        return "no_publisherTrustedAlgorithms"
    if publishers and not _publisher_trusted(publishers, algorithm):
        return "not_trusted_algo_publisher"
    if not trusted:
        return None
    named = [t for t in trusted if t.did in ("*", algorithm.did)]
    named = [t for t in named if t.service_id in ("", "*", service_id)]
    if not named:
        return "not_trusted_algo"
    by_files = [t for t in named if _same(t.files_checksum, files)]
    if not by_files:
        return "algorithm_file_checksum_mismatch"
    if not any(_same(t.container_section_checksum, container) for t in by_files):
        return "algorithm_container_checksum_mismatch"
    return None


def _same(wanted: str, found: str) -> bool:
    return wanted in ("", "*") or wanted.lower() == found.lower()


def _publisher_trusted(publishers: Sequence[str], algorithm: DDO) -> bool:
    nft = algorithm.nft or Nft()
    named = (nft.owner, nft.address, algorithm.nft_address)
    own = {address.lower() for address in named if address}
    wanted = {publisher.lower() for publisher in publishers}
    return "*" in wanted or bool(own & wanted)
