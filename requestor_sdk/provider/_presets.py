"""The providers that the embedded network has unless told otherwise."""

from __future__ import annotations

import os
from decimal import Decimal
from typing import Final, TypeVar

from requestor_sdk.model.money import LinearPricing
from requestor_sdk.provider._config import GIB, ProviderConfig

_T = TypeVar("_T")

_NAMES: Final = ("amber", "birch", "cedar", "delta", "ember", "flint", "grove", "heath")
_MEMORY_SHARES: Final = (1.0, 0.75, 1.0, 0.5)
_STORAGE_GIB: Final = (20.0, 20.0, 40.0, 10.0)
_DURATION: Final = ("0.000002", "0.0000025", "0.000003", "0.0000015")
_CPU: Final = ("0.00001", "0.000009", "0.000008", "0.000011")
_FIXED: Final = ("0", "0.00005", "0.0001", "0.00002")


def default_providers(count: int = 4, *, subnet: str = "local") -> tuple[ProviderConfig, ...]:
    """Return providers that differ in name, resources and prices.

    A quarter of an hour on two threads costs about 0.02 tokens. Resources are bounded by the
    machine; they are what one activity may use, not what is set aside for it.

    Args:
        count: How many.
        subnet: The part of the market that they belong to.
    """
    threads = min(2, os.cpu_count() or 1)
    memory = min(4.0, _machine_memory_gib())
    return tuple(
        ProviderConfig(
            name=_name(index),
            pricing=LinearPricing(
                coeffs=(Decimal(_pick(_DURATION, index)), Decimal(_pick(_CPU, index))),
                fixed=Decimal(_pick(_FIXED, index)),
            ),
            memory_gib=round(memory * _pick(_MEMORY_SHARES, index), 2),
            storage_gib=_pick(_STORAGE_GIB, index),
            cpu_threads=threads,
            capabilities=("inet", "manifest-support"),
            subnet=subnet,
        )
        for index in range(count)
    )


def _name(index: int) -> str:
    turn, place = divmod(index, len(_NAMES))
    return _NAMES[place] if turn == 0 else f"{_NAMES[place]}-{turn + 1}"


def _pick(values: tuple[_T, ...], index: int) -> _T:
    return values[index % len(values)]


def _machine_memory_gib() -> float:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    except (AttributeError, OSError, ValueError):
        # Windows has no sysconf.
        return 4.0
