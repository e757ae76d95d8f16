"""Whether a job is taken: by the catalogue's assets, their rules, and the environment's limits.

What is refused is named in the protocol's own words, as ``{resource: word}``. Nothing is fetched
here but the files of algorithms whose checksum a dataset's publisher named.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, NoReturn

from requestor_sdk.c2d._checksums import Checksums
from requestor_sdk.c2d._files import FileFailed, FileSource
from requestor_sdk.c2d.environments import choose
from requestor_sdk.model.errors import AssetNotConsumable, AssetNotFound, JobRefused
from requestor_sdk.model.jobs import AlgorithmSpec, AssetRef
from requestor_sdk.ocean.assets import (
    ACCESS,
    COMPUTE,
    ConsumableCodes,
    Container,
    consumable,
    container_section_checksum,
    files_checksum,
    untrusted_because,
)

if TYPE_CHECKING:
    from requestor_sdk.c2d._files import Files
    from requestor_sdk.c2d.catalogue import Asset, Catalogue
    from requestor_sdk.c2d.environments import EnvironmentSpec
    from requestor_sdk.model.jobs import JobRequest, Json
    from requestor_sdk.ocean.assets import OceanService

RAW: Final = "raw"
"""What stands where an algorithm's id would, for one that was sent along."""
MAX_DATASETS: Final = 64
MAX_METADATA: Final = 1024
"""Characters of JSON: it is told whenever a job is."""
MAX_VARIABLES: Final = 256
MAX_VARIABLES_SIZE: Final = 64 << 10
"""Characters of all of them together."""
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_LONGEST_ORDER: Final = 256
ALGORITHM_LIMIT: Final = 16 << 20
"""Bytes that an algorithm's code may have."""
_CHECKSUM_LENGTH: Final = len("sha256:") + 64


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetPlan:
    """A dataset of a job."""

    asset: Asset
    service: OceanService
    order: str = ""
    userdata: Mapping[str, Json] = field(default_factory=dict)

    @property
    def files(self) -> Sequence[FileSource]:
        """Its files."""
        return self.asset.files[self.service.id]


@dataclass(frozen=True, slots=True, kw_only=True)
class AlgorithmPlan:
    """The algorithm of a job.

    Attributes:
        asset: Its asset; ``None`` for one that was sent along.
        source: Its code; ``None`` where the image alone is the algorithm.
        service_id: Which of the asset's services it is of.
    """

    asset: Asset | None
    source: FileSource | None
    container: Container
    service_id: str = ""
    order: str = ""
    custom_data: Mapping[str, Json] = field(default_factory=dict)

    @property
    def did(self) -> str:
        """Its id, or ``raw``."""
        return RAW if self.asset is None else self.asset.did


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPlan:
    """A job that is taken.

    Attributes:
        duration: Seconds that the algorithm may run.
        network: Whether it sees the network: where each of its datasets allows that.
        env: Variables that its owner gives it.
    """

    environment: EnvironmentSpec
    datasets: Sequence[DatasetPlan]
    algorithm: AlgorithmPlan
    duration: float
    network: bool
    env: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def foreign(self) -> bool:
        """Whether its code is fetched from where its owner says."""
        source = self.algorithm.source
        return source is not None and source.public_only

    @property
    def dids(self) -> tuple[str, ...]:
        """The ids of its datasets."""
        return tuple(one.asset.did for one in self.datasets)

    @property
    def order(self) -> str:
        """The transaction that pays for it; empty where none was named."""
        named = [one.order for one in self.datasets] + [self.algorithm.order]
        return next((one for one in named if one), "")


