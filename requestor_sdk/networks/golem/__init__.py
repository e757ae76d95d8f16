"""The Golem network through its daemon (yagna), as a requestor sees it."""

from requestor_sdk.networks.golem._network import TRAITS, GolemNetwork
from requestor_sdk.networks.golem._transfers import GolemTransfers

__all__ = ["TRAITS", "GolemNetwork", "GolemTransfers"]
