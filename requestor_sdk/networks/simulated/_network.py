"""The simulated network: a whole market in memory that outlives the requestors that use it."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import itertools
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NoReturn

from requestor_sdk.clock import LoopClock
from requestor_sdk.model.errors import AmountError, NotAvailable, UsageError
from requestor_sdk.model.market import DebitNote, Invoice, Proposal
from requestor_sdk.model.props import Payload, VmPayload
from requestor_sdk.networks.memory import MemoryMarket, MemoryNetwork
from requestor_sdk.networks.simulated._agent import SimulatedAgent
from requestor_sdk.networks.simulated._behaviour import Behaviour, SeenAs
from requestor_sdk.networks.simulated._ends import RequestorEnd
from requestor_sdk.networks.simulated._fault import Fault
from requestor_sdk.networks.simulated._injector import Injector, Strike
from requestor_sdk.networks.simulated._journal import Act, SimulatedJournal
from requestor_sdk.networks.simulated._plan import FaultPlan, plan_of
from requestor_sdk.networks.simulated._provider import (
    SimulatedProvider,
    simulated_providers,
)
from requestor_sdk.networks.simulated._signer import SimulatedSigner
from requestor_sdk.networks.simulated._span import Span, check_span
from requestor_sdk.ports.network import NetworkTraits, RunSetup

if TYPE_CHECKING:
    from requestor_sdk.model.events import Event
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
        faults: What goes wrong at the requestor's calls: a plan, its name, or its text.
        latency: Seconds between a message to a provider and its acting on it, where the provider
            has none of its own; of a pair, a number between the two is drawn each time.
        start: The date at which the simulation begins.
        subnet: The part of the market that the providers belong to.

    Raises:
        AmountError: Less than one provider, or a latency that is none.
        UsageError: A seed that is no whole number, two providers of one name, or a fault plan that
            cannot be read.

    Attributes:
        seed: Of all chance.
        traits: What it is like.
        crashed: Set while the requestor that has it open is dead, by a plan or by
            ``crash_requestor``.
    """

    def __init__(
        self,
        providers: int | Sequence[SimulatedProvider] = 8,
        *,
        seed: int = 0,
        faults: FaultPlan | str | Iterable[Fault] | None = None,
        latency: Span = 0.0,
        start: datetime = START,
        subnet: str = NAME,
    ) -> None:
        check_span(latency, "latency")
        self.seed: int = seed_of(seed)
        self._injector = Injector(plan_of(faults), self.seed)
        configs = [
            _misbehaving(config, self._injector.behaviours(number))
            for number, config in enumerate(_configs(providers), 1)
        ]
        self._clock = LoopClock(start)
        self._runs = 0
        self._journals: dict[str, SimulatedJournal] = {}
        self._record: list[Event | Act] = []
        ids = map("m-{}".format, itertools.count(1))
        self._market = MemoryMarket(clock=self._clock, ids=ids.__next__)
        self._market.on_act = self._acted
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
        self._end: RequestorEnd | None = None
        self._take_ports(None)
        self._disturbed = False
        self.crashed: asyncio.Event = asyncio.Event()
        self.traits: NetworkTraits = NetworkTraits(
            name=NAME,
            outlives_process=True,
            pushes_loss=True,
            collect_offers_sec=0.02,
        )

    def __repr__(self) -> str:
        return f"<SimulatedNetwork of {len(self._agents)} providers, seed {self.seed}>"

    # The port ------------------------------------------------------------------------------------

    def _take_ports(self, end: RequestorEnd | None) -> None:
        """Have the ports of an end, as they are now; of none, ports that refuse every call."""
        if end is not self._end:
            return
        ports: Any = end or _NotOpen()
        self.market: Market = ports.market
        self.activities: Activities = ports.activities
        self.payments: Payments = ports.payments
        self.transfers: Transfers = ports.transfers

    def new_run(self) -> RunSetup:
        """Bring a run's id, of the seed and a counter, the simulation's clock and a journal."""
        self._runs += 1
        run_id = f"sim-{self.seed}-{self._runs}"
        journal = self._journals[run_id] = SimulatedJournal(self._record)
        return RunSetup(run_id=run_id, clock=self._clock, journal=journal)

    async def open(self, *, run_id: str = "") -> None:  # noqa: ARG002 - nobody shares it
        """Make a requestor's end; the first time the providers publish their offers.

        Raises:
            NotAvailable: It is open already.
        """
        if self._end is not None:
            raise NotAvailable("the network is open already")
        for journal in self._journals.values():
            journal.pass_on()
        for agent in self._agents:
            agent.arrive()
        self._end = RequestorEnd(
            MemoryNetwork(self._market, SimulatedSigner("requestor")),
            self._injector,
            now=self._clock.now,
            crash_provider=self._crash_concerned,
            on_cut=self._cut,
            refuse_readers=self._market.refuse_readers,
            on_ports=self._take_ports,
        )
        self._take_ports(self._end)

    async def resolve(self, payload: Payload) -> Payload:
        """Complete a payload: every image is there, and a tag's hash is made of the tag."""
        if isinstance(payload, VmPayload) and payload.image_tag and not payload.image_hash:
            made = hashlib.sha3_224(payload.image_tag.encode()).hexdigest()
            return dataclasses.replace(payload, image_hash=made)
        return payload

    async def close(self) -> None:
        """End the requestor's end; what it left standing stays. Idempotent."""
        if self._end is not None and self._end.dead:
            # Its journals stay cut until another one comes: the dead one may still want to write.
            self.crashed.clear()
        self._end = None
        self._take_ports(None)

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
    def record(self) -> Sequence[Event | Act]:
        """What its runs wrote into its journals and what they did, in the order of both.

        Empty while no run writes into a journal of this network's.
        """
        return self._record

    def _acted(self, what: str, agreement_id: str, activity_id: str) -> None:
        # Of a run with another journal there is nothing that its acts could be held against.
        if self._record:
            self._record.append(Act(what, agreement_id, activity_id))

    @property
    def disturbed(self) -> bool:
        """Whether a call of the requestor was hindered, so that it may not have had its effect."""
        return self._disturbed or bool(self._injector.struck)

    @property
    def faults(self) -> FaultPlan:
        """What can go wrong at the requestor's calls."""
        return self._injector.plan

    @property
    def struck(self) -> tuple[Strike, ...]:
        """The faults that struck so far."""
        return tuple(self._injector.struck)

    @property
    def hanging(self) -> tuple[str, ...]:
        """The calls of the requestor that a fault lets hang, the oldest first."""
        return () if self._end is None else self._end.hanging

    def crash_requestor(self) -> None:
        """Cut the requestor that has it open: its calls hang, and nothing it does has an effect.

        What it left standing stays. Bury it by ``requestor_sdk.testing.crash(compute)`` before
        another one opens the network.
        """
        self._opened().cut()

    def _cut(self) -> None:
        self._disturbed = True
        self.crashed.set()
        for journal in self._journals.values():
            if journal.begun:
                journal.cut()

    def bury_requestor(self) -> None:
        """Cancel what hangs of a dead requestor, so that another one can open the network."""
        end = self._opened()
        if not end.dead:
            self.crash_requestor()
        end.let_go()

    def crash_daemon(self, seconds: float) -> None:
        """Refuse every call of the requestor for so long; then all goes on where it was."""
        check_span(seconds, "seconds")
        self._disturbed = True
        self._opened().crash_daemon(seconds)

    def calm(self) -> None:
        """End the faults: the plan strikes no more, daemon and providers are there again.

        What a call waits for already goes on as it was drawn, and providers keep their behaviours.
        """
        self._injector.calm = True
        if self._end is not None:
            self._end.calm()
        for agent in self._agents:
            agent.come_back()

    def crash_provider(
        self, name: str, back_after: float | None = None, *, seen_as: SeenAs = "lost"
    ) -> None:
        """Let a provider be gone at once, with all that it runs.

        Args:
            name: What it calls itself.
            back_after: Seconds after which it is back, without its past.
            seen_as: What the requestor is told: that its activities and agreements have ended
                (``lost``), that they do not answer (``silent``), or ``nothing``.

        Raises:
            UsageError: There is no such provider.
        """
        for agent in self._agents:
            if agent.name == name:
                agent.vanish(seen_as, back_after)
                return
        names = ", ".join(agent.name for agent in self._agents)
        raise UsageError(f"there is no provider {name!r}; there is {names}")

    def _crash_concerned(self, args: Sequence[Any], back_after: float | None) -> None:
        """Let the provider crash that a call's arguments name, or one that has an agreement."""
        concerned = _provider_of(self._market, args)
        busy = [agent for agent in self._agents if agent.deals]
        for agent in self._agents:
            if agent.identity == concerned:
                agent.vanish("lost", back_after)
                return
        if busy:
            self._injector.dice.choice(busy).vanish("lost", back_after)

    @property
    def journals(self) -> Mapping[str, SimulatedJournal]:
        """The journals of the runs so far, by their id."""
        return self._journals

    async def end(self) -> None:
        """End the simulation: all providers leave, and nothing of it runs any more. Idempotent."""
        await self.close()
        for agent in self._agents:
            await agent.leave()

    def _opened(self) -> RequestorEnd:
        if self._end is None:
            raise NotAvailable("the network is not open")
        return self._end


