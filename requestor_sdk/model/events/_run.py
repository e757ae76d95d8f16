"""The run: it begins and ends, and what belongs to no part of it alone."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import ClassVar

from requestor_sdk.model.event import Event


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputationStarted(Event):
    """The engine is up."""

    durable: ClassVar[bool] = True

    run_id: str
    network: str
    budget: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputationFinished(Event):
    """The engine is down; amounts are final."""

    durable: ClassVar[bool] = True

    run_id: str
    spent: Decimal
    left_over: Decimal = Decimal(0)
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputationSuspended(Event):
    """The engine is down; suspended instances keep agreement and activity for a later process."""

    durable: ClassVar[bool] = True

    run_id: str
    spent: Decimal
    instances: tuple[str, ...]
    left_over: Decimal = Decimal(0)
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputationRecovered(Event):
    """Another process goes on with a run; ``open_agreements`` is what it found unsettled."""

    durable: ClassVar[bool] = True

    run_id: str
    network: str
    budget: Decimal = Decimal(0)
    open_agreements: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ShutdownStarted(Event):
    """Leaving began; ``waiting_for`` names the instances that still run."""

    run_id: str
    waiting_for: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopRetried(Event):
    """A loop that reads the network met an error and goes on after a back-off."""

    loop: str
    error: str
    after_sec: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomEvent(Event):
    """Something that the user's own code reports."""

    name: str
    text: str = ""