class Rules:
    """Decides by a catalogue and environments."""

    def __init__(
        self, catalogue: Catalogue, environments: Sequence[EnvironmentSpec], files: Files
    ) -> None:
        self._catalogue = catalogue
        self._environments = environments
        self._sums = Checksums(files)

    async def plan(self, owner: str, request: JobRequest) -> JobPlan:
        """Return what a request comes to.

        Raises:
            JobRefused: It is not taken.
            AssetNotConsumable: The owner may not use one of its assets; ``ids`` has which.
        """
        environment = choose(self._environments, request.environment, duration=request.max_duration)
        if environment is None:
            self._refuse_environment(request)
        duration = request.max_duration or environment.max_duration_sec
        if duration > environment.max_duration_sec:
            limit = f"{environment.max_duration_sec:g} seconds"
            _refuse("maxJobDuration", "invalid", f"a job may take {limit} in this environment")
        if len(request.datasets) > MAX_DATASETS:
            _refuse("datasets", "invalid", f"a job may have {MAX_DATASETS} datasets")
        if len(json.dumps(dict(request.metadata))) > MAX_METADATA:
            _refuse("metadata", "too_large", f"metadata may have {MAX_METADATA} characters")
        datasets = [self._dataset(owner, ref, index) for index, ref in enumerate(request.datasets)]
        dids = [one.asset.did for one in datasets]
        if len(set(dids)) < len(dids):
            _refuse("datasets", "invalid", "a dataset is named twice")
        algorithm = self._algorithm(owner, request)
        algorithm = await self._trusted(datasets, algorithm)
        return JobPlan(
            environment=environment,
            datasets=datasets,
            algorithm=algorithm,
            duration=duration,
            network=bool(datasets)
            and all(one.service.rules.allow_network_access for one in datasets),
            env=_variables(request.env),
        )

    def _refuse_environment(self, request: JobRequest) -> NoReturn:
        longest = max((one.max_duration_sec for one in self._environments if one.free), default=0)
        if not request.environment and 0 < longest < request.max_duration:
            limit = f"a job may take {longest:g} seconds in the environments that cost nothing"
            _refuse("maxJobDuration", "invalid", limit)
        _refuse("environment", "invalid", "Environment invalid or does not exist")

    def _dataset(self, owner: str, ref: AssetRef, index: int) -> DatasetPlan:
        name = f"datasets[{index}]" if index else "dataset"
        asset, service = self._found(owner, ref, name)
        if asset.ddo.is_algorithm:
            _refuse(name, "invalid", "the dataset is an algorithm")
        if not index and service.type != COMPUTE:
            _refuse(f"{name}.serviceId", "main_service_compute")
        if service.type not in (ACCESS, COMPUTE):
            _refuse(f"{name}.serviceId", "service_not_access_compute")
        return DatasetPlan(
            asset=asset,
            service=service,
            order=ref.transfer_tx_id,
            userdata=_filled(service.consumer_parameters, ref.userdata, f"{name}.userdata"),
        )

    def _found(self, owner: str, ref: AssetRef, name: str) -> tuple[Asset, OceanService]:
        if len(ref.transfer_tx_id) > _LONGEST_ORDER:
            _refuse(f"{name}.transferTxId", "invalid")
        asset = self._catalogue.find(ref.did)
        if asset is None:
            _refuse(f"{name}.documentId", "did_not_found")
        code = consumable(asset.ddo, owner)
        if code is not ConsumableCodes.OK:
            raise AssetNotConsumable(
                _consumable_text(asset.did, code),
                consumable_code=code,
                ids={"asset": asset.did, "resource": name},
            )
        try:
            return asset, asset.service(ref.service_id, compute=not asset.ddo.is_algorithm)
        except AssetNotFound:
            _refuse(f"{name}.serviceId", "not_found")

    def _algorithm(self, owner: str, request: JobRequest) -> AlgorithmPlan:
        ref = request.algorithm
        if isinstance(ref, AlgorithmSpec):
            container = Container(
                entrypoint=ref.entrypoint, image=ref.image, tag=ref.tag, checksum=ref.checksum
            )
            source: FileSource | None = (
                FileSource(text=ref.rawcode)
                if ref.rawcode
                else FileSource(url=_web(ref.url), public_only=True)
            )
            parameters, asset, service_id, order = ref.consumer_parameters, None, "", ""
            given: Mapping[str, Json] = {}
        else:
            asset, service = self._found(owner, ref, "algorithm")
            meta = asset.ddo.metadata.algorithm if asset.ddo.metadata else None
            if not asset.ddo.is_algorithm or meta is None:
                _refuse("algorithm", "not_algo")
            container, parameters = meta.container, meta.consumer_parameters
            parameters = [*parameters, *(service.consumer_parameters or [])]
            service_id = service.id
            files = asset.files[service_id]
            source, order, given = files[0] if files else None, ref.transfer_tx_id, ref.userdata
        return AlgorithmPlan(
            asset=asset,
            source=source,
            container=_checked(container),
            service_id=service_id,
            order=order,
            custom_data=_filled(
                parameters, {**given, **request.custom_data}, "algorithm.algocustomdata"
            ),
        )

    async def _trusted(
        self, datasets: Sequence[DatasetPlan], algorithm: AlgorithmPlan
    ) -> AlgorithmPlan:
        """Return an algorithm that all datasets trust, held to the content that they trust."""
        asset, found, container = algorithm.asset, [], ""
        if asset is not None and any(_wants_checksums(one) for one in datasets):
            container = container_section_checksum(algorithm.container)
            found = await self._checksums(asset.files[algorithm.service_id])
        for one in datasets:
            word = untrusted_because(
                one.service.rules,
                None if asset is None else asset.ddo,
                service_id=algorithm.service_id,
                files=files_checksum(found),
                container=container,
            )
            if word:
                _refuse("algorithm", word)
        if not found or algorithm.source is None:
            return algorithm
        # It is fetched once more to be run: by then it may have become another.
        return replace(algorithm, source=replace(algorithm.source, sha256=found[0]))

    async def _checksums(self, sources: Sequence[FileSource]) -> list[str]:
        found: list[str] = []
        for source in sources:
            try:
                found.append(await self._sums.of(source, limit=ALGORITHM_LIMIT))
            except FileFailed:
                _refuse("algorithm", "file_unavailable")
        return found


