"""What happens in a run: the kinds of events, as frozen values with ids and never live objects.

The journal, the live table, the timeline and recovery all read these. Names follow yapapi's where
the concept is the same. ``model.event`` has their base and their form in a journal.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import ClassVar

from requestor_sdk.model.event import VERSION, Event, from_record

__all__ = [
    "VERSION",
    "ActivityCreateFailed",
    "ActivityCreated",
    "ActivityEnded",
    "ActivityRequested",
    "AgreementConfirmed",
    "AgreementCreated",
    "AgreementRejected",
    "AgreementTerminated",
    "AllocationAmendFailed",
    "AllocationAmended",
    "AllocationCreated",
    "AllocationNotMade",
    "AllocationReleased",
    "AllocationRequested",
    "BudgetExhausted",
    "CallbackAbandoned",
    "ClusterStarted",
    "CommandExecuted",
    "ComputationFinished",
    "ComputationRecovered",
    "ComputationStarted",
    "ComputationSuspended",
    "ComputeJobFinished",
    "ComputeJobStatusChanged",
    "ComputeJobSubmitted",
    "CustomEvent",
    "DebitNoteAccepted",
    "DebitNoteReceived",
    "DebitNoteRejected",
    "Event",
    "HandlerAbandoned",
    "InvoiceAccepted",
    "InvoiceReceived",
    "InvoiceRejected",
    "JobFinished",
    "JobStarted",
    "LoopRetried",
    "NoOffersYet",
    "PaymentLeftOver",
    "PaymentWrittenOff",
    "ProposalConfirmed",
    "ProposalReceived",
    "ProposalRejected",
    "ProposalScored",
    "ScriptFinished",
    "ScriptSent",
    "ServiceBehindChanged",
    "ServiceFailed",
    "ServiceRenewing",
    "ServiceRestarting",
    "ServiceStateChanged",
    "ServiceStopAsked",
    "ServiceTakenUp",
    "ShutdownStarted",
    "StimulusIgnored",
    "SubscriptionCreated",
    "TaskAccepted",
    "TaskAttemptFailed",
    "TaskFinished",
    "TaskRejected",
    "TaskStarted",
    "TransferProgress",
    "from_record",
]

# The run ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputationStarted(Event):
    """The engine is up."""

    durable: ClassVar[bool] = True

    run_id: str
    network: str
    budget: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputationFinished(Event):
    """The engine is down; amounts are final."""

    durable: ClassVar[bool] = True

    run_id: str
    spent: Decimal
    left_over: Decimal = Decimal(0)
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputationSuspended(Event):
    """The engine is down; suspended instances keep agreement and activity for a later process."""

    durable: ClassVar[bool] = True

    run_id: str
    spent: Decimal
    instances: tuple[str, ...]
    left_over: Decimal = Decimal(0)
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputationRecovered(Event):
    """Another process goes on with a run; ``open_agreements`` is what it found unsettled."""

    durable: ClassVar[bool] = True

    run_id: str
    network: str
    budget: Decimal = Decimal(0)
    open_agreements: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ShutdownStarted(Event):
    """Leaving began; ``waiting_for`` names the instances that still run."""

    run_id: str
    waiting_for: tuple[str, ...] = ()


# The market ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionCreated(Event):
    """A demand was published for a cluster."""

    cluster_id: str
    demand_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposalReceived(Event):
    """The market has a proposal for a demand."""

    cluster_id: str
    proposal_id: str
    provider_id: str
    provider_name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposalScored(Event):
    """The strategy gave a score to a proposal; it will be negotiated."""

    cluster_id: str
    proposal_id: str
    provider_id: str
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposalRejected(Event):
    """A proposal was declined, by us or by the provider."""

    cluster_id: str
    proposal_id: str
    provider_id: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposalConfirmed(Event):
    """The provider answered: an agreement can be made of this proposal."""

    cluster_id: str
    proposal_id: str
    provider_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NoOffersYet(Event):
    """Instances wait and no offer has come for a while."""

    cluster_id: str
    offers: int
    ruled_out: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetExhausted(Event):
    """An offer could not be taken: the budget has no room for its worst case."""

    cluster_id: str
    needed: Decimal
    available: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class AgreementCreated(Event):
    """An agreement is about to be confirmed; from now on its worst case is held.

    Attributes:
        instance_id: For whom it is.
        agreement_id: The agreement.
        provider_id: The provider's identity.
        provider_name: What it calls itself.
        held: Its worst case.
        cluster_id: The cluster of the instance.
        until: When it ends at the latest.
        counters: The usage counters that are charged for, in the order of the usage vector.
        coeffs: The agreed price of one unit of each.
        fixed: The agreed start fee.
        threads: Processors that can be charged for at one time.
    """

    durable: ClassVar[bool] = True

    instance_id: str
    agreement_id: str
    provider_id: str
    provider_name: str
    held: Decimal
    cluster_id: str = ""
    until: datetime | None = None
    counters: tuple[str, ...] = ()
    coeffs: tuple[Decimal, ...] = ()
    fixed: Decimal = Decimal(0)
    threads: Decimal = Decimal(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class AgreementConfirmed(Event):
    """Both sides have signed.

    What is done next, ``ActivityRequested``, brings it to the disk as well; where a power cut is
    faster, recovery asks the market.
    """

    instance_id: str
    agreement_id: str
    provider_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AgreementRejected(Event):
    """The provider did not approve; nothing is held any more.

    ``by`` is ``provider``, or ``network`` where that failed, and not the provider.
    """

    durable: ClassVar[bool] = True

    instance_id: str
    agreement_id: str
    provider_id: str
    reason: str
    by: str = "provider"


@dataclass(frozen=True, slots=True, kw_only=True)
class AgreementTerminated(Event):
    """An agreement is over; ``by`` is ``requestor``, ``provider`` or ``network``."""

    durable: ClassVar[bool] = True

    agreement_id: str
    provider_id: str
    by: str
    reason: str
    code: str = ""


# Activities and batches ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivityRequested(Event):
    """A provider is about to be asked for an activity; its time counts, and this much is held."""

    durable: ClassVar[bool] = True

    instance_id: str
    agreement_id: str
    provider_id: str
    held: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivityCreated(Event):
    """An activity exists."""

    durable: ClassVar[bool] = True

    instance_id: str
    activity_id: str
    agreement_id: str
    provider_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivityCreateFailed(Event):
    """The provider would not create the activity; ``by`` as of ``AgreementRejected``."""

    durable: ClassVar[bool] = True

    instance_id: str
    agreement_id: str
    provider_id: str
    reason: str
    by: str = "provider"


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivityEnded(Event):
    """An activity is over, as ended by us or reported by its provider."""

    durable: ClassVar[bool] = True

    activity_id: str
    agreement_id: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptSent(Event):
    """A batch was sent."""

    instance_id: str
    activity_id: str
    script_id: str
    commands: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptFinished(Event):
    """A batch is over; ``error`` where it failed."""

    instance_id: str
    activity_id: str
    script_id: str
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandExecuted(Event):
    """A command is over."""

    instance_id: str
    activity_id: str
    script_id: str
    index: int
    command: str
    success: bool
    message: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferProgress(Event):
    """How far a deploy or a transfer is."""

    instance_id: str
    script_id: str
    index: int
    done: int
    total: int | None = None
    unit: str = "bytes"


# Instances ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterStarted(Event):
    """A cluster was made.

    Attributes:
        cluster_id: The cluster.
        service: The qualified name of its class.
        expiration: When all of it is over.
        budget: What it may spend of the run's budget, if there is a limit.
        max_price_per_hour: The most that an hour of an instance may cost, if there is a limit.
    """

    durable: ClassVar[bool] = True

    cluster_id: str
    service: str
    expiration: datetime
    budget: Decimal | None = None
    max_price_per_hour: Decimal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceStateChanged(Event):
    """An instance went from one state to another.

    Attributes:
        instance_id: The instance.
        cluster_id: Its cluster.
        old: The state before.
        new: The state now.
        stimulus: What moved it.
        attempt: Which attempt this is, from 1.
        provider_id: The provider of this attempt, if it has one.
        provider_name: Its name.
        cause: Why, where it is a failure.
    """

    instance_id: str
    cluster_id: str
    old: str
    new: str
    stimulus: str
    attempt: int
    provider_id: str | None = None
    provider_name: str | None = None
    cause: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceStopAsked(Event):
    """A stop was asked for while the state has to stay as it is: there is no way back from here."""

    instance_id: str
    cluster_id: str
    state: str
    stimulus: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceBehindChanged(Event):
    """A handler ended while its provider is silent: ``behind`` follows once that answers."""

    instance_id: str
    cluster_id: str
    behind: str
    stimulus: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StimulusIgnored(Event):
    """Something happened that changes nothing in the instance's state."""

    instance_id: str
    state: str
    stimulus: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceFailed(Event):
    """An attempt of an instance failed; ``traceback`` is the user's own."""

    instance_id: str
    cluster_id: str
    attempt: int
    error: str
    traceback: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceRestarting(Event):
    """An instance will be tried again after a back-off."""

    instance_id: str
    attempt: int
    after_sec: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceTakenUp(Event):
    """An instance of an earlier process goes on in this one, on its agreement and activity."""

    instance_id: str
    cluster_id: str
    agreement_id: str
    activity_id: str
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceRenewing(Event):
    """An agreement nears its end: ``successor_id`` is to take the place of its instance."""

    instance_id: str
    cluster_id: str
    successor_id: str
    agreement_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HandlerAbandoned(Event):
    """A handler could not be closed, and was left to itself."""

    instance_id: str
    handler: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CallbackAbandoned(Event):
    """Code of yours that the engine awaits could not be ended, and was left to itself.

    ``what`` is ``reset()``, ``on_output``, ``score_offer()`` or the like; ``instance_id`` is empty
    where it ran for no instance.
    """

    instance_id: str
    what: str


