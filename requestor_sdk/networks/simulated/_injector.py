"""Decides at each call of the requestor whether a fault of the plan strikes there."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from requestor_sdk.model.errors import (
    NetworkError,
    NetworkInterrupted,
    NetworkTimeout,
    NetworkUnreachable,
    NotAvailable,
    RequestorError,
)
from requestor_sdk.networks.simulated._fault import PROVIDER, Action, Fault
from requestor_sdk.networks.simulated._plan import FaultPlan

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from requestor_sdk.networks.simulated._behaviour import Behaviour


@dataclass(frozen=True, slots=True, kw_only=True)
class Strike:
    """A fault that struck.

    Attributes:
        at: When.
        call: At which call.
        fault: Which one.
    """

    at: datetime
    call: str
    fault: Fault

    def line(self) -> str:
        """Return it as one line of a story."""
        return f"{self.at:%H:%M:%S}.{self.at.microsecond // 1000:03d} fault at {self.call}: {self.fault}"  # noqa: E501


class Injector:
    """Counts the calls and draws the faults of one network.

    Args:
        plan: What can go wrong.
        seed: Of its chance.
    """

    def __init__(self, plan: FaultPlan, seed: int) -> None:
        self.plan = plan
        self.dice = random.Random(f"{seed}/faults")  # noqa: S311 - a simulation's chance
        self.struck: list[Strike] = []
        self.calm = False
        self._seen = [0] * len(plan.faults)
        self._of: dict[str, tuple[int, ...]] = {}

    @property
    def wraps(self) -> bool:
        """Whether any call can be struck."""
        return not self.calm and any(fault.call != PROVIDER for fault in self.plan.faults)

    def behaviours(self, number: int) -> tuple[Behaviour, ...]:
        """Draw the behaviours of the provider of this number, from 1."""
        found = []
        for fault in self.plan.faults:
            if fault.call != PROVIDER or fault.action.behaviour is None:
                continue
            if fault.at == number or (fault.p is not None and self.dice.random() < fault.p):
                found.append(fault.action.behaviour)
        return tuple(found)

    def strike(self, call: str, now: datetime) -> Action | None:
        """Count a call, and return what goes wrong at it."""
        if self.calm:
            return None
        places = self._of.get(call)
        if places is None:
            faults: Sequence[Fault] = self.plan.faults
            found = (n for n, f in enumerate(faults) if f.call != PROVIDER and f.matches(call))
            places = self._of[call] = tuple(found)
        hit: Fault | None = None
        for place in places:
            fault = self.plan.faults[place]
            self._seen[place] += 1
            if hit is None and (
                fault.at == self._seen[place]
                or (fault.p is not None and self.dice.random() < fault.p)
            ):
                hit = fault
        if hit is None:
            return None
        self.struck.append(Strike(at=now, call=call, fault=hit))
        return hit.action


_TOLD: Final = {
    "400": "the daemon does not understand the request",
    "401": "the daemon does not accept the app key",
    "404": "the daemon knows no such thing",
    "410": "what was asked for is gone",
    "500": "the daemon failed",
    "503": "the daemon is not ready",
}


def error_of(code: str, call: str, *, after: bool = False) -> RequestorError:
    """Return the error that a daemon's answer becomes at the network's edge.

    Args:
        code: One of ``ERRORS``.
        call: Port and method.
        after: Whether the call had its effect: then nobody can have refused it.
    """
    ids = {"call": call}
    if code == "refused" and after:
        return NetworkInterrupted("the daemon broke off in the middle of the call", ids=ids)
    if code == "refused":
        hint = "start the daemon, or wait for it to be back"
        return NetworkUnreachable("the daemon refuses connections", ids=ids, hint=hint)
    if code == "408":
        return NetworkTimeout("the daemon did not answer in time", status=408, ids=ids)
    if code in ("404", "410"):
        return NotAvailable(f"{_TOLD[code]} (HTTP {code})", ids=ids)
    return NetworkError(f"{_TOLD[code]} (HTTP {code})", status=int(code), ids=ids)
