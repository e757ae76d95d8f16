"""What programs that use this package are tested with: a simulated network and virtual time."""

from requestor_sdk.networks.simulated import (
    AnsweringTwice,
    Behaviour,
    Fault,
    FaultPlan,
    Lying,
    NeverAnswering,
    Overcharging,
    ProgramResult,
    Refusing,
    SimulatedNetwork,
    SimulatedProvider,
    Slow,
    TerminatingEarly,
    Unreachable,
    Vanishing,
    simulated_providers,
)
from requestor_sdk.testing.clock import Deadlock, VirtualTimeLoop
from requestor_sdk.testing.crashes import crash
from requestor_sdk.testing.invariants import InvariantBroken
from requestor_sdk.testing.invariants import check as check_invariants

__all__ = [
    "AnsweringTwice",
    "Behaviour",
    "Deadlock",
    "Fault",
    "FaultPlan",
    "InvariantBroken",
    "Lying",
    "NeverAnswering",
    "Overcharging",
    "ProgramResult",
    "Refusing",
    "SimulatedNetwork",
    "SimulatedProvider",
    "Slow",
    "TerminatingEarly",
    "Unreachable",
    "Vanishing",
    "VirtualTimeLoop",
    "check_invariants",
    "crash",
    "simulated_providers",
]