# Jobs where the data is ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputeJobSubmitted(Event):
    """A provider of jobs took a job.

    Attributes:
        job_id: As the provider calls it.
        provider_name: Where it is, or ``local``.
        consumer_id: Whose it is.
        environment: Where it is to run.
        datasets: What it reads.
        algorithm: Which asset runs, or what is said of code that was sent along.
    """

    durable: ClassVar[bool] = True

    job_id: str
    provider_name: str
    consumer_id: str
    environment: str = ""
    datasets: tuple[str, ...] = ()
    algorithm: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputeJobStatusChanged(Event):
    """A provider told how a job stands, or that another attempt at it has begun.

    Attributes:
        job_id: As the provider calls it.
        status: The protocol's number.
        text: The provider's words for it.
        worker: Who runs it, by the provider's name; empty where it does not tell.
        attempt: Which attempt that is, from 1; 0 where it does not tell.
    """

    job_id: str
    status: int
    text: str = ""
    worker: str = ""
    attempt: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputeJobFinished(Event):
    """A job is over.

    Attributes:
        job_id: As the provider calls it.
        outcome: One of ``JobOutcome``.
        exit_code: What the algorithm's process returned, where the provider tells.
        error: Why it did not succeed, where the provider tells.
        worker: Who ran it last, by the provider's name; empty where it does not tell.
        attempt: Which attempt that was, from 1; 0 where it does not tell.
        seconds: How long it took, by the provider's clock.
        size: Bytes of all that it left.
    """

    job_id: str
    outcome: str
    exit_code: int | None = None
    error: str | None = None
    worker: str = ""
    attempt: int = 0
    seconds: float | None = None
    size: int | None = None


