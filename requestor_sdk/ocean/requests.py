"""What is sent to start a job, for each generation, and what a server reads from either."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from requestor_sdk.model.errors import JobRefused
from requestor_sdk.model.jobs import AlgorithmSpec, AssetRef, JobRequest
from requestor_sdk.ocean.statuses import number

if TYPE_CHECKING:
    from collections.abc import Mapping

    from requestor_sdk.model.jobs import Json

_FORMS: Final = "meta_oneof_url_rawcode_remote"


def asset_body(asset: AssetRef) -> dict[str, Json]:
    """Return a dataset or algorithm of a catalogue as it is sent."""
    made: dict[str, Json] = {
        "documentId": asset.did,
        "serviceId": asset.service_id,
        "transferTxId": asset.transfer_tx_id,
    }
    if asset.userdata:
        made["userdata"] = dict(asset.userdata)
    return made


def meta_body(algorithm: AlgorithmSpec) -> dict[str, Json]:
    """Return an algorithm that is sent along."""
    made: dict[str, Json] = {
        "language": algorithm.language,
        "version": algorithm.version,
        "container": {
            "entrypoint": algorithm.entrypoint,
            "image": algorithm.image,
            "tag": algorithm.tag,
            "checksum": algorithm.checksum,
        },
    }
    made["rawcode" if algorithm.rawcode else "url"] = algorithm.rawcode or algorithm.url
    if algorithm.consumer_parameters:
        made["consumerParameters"] = [dict(one) for one in algorithm.consumer_parameters]
    return made


def algorithm_body(request: JobRequest) -> dict[str, Json]:
    """Return a request's algorithm as it is sent."""
    algorithm = request.algorithm
    made: dict[str, Json] = (
        asset_body(algorithm) if isinstance(algorithm, AssetRef) else {"meta": meta_body(algorithm)}
    )
    if request.custom_data:
        made["algocustomdata"] = dict(request.custom_data)
    if request.env:
        made["envs"] = dict(request.env)
    return made


def classic_start(request: JobRequest) -> dict[str, Json]:
    """Return the body for a classic Provider; address, nonce and signature are put in later.

    Raises:
        JobRefused: It has no dataset, which a classic Provider needs, or variables, which it
            would leave out.
    """
    if not request.datasets:
        raise JobRefused(
            "this provider starts no job without a dataset", reasons={"dataset": "missing"}
        )
    if request.env:
        raise JobRefused(
            "this provider gives algorithms no variables", reasons={"algorithm.envs": "invalid"}
        )
    first, *others = request.datasets
    made: dict[str, Json] = {
        "dataset": asset_body(first),
        "algorithm": algorithm_body(request),
        "environment": request.environment,
        "additionalDatasets": [asset_body(other) for other in others],
    }
    return made


def node_start(request: JobRequest) -> dict[str, Json]:
    """Return the body for a node; address, nonce, signature and payment are put in later."""
    datasets: list[Json] = [asset_body(dataset) for dataset in request.datasets]
    made: dict[str, Json] = {
        "datasets": datasets,
        "algorithm": algorithm_body(request),
        "environment": request.environment,
    }
    if datasets:
        made["dataset"] = datasets[0]
    if request.max_duration:
        made["maxJobDuration"] = int(request.max_duration)
    if request.metadata:
        made["metadata"] = dict(request.metadata)
    return made


def request_in(body: Mapping[str, Any]) -> JobRequest:
    """Read a start call of either generation.

    ``algorithm.meta`` takes precedence over ``algorithm.documentId``. Of ``datasets`` and
    ``dataset`` the first is meant; to ``dataset`` belong ``additionalDatasets``, and
    ``additionalInputs`` as a client of the classic Provider spells it.

    Raises:
        JobRefused: Its ``reasons`` name what is wrong in the protocol's words.
    """
    algorithm = _object(body.get("algorithm"), "algorithm")
    duration = number(body.get("maxJobDuration"))
    if body.get("maxJobDuration") is not None and (duration is None or not 0 <= duration < 1e10):
        raise _refused("maxJobDuration", "invalid")
    environment = "" if body.get("environment") is None else body["environment"]
    if not isinstance(environment, str):
        raise _refused("environment", "invalid")
    return JobRequest(
        algorithm=_algorithm_in(algorithm),
        datasets=_datasets_in(body),
        environment=environment,
        custom_data=_mapping(algorithm.get("algocustomdata"), "algorithm.algocustomdata"),
        env=_variables_in(algorithm.get("envs")),
        max_duration=duration or 0.0,
        metadata=_mapping(body.get("metadata"), "metadata"),
    )


