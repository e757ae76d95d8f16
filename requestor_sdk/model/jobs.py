"""Compute-to-data jobs as values: environments, requests, statuses, and what became of a job.

Both ends of the Ocean protocol, and `local`, speak of jobs in these. The numbers of statuses are
the protocol's own: https://docs.oceanprotocol.com/developers/provider/compute-endpoints and the
enumeration ``C2DStatusNumber`` of ocean-node.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


class JobCode(IntEnum):
    """What a provider says of a job, by number."""

    queued_anew = 0
    warming_up = 1
    expired = 2
    stopped = 7
    deleted = 8
    started = 10
    image_pull_failed = 11
    image_building = 12
    image_build_failed = 13
    image_vulnerable = 14
    configuring_volumes = 20
    volume_failed = 21
    container_failed = 22
    provisioned = 30
    data_failed = 31
    algorithm_failed = 32
    upload_failed = 33
    running = 40
    run_failed = 41
    disk_exceeded = 42
    filtering = 50
    publishing = 60
    outputs_failed = 61
    results_failed = 62
    finished = 70
    settling = 71


FAILED: Final = frozenset(
    {
        JobCode.image_pull_failed,
        JobCode.image_build_failed,
        JobCode.image_vulnerable,
        JobCode.volume_failed,
        JobCode.container_failed,
        JobCode.data_failed,
        JobCode.algorithm_failed,
        JobCode.upload_failed,
        JobCode.run_failed,
        JobCode.disk_exceeded,
        JobCode.outputs_failed,
        JobCode.results_failed,
    }
)
"""The numbers that say that a job failed."""


def stage(code: int) -> str:
    """Return the state of an instance that a job of this number is most like, for displays."""
    if code < JobCode.configuring_volumes:
        return "pending"
    if code < JobCode.running:
        return "starting"
    return "running" if code < JobCode.filtering else "stopping"


class JobOutcome(StrEnum):
    """What became of a job that is over."""

    succeeded = "succeeded"
    """The algorithm ended well, and what it left is kept."""
    failed = "failed"
    """It ended with an error, or could not be run."""
    stopped = "stopped"
    """Its owner had it stopped, or removed."""
    timed_out = "timed_out"
    """It took longer than its environment lets a job take."""
    expired = "expired"
    """It waited for too long, and never ran."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultFile:
    """One file that a job left.

    Attributes:
        index: Its number, as the provider counts now; ask again before each download.
        name: Its file name.
        size: Bytes.
        type: ``output``, or which log it is.
    """

    index: int
    name: str
    size: int
    type: str = "output"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStatus:
    """What a provider says of a job.

    Attributes:
        id: As the provider's start call gave it.
        owner: The consumer's address, ``0x`` and 40 hex digits.
        code: The protocol's number; newer servers may send ones that are not in ``JobCode``.
        text: The provider's words for it.
        created_at: When it was taken, aware, in UTC.
        finished_at: When it was over; ``None`` while it is not, or where the provider does not
            tell.
        outcome: What became of it; ``None`` while it is not over.
        exit_code: What the algorithm's process returned, where the provider tells.
        environment: The id of the environment that it runs in; empty where the provider does not
            tell.
        results: The files that can be downloaded now.
        error: Why it failed, where the provider tells.
        worker: Who runs it, or ran it last, by the provider's name for it; empty where it does not
            tell: no server but ours does.
        attempt: Which attempt at it that is, from 1; 0 where the provider does not tell.
    """

    id: str
    owner: str
    code: int
    text: str
    created_at: datetime
    finished_at: datetime | None = None
    outcome: JobOutcome | None = None
    exit_code: int | None = None
    environment: str = ""
    results: Sequence[ResultFile] = ()
    error: str | None = None
    worker: str = ""
    attempt: int = 0

    @property
    def size(self) -> int:
        """Bytes of all that can be downloaded."""
        return sum(file.size for file in self.results)

    @property
    def seconds(self) -> float | None:
        """How long it took from its start to its end; ``None`` where that is not known."""
        if self.finished_at is None or self.created_at.timestamp() == 0:
            return None
        return max(0.0, (self.finished_at - self.created_at).total_seconds())

    @property
    def over(self) -> bool:
        """Whether the job is over."""
        return self.outcome is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """Where a provider runs jobs, and what it takes for that.

    Attributes:
        id: As the provider calls it; what a job names.
        description: For people.
        cpus: Processors that a job gets.
        memory_gib: GiB of memory likewise.
        storage_gib: GiB that it may write.
        gpus: Graphics processors likewise.
        free: Whether it costs nothing.
        price_per_min: In units of the fee token; zero is free.
        fee_token: The token's address; empty where it is free.
        consumer_address: By which address it consumes data; empty where the provider does not tell.
        max_duration: Seconds that a job may take.
        max_jobs: How many jobs can run at one time; 0 where the provider does not tell.
        running_jobs: How many it has now.
        images: Image names that can be had there; empty where the provider does not tell.
    """

    id: str
    description: str = ""
    cpus: float = 1.0
    memory_gib: float = 0.0
    storage_gib: float = 0.0
    gpus: int = 0
    free: bool = True
    price_per_min: Decimal = Decimal(0)
    fee_token: str = ""
    consumer_address: str = ""
    max_duration: float = 0.0
    max_jobs: int = 0
    running_jobs: int = 0
    images: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AssetRef:
    """A dataset or algorithm of a catalogue.

    Attributes:
        did: ``did:op:...``
        service_id: Which of its services; empty for its first one of type compute.
        transfer_tx_id: The order's transaction, where the environment or the asset costs something.
        userdata: Consumer parameters of the asset's service.
    """

    did: str
    service_id: str = ""
    transfer_tx_id: str = ""
    userdata: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class AlgorithmSpec:
    """An algorithm that is sent along.

    Attributes:
        rawcode: Its source; or empty where ``url`` names it.
        url: Where its source is fetched from; empty where it is sent along.
        language: What it is written in; told, and not acted on.
        version: Of the algorithm; likewise.
        entrypoint: How it is run; ``$ALGO`` stands for the path of its file.
        image: The container's image, ``python`` being the sandbox's own base.
        tag: Of the image.
        checksum: ``sha256:...`` of the image, where it is pinned.
        consumer_parameters: What its users may set, as its metadata declares them.
    """

    rawcode: str = ""
    url: str = ""
    language: str = "python"
    version: str = "0.1"
    entrypoint: str = "python3 $ALGO"
    image: str = "python"
    tag: str = "latest"
    checksum: str = ""
    consumer_parameters: Sequence[Mapping[str, Json]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRequest:
    """A job to be started.

    Attributes:
        datasets: What it reads; may be empty where the provider allows that.
        algorithm: An asset, or an algorithm that is sent along.
        environment: Which environment; empty for the first free one that fits.
        custom_data: Written to ``/data/inputs/algoCustomData.json``.
        env: Variables that the algorithm has beside those of the provider. A secret among them is
            known to the provider.
        max_duration: Seconds; 0 for the environment's limit.
    """

    algorithm: AssetRef | AlgorithmSpec
    datasets: Sequence[AssetRef] = ()
    environment: str = ""
    custom_data: Mapping[str, Json] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    max_duration: float = 0.0
    metadata: Mapping[str, Json] = field(default_factory=dict)
