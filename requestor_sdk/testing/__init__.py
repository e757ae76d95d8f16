"""What programs that use this package are tested with: a simulated network and virtual time."""

from requestor_sdk.networks.simulated import (
    ProgramResult,
    SimulatedNetwork,
    SimulatedProvider,
    simulated_providers,
)
from requestor_sdk.testing.clock import VirtualTimeLoop

__all__ = [
    "ProgramResult",
    "SimulatedNetwork",
    "SimulatedProvider",
    "VirtualTimeLoop",
    "simulated_providers",
]
