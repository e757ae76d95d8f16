"""The provider agent: offers, negotiates, runs scripts in a sandbox, meters, invoices."""

from requestor_sdk.provider._agent import ProviderAgent
from requestor_sdk.provider._billing import Bill
from requestor_sdk.provider._config import ProviderConfig
from requestor_sdk.provider._presets import default_providers

__all__ = ["Bill", "ProviderAgent", "ProviderConfig", "default_providers"]
