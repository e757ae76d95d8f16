"""A market of computers as the requestor's engine sees it: market, activity, payments, transfer.

The four ports of a ``Network`` speak in values of the model. Reading is by long poll: a call waits
until there is something and returns it, so that a loop over it survives any error of the other
side. Each call may raise a ``RequestorError``; foreign errors die inside the implementation.

``NetworkUnreachable`` says that the call was not sent, e.g. that the connection was refused. Once
it may have got through, e.g. where the connection broke while the answer was awaited, any other
``NetworkError`` is raised: then the engine takes its effect to be unknown.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from requestor_sdk.model.market import (
    ActivityChanged,
    ActivityState,
    AgreementEnded,
    AgreementStatus,
    Allocation,
    DebitNote,
    Demand,
    EndReason,
    Invoice,
    MatchReport,
    Proposal,
)
from requestor_sdk.model.props import Payload
from requestor_sdk.model.script import BatchEvent, Command

if TYPE_CHECKING:
    from requestor_sdk.ports.basics import Clock, Journal


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkTraits:
    """What a network is like; the engine and the defaults go by it.

    Attributes:
        name: What ``network=`` calls it.
        outlives_process: Whether agreements and activities live on without this process.
        pushes_loss: Whether the end of an activity is told without being asked for.
        check_sec: Where it is not: how often it is asked for, in seconds; ``None`` for a third of
            what counts as silence.
        collect_offers_sec: For how long offers are collected before the first is taken.
    """

    name: str
    outlives_process: bool = False
    pushes_loss: bool = True
    check_sec: float | None = None
    collect_offers_sec: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSetup:
    """What a network brings to a run that begins on it, where the user names nothing else.

    Attributes:
        run_id: The run's id; also the seed of what the engine draws by chance. Random by default.
        clock: Time; the event loop's by default.
        journal: Where the run is written down; a store in the user's data folder by default.
    """

    run_id: str | None = None
    clock: Clock | None = None
    journal: Journal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """How the provider answered a confirmed agreement; ``reason`` where it did not approve."""

    approved: bool
    reason: str | None = None


class Market(Protocol):
    """Demands, negotiation and agreements."""

    async def subscribe(self, demand: Demand) -> str:
        """Publish a demand; returns its id."""
        ...

    async def unsubscribe(self, demand_id: str) -> None:
        """Withdraw a demand. Idempotent."""
        ...

    async def match_report(self, demand: Demand) -> MatchReport | None:
        """Tell how the market's offers meet a demand; ``None`` where it cannot be known."""
        ...

    async def collect(self, demand_id: str) -> Sequence[Proposal]:
        """Wait for proposals of a demand and return at least one."""
        ...

    async def counter(self, proposal: Proposal, demand: Demand) -> str:
        """Answer a proposal with a demand; returns the id of the new step."""
        ...

    async def reject(self, proposal: Proposal, reason: EndReason) -> None:
        """Decline a proposal, telling why."""
        ...

    async def create_agreement(self, proposal: Proposal, *, valid_to: datetime) -> str:
        """Make an agreement of a draft; nothing is signed yet. Returns its id."""
        ...

    async def confirm(self, agreement_id: str) -> None:
        """Sign the agreement and send it to the provider."""
        ...

    async def wait_approval(self, agreement_id: str, *, timeout: float) -> Approval:
        """Wait for the provider's answer; not approved where none comes in ``timeout`` seconds.

        Raises:
            SignatureInvalid: The provider's signature is not its own.
        """
        ...

    async def terminate(self, agreement_id: str, reason: EndReason) -> None:
        """End an agreement, also one whose approval is awaited. Idempotent."""
        ...

    async def agreement_state(self, agreement_id: str) -> AgreementStatus | None:
        """Ask for the state of an agreement, also of one that a dead process made.

        ``None`` where the market has no such agreement.
        """
        ...

    async def agreement_events(self) -> Sequence[AgreementEnded]:
        """Wait for agreements that the other side ended and return at least one."""
        ...


class Activities(Protocol):
    """What runs on a provider."""

    async def create(self, agreement_id: str) -> str:
        """Create an activity; returns its id once the provider has it.

        Raises:
            ActivityRefused: The provider would not.
        """
        ...

    async def execute(
        self,
        activity_id: str,
        commands: Sequence[Command],
        on_event: Callable[[BatchEvent], Awaitable[None]],
    ) -> None:
        """Run a batch and pass on its events in order; returns when the batch is over.

        A batch is over with its last command, or with the first that fails (the rest never runs).
        Cancelling the call gives the batch up: where the network can tell the provider, the
        running program is killed and the rest dropped; elsewhere the batch goes on unheard.

        No implementation may send a batch again by itself unless it knows that it was not sent: a
        user's program would run twice.

        Raises:
            ProviderLost: The activity is dead.
            NetworkUnreachable: Nothing of it was sent; the engine sends it again.
        """
        ...

    async def state(self, activity_id: str) -> ActivityState:
        """Ask for the state, as the provider last reported it."""
        ...

    async def destroy(self, activity_id: str) -> None:
        """End an activity. Idempotent."""
        ...

    async def activity_events(self) -> Sequence[ActivityChanged]:
        """Wait for changes that providers report and return at least one."""
        ...


