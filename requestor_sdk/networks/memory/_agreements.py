"""Agreements and the activities under them: what state they are in, and what may follow.

No transport here: methods act at once on values, and refuse what the state does not allow.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from requestor_sdk.model.errors import AgreementRefused, NotAvailable, ProviderLost
from requestor_sdk.model.market import ActivityState, AgreementBody, AgreementState
from requestor_sdk.networks.memory._channels import Changing, Channel

if TYPE_CHECKING:
    from datetime import datetime

    from requestor_sdk.model.script import BatchEvent

BATCH_EVENTS = 64
"""Events of a batch that wait for a slow reader before they slow the provider."""

_NEW: Final = ActivityState.new
_ENDED: Final = ActivityState.terminated
_OPEN: Final = frozenset({AgreementState.proposed, AgreementState.pending})


@dataclass(slots=True, kw_only=True)
class Agreement(Changing):
    """One agreement, which changes when it is decided."""

    body: AgreementBody
    offer_id: str
    state: AgreementState = AgreementState.proposed
    requestor_signature: bytes = b""
    provider_signature: bytes = b""
    reason: str | None = None
    activity: Activity | None = None
    """The last of its activities; it lives, if any does."""
    earlier: tuple[Activity, ...] = ()

    @property
    def id(self) -> str:
        """The id of the agreement."""
        return self.body.id

    @property
    def activities(self) -> tuple[Activity, ...]:
        """All activities under it, in order."""
        return () if self.activity is None else (*self.earlier, self.activity)

    def begin(self, activity: Activity) -> None:
        """Take another activity under it."""
        if self.activity is not None:
            self.earlier = (*self.earlier, self.activity)
        self.activity = activity

    @property
    def decided(self) -> bool:
        """Whether it is no longer proposed or pending."""
        return self.state not in _OPEN

    @property
    def over(self) -> bool:
        """Whether nothing can follow any more."""
        return self.decided and self.state is not AgreementState.approved

    def confirm(self, signature: bytes, now: datetime) -> None:
        """Take the requestor's signature; the provider is to answer."""
        self.expire(now)
        if self.state is not AgreementState.proposed:
            raise self._refusal("confirmed")
        self.requestor_signature = signature
        self.state = AgreementState.pending

    def approve(self, signature: bytes, now: datetime) -> None:
        """Take the provider's signature."""
        self.expire(now)
        if self.state is not AgreementState.pending:
            raise self._refusal("approved")
        self.provider_signature = signature
        self._decide(AgreementState.approved, None)

    def reject(self, reason: str) -> bool:
        """Let the provider say no; ``False`` where it was not asked."""
        if self.state is not AgreementState.pending:
            return False
        self._decide(AgreementState.rejected, reason)
        return True

    def end(self, reason: str) -> AgreementState:
        """Let either side end it; returns the state that it was in."""
        before = self.state
        if before is AgreementState.approved:
            self._decide(AgreementState.terminated, reason)
        elif not self.over:
            self._decide(AgreementState.cancelled, reason)
        return before

    def expire(self, now: datetime) -> None:
        """Let it expire where it was not approved in time."""
        if not self.decided and now >= self.body.valid_to:
            self._decide(AgreementState.expired, "the agreement was not approved in time")

    def _decide(self, state: AgreementState, reason: str | None) -> None:
        self.state = state
        self.reason = reason
        self.changed()
        for activity in self.activities:
            if not activity.answered:
                activity.refuse(reason or "the agreement has ended")

    def _refusal(self, verb: str) -> AgreementRefused:
        return AgreementRefused(
            f"an agreement that is {self.state.lower()} cannot be {verb}"
            + (f": {self.reason}" if self.reason else ""),
            ids={"agreement": self.id, "provider": self.body.provider_id},
        )


@dataclass(slots=True, kw_only=True)
class Activity(Changing):
    """One activity, which changes with its state."""

    id: str
    agreement: Agreement
    state: ActivityState = ActivityState.new
    reason: str | None = None
    refused: str | None = None
    end_asked: bool = False
    batches: dict[str, Channel[BatchEvent]] = field(default_factory=dict)

    @property
    def answered(self) -> bool:
        """Whether the provider has it, or refused it."""
        return self.state is not _NEW

    @property
    def ended(self) -> bool:
        """Whether it is over, or never began."""
        return self.state is _ENDED

    def move(self, state: ActivityState, reason: str | None) -> bool:
        """Take the state that the provider reports; ``False`` where it changes nothing."""
        if self.state is _ENDED or state is self.state:
            return False
        self.state = state
        self.reason = reason
        self.changed()
        if state is _ENDED:
            for batch in self.batches.values():
                batch.close(reason or "the activity has ended")
        return True

    def refuse(self, reason: str) -> None:
        """Take the provider's no to the wish for this activity."""
        self.refused = reason
        self.move(ActivityState.terminated, reason)

    def add_batch(self, batch_id: str) -> Channel[BatchEvent]:
        """Begin a batch.

        Raises:
            ProviderLost: The activity is dead.
        """
        if self.ended:
            raise self.lost(self.reason)
        if not self.answered:
            raise NotAvailable("the provider does not have this activity yet", ids=self.ids)
        channel: Channel[BatchEvent] = Channel(BATCH_EVENTS)
        self.batches[batch_id] = channel
        return channel

    def lost(self, reason: str | None) -> ProviderLost:
        """Return the error that tells that this activity is dead."""
        return ProviderLost(reason or "the activity has ended", ids=self.ids)

    @property
    def ids(self) -> dict[str, str]:
        """What an error of this activity names."""
        return {
            "activity": self.id,
            "agreement": self.agreement.id,
            "provider": self.agreement.body.provider_id,
        }
