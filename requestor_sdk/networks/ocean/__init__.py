"""Providers of compute-to-data jobs over the Ocean protocol, as a consumer sees them."""

from requestor_sdk.networks.ocean._config import DEFAULT_URL, OceanConfig
from requestor_sdk.networks.ocean._jobs import OceanJobs
from requestor_sdk.networks.ocean._network import OceanNetwork
from requestor_sdk.networks.ocean._wallet import keystore_wallet, wallet_of

__all__ = [
    "DEFAULT_URL",
    "OceanConfig",
    "OceanJobs",
    "OceanNetwork",
    "keystore_wallet",
    "wallet_of",
]
