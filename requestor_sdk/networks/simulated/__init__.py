"""The simulated network: the in-process market of ``local`` with scripted providers.

Time may jump, chance comes from a seed and nothing real runs, so that a run can be repeated event
for event.
"""

from requestor_sdk.networks.simulated._agent import SimulatedAgent
from requestor_sdk.networks.simulated._journal import SimulatedJournal
from requestor_sdk.networks.simulated._network import SimulatedNetwork, seed_of
from requestor_sdk.networks.simulated._provider import (
    ProgramResult,
    SimulatedProvider,
    simulated_providers,
)
from requestor_sdk.networks.simulated._signer import SimulatedSigner

__all__ = [
    "ProgramResult",
    "SimulatedAgent",
    "SimulatedJournal",
    "SimulatedNetwork",
    "SimulatedProvider",
    "SimulatedSigner",
    "seed_of",
    "simulated_providers",
]
