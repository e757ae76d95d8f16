"""The in-process market of the embedded network.

``MemoryMarket`` is what all ends share; ``MemoryNetwork`` is the requestor's end of it and
``MemoryTransport`` a provider's. Nothing runs here: providers are agents on their transports.
"""

from requestor_sdk.networks.memory._book import BY_OFFER
from requestor_sdk.networks.memory._channels import Inbox
from requestor_sdk.networks.memory._end import ProviderEnd
from requestor_sdk.networks.memory._files import MemoryFiles
from requestor_sdk.networks.memory._market import MemoryMarket, random_id
from requestor_sdk.networks.memory._network import TRAITS, MemoryNetwork
from requestor_sdk.networks.memory._transport import MemoryTransport

__all__ = [
    "BY_OFFER",
    "TRAITS",
    "Inbox",
    "MemoryFiles",
    "MemoryMarket",
    "MemoryNetwork",
    "MemoryTransport",
    "ProviderEnd",
    "random_id",
]
