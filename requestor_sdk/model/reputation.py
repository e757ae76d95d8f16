"""What the events of runs, this one's or earlier ones', say about providers.

Good and bad experiences fade: after one half-life an experience counts half.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from requestor_sdk.model import events
from requestor_sdk.model.errors import AmountError
from requestor_sdk.model.events import Event
from requestor_sdk.model.lifecycle import ServiceState, Stimulus

_ITS_FAULT = frozenset({Stimulus.lost, Stimulus.deadline, Stimulus.agreement_ended})
"""What can end an attempt that the user's own code has no part in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Experience:
    """What happened with a provider.

    Attributes:
        provider_id: The provider.
        good: Whether it was good.
        at: When.
    """

    provider_id: str
    good: bool
    at: datetime


@dataclass(slots=True)
class _Tally:
    good: float
    bad: float
    at: datetime

    def faded(self, at: datetime, half_life: timedelta) -> tuple[float, float]:
        age = max(0.0, (at - self.at) / half_life)
        left: float = 0.5 ** min(age, 1000.0)
        return self.good * left, self.bad * left


class Experiences:
    """Reads experiences with providers out of events, in order.

    Good: an instance started. Bad: an agreement or activity was refused, the provider vanished or
    ended the agreement, or it asked for money that was not due. What the network itself failed at,
    e.g. our own daemon, says nothing about a provider.
    """

    def __init__(self) -> None:
        self._provider_of: dict[str, str] = {}

    def read(self, event: Event) -> Experience | None:
        """Return what an event says about a provider, if anything."""
        match event:
            case events.AgreementCreated():
                self._provider_of[event.agreement_id] = event.provider_id
            case events.InvoiceAccepted() | events.PaymentLeftOver():
                self._provider_of.pop(event.agreement_id, None)
            case events.AgreementRejected() | events.ActivityCreateFailed():
                # What it asks for such an agreement all the same is no second experience.
                self._provider_of.pop(event.agreement_id, None)
                return None if event.by == "network" else _bad(event, event.provider_id)
            case events.DebitNoteRejected() | events.InvoiceRejected():
                return _bad(event, self._provider_of.get(event.agreement_id))
            case events.ServiceStateChanged(provider_id=str(who)):
                if event.stimulus == Stimulus.start_done and event.new == ServiceState.running:
                    return Experience(provider_id=who, good=True, at=event.at)
                at_fault = event.stimulus in _ITS_FAULT and event.cause is not None
                return _bad(event, who) if at_fault else None
        return None


def _bad(event: Event, provider_id: str | None) -> Experience | None:
    if provider_id is None:
        return None
    return Experience(provider_id=provider_id, good=False, at=event.at)


class Reputations:
    """Good and bad experiences with providers, as they fade.

    Args:
        half_life: After how long an experience counts half.

    Raises:
        AmountError: The half-life is not above zero.
    """

    def __init__(self, half_life: timedelta) -> None:
        if not isinstance(half_life, timedelta) or half_life <= timedelta(0):
            raise AmountError(f"half_life must be a timedelta above zero, not {half_life!r}")
        self._half_life = half_life
        self._tallies: dict[str, _Tally] = {}
        self._experiences = Experiences()
        self._now: datetime | None = None

    def learn_all(self, past: Iterable[Event]) -> None:
        """Learn from the events of earlier runs, oldest first."""
        for event in past:
            self.learn(event)

    def learn(self, event: Event) -> str | None:
        """Learn from an event; return the provider that is judged otherwise now, if one is."""
        if self._now is None or event.at > self._now:
            self._now = event.at
        found = self._experiences.read(event)
        if found is None:
            return None
        good, bad = self._faded(found.provider_id, found.at)
        tally = _Tally(good + found.good, bad + (not found.good), found.at)
        self._tallies[found.provider_id] = tally
        return found.provider_id

    def failures(self, provider_id: str) -> float:
        """Return the bad experiences with a provider, as far as they still count."""
        return self._faded(provider_id, self._now)[1]

    def reputation(self, provider_id: str) -> float:
        """Return a number between 0, bad, and 1, good; 0.5 for one that is not known."""
        good, bad = self._faded(provider_id, self._now)
        return (good + 1) / (good + bad + 2)

    def _faded(self, provider_id: str, at: datetime | None) -> tuple[float, float]:
        tally = self._tallies.get(provider_id)
        if tally is None or at is None:
            return 0.0, 0.0
        return tally.faded(at, self._half_life)
