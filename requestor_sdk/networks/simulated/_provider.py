"""What a provider of the simulated network lets, how fast it is and how it behaves."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

from requestor_sdk.model.errors import AmountError, UsageError
from requestor_sdk.model.market import Offer
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
from requestor_sdk.networks.simulated._behaviour import Behaviour
from requestor_sdk.networks.simulated._span import Span, check_span


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramResult:
    """How a simulated program ends.

    Attributes:
        stdout: What it wrote to its standard output.
        stderr: What it wrote to its standard error.
        return_code: Its exit status.
        seconds: How long it ran; the provider's ``command_sec`` where this is ``None``.
        cpu_sec: Processor seconds that it used; its whole duration where this is ``None``.
    """

    stdout: str | bytes = b""
    stderr: str | bytes = b""
    return_code: int = 0
    seconds: float | None = None
    cpu_sec: float | None = None


Outcome = ProgramResult | str | bytes | int | None
"""A result, or only its standard output, or only its exit status; ``None`` for success."""

Program = Outcome | Callable[[tuple[str, ...], dict[str, bytes]], Outcome | Awaitable[Outcome]]
"""What a program does: an outcome, or a function of its arguments and of the activity's files.

The files are a dictionary of absolute paths, which the function may change. An async function
takes the time that it awaits.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedProvider:
    """What one provider of the simulated network lets, and how.

    Attributes:
        name: What it calls itself; unique in its network.
        behaviour: How it behaves, where it is not honest; several can be combined.
        pricing: Its prices.
        latency: Seconds between a message to it and its acting on it; the network's where ``None``.
        capacity: How many agreements it has at one time.
        open_offers: How many offers it keeps published at one time.
        memory_gib: GiB of memory that the offer shows.
        storage_gib: GiB of storage likewise.
        cpu_threads: Processors likewise; what programs use of them is charged.
        runtime: The name of the runtime, as demands ask for it.
        capabilities: What the runtime says that it can do.
        subnet: The part of the market that it belongs to; the network's where ``None``.
        deploy_sec: Seconds that a deployment takes.
        start_sec: Seconds that a start takes.
        command_sec: Seconds that a program or a transfer takes.
        programs: What programs do, by their path or name; others succeed and say nothing.
        debit_note_sec: Seconds between debit notes, unless the demand asks for others.
        idle_sec: For how long an agreement may have no activity.
        max_duration_sec: The longest that an agreement may last.
        multi_activity: Whether an agreement can have several activities, one after another.
        properties: Further properties of its offers.
        constraints: What its offers ask of demands.

    Raises:
        UsageError: It has no name, or a behaviour is none.
        AmountError: A size, a count or a time makes no sense.
    """

    name: str
    behaviour: Behaviour | Sequence[Behaviour] = ()
    pricing: LinearPricing = field(
        default_factory=lambda: LinearPricing(coeffs=(Decimal("0.000002"), Decimal("0.00001")))
    )
    latency: Span | None = None
    capacity: int = 256
    open_offers: int = 16
    memory_gib: float = 8.0
    storage_gib: float = 40.0
    cpu_threads: int = 2
    runtime: str = "vm"
    capabilities: Sequence[str] = ("inet", "vpn")
    subnet: str | None = None
    deploy_sec: Span = 0.0
    start_sec: Span = 0.0
    command_sec: Span = 0.0
    programs: Mapping[str, Program] = field(default_factory=dict)
    debit_note_sec: float = 600.0
    idle_sec: float = 180.0
    max_duration_sec: float = 90 * 24 * 3600.0
    multi_activity: bool = True
    properties: Mapping[str, object] = field(default_factory=dict)
    constraints: str = "()"

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        if not self.name:
            raise UsageError("a provider needs a name")
        for name in _POSITIVE:
            if not getattr(self, name) > 0:
                raise AmountError(f"{name} of provider {self.name!r} must be above zero")
        for name in ("latency", "deploy_sec", "start_sec", "command_sec"):
            if getattr(self, name) is not None:
                check_span(getattr(self, name), f"{name} of provider {self.name!r}")
        alien = [one for one in self.behaviours if not isinstance(one, Behaviour)]
        if alien:
            raise UsageError(
                f"{alien[0]!r} is no behaviour of a provider",
                hint="behaviour=Slow(), or behaviour=(Slow(), Overcharging(how='late'))",
            )

    @property
    def behaviours(self) -> tuple[Behaviour, ...]:
        """How it behaves, as a tuple; empty where it is honest."""
        given = self.behaviour
        return (given,) if isinstance(given, Behaviour) else tuple(given)

    def offer(self, identity: str, subnet: str) -> Offer:
        """Return the offer that it publishes."""
        properties: dict[str, object] = {
            NODE_NAME: self.name,
            SUBNET: self.subnet or subnet,
            INF_MEM: self.memory_gib,
            INF_STORAGE: self.storage_gib,
            INF_THREADS: self.cpu_threads,
            INF_CORES: self.cpu_threads,
            RUNTIME_NAME: self.runtime,
            RUNTIME_CAPABILITIES: list(self.capabilities),
            DEBIT_NOTE_INTERVAL: self.debit_note_sec,
            MULTI_ACTIVITY: self.multi_activity,
            "golem.com.payment.platform.simulated.address": identity,
            "golem.com.payment.protocol.version": 2,
            **self.pricing.to_properties(),
            **self.properties,
        }
        return Offer(properties=properties, constraints=self.constraints)


_POSITIVE: Final = (
    "capacity",
    "open_offers",
    "memory_gib",
    "storage_gib",
    "cpu_threads",
    "debit_note_sec",
    "idle_sec",
    "max_duration_sec",
)


_NAMES: Final = ("amber", "birch", "cedar", "delta", "ember", "flint", "grove", "heath")
_DURATION: Final = ("0.000002", "0.0000025", "0.000003", "0.0000015")
_CPU: Final = ("0.00001", "0.000009", "0.000008", "0.000011")
_FIXED: Final = ("0", "0.00005", "0.0001", "0.00002")


def simulated_providers(count: int, **changes: object) -> tuple[SimulatedProvider, ...]:
    """Return providers that differ in name and price, as those of ``local`` do.

    Args:
        count: How many.
        changes: What all of them have in common, as fields of ``SimulatedProvider``.
    """
    made = (
        SimulatedProvider(
            name=_name(place),
            pricing=LinearPricing(
                coeffs=(Decimal(_DURATION[place % 4]), Decimal(_CPU[place % 4])),
                fixed=Decimal(_FIXED[place % 4]),
            ),
        )
        for place in range(count)
    )
    return tuple(dataclasses.replace(one, **changes) for one in made)  # type: ignore[arg-type]


def _name(index: int) -> str:
    turn, place = divmod(index, len(_NAMES))
    return _NAMES[place] if turn == 0 else f"{_NAMES[place]}-{turn + 1}"
