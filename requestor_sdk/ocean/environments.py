"""Environments as servers of both generations send them, as one value, and as one object again."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

from requestor_sdk.model.errors import BadAnswer
from requestor_sdk.model.jobs import Environment
from requestor_sdk.ocean.statuses import number

if TYPE_CHECKING:
    from collections.abc import Mapping

    from requestor_sdk.model.jobs import Json


def environments_in(answer: object, chain_id: int | None = None) -> list[dict[str, Any]]:
    """Return the environment objects of an answer: a list, or lists by chain.

    Args:
        answer: Parsed JSON.
        chain_id: Of which chain; ``None`` for all, each environment once.

    Raises:
        BadAnswer: It is neither.
    """
    if isinstance(answer, dict):
        lists = (
            [chain for chain in answer.values() if isinstance(chain, list)]
            if chain_id is None
            else [answer.get(str(chain_id)) or []]
        )
    elif isinstance(answer, list):
        lists = [answer]
    else:
        raise BadAnswer("the provider answered no list of environments")
    found: dict[str, dict[str, Any]] = {}
    for environment in (entry for entries in lists for entry in entries):
        if isinstance(environment, dict) and environment.get("id"):
            found.setdefault(str(environment["id"]), environment)
    return list(found.values())


def environment_from(body: Mapping[str, Any]) -> Environment:
    """Return what an environment object of any generation means."""
    if "resources" in body or "fees" in body or "free" in body:
        return _of_node(body)
    price = _decimal(body.get("priceMin"))
    return Environment(
        id=str(body.get("id") or ""),
        description=str(body.get("desc") or body.get("description") or ""),
        cpus=_first(body, "cpuNumber", "nCPU") or 1.0,
        memory_gib=_first(body, "ramGB"),
        storage_gib=_first(body, "diskGB"),
        gpus=int(_first(body, "gpuNumber", "nGPU")),
        # Without a price it is not known to cost nothing.
        free=price == 0 if body.get("priceMin") is not None else False,
        price_per_min=price,
        fee_token=str(body.get("feeToken") or ""),
        consumer_address=str(body.get("consumerAddress") or ""),
        max_duration=_first(body, "maxJobDuration"),
        max_jobs=int(_first(body, "maxJobs")),
        running_jobs=int(_first(body, "currentJobs", "runningJobs")),
        images=_images(body),
    )


def _of_node(body: Mapping[str, Any]) -> Environment:
    free = body.get("free")
    is_free = isinstance(free, dict)
    source: Mapping[str, Any] = free if isinstance(free, dict) else body
    resources = _resources(body)
    if isinstance(free, dict):
        # What a free job may have is less than what the machine has.
        resources = resources | {k: v for k, v in _resources(free).items() if v}
    token, price = _price(body)
    return Environment(
        id=str(body.get("id") or ""),
        description=str(body.get("description") or body.get("desc") or ""),
        cpus=resources.get("cpu") or 1.0,
        memory_gib=resources.get("ram", 0.0),
        storage_gib=resources.get("disk", 0.0),
        gpus=int(sum(v for k, v in resources.items() if k not in ("cpu", "ram", "disk"))),
        free=is_free,
        price_per_min=Decimal(0) if is_free else price,
        fee_token=token,
        consumer_address=str(body.get("consumerAddress") or ""),
        max_duration=_first(source, "maxJobDuration") or _first(body, "maxJobDuration"),
        max_jobs=int(_first(source, "maxJobs") or _first(body, "maxJobs")),
        running_jobs=int(_first(body, "runningfreeJobs" if is_free else "runningJobs")),
        images=_images(body),
    )


def _resources(body: Mapping[str, Any]) -> dict[str, float]:
    found: dict[str, float] = {}
    entries = body.get("resources")
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, dict) and entry.get("id"):
            found[str(entry["id"])] = number(entry.get("max")) or number(entry.get("total")) or 0.0
    return found


def _price(body: Mapping[str, Any]) -> tuple[str, Decimal]:
    """Return the first fee: its token, and what one unit of each resource takes a minute."""
    fees = body.get("fees")
    for chain in fees.values() if isinstance(fees, dict) else ():
        for fee in chain if isinstance(chain, list) else ():
            if not isinstance(fee, dict):
                continue
            prices = fee.get("prices")
            entries = prices if isinstance(prices, list) else []
            each = (_decimal(entry.get("price")) for entry in entries if isinstance(entry, dict))
            return str(fee.get("feeToken") or ""), sum(each, Decimal(0))
    return "", Decimal(0)


def environment_object(
    environment: Environment, *, chain_id: int, gpu_type: str = "", cpu_type: str = ""
) -> dict[str, Json]:
    """Return an environment as one object that clients of both generations read.

    It has the fields of the classic Provider, those that the documentation names and it does not
    send (``nCPU``, ``nGPU``, ``namespace``, ``status``), and those of a node.
    """
    price = float(environment.price_per_min)
    seconds = int(environment.max_duration)
    resources: list[Json] = [
        _resource("cpu", environment.cpus),
        _resource("ram", environment.memory_gib),
        _resource("disk", environment.storage_gib),
    ]
    if environment.gpus:
        resources.append(_resource("gpu", environment.gpus))
    made: dict[str, Json] = {
        "id": environment.id,
        "desc": environment.description,
        "description": environment.description,
        "cpuNumber": environment.cpus,
        "cpuType": cpu_type,
        "nCPU": environment.cpus,
        "gpuNumber": environment.gpus,
        "gpuType": gpu_type,
        "nGPU": environment.gpus,
        "ramGB": environment.memory_gib,
        "diskGB": environment.storage_gib,
        "priceMin": price,
        "feeToken": environment.fee_token,
        "currentJobs": environment.running_jobs,
        "runningJobs": 0 if environment.free else environment.running_jobs,
        "runningfreeJobs": environment.running_jobs if environment.free else 0,
        "queuedJobs": 0,
        "queuedFreeJobs": 0,
        "maxJobs": environment.max_jobs,
        "maxJobDuration": seconds,
        "minJobDuration": 1,
        "storageExpiry": 0,
        "consumerAddress": environment.consumer_address,
        "namespace": "requestor-sdk",
        "status": 1,
        "chainId": chain_id,
        "platform": {"architecture": "x86_64", "os": "linux"},
        "access": {"addresses": [], "accessLists": []},
        "enableNetwork": False,
        "resources": resources,
        "images": list(environment.images),
        "fees": {
            str(chain_id): [
                {"feeToken": environment.fee_token, "prices": [{"id": "cpu", "price": price}]}
            ]
        },
    }
    if environment.free:
        made["free"] = {
            "access": {"addresses": [], "accessLists": []},
            "maxJobs": environment.max_jobs,
            "maxJobDuration": seconds,
            "minJobDuration": 1,
            "resources": resources,
            "allowImageBuild": False,
        }
    return made


def _resource(name: str, amount: float) -> dict[str, Json]:
    return {"id": name, "total": amount, "min": 0, "max": amount, "inUse": 0}


def _images(body: Mapping[str, Any]) -> tuple[str, ...]:
    images = body.get("images")
    return tuple(str(image) for image in images) if isinstance(images, list) else ()


def _first(body: Mapping[str, Any], *names: str) -> float:
    for name in names:
        found = number(body.get(name))
        if found is not None:
            return found
    return 0.0


def _decimal(value: object) -> Decimal:
    try:
        made = Decimal(str(value))
    except InvalidOperation:
        return Decimal(0)
    return made if made.is_finite() else Decimal(0)
