"""What users hand over as datasets and algorithms, as the request that a provider gets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, Union

from requestor_sdk.model.errors import UploadUnreadable, UsageError
from requestor_sdk.model.jobs import AlgorithmSpec, AssetRef, Environment, JobRequest

if TYPE_CHECKING:
    from requestor_sdk.model.jobs import Json
    from requestor_sdk.networks.ocean.compute import AlgorithmMetadata, ComputeInput
    from requestor_sdk.ocean.assets import DDO

Dataset: TypeAlias = Union[AssetRef, "DDO", "ComputeInput", str, Path]
"""A dataset: an asset, its id (``did:...``), or on ``local`` a file."""
Algorithm: TypeAlias = Union[
    AlgorithmSpec, AssetRef, "AlgorithmMetadata", "ComputeInput", "DDO", str, Path
]
"""An algorithm: an asset or its id, a file of Python, or its source."""

RAWCODE_BYTES = 1 << 20


def request_of(
    dataset: Dataset | Iterable[Dataset] | None,
    algorithm: Algorithm,
    *,
    environment: Environment | str,
    custom_data: Mapping[str, Json] | None,
    env: Mapping[str, str] | None,
    max_duration: timedelta | float | None,
    metadata: Mapping[str, Json] | None,
    add_file: Callable[[Path], AssetRef] | None,
) -> JobRequest:
    """Return the request of a call.

    Args:
        dataset: One, several, or none.
        algorithm: What is to run.
        environment: Where.
        custom_data: For the algorithm.
        env: Its variables.
        max_duration: How long it may take.
        metadata: Kept with the job.
        add_file: Makes an asset of a file, where data may come from here.

    Raises:
        UsageError: Something that is none of what it should be.
        UploadUnreadable: The algorithm's file cannot be read.
    """
    return JobRequest(
        datasets=tuple(_dataset(one, add_file) for one in _several(dataset)),
        algorithm=_algorithm(algorithm),
        environment=environment.id if isinstance(environment, Environment) else environment,
        custom_data=dict(custom_data or {}),
        env=dict(env or {}),
        max_duration=_seconds(max_duration),
        metadata=dict(metadata or {}),
    )


def _several(dataset: Any) -> list[Any]:
    if dataset is None:
        return []
    if isinstance(dataset, str | Path | AssetRef) or hasattr(dataset, "did"):
        return [dataset]
    return list(dataset) if isinstance(dataset, Iterable) else [dataset]


def _dataset(dataset: Any, add_file: Callable[[Path], AssetRef] | None) -> AssetRef:
    if isinstance(dataset, str) and not dataset.startswith("did:"):
        raise UsageError(
            f"{dataset!r} is no asset's id: that begins with did:",
            hint="Path('data.csv') for a file, on network='local'",
        )
    if isinstance(dataset, Path):
        if add_file is None:
            raise UsageError(
                "a provider's data lies at the provider: a job names it, and does not bring it",
                hint="name an asset of the provider's catalogue, e.g. 'did:op:...'",
            )
        return add_file(dataset)
    found = _asset(dataset)
    if found is None:
        raise UsageError(f"a dataset is an asset or its id, not a {type(dataset).__name__}")
    return found


def _asset(value: Any) -> AssetRef | None:
    if isinstance(value, AssetRef):
        return value
    if isinstance(value, str):
        return AssetRef(did=value) if value.startswith("did:") else None
    if hasattr(value, "as_asset"):
        found: AssetRef = value.as_asset()
        return found
    if hasattr(value, "compute_service"):
        services = value.services
        one = next((s for s in services if s.type == "compute"), services[0] if services else None)
        return AssetRef(did=value.did, service_id="" if one is None else one.id)
    return None


def _algorithm(algorithm: Any) -> AssetRef | AlgorithmSpec:
    if isinstance(algorithm, AlgorithmSpec):
        return algorithm
    if isinstance(algorithm, Path):
        return AlgorithmSpec(rawcode=source(algorithm))
    if hasattr(algorithm, "as_spec"):
        spec: AlgorithmSpec = algorithm.as_spec()
        return spec
    found = _asset(algorithm)
    if found is not None:
        return found
    if isinstance(algorithm, str) and algorithm.strip():
        if "\n" not in algorithm and algorithm.endswith(".py"):
            raise UsageError(
                f"{algorithm!r} is a file's name; a str is an asset's id, or source code",
                hint=f"Path({algorithm!r})",
            )
        return AlgorithmSpec(rawcode=algorithm)
    raise UsageError(
        f"an algorithm is an asset, a file or source code, not a {type(algorithm).__name__}"
    )


def source(path: Path) -> str:
    """Return the source of an algorithm's file.

    Raises:
        UploadUnreadable: It cannot be read, or is no text.
        UsageError: It is empty, or too long.
    """
    try:
        with path.open("rb") as file:
            data = file.read(RAWCODE_BYTES + 1)
        text = data.decode()
    except OSError as error:
        raise UploadUnreadable(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError:
        raise UploadUnreadable(f"{path} is no text") from None
    if len(data) > RAWCODE_BYTES:
        raise UsageError(f"{path} is longer than {RAWCODE_BYTES} bytes")
    if not text.strip():
        raise UsageError(f"{path} is empty")
    return text


def _seconds(given: timedelta | float | None) -> float:
    seconds = given.total_seconds() if isinstance(given, timedelta) else float(given or 0.0)
    if not 0 <= seconds < 1e9:
        raise UsageError(f"max_duration is a time above zero, not {given!r}")
    return seconds


def described(algorithm: AssetRef | AlgorithmSpec) -> str:
    """Return what an event says of an algorithm."""
    if isinstance(algorithm, AssetRef):
        return algorithm.did
    return algorithm.url or f"{algorithm.language} code of {len(algorithm.rawcode)} characters"