class Payments(Protocol):
    """Allocations, debit notes and invoices."""

    async def allocate(self, amount: Decimal) -> str:
        """Reserve an amount for this run; returns the allocation's id.

        Raises:
            PaymentError: There are no such funds; the hint names the fix.
        """
        ...

    async def amend_allocation(self, allocation_id: str, amount: Decimal) -> None:
        """Change the amount that an allocation reserves."""
        ...

    async def release_allocation(self, allocation_id: str) -> None:
        """Free what is left of an allocation. Idempotent."""
        ...

    async def allocations(self) -> Sequence[Allocation]:
        """Return the allocations of this identity that are not released, oldest first."""
        ...

    async def unsettled(self) -> Sequence[DebitNote | Invoice]:
        """Return what came and was neither accepted nor rejected, oldest first.

        What ``payment_events`` returned to a process that is dead is in it, and so may be what
        other runs of this identity have not judged yet.
        """
        ...

    async def payment_events(self) -> Sequence[DebitNote | Invoice]:
        """Wait for debit notes and invoices and return at least one.

        Those of other runs of this identity may be among them. The engine answers only what
        belongs to agreements of its run; the rest stays unsettled, for the run whose it is.
        """
        ...

    async def accept_debit_note(self, note: DebitNote, allocation_id: str) -> None:
        """Accept the total of a debit note. Idempotent: nothing is paid twice."""
        ...

    async def reject_debit_note(self, note: DebitNote, reason: str) -> None:
        """Reject a debit note, telling why."""
        ...

    async def accept_invoice(self, invoice: Invoice, allocation_id: str) -> None:
        """Accept an invoice: it will be paid from the allocation. Idempotent, as with notes.

        What adds nothing to be paid, e.g. an invoice of 0, needs no allocation.
        """
        ...

    async def reject_invoice(self, invoice: Invoice, reason: str) -> None:
        """Reject an invoice, telling why."""
        ...


class Transfers(Protocol):
    """Makes files of this side reachable for a provider, by a URL, for as long as it is open."""

    def publish(self, source: Path | bytes) -> AbstractAsyncContextManager[str]:
        """Serve a file or bytes; the value is the URL to give to ``Transfer.source``."""
        ...

    def receive(
        self, target: Path | None, *, limit: int | None = None
    ) -> AbstractAsyncContextManager[Incoming]:
        """Take a file, to a path or into memory; ``Incoming.url`` goes to ``Transfer.target``.

        The transfer fails as soon as more than ``limit`` bytes have come.
        """
        ...


class Incoming(Protocol):
    """A file that a provider sends."""

    @property
    def url(self) -> str:
        """Where the provider is to send it."""
        ...

    async def content(self) -> bytes:
        """Return what came (empty where it went to a path), once the transfer has ended well."""
        ...


@runtime_checkable
class Reachable(Protocol):
    """A network that can also reach a unix socket of an activity from this process."""

    def reach(self, activity_id: str, path: str) -> int:
        """Return a descriptor of the socket, to connect to by ``/proc/self/fd/N``.

        The caller closes it.

        Raises:
            NotAvailable: There is no such activity, or no such socket.
            TransferRefused: What is there is no socket.
        """
        ...


class Network(Protocol):
    """A market of computers: what ``Compute(network=...)`` takes."""

    @property
    def traits(self) -> NetworkTraits:
        """What it is like."""
        ...

    @property
    def market(self) -> Market:
        """Its market."""
        ...

    @property
    def activities(self) -> Activities:
        """What runs on its providers."""
        ...

    @property
    def payments(self) -> Payments:
        """Its payments."""
        ...

    @property
    def transfers(self) -> Transfers:
        """Its way of moving files."""
        ...

    def new_run(self) -> RunSetup:
        """Return what it brings to a run that begins; most networks bring nothing."""
        ...

    async def open(self, *, run_id: str = "") -> None:
        """Connect, and start what must run. Raises a ``RequestorError`` that names the fix.

        Args:
            run_id: Of the run that uses it. Where others share the identity, what the run does is
                marked by it, and news of others is kept from it, also in a recovery.

        Raises:
            NotAvailable: It is open already, and stays so; or it left nothing open.
        """
        ...

    async def resolve(self, payload: Payload) -> Payload:
        """Check and complete a payload before anything is signed, e.g. its image's hash.

        Raises:
            ImageNotFound: The image is not there; the hint names the command that adds it.
        """
        ...

    async def close(self) -> None:
        """Let go of everything. Idempotent; bounded in time."""
        ...
