"""A whole Golem network on one machine: the real daemon, providers of ours, and a chain if wanted.

It stands at the top beside ``testing``; nothing below knows of it. What it runs is closed to the
outside, for this user's eyes only, and gone when whoever wanted it is gone.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from requestor_sdk.devnet._network import Devnet, DevnetDaemon, DevnetProvider

__all__ = ["Devnet", "DevnetDaemon", "DevnetProvider"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    value = getattr(importlib.import_module("requestor_sdk.devnet._network"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
