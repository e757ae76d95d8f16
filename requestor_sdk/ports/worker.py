"""The queue of runs, as a worker sees it: in process, or over the worker API.

A run is done by attempts. An attempt is held by a lease: its ``fence`` is made anew at each claim
and goes with every call, so that what a worker says after it lost the attempt changes nothing.
All calls but ``claim`` may be made twice with the same effect; ``claim`` may, by its ``claim_id``.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from requestor_sdk.model.jobs import Json

WORKER_API = 1
"""The version of the worker API: the first part of its paths, ``/worker/v1``."""


_ROUNDING = 1e-9


class RunState(StrEnum):
    """How a run stands."""

    pending = "PENDING"
    assigned = "ASSIGNED"
    running = "RUNNING"
    completed = "COMPLETED"
    failed = "FAILED"
    cancelled = "CANCELLED"


class RunOutcome(StrEnum):
    """How an attempt ended."""

    succeeded = "succeeded"
    failed = "failed"
    cancelled = "cancelled"
    timed_out = "timed_out"


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuRoom:
    """Free memory of one GPU, in MB."""

    id: int
    vram_mb: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What a worker has free: processors, MB of memory and disk, and of each GPU."""

    cpu: float
    ram_mb: int
    disk_mb: int
    gpus: Sequence[GpuRoom] = ()

    def choose(self, demand: Demand) -> Sequence[int] | None:
        """Return which GPUs a run would have, those with the least memory that do; or ``None``.

        ``None`` is: it does not fit. A run that names no memory has all that is free of a GPU.
        """
        if (
            demand.cpu > self.cpu + _ROUNDING
            or demand.ram_mb > self.ram_mb
            or demand.disk_mb > self.disk_mb
        ):
            return None
        fitting = [gpu for gpu in self.gpus if gpu.vram_mb >= max(demand.vram_mb, 1)]
        if len(fitting) < demand.gpus:
            return None
        fitting.sort(key=lambda gpu: (gpu.vram_mb, gpu.id))
        return tuple(gpu.id for gpu in fitting[: demand.gpus])

    def without(self, demand: Demand, gpus: Sequence[int]) -> Room:
        """Return what is left beside a run that has these GPUs; never less than nothing."""
        return replace(
            self,
            cpu=max(0.0, round(self.cpu - demand.cpu, 9)),
            ram_mb=max(0, self.ram_mb - demand.ram_mb),
            disk_mb=max(0, self.disk_mb - demand.disk_mb),
            gpus=tuple(
                replace(gpu, vram_mb=max(0, gpu.vram_mb - (demand.vram_mb or gpu.vram_mb)))
                if gpu.id in gpus
                else gpu
                for gpu in self.gpus
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What a run needs; ``tags`` are all to be found at the worker."""

    cpu: float = 1.0
    ram_mb: int = 256
    disk_mb: int = 256
    gpus: int = 0
    vram_mb: int = 0
    tags: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerInfo:
    """A worker as it shows itself with each heartbeat.

    Attributes:
        id: Its name, the same after a restart.
        session: Made anew by each process of it: runs of an earlier session are nobody's.
        total: All that it has.
        free: What of it is free now.
        draining: Whether it takes nothing more.
        running: The ids of the runs that it works on.
    """

    id: str
    session: str
    total: Room
    free: Room
    tags: Sequence[str] = ()
    draining: bool = False
    running: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class InputFile:
    """A file that is put into the sandbox before the command runs.

    Attributes:
        name: What ``RunQueue.fetch`` has it by.
        path: Where it is put, absolute, e.g. ``/data/inputs/abc/0``.
        size: Bytes, where they are known.
    """

    name: str
    path: str
    size: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """What is to be run.

    Attributes:
        image: ``python`` (the sandbox's base), or what the image store resolves.
        checksum: ``sha256:...`` of the image, where it is pinned.
        command: Argument vector; empty for an op that reads ``inputs`` and writes outputs as JSON
            files (``GYOZA_INPUT_PATH``, ``GYOZA_OUTPUT_PATH``) by the image's own ``/run``.
        inputs: Arguments of an op.
        files: What is put into the sandbox before.
        folders: Folders that are made before, empty.
        outputs: The folders whose files are kept, e.g. ``/data/outputs``.
        network: Whether it sees the network.
        timeout_sec: Its wall clock, from the start of the command.
        output_limit: Bytes that all kept files may have together.
        log_limit: Bytes of its log that are kept.
    """

    image: str
    checksum: str = ""
    command: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    inputs: Mapping[str, Json] = field(default_factory=dict)
    files: Sequence[InputFile] = ()
    folders: Sequence[str] = ()
    outputs: Sequence[str] = ()
    network: bool = False
    timeout_sec: float = 3600.0
    output_limit: int = 1 << 30
    log_limit: int = 16 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """One attempt at a run, held by one worker."""

    run_id: str
    attempt: int
    fence: str = field(repr=False)  # who has it speaks for the attempt


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A run that was given to a worker.

    Attributes:
        lease_sec: After so many seconds without a renewal it is somebody else's.
        gpus: The GPUs that it has, by their ids.
    """

    lease: Lease
    spec: RunSpec
    demand: Demand
    lease_sec: float
    gpus: Sequence[int] = ()


class LeaseState(StrEnum):
    """What the queue says to a renewal."""

    ok = "ok"
    cancel = "cancel"
    lost = "lost"


class Stage(StrEnum):
    """How far an attempt is; told as it happens."""

    preparing = "preparing"
    running = "running"
    publishing = "publishing"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEvent:
    """Something that an attempt tells of.

    Attributes:
        seq: Counted up by the worker within an attempt; one that is told twice counts once.
        type: ``stage`` (``message`` is a ``Stage``), or an op's own: ``INFO``, ``PROGRESS``
            (``message`` is 0 to 100), ``ERROR``.
    """

    seq: int
    type: str
    message: str = ""
    payload: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptFile:
    """A file of an output folder, that was uploaded.

    Attributes:
        name: The last part of the folder and the path below it: ``outputs/tables/a.csv``.
    """

    name: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """How an attempt ended.

    Attributes:
        outcome: What became of it.
        reason: A word for machines where it did not succeed: ``exit_code``, ``oom_killed``,
            ``disk``, ``timeout``, ``cancelled``, ``image_missing``, ``image_invalid``,
            ``input_failed``, ``inputs_invalid``, ``outputs_invalid``, ``outputs_too_large``,
            ``sandbox``, ``step`` (of a pipeline).
        message: The same for people.
        exit_code: Of the command, where it ran.
        outputs: What an op returned.
        files: What was uploaded, in order.
        cpu_sec: Processor time.
        memory_peak: Bytes.
    """

    outcome: RunOutcome
    reason: str = ""
    message: str = ""
    exit_code: int | None = None
    outputs: Mapping[str, Json] = field(default_factory=dict)
    files: Sequence[KeptFile] = ()
    cpu_sec: float = 0.0
    memory_peak: int | None = None
    duration_sec: float = 0.0


class RunQueue(Protocol):
    """Where runs wait, and are given to workers.

    What every call but the first two raises:
        LeaseLost: The attempt is not the caller's any more, or its run is over: stop, say nothing.
        NetworkError: ``may_pass`` says whether it can be tried again.
    """

    async def heartbeat(self, worker: WorkerInfo) -> None:
        """Register, or show that it lives.

        Raises:
            WorkerRefused: The token is not this worker's, or another process of it has come since.
        """
        ...

    async def claim(
        self, *, worker_id: str, session: str, claim_id: str, free: Room, wait: float
    ) -> Claim | None:
        """Take the first run that fits; waits for one so many seconds.

        The same ``claim_id`` gets the same run, as long as its lease is held.
        """
        ...

    async def renew(
        self, worker_id: str, leases: Sequence[tuple[Lease, float | None]]
    ) -> Sequence[LeaseState]:
        """Hold leases on; each comes with its progress (0 to 1). Answers in the same order."""
        ...

    async def stops(
        self, *, worker_id: str, session: str, known: Sequence[str], wait: float
    ) -> Sequence[Lease]:
        """Return held leases whose end is asked for, as soon as there is one; else after ``wait``.

        ``renew`` says the same, at the next renewal; this wakes within a moment.

        Args:
            worker_id: The worker.
            session: Its present one.
            known: The fences of those that are being ended already.
            wait: Seconds.
        """
        ...

    async def release(self, lease: Lease, reason: str) -> None:
        """Hand a run back undone: another attempt will be made."""
        ...

    async def event(self, lease: Lease, event: RunEvent) -> None:
        """Tell of something."""
        ...

    async def log(self, lease: Lease, offset: int, data: bytes) -> None:
        """Append to the attempt's log what begins at a byte offset; what is there stays.

        What lies past the run's ``log_limit`` is dropped.
        """
        ...

    def fetch(self, lease: Lease, name: str) -> AsyncIterator[bytes]:
        """Yield an input file."""
        ...

    async def upload(self, lease: Lease, name: str, chunks: AsyncIterator[bytes]) -> KeptFile:
        """Keep an output file; the same name replaces what came before.

        Raises:
            JobRefused: All files of the attempt would exceed ``output_limit`` together.
        """
        ...

    async def complete(self, lease: Lease, completion: Completion) -> None:
        """End an attempt. Told twice with the same fence, it counts once."""
        ...

    async def run_state(self, run_id: str) -> RunState:
        """Return how a run stands."""
        ...