# Jobs and tasks -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStarted(Event):
    """A batch of tasks began: its input is read."""

    job_id: str
    max_workers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFinished(Event):
    """A batch of tasks is over, its workers are stopped; the counts are of tasks."""

    job_id: str
    accepted: int = 0
    rejected: int = 0
    failed: int = 0
    cancelled: int = 0
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskStarted(Event):
    """A worker took a task; ``attempt`` counts the attempts at the task, from 1."""

    task_id: str
    job_id: str
    instance_id: str
    provider_id: str
    provider_name: str
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskAccepted(Event):
    """A worker accepted the result of a task."""

    task_id: str
    job_id: str
    instance_id: str
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRejected(Event):
    """A worker rejected the result of a task; ``retry`` tells whether it wants it tried again."""

    task_id: str
    job_id: str
    instance_id: str
    attempt: int
    reason: str
    retry: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskAttemptFailed(Event):
    """An attempt at a task ended without a result: its worker failed, was lost or took too long."""

    task_id: str
    job_id: str
    instance_id: str
    attempt: int
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFinished(Event):
    """A task is over: ``status`` is ``accepted``, ``rejected``, ``failed`` or ``cancelled``."""

    task_id: str
    job_id: str
    status: str
    attempts: int


# Money --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class AllocationRequested(Event):
    """An amount is about to be reserved; its last digits are the mark of this run."""

    durable: ClassVar[bool] = True

    amount: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class AllocationCreated(Event):
    """An amount was reserved."""

    durable: ClassVar[bool] = True

    allocation_id: str
    amount: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class AllocationNotMade(Event):
    """An amount that was asked for was not reserved, or what was made of it cannot be told."""

    durable: ClassVar[bool] = True

    amount: Decimal
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AllocationAmended(Event):
    """What is reserved is about to become this amount; the budget follows."""

    allocation_id: str
    amount: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class AllocationAmendFailed(Event):
    """The network would not reserve more: it is still this amount."""

    allocation_id: str
    amount: Decimal
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AllocationReleased(Event):
    """What was left of an allocation is free again."""

    durable: ClassVar[bool] = True

    allocation_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DebitNoteReceived(Event):
    """A debit note came."""

    note_id: str
    agreement_id: str
    activity_id: str
    total: Decimal
    usage: tuple[Decimal, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DebitNoteAccepted(Event):
    """A debit note was accepted."""

    durable: ClassVar[bool] = True

    note_id: str
    agreement_id: str
    total: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class DebitNoteRejected(Event):
    """A debit note was rejected.

    ``due`` is what its usage comes to at the agreed prices, where the usage can be right.
    """

    durable: ClassVar[bool] = True

    note_id: str
    agreement_id: str
    total: Decimal
    reason: str
    due: Decimal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InvoiceReceived(Event):
    """An invoice came."""

    invoice_id: str
    agreement_id: str
    amount: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class InvoiceAccepted(Event):
    """An invoice was accepted: it is paid."""

    durable: ClassVar[bool] = True

    invoice_id: str
    agreement_id: str
    provider_id: str
    amount: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class InvoiceRejected(Event):
    """An invoice was rejected."""

    durable: ClassVar[bool] = True

    invoice_id: str
    agreement_id: str
    amount: Decimal
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentLeftOver(Event):
    """No invoice came in time; ``at_most`` may still be asked for and is settled by recovery.

    Of nothing where an agreement was not used and the network did not hear of its end.
    """

    durable: ClassVar[bool] = True

    agreement_id: str
    provider_id: str
    at_most: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentWrittenOff(Event):
    """Nothing will be asked for any more: the network that could have asked is gone."""

    durable: ClassVar[bool] = True

    agreement_id: str
    provider_id: str
    at_most: Decimal
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopRetried(Event):
    """A loop that reads the network met an error and goes on after a back-off."""

    loop: str
    error: str
    after_sec: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomEvent(Event):
    """Something that the user's own code reports."""

    name: str
    text: str = ""
