"""The Golem network through its daemon (yagna), as a requestor sees it."""

from requestor_sdk.networks.golem._network import TRAITS, GolemNetwork

__all__ = ["TRAITS", "GolemNetwork"]