class _NotOpen:
    """The ports of a network that nobody has opened, and each of their calls."""

    market = activities = payments = transfers = property(lambda self: self)

    def __getattr__(self, name: str) -> NoReturn:
        raise NotAvailable("the network is not open")


def _misbehaving(config: SimulatedProvider, behaviours: tuple[Behaviour, ...]) -> SimulatedProvider:
    if not behaviours:
        return config
    return dataclasses.replace(config, behaviour=(*config.behaviours, *behaviours))


def _provider_of(market: MemoryMarket, args: Sequence[Any]) -> str | None:
    """Return the identity of the provider that a call's first argument is about, if any."""
    about = args[0] if args else None
    if isinstance(about, Proposal):
        return about.provider_id
    if isinstance(about, DebitNote | Invoice):
        about = about.agreement_id
    if isinstance(about, str) and about in market.activities:
        return market.activities[about].agreement.body.provider_id
    if isinstance(about, str) and about in market.agreements:
        return market.agreements[about].body.provider_id
    return None


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
    if isinstance(value, int) and not isinstance(value, bool):
        if 0 <= value < 10**_DIGITS:
            return value
        told = repr(value) if abs(value) < 10**_DIGITS else f"one of more than {_DIGITS} digits"
    else:
        text = value.strip() if isinstance(value, str) else ""
        if text.isascii() and text.isdigit() and len(text) <= _DIGITS:
            return int(text)
        told = repr(value)[: _DIGITS + 2]
    raise UsageError(
        f"a seed is a whole number, zero or more, not {told}", hint="for example --seed 7"
    )


_DIGITS: Final = 40
"""Longer numbers are no seed that anybody meant, and Python reads none of thousands of digits."""
