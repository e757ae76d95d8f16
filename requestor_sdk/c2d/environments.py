"""The environments of a provider: what one job gets, for how long, and at what price.

Which one a job runs in is decided here, by pure functions. That a job stays within it is the
sandbox's work.
"""

from __future__ import annotations

import os
import re
import tomllib
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from requestor_sdk.model.errors import UsageError
from requestor_sdk.model.jobs import Environment
from requestor_sdk.ports.worker import Demand

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

FREE: Final = "free"
"""The id of the environment that a provider has where nobody says otherwise."""
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_ADDRESS: Final = re.compile(r"0x[0-9a-fA-F]{40}")
_GIB: Final = 1 << 30

EXAMPLE: Final = """\
# Environments of `requestor-sdk c2d serve --environments FILE`: what one job gets.

[[environment]]
id = "free"
description = "Free, for small jobs"
cpus = 1
memory_gib = 1.0
storage_gib = 1.0
max_duration_sec = 3600
max_jobs = 2

[[environment]]
id = "large"
cpus = 8
memory_gib = 32.0
storage_gib = 100.0
max_duration_sec = 86400
# In units of the fee token: orders are checked on the chain (--rpc).
price_per_min = "0.05"
fee_token = "0x0000000000000000000000000000000000000000"
chain_id = 8996
# Only workers that have all of these tags run its jobs.
tags = ["large"]
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentSpec:
    """What one job gets.

    Attributes:
        cpus: Processors.
        vram_gib: Memory that each GPU has to have free.
        price_per_min: In units of the fee token; zero is free.
        max_duration_sec: The longest that an algorithm may run.
        max_jobs: Jobs that may run at one time; further ones wait.
        max_waiting: Jobs that may wait; further ones are refused.
        results_days: How long results are kept after a job's end.
        tags: What a worker has to have to run its jobs.
    """

    id: str
    description: str = ""
    cpus: float = 1.0
    memory_gib: float = 1.0
    storage_gib: float = 1.0
    gpus: int = 0
    vram_gib: float = 0.0
    price_per_min: Decimal = Decimal(0)
    fee_token: str = ""
    chain_id: int = 8996
    max_duration_sec: float = 3600.0
    max_jobs: int = 100
    max_waiting: int = 10_000
    results_days: float = 7.0
    tags: Sequence[str] = ()

    @property
    def free(self) -> bool:
        """Whether a job in it costs nothing."""
        return self.price_per_min == 0

    @property
    def storage(self) -> int:
        """Bytes of disk that one job has, its inputs and outputs included."""
        return int(self.storage_gib * _GIB)

    @property
    def gives(self) -> dict[str, float]:
        """What one job has, by the names that today's nodes have for it."""
        return {
            "cpu": self.cpus,
            "ram": self.memory_gib,
            "disk": self.storage_gib,
            "gpu": self.gpus,
        }

    def lacks(self, needs: Mapping[str, float]) -> str | None:
        """Return the first need that it does not meet; ``None`` where it meets all."""
        gives = self.gives
        return next((name for name, much in needs.items() if much > gives.get(name, 0.0)), None)

    def demand(self) -> Demand:
        """Return what a worker has to have free for one job."""
        return Demand(
            cpu=self.cpus,
            ram_mb=int(self.memory_gib * 1024),
            disk_mb=int(self.storage_gib * 1024),
            gpus=self.gpus,
            vram_mb=int(self.vram_gib * 1024),
            tags=tuple(self.tags),
        )

    def shown(
        self, *, consumer_address: str, open_jobs: int = 0, images: Sequence[str] = ()
    ) -> Environment:
        """Return it as consumers see it."""
        return Environment(
            id=self.id,
            description=self.description,
            cpus=self.cpus,
            memory_gib=self.memory_gib,
            storage_gib=self.storage_gib,
            gpus=self.gpus,
            free=self.free,
            price_per_min=self.price_per_min,
            fee_token=self.fee_token,
            consumer_address=consumer_address,
            max_duration=self.max_duration_sec,
            max_jobs=self.max_jobs,
            running_jobs=open_jobs,
            images=tuple(images),
        )


