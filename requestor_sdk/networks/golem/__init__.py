"""The Golem network through its daemon (yagna): the requestor's side."""

from requestor_sdk.networks.golem._network import TRAITS, GolemNetwork

__all__ = ["TRAITS", "GolemNetwork"]
