"""The simulated network: the in-process market of ``local`` with scripted providers.

Time may jump, chance comes from a seed and nothing real runs, so that a run can be repeated event
for event.
"""

from requestor_sdk.networks.simulated._agent import SimulatedAgent
from requestor_sdk.networks.simulated._behaviour import (
    BEHAVIOURS,
    AnsweringTwice,
    Behaviour,
    Lying,
    NeverAnswering,
    Overcharging,
    Refusing,
    Slow,
    TerminatingEarly,
    Unreachable,
    Vanishing,
)
from requestor_sdk.networks.simulated._fault import (
    CALLS,
    Action,
    Fault,
    behave,
    crash_daemon,
    crash_provider,
    crash_requestor,
    delay,
    drop,
    duplicate,
    error,
    reorder,
)
from requestor_sdk.networks.simulated._journal import Act, SimulatedJournal
from requestor_sdk.networks.simulated._network import SimulatedNetwork, seed_of
from requestor_sdk.networks.simulated._plan import PLANS, FaultPlan
from requestor_sdk.networks.simulated._provider import (
    ProgramResult,
    SimulatedProvider,
    simulated_providers,
)
from requestor_sdk.networks.simulated._signer import SimulatedSigner

__all__ = [
    "BEHAVIOURS",
    "CALLS",
    "PLANS",
    "Act",
    "Action",
    "AnsweringTwice",
    "Behaviour",
    "Fault",
    "FaultPlan",
    "Lying",
    "NeverAnswering",
    "Overcharging",
    "ProgramResult",
    "Refusing",
    "SimulatedAgent",
    "SimulatedJournal",
    "SimulatedNetwork",
    "SimulatedProvider",
    "SimulatedSigner",
    "Slow",
    "TerminatingEarly",
    "Unreachable",
    "Vanishing",
    "behave",
    "crash_daemon",
    "crash_provider",
    "crash_requestor",
    "delay",
    "drop",
    "duplicate",
    "error",
    "reorder",
    "seed_of",
    "simulated_providers",
]