def _wants_checksums(dataset: DatasetPlan) -> bool:
    return bool(dataset.service.rules.publisher_trusted_algorithms)


def _checked(container: Container) -> Container:
    if not container.entrypoint or not container.image:
        _refuse("algorithm.container", "missing_entrypoint_image_checksum")
    checksum = container.checksum
    # Of the sandbox's own base any checksum is taken: it is none of any registry's images.
    least = 0 if container.image == "python" else _CHECKSUM_LENGTH
    if checksum and (not checksum.startswith("sha256:") or len(checksum) < least):
        _refuse("algorithm.container", "checksum_prefix")
    if "\0" in container.entrypoint or len(container.entrypoint) > 16_384:
        _refuse("algorithm.container", "invalid")
    return container


def _filled(
    parameters: Sequence[Mapping[str, Any]] | None, given: Mapping[str, Json], name: str
) -> dict[str, Json]:
    """Return what was given, checked by an asset's consumer parameters, with their defaults."""
    made = dict(given)
    for parameter in parameters or ():
        key = str(parameter.get("name", ""))
        if not key:
            continue
        if key not in made:
            if parameter.get("required") is True:
                _refuse(name, "missing", f"the consumer parameter {key!r} is required")
            if "default" in parameter:
                made[key] = parameter["default"]
        elif not _suits(parameter, made[key]):
            _refuse(name, "invalid", f"the consumer parameter {key!r} has another type")
    return made


def _suits(parameter: Mapping[str, Any], value: Json) -> bool:
    kind = parameter.get("type")
    if kind == "number":
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind == "boolean":
        return isinstance(value, bool)
    if kind == "select":
        return not (options := _options(parameter.get("options"))) or value in options
    return kind != "text" or isinstance(value, str)


def _options(options: object) -> list[object]:
    """Return what can be selected: documents have a list of objects, each of one key."""
    found: list[object] = []
    for one in options if isinstance(options, list) else ():
        found.extend(one) if isinstance(one, Mapping) else found.append(one)
    return found


def _variables(given: Mapping[str, str]) -> dict[str, str]:
    """Return variables that a process can have."""
    for name, value in given.items():
        if not _VARIABLE.fullmatch(name) or "\0" in value:
            _refuse("algorithm.envs", "invalid", f"{name[:100]!r} is no variable")
    size = sum(len(name) + len(value) for name, value in given.items())
    if len(given) > MAX_VARIABLES or size > MAX_VARIABLES_SIZE:
        _refuse("algorithm.envs", "too_large", f"there may be {MAX_VARIABLES} variables")
    return dict(given)


def _web(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        _refuse("algorithm", "file_unavailable", "only http and https addresses can be fetched")
    return url


def _consumable_text(did: str, code: ConsumableCodes) -> str:
    if code is ConsumableCodes.ASSET_DISABLED:
        return "Asset malformed or disabled."
    return f"Error: Access to asset {did} was denied with code: ConsumableCodes.{code.name}."


def _refuse(resource: str, word: str, message: str = "") -> NoReturn:
    raise JobRefused(
        message or f"the job cannot be taken: {resource}: {word}", reasons={resource: word}
    )
