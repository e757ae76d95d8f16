"""What a provider lets, and on what terms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from requestor_sdk.model.errors import AmountError
from requestor_sdk.model.market import Offer, Properties
from requestor_sdk.model.money import LinearPricing
from requestor_sdk.model.props import (
    DEBIT_NOTE_INTERVAL,
    INF_CORES,
    INF_MEM,
    INF_STORAGE,
    INF_THREADS,
    MULTI_ACTIVITY,
    NODE_NAME,
    RUNTIME_CAPABILITIES,
    RUNTIME_NAME,
    SUBNET,
)
from requestor_sdk.ports.runtime import SandboxLimits
from requestor_sdk.service.manifest import check_trusted

GIB = 1024**3


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderConfig:
    """What one provider lets, and on what terms.

    Attributes:
        name: What it calls itself (``golem.node.id.name``).
        pricing: Its prices.
        memory_gib: GiB of memory that one activity gets and the offer shows.
        storage_gib: GiB that one activity may write.
        cpu_threads: Processors that one activity gets.
        max_activities: How many agreements it has at one time.
        open_offers: How many offers it keeps published at one time; each can become an agreement.
        runtime: The name of the runtime, as demands ask for it.
        capabilities: What the runtime can do: with ``inet``, payloads that ask for it reach the
            internet; with ``manifest-support``, it is found by those that carry a manifest.
        trusted_certificates: PEM. Where there are any, payloads reach the internet only by a
            manifest that is signed by one of these, or by one that they vouch for.
        host_network: Whether a payload of others that reaches the internet has the machine's own
            network, with its local services; else it reaches public addresses alone.
        debit_note_interval_sec: Seconds between debit notes, unless the demand asks for others.
        shortest_interval_sec: More often than this no demand gets debit notes.
        max_duration_sec: The longest that an agreement may last.
        idle_timeout_sec: For how long an agreement may have no activity.
        subnet: The part of the market that it belongs to.
        properties: Further properties of its offers.
        constraints: What its offers ask of demands.
        image_gib: GiB that the image of a payload may have, packed and unpacked.
        images_gib: GiB that all images may have together that were fetched for payloads.
        requestors: Whom it serves; empty for everybody.
        serves_others: Whether payloads of other people run here; then the runtime must isolate.

    Raises:
        AmountError: A size, a count or a time is not above zero.
        PayloadError: A certificate that is to be trusted is none.
        NotSupported: There is one, and the package ``cryptography`` is not installed.
    """

    name: str
    pricing: LinearPricing = field(default_factory=LinearPricing)
    memory_gib: float = 1.0
    storage_gib: float = 10.0
    cpu_threads: int = 1
    max_activities: int = 32
    open_offers: int = 1
    runtime: str = "vm"
    capabilities: tuple[str, ...] = ()
    trusted_certificates: tuple[str, ...] = ()
    host_network: bool = False
    debit_note_interval_sec: float = 10.0
    shortest_interval_sec: float = 0.1
    max_duration_sec: float = 7 * 24 * 3600.0
    idle_timeout_sec: float = 180.0
    subnet: str = "local"
    properties: Mapping[str, object] = field(default_factory=dict)
    constraints: str = "()"
    image_gib: float = 10.0
    images_gib: float = 50.0
    requestors: tuple[str, ...] = ()
    serves_others: bool = False

    def __post_init__(self) -> None:
        positive = (
            "memory_gib",
            "storage_gib",
            "cpu_threads",
            "max_activities",
            "open_offers",
            "debit_note_interval_sec",
            "max_duration_sec",
            "idle_timeout_sec",
            "image_gib",
            "images_gib",
        )
        for name in positive:
            if getattr(self, name) <= 0:
                raise AmountError(f"{name} of provider {self.name!r} must be above zero")
        if self.trusted_certificates:
            check_trusted(self.trusted_certificates)

    @property
    def public_only(self) -> bool:
        """Whether payloads with a network reach public addresses alone."""
        return self.serves_others and not self.host_network

    @property
    def limits(self) -> SandboxLimits:
        """What the sandbox of one activity may use."""
        return SandboxLimits(
            memory=int(self.memory_gib * GIB),
            storage=int(self.storage_gib * GIB),
            cpu_threads=float(self.cpu_threads),
        )

    def offer(self, network: Properties) -> Offer:
        """Return the offer that it publishes.

        Args:
            network: What the network wants in it.
        """
        properties: dict[str, object] = {
            NODE_NAME: self.name,
            SUBNET: self.subnet,
            INF_MEM: self.memory_gib,
            INF_STORAGE: self.storage_gib,
            INF_THREADS: self.cpu_threads,
            INF_CORES: self.cpu_threads,
            RUNTIME_NAME: self.runtime,
            RUNTIME_CAPABILITIES: list(self.capabilities),
            DEBIT_NOTE_INTERVAL: self.debit_note_interval_sec,
            MULTI_ACTIVITY: True,
            **self.pricing.to_properties(),
            **network,
            **self.properties,
        }
        return Offer(properties=properties, constraints=self.constraints)
