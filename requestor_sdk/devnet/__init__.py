"""A whole Golem network on one machine: the real daemon, providers of ours, and a chain if wanted.

It stands at the top beside ``testing``; nothing below knows of it. What it runs is closed to the
outside, for this user's eyes only, and gone when whoever wanted it is gone.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from requestor_sdk.devnet._chain import DevnetChain
    from requestor_sdk.devnet._network import Devnet
    from requestor_sdk.devnet._parts import DevnetDaemon, DevnetProvider

_HOMES = {
    "Devnet": "requestor_sdk.devnet._network",
    "DevnetChain": "requestor_sdk.devnet._chain",
    "DevnetDaemon": "requestor_sdk.devnet._parts",
    "DevnetProvider": "requestor_sdk.devnet._parts",
}

__all__ = ["Devnet", "DevnetChain", "DevnetDaemon", "DevnetProvider"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
