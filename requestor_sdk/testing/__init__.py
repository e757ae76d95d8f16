"""What programs that use this package are tested with: a simulated network and virtual time.

Names load when they are first used: the pytest plugin lives here, and every run of pytest loads it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from requestor_sdk._lazy import lazily

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
    "Deadlock": ".clock",
    "Fault": _SIMULATED,
    "FaultPlan": _SIMULATED,
    "HandlerCall": ".handlers",
    "HandlerLog": ".handlers",
    "InvariantBroken": ".invariants",
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
    "VirtualTimeLoop": ".clock",
    "check_invariants": ".invariants",
    "crash": ".crashes",
    "simulated_providers": _SIMULATED,
    "story_of": ".story",
    "timeline_of": ".story",
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

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazily(__name__, _HOMES, __all__)