def _datasets_in(body: Mapping[str, Any]) -> tuple[AssetRef, ...]:
    listed = body.get("datasets")
    if listed is not None:
        found = _list(listed, "datasets")
    else:
        first = body.get("dataset")
        others = body.get("additionalDatasets") or body.get("additionalInputs")
        found = ([] if not first else [first]) + _list(others, "additional_input")
    names = (f"datasets[{index}]" if index else "dataset" for index in range(len(found)))
    return tuple(_asset_in(one, name) for one, name in zip(found, names, strict=True))


def _asset_in(value: object, name: str) -> AssetRef:
    body = _object(value, name)
    did = body.get("documentId")
    if not did:
        raise _refused(f"{name}.documentId", "missing")
    service = body.get("serviceId")
    order = body.get("transferTxId")
    for part, told in (("documentId", did), ("serviceId", service), ("transferTxId", order)):
        if told is not None and not isinstance(told, str | int):
            raise _refused(f"{name}.{part}", "invalid")
    return AssetRef(
        did=str(did),
        service_id="" if service is None else str(service),
        transfer_tx_id=str(order or ""),
        userdata=_mapping(body.get("userdata"), f"{name}.userdata"),
    )


def _algorithm_in(body: Mapping[str, Any]) -> AssetRef | AlgorithmSpec:
    if not body.get("meta"):
        if not body.get("documentId"):
            raise _refused("algorithm", "missing_meta_documentId")
        return _asset_in(body, "algorithm")
    meta = _object(body["meta"], "algorithm")
    container = _object(meta.get("container") or {}, "algorithm.container")
    rawcode, url = _text(meta, "rawcode", "algorithm"), _text(meta, "url", "algorithm")
    if not rawcode and not url:
        raise _refused("algorithm", _FORMS)
    parameters = _list(meta.get("consumerParameters"), "algorithm.consumerParameters")
    return AlgorithmSpec(
        rawcode=rawcode,
        url="" if rawcode else url,
        language=_text(meta, "language", "algorithm"),
        version=_text(meta, "version", "algorithm"),
        entrypoint=_text(container, "entrypoint", "algorithm.container"),
        image=_text(container, "image", "algorithm.container"),
        tag=_text(container, "tag", "algorithm.container"),
        checksum=_text(container, "checksum", "algorithm.container"),
        consumer_parameters=tuple(_object(p, "algorithm.consumerParameters") for p in parameters),
    )


def _variables_in(value: object) -> dict[str, str]:
    found = _mapping(value, "algorithm.envs")
    if not all(isinstance(one, str | int | float) for one in found.values()):
        raise _refused("algorithm.envs", "invalid")
    return {
        name: str(one).lower() if isinstance(one, bool) else str(one) for name, one in found.items()
    }


def _refused(resource: str, word: str) -> JobRefused:
    return JobRefused(f"the job cannot be taken: {resource}: {word}", reasons={resource: word})


def _object(value: object, name: str) -> dict[str, Any]:
    if value is None:
        raise _refused(name, "missing")
    if not isinstance(value, dict):
        raise _refused(name, "invalid")
    return value


def _mapping(value: object, name: str) -> dict[str, Any]:
    return {} if value is None or value == "" else _object(value, name)


def _list(value: object, name: str) -> list[Any]:
    if value is None or value == "":
        return []
    if not isinstance(value, list):
        raise _refused(name, "invalid")
    return value


def _text(body: Mapping[str, Any], key: str, name: str) -> str:
    value = body.get(key)
    if value is None:
        return ""
    if not isinstance(value, str | int | float):
        raise _refused(f"{name}.{key}", "invalid")
    return str(value)
