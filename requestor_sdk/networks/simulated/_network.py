"""The simulated network: a whole market in memory that outlives the requestors that use it."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from requestor_sdk.clock import LoopClock
from requestor_sdk.model.errors import AmountError, NotAvailable, UsageError
from requestor_sdk.model.props import Payload, VmPayload
from requestor_sdk.networks.memory import MemoryMarket, MemoryNetwork
from requestor_sdk.networks.simulated._agent import SimulatedAgent
from requestor_sdk.networks.simulated._journal import SimulatedJournal
from requestor_sdk.networks.simulated._provider import (
    SimulatedProvider,
    Span,
    check_span,
    simulated_providers,
)
from requestor_sdk.networks.simulated._signer import SimulatedSigner
from requestor_sdk.ports.network import NetworkTraits, RunSetup

if TYPE_CHECKING:
    from requestor_sdk.ports.network import Activities, Market, Payments, Transfers

NAME: Final = "simulated"
START: Final = datetime(2026, 1, 1, tzinfo=UTC)
"""The date at which a simulation begins."""


class SimulatedNetwork:
    """A market with scripted providers; nothing real runs, and nothing is left to chance.

    It is made for a loop whose time jumps (``requestor_sdk.testing.VirtualTimeLoop``) and runs on
    any. The same seed gives the same run. Closing it ends the requestor's end only: agreements,
    activities and money stay, and another ``Compute`` can open it again, on the same loop.

    Args:
        providers: How many, or what each of them lets and how it behaves.
        seed: Of all chance.
        latency: Seconds between a message to a provider and its acting on it, where the provider
            has none of its own; of a pair, a number between the two is drawn each time.
        start: The date at which the simulation begins.
        subnet: The part of the market that the providers belong to.

    Raises:
        AmountError: Less than one provider, or a latency that is none.
        UsageError: A seed that is no whole number, or two providers of one name.
    """

    def __init__(
        self,
        providers: int | Sequence[SimulatedProvider] = 8,
        *,
        seed: int = 0,
        latency: Span = 0.0,
        start: datetime = START,
        subnet: str = NAME,
    ) -> None:
        check_span(latency, "latency")
        configs = _configs(providers)
        self.seed = seed_of(seed)
        self._clock = LoopClock(start)
        self._runs = 0
        self._journals: dict[str, SimulatedJournal] = {}
        numbers = itertools.count(1)
        self._market = MemoryMarket(clock=self._clock, ids=lambda: f"m-{next(numbers)}")
        self._agents = tuple(
            SimulatedAgent(
                config,
                self._market,
                SimulatedSigner(f"provider {config.name}"),
                seed=self.seed,
                subnet=subnet,
                latency=latency,
            )
            for config in configs
        )
        self._open: MemoryNetwork | None = None
        self.traits = NetworkTraits(
            name=NAME,
            outlives_process=True,
            pushes_loss=True,
            collect_offers_sec=0.02,
        )

    def __repr__(self) -> str:
        return f"<SimulatedNetwork of {len(self._agents)} providers, seed {self.seed}>"

    # The port ------------------------------------------------------------------------------------

    @property
    def market(self) -> Market:
        """Its market."""
        return self._opened().market

    @property
    def activities(self) -> Activities:
        """What runs on its providers."""
        return self._opened().activities

    @property
    def payments(self) -> Payments:
        """Its payments."""
        return self._opened().payments

    @property
    def transfers(self) -> Transfers:
        """Its way of moving files."""
        return self._opened().transfers

    def new_run(self) -> RunSetup:
        """Bring a run's id, of the seed and a counter, the simulation's clock and a journal."""
        self._runs += 1
        run_id = f"sim-{self.seed}-{self._runs}"
        journal = self._journals[run_id] = SimulatedJournal()
        return RunSetup(run_id=run_id, clock=self._clock, journal=journal)

    async def open(self) -> None:
        """Make a requestor's end; the first time the providers publish their offers.

        Raises:
            NotAvailable: It is open already.
        """
        if self._open is not None:
            raise NotAvailable("the network is open already")
        for agent in self._agents:
            agent.arrive()
        self._open = MemoryNetwork(self._market, SimulatedSigner("requestor"))

    async def resolve(self, payload: Payload) -> Payload:
        """Complete a payload: every image is there, and a tag's hash is made of the tag."""
        if isinstance(payload, VmPayload) and payload.image_tag and not payload.image_hash:
            import dataclasses

            made = hashlib.sha3_224(payload.image_tag.encode()).hexdigest()
            return dataclasses.replace(payload, image_hash=made)
        return payload

    async def close(self) -> None:
        """End the requestor's end; what it left standing stays. Idempotent."""
        self._open = None

    # The simulation ------------------------------------------------------------------------------

    @property
    def clock(self) -> LoopClock:
        """The simulation's time."""
        return self._clock

    @property
    def providers(self) -> tuple[SimulatedAgent, ...]:
        """Its providers at work, in the order in which they were given."""
        return self._agents

    @property
    def books(self) -> MemoryMarket:
        """What really stands in the market: agreements, activities and the bank's accounts."""
        return self._market

    @property
    def journals(self) -> Mapping[str, SimulatedJournal]:
        """The journals of the runs so far, by their id."""
        return self._journals

    async def end(self) -> None:
        """End the simulation: all providers leave, and nothing of it runs any more. Idempotent."""
        await self.close()
        for agent in self._agents:
            await agent.leave()

    def _opened(self) -> MemoryNetwork:
        if self._open is None:
            raise NotAvailable("the network is not open")
        return self._open


def _configs(providers: int | Sequence[SimulatedProvider]) -> tuple[SimulatedProvider, ...]:
    if isinstance(providers, int):
        if isinstance(providers, bool) or providers < 1:
            raise AmountError(f"providers must be at least 1, not {providers!r}")
        return simulated_providers(providers)
    given: Sequence[object] = providers
    if not all(isinstance(one, SimulatedProvider) for one in given):
        raise UsageError(
            f"providers takes a number or SimulatedProviders, not {providers!r}",
            hint="providers=8, or providers=[SimulatedProvider(name='amber')]",
        )
    names = [one.name for one in providers]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"two providers are called {twice[0]!r}: each needs a name of its own")
    if not names:
        raise AmountError("providers must be at least 1, not none")
    return tuple(providers)


def seed_of(value: object) -> int:
    """Return the seed that a value or a text names.

    Raises:
        UsageError: It is no whole number, zero or more.
    """
    text = str(value).strip() if isinstance(value, int | str) else ""
    if isinstance(value, bool) or not text.isascii() or not text.isdigit():
        raise UsageError(
            f"a seed is a whole number, zero or more, not {value!r}", hint="for example --seed 7"
        )
    return int(text)
