"""The rows that a store keeps of a queue: runs, their attempts and events, workers."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from requestor_sdk.ports.worker import Completion, Demand, Room, RunSpec, RunState, Stage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from requestor_sdk.model.jobs import Json


class Ending(StrEnum):
    """How an attempt came to its end."""

    completed = "completed"
    """Its worker told how the run ended."""
    released = "released"
    """Its worker handed the run back."""
    lapsed = "lapsed"
    """Nothing was heard of its worker."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow:
    """A run.

    Attributes:
        id: Made by who submits it.
        owner: Whose it is; owners take turns.
        priority: Higher ones first, then by turn, then older ones.
        turn: The round of all owners' turns in which it is to run.
        created_at: Seconds since the epoch, as all times here.
        not_before: It waits until then, after it was handed back again and again.
        attempt: The number of the last attempt; 0 before the first.
        lapses: Attempts that ended because nothing was heard of their worker.
        releases: Attempts that were handed back.
        max_attempts: So many may lapse.
        cancel: Whether its end is asked for.
        completion: How it ended; ``None`` while it has not.
    """

    id: str
    spec: RunSpec
    demand: Demand
    owner: str = ""
    state: RunState = RunState.pending
    priority: int = 5
    turn: int = 0
    created_at: float
    not_before: float = 0.0
    attempt: int = 0
    lapses: int = 0
    releases: int = 0
    max_attempts: int = 3
    cancel: bool = False
    completion: Completion | None = None
    finished_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """Of a run that waits: what says whether it fits, and its place in the line."""

    id: str
    demand: Demand
    place: tuple[int, int, float, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRow:
    """An attempt at a run.

    Attributes:
        fence: Random, made anew with each claim.
        claim_id: What the worker called its claim; one makes one attempt.
        gpus: The GPUs whose memory it holds.
        leased_until: From then on it may be given to another.
        told: Characters of the events that it told of.
        ending: How it ended; ``None`` while it is held.
    """

    run_id: str
    number: int
    fence: str
    worker_id: str
    session: str
    claim_id: str
    demand: Demand
    gpus: Sequence[int] = ()
    claimed_at: float
    leased_until: float
    stage: Stage | None = None
    progress: float | None = None
    told: int = 0
    ending: Ending | None = None
    ended_at: float | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRow:
    """Something that an attempt told of."""

    run_id: str
    attempt: int
    seq: int
    type: str
    message: str
    payload: Mapping[str, Json] = field(default_factory=dict)
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRow:
    """A worker.

    Attributes:
        token_hash: sha256 of its token, hex; empty for one that calls in process.
        session: Of its last heartbeat; empty before the first.
        former: Its sessions before that one, the last of them last.
        total: All that it has; ``None`` before the first heartbeat.
    """

    id: str
    token_hash: str = ""
    session: str = ""
    former: Sequence[str] = ()
    total: Room | None = None
    free: Room | None = None
    tags: Sequence[str] = ()
    draining: bool = False
    running: Sequence[str] = ()
    created_at: float
    seen_at: float = 0.0
