"""What passes over the worker API, as its OpenAPI document shows it and as it is checked.

Each model has the fields of the value of ``ports.worker`` that it is named after.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Final, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue

from requestor_sdk.model.fields import from_json
from requestor_sdk.ports.worker import LeaseState, RunOutcome, RunState

T = TypeVar("T")

_DEEPEST: Final = 64
_MB: Final = 1 << 40


def _is_plain(value: Any) -> Any:
    """Refuse what other ends could not read: no numbers, and what is nested without end."""
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > _DEEPEST:
            raise ValueError(f"nested deeper than {_DEEPEST} levels")
        below: list[Any] = []
        for one in level:
            if isinstance(one, dict):
                below.extend((*one, *one.values()))
            elif isinstance(one, str):
                # Half of a surrogate pair is JSON, but no text: nothing could show it.
                one.encode()
            elif isinstance(one, list):
                below.extend(one)
            elif isinstance(one, float) and not math.isfinite(one):
                raise ValueError("a number that is none")
        level = below
    return value


Object = Annotated[dict[str, JsonValue], AfterValidator(_is_plain)]
Name = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9._:-]+$")]
Words = Annotated[str, Field(max_length=8192)]
Tags = Annotated[list[Annotated[str, Field(max_length=128)]], Field(max_length=64)]
Megabytes = Annotated[int, Field(ge=0, le=_MB)]
Seconds = Annotated[float, Field(ge=0, le=60)]


class Sent(BaseModel):
    """What one end sends: what is not known here is passed over, so that either may be newer."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    def to(self, kind: type[T]) -> T:
        """Return the value of ``ports.worker``."""
        return from_json(kind, self.model_dump(mode="json"))


class Gpu(Sent):
    """Memory of a GPU."""

    id: int = Field(ge=0, le=1 << 20)
    vram_mb: Megabytes


class RoomBody(Sent):
    """Processors, MB of memory and disk, memory of GPUs."""

    cpu: float = Field(ge=0, le=1 << 20)
    ram_mb: Megabytes
    disk_mb: Megabytes
    gpus: list[Gpu] = Field(default=[], max_length=256)


class WorkerBody(Sent):
    """A worker as it shows itself with each heartbeat."""

    session: Name
    total: RoomBody
    free: RoomBody
    tags: Tags = []
    draining: bool = False
    running: list[Name] = Field(default=[], max_length=4096)


class HelloBody(Sent):
    """The server is asked to prove that it knows the worker's token."""

    worker_id: Name
    challenge: str = Field(min_length=32, max_length=256)


class HelloAnswer(BaseModel):
    """HMAC-SHA256 with the hex sha256 of the token as its key; see ``model.worker_token``."""

    version: int
    proof: str


class ClaimBody(Sent):
    """A claim: the same ``claim_id`` gets the same run."""

    session: Name
    claim_id: Name
    free: RoomBody
    wait: Seconds = 0.0


class LeaseBody(Sent):
    """One attempt at a run, held by one worker."""

    run_id: Name
    attempt: int = Field(ge=0, le=1 << 31)
    fence: str = Field(min_length=1, max_length=256)


class HeldLease(Sent):
    """A lease, and how far its run is: 0 to 1."""

    lease: LeaseBody
    progress: float | None = None


class RenewBody(Sent):
    """Leases that are to be held on."""

    leases: list[HeldLease] = Field(max_length=4096)


class RenewAnswer(BaseModel):
    """How they stand, in the same order."""

    states: list[LeaseState]


class StopsBody(Sent):
    """Asks which leases are to be ended, other than those whose fences are known."""

    session: Name
    known: list[str] = Field(default=[], max_length=4096)
    wait: Seconds = 0.0


class StopsAnswer(BaseModel):
    """Leases that are to be ended."""

    leases: list[LeaseBody]


class ReleaseBody(Sent):
    """Why a run is handed back."""

    reason: Words = ""


class EventBody(Sent):
    """Something that an attempt tells of."""

    seq: int = Field(ge=0, le=1 << 53)
    type: str = Field(min_length=1, max_length=128)
    message: Words = ""
    payload: Object = {}


class FileBody(Sent):
    """A file of an output folder, that was uploaded."""

    name: str = Field(min_length=1, max_length=4096)
    size: int = Field(ge=0, le=1 << 62)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class CompletionBody(Sent):
    """How an attempt ended."""

    outcome: RunOutcome
    reason: str = Field(default="", max_length=128)
    message: Words = ""
    exit_code: int | None = Field(default=None, ge=-(1 << 31), le=1 << 31)
    outputs: Object = {}
    files: list[FileBody] = Field(default=[], max_length=10_000)
    cpu_sec: float = Field(default=0.0, ge=0)
    memory_peak: int | None = Field(default=None, ge=0, le=1 << 62)
    duration_sec: float = Field(default=0.0, ge=0)


class InputBody(BaseModel):
    """A file that is put into the sandbox before the command runs."""

    name: str
    path: str
    size: int | None = None


class SpecBody(BaseModel):
    """What is to be run."""

    image: str
    checksum: str = ""
    command: list[str] = []
    env: dict[str, str] = {}
    inputs: dict[str, JsonValue] = {}
    files: list[InputBody] = []
    folders: list[str] = []
    outputs: list[str] = []
    network: bool = False
    timeout_sec: float
    output_limit: int
    log_limit: int


class DemandBody(BaseModel):
    """What a run needs."""

    cpu: float
    ram_mb: int
    disk_mb: int
    gpus: int
    vram_mb: int
    tags: list[str]


class ClaimAnswer(BaseModel):
    """A run that was given to a worker."""

    lease: LeaseBody
    spec: SpecBody
    demand: DemandBody
    lease_sec: float
    gpus: list[int]


class StateAnswer(BaseModel):
    """How a run stands."""

    state: RunState


class Refusal(BaseModel):
    """Why something was not done.

    ``error`` is a word for machines: ``lease_lost`` (409), ``refused`` (401, 403), ``not_found``
    (404), ``too_large`` (413), ``invalid`` (400, 422), ``unavailable`` (503: try again).
    """

    error: str
    message: str
