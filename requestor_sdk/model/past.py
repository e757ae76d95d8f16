"""What a run had, as its journal tells it: agreements, activities, instances, clusters.

Pure records: ``history`` folds events into them, and whoever takes up the run reads them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from requestor_sdk.model.lifecycle import ServiceState
from requestor_sdk.model.money import ZERO, Terms


@dataclass(slots=True, kw_only=True)
class PastUse:
    """One activity under an agreement.

    Attributes:
        began: When it was asked for.
        activity_id: Its id, once it is known.
        ended: When it was over, if it is.
        silent_since: Since when its provider has been silent, if it is.
        silent_sec: Seconds of silence that are over and are not paid.
        noted: The total of the last debit note that was accepted.
        noted_at: When it came.
        due: What the usage of a later note comes to, which asked for more and was rejected.
        due_at: When that came.
        usage: The usage vector of the last note that was accepted.
        scripts: How many batches were sent to it.
    """

    began: datetime
    activity_id: str | None = None
    ended: datetime | None = None
    silent_since: datetime | None = None
    silent_sec: float = 0.0
    noted: Decimal | None = None
    noted_at: datetime | None = None
    due: Decimal | None = None
    due_at: datetime | None = None
    usage: tuple[Decimal, ...] = ()
    scripts: int = 0

    def heard(self, at: datetime) -> None:
        """The provider answers again: its time is paid from now on."""
        if self.silent_since is not None:
            self.silent_sec += (at - self.silent_since).total_seconds()
            self.silent_since = None


@dataclass(frozen=True, slots=True)
class PastNote:
    """What a debit note said of its activity; nothing where its coming was not written down."""

    activity_id: str = ""
    usage: tuple[Decimal, ...] = ()


@dataclass(slots=True, kw_only=True)
class PastAgreement:
    """One agreement of the run.

    Attributes:
        id: Of the agreement.
        created_at: When it was about to be confirmed.
        instance_id: For whom it was made.
        cluster_id: Of that instance.
        provider_id: The provider's identity.
        provider_name: What it calls itself.
        terms: What was agreed about money.
        held: The most that was ever held for it.
        until: When it ends at the latest; ``None`` where it was not written down.
        confirmed: Whether both sides are known to have signed.
        refused: Whether it is known that they have not.
        uses: Its activities, in order; the last one lives, if any does.
        ended: When the agreement was over, if it is.
        ended_by: Who ended it.
        judged: Its debit notes and invoices by id: why one was rejected, ``None`` if accepted.
        accepted: What was accepted of it.
        invoice_id: The invoice that was accepted, if one was.
        left_over: What could still be asked for when it was last given up, if it was; with an
            invoice, what was accepted and the network could not be told.
        written_off: Whether nothing can be asked for any more, as the network is gone.
    """

    id: str
    created_at: datetime
    instance_id: str
    cluster_id: str
    provider_id: str
    provider_name: str
    terms: Terms
    held: Decimal
    until: datetime | None = None
    confirmed: bool = False
    refused: bool = False
    uses: list[PastUse] = field(default_factory=list)
    ended: datetime | None = None
    ended_by: str = "requestor"
    judged: dict[str, str | None] = field(default_factory=dict)
    accepted: Decimal = ZERO
    invoice_id: str | None = None
    left_over: Decimal | None = None
    written_off: bool = False

    @property
    def settled(self) -> bool:
        """Whether it is over and nothing can be asked for it any more."""
        if self.ended is None or self.left_over is not None:
            return False
        return not self.uses or self.invoice_id is not None or self.written_off

    @property
    def use(self) -> PastUse | None:
        """The last of its activities."""
        return self.uses[-1] if self.uses else None

    def use_of(self, activity_id: str) -> PastUse | None:
        """Return one of its activities; one whose id is not known is the one that is named."""
        found = next((use for use in self.uses if use.activity_id == activity_id), None)
        if found is None and self.use is not None and self.use.activity_id is None:
            found = self.use
            found.activity_id = activity_id
        return found

    def note(self, total: Decimal, note: PastNote, at: datetime) -> None:
        """A debit note of one of its activities was accepted."""
        if use := self.use_of(note.activity_id):
            use.noted, use.noted_at, use.usage = total, at, note.usage
            use.due = use.due_at = None
        noted = sum((use.noted or ZERO for use in self.uses), ZERO)
        self.accepted = max(self.accepted, noted)

    def overcharged(self, due: Decimal, note: PastNote, at: datetime) -> None:
        """A debit note of one of its activities asked for more than its usage comes to."""
        if use := self.use_of(note.activity_id):
            use.due, use.due_at = due, at


@dataclass(slots=True, kw_only=True)
class PastInstance:
    """One instance of the run.

    Attributes:
        id: Of the instance.
        cluster_id: Its cluster.
        state: The last that was written down.
        behind: While unresponsive, the state it came from.
        attempt: Which attempt it was in, from 1.
        agreement_id: Of that attempt, once there was one.
        stop_asked: Whether a stop was asked for while it could not be stopped at once.
    """

    id: str
    cluster_id: str = ""
    state: ServiceState = ServiceState.pending
    behind: ServiceState | None = None
    attempt: int = 1
    agreement_id: str | None = None
    stop_asked: bool = False

    @property
    def ran(self) -> bool:
        """Whether it had started and was not to be stopped: it can be taken up."""
        if self.stop_asked:
            return False
        state = self.behind if self.state is ServiceState.unresponsive else self.state
        return state in (ServiceState.running, ServiceState.suspended)


@dataclass(frozen=True, slots=True, kw_only=True)
class PastCluster:
    """One cluster of the run; ``service`` is the qualified name of its class."""

    id: str
    service: str
    expiration: datetime
    budget: Decimal | None = None
    max_price_per_hour: Decimal | None = None
