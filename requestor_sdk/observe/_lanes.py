"""What a timeline is made of: the states, batches and marks of each instance, and what was spent.

Values that the fold in ``timeline`` fills and the drawings read.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal


@dataclass(slots=True, kw_only=True)
class Span:
    """For how long an instance was in one state.

    Attributes:
        state: The state.
        begin: When it came to it.
        end: When it left it; ``None`` while it has not.
        attempt: Which attempt, from 1.
        provider: The name of its provider; empty while it has none.
        cause: Why it came to it, where that is a failure.
    """

    state: str
    begin: datetime
    end: datetime | None = None
    attempt: int = 1
    provider: str = ""
    cause: str = ""


@dataclass(slots=True, kw_only=True)
class BatchBar:
    """For how long a batch ran.

    Attributes:
        begin: When it was sent.
        end: When it was over; ``None`` while it is not.
        commands: Its commands.
        error: Why it failed, if it did.
    """

    begin: datetime
    end: datetime | None = None
    commands: tuple[str, ...] = ()
    error: str = ""


@dataclass(slots=True, kw_only=True)
class Mark:
    """Something that happened at one moment.

    Attributes:
        at: When.
        kind: ``failure`` or ``restart`` of a lane; of the run ``note`` for what divides it,
            ``hint`` for what held it up, and ``fault`` for what a simulation let go wrong.
        text: What.
    """

    at: datetime
    kind: str
    text: str


@dataclass(slots=True, kw_only=True)
class Lane:
    """One instance.

    Attributes:
        instance_id: Which.
        cluster_id: Of which cluster; empty where no event tells.
        spans: Its states, in order.
        batches: Its batches, in the order they were sent.
        marks: Its failures and restarts, in order.
        cost: What was accepted for all its agreements.
    """

    instance_id: str
    cluster_id: str = ""
    spans: list[Span] = field(default_factory=list)
    batches: list[BatchBar] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    cost: Decimal = Decimal(0)

    def close(self, at: datetime) -> None:
        """End its last state, where that goes on."""
        if self.spans and self.spans[-1].end is None:
            self.spans[-1].end = at


@dataclass(slots=True, kw_only=True)
class Spent:
    """What had been accepted from one moment on."""

    at: datetime
    amount: Decimal