def default_environments() -> tuple[EnvironmentSpec, ...]:
    """Return one free environment that suits this machine: a processor and 1 GiB a job."""
    return (
        EnvironmentSpec(
            id=FREE,
            description="One processor, 1 GiB of memory, no network",
            max_jobs=max(1, os.cpu_count() or 1),
        ),
    )


def choose(
    environments: Iterable[EnvironmentSpec],
    name: str,
    *,
    duration: float = 0.0,
    needs: Mapping[str, float] | None = None,
) -> EnvironmentSpec | None:
    """Return the environment of that name; without a name the first free one that fits.

    Args:
        environments: All there are.
        name: The id that was asked for; empty for any.
        duration: Seconds that the job asks for; 0 where it does not say.
        needs: What the job asks for, see ``EnvironmentSpec.gives``.
    """
    if name:
        return next((one for one in environments if one.id == name), None)
    return next(
        (
            one
            for one in environments
            if one.free and duration <= one.max_duration_sec and not one.lacks(needs or {})
        ),
        None,
    )


def read_environments(path: Path) -> tuple[EnvironmentSpec, ...]:
    """Read environments from a TOML file; ``EXAMPLE`` is one.

    Raises:
        UsageError: It cannot be read, or a field of it cannot be; the message names the field.
    """
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} holds no environments: {error}") from error
    entries = found.get("environment")
    if not isinstance(entries, list) or not entries or set(found) != {"environment"}:
        raise UsageError(f"{path} has to consist of tables [[environment]]")
    made = tuple(_read(entry, f"{path}: environment {n + 1}") for n, entry in enumerate(entries))
    names = [one.id for one in made]
    if len(set(names)) < len(names):
        raise UsageError(f"{path}: two environments have the same id")
    return made


_NUMBERS: Final[Mapping[str, tuple[float, bool]]] = {
    # name: (the least, whether it has to be whole)
    "cpus": (0.01, False),
    "memory_gib": (0.03, False),
    "storage_gib": (0.001, False),
    "gpus": (0, True),
    "vram_gib": (0, False),
    "chain_id": (1, True),
    "max_duration_sec": (1, False),
    "max_jobs": (1, True),
    "max_waiting": (0, True),
    "results_days": (0, False),
}
_TEXTS: Final = ("id", "description", "fee_token", "price_per_min", "tags")


def _read(entry: Any, where: str) -> EnvironmentSpec:
    if not isinstance(entry, dict):
        raise UsageError(f"{where} is no table")
    unknown = sorted(set(entry) - set(_NUMBERS) - set(_TEXTS))
    if unknown:
        raise UsageError(f"{where}: there is no field {unknown[0]!r}")
    fields: dict[str, Any] = {}
    for name, (least, whole) in _NUMBERS.items():
        if name in entry:
            fields[name] = _number(entry[name], least, f"{where}: {name}", whole=whole)
    own = entry.get("id")
    if not isinstance(own, str) or not _NAME.fullmatch(own):
        raise UsageError(f"{where}: id has to be letters, digits, '.', '_' and '-'")
    tags = entry.get("tags", [])
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise UsageError(f"{where}: tags has to be a list of texts")
    price = _price(entry.get("price_per_min", "0"), f"{where}: price_per_min")
    token = str(entry.get("fee_token", ""))
    if price and not _ADDRESS.fullmatch(token):
        raise UsageError(f"{where}: fee_token has to be an address, for it has a price")
    return EnvironmentSpec(
        id=own,
        description=str(entry.get("description", "")),
        fee_token=token,
        price_per_min=price,
        tags=tuple(tags),
        **fields,
    )


def _number(value: Any, least: float, what: str, *, whole: bool) -> float:
    kinds = (int,) if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not least <= value < 1e12:
        raise UsageError(f"{what} has to be a {'whole ' if whole else ''}number, {least:g} or more")
    return value


def _price(value: Any, what: str) -> Decimal:
    try:
        made = Decimal(str(value))
    except ArithmeticError as error:
        raise UsageError(f"{what} has to be a number") from error
    if not made.is_finite() or made < 0:
        raise UsageError(f"{what} has to be zero or more")
    return made
