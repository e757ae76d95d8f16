"""What a worker can be asked about itself: numbers that only rise, and how it is now."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerHealth:
    """How a worker is.

    Attributes:
        ready: It is registered, takes runs, and every lease that it holds is sure.
        draining: It takes nothing more.
        running: Runs that it works on, those included whose end is still to be told.
        untold: Of these, how many have ended.
        lease_slack_sec: How long the lease that ends first is sure; ``None`` where none is held.
        claims: Runs that it was given.
        ended: How many ended how: an outcome, ``handed back`` or ``lost``.
        renewals: Calls that held leases on.
        renew_sec: How long the last of them took.
        heartbeats_missed: Heartbeats that were not answered.
    """

    ready: bool
    draining: bool
    running: int
    untold: int
    lease_slack_sec: float | None
    claims: int
    ended: Mapping[str, int]
    renewals: int
    renew_sec: float
    heartbeats_missed: int


@dataclass(slots=True)
class Stats:
    """The numbers, as they are counted."""

    registered: bool = False
    claims: int = 0
    ended: Counter[str] = field(default_factory=Counter)
    renewals: int = 0
    renew_sec: float = 0.0
    heartbeats_missed: int = 0
