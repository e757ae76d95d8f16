"""What programs that use this package are tested with: a simulated network and virtual time.

Names load when they are first used: the pytest plugin lives here, and every run of pytest loads it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
    from requestor_sdk.testing.handlers import HandlerCall, HandlerLog
    from requestor_sdk.testing.invariants import InvariantBroken, check_invariants
    from requestor_sdk.testing.story import story_of, timeline_of

_SIMULATED = "requestor_sdk.networks.simulated"

_HOMES = {
    "AnsweringTwice": _SIMULATED,
    "Behaviour": _SIMULATED,
    "Deadlock": "requestor_sdk.testing.clock",
    "Fault": _SIMULATED,
    "FaultPlan": _SIMULATED,
    "HandlerCall": "requestor_sdk.testing.handlers",
    "HandlerLog": "requestor_sdk.testing.handlers",
    "InvariantBroken": "requestor_sdk.testing.invariants",
    "Lying": _SIMULATED,
    "NeverAnswering": _SIMULATED,
    "Overcharging": _SIMULATED,
    "ProgramResult": _SIMULATED,
    "Refusing": _SIMULATED,
    "SimulatedNetwork": _SIMULATED,
    "SimulatedProvider": _SIMULATED,
    "Slow": _SIMULATED,
    "TerminatingEarly": _SIMULATED,
    "Unreachable": _SIMULATED,
    "Vanishing": _SIMULATED,
    "VirtualTimeLoop": "requestor_sdk.testing.clock",
    "check_invariants": "requestor_sdk.testing.invariants",
    "crash": "requestor_sdk.testing.crashes",
    "simulated_providers": _SIMULATED,
    "story_of": "requestor_sdk.testing.story",
    "timeline_of": "requestor_sdk.testing.story",
}

__all__ = [
    "AnsweringTwice",
    "Behaviour",
    "Deadlock",
    "Fault",
    "FaultPlan",
    "HandlerCall",
    "HandlerLog",
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
    "story_of",
    "timeline_of",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
