"""A whole Golem network on one machine: the real daemon, providers of ours, and a chain if wanted.

It stands at the top beside ``testing``; nothing below knows of it. What it runs is closed to the
outside, for this user's eyes only, and gone when whoever wanted it is gone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from requestor_sdk._lazy import lazily

if TYPE_CHECKING:
    from requestor_sdk.devnet._chain import DevnetChain
    from requestor_sdk.devnet._network import Devnet
    from requestor_sdk.devnet._parts import DevnetDaemon, DevnetProvider

_HOMES = {
    "Devnet": "._network",
    "DevnetChain": "._chain",
    "DevnetDaemon": "._parts",
    "DevnetProvider": "._parts",
}

__all__ = ["Devnet", "DevnetChain", "DevnetDaemon", "DevnetProvider"]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazily(__name__, _HOMES, __all__)
