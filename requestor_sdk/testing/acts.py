"""The trace properties of the lifecycle over what the market saw, not over what the engine tells.

A simulated network keeps one record of what its runs wrote into their journals and of what they
did, in the order of both. What is read from the journal here is only what was wanted: which
instance an agreement is for, and that a stop was asked for.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from requestor_sdk.model import events
from requestor_sdk.model.lifecycle import ServiceState
from requestor_sdk.networks.simulated import Act

if TYPE_CHECKING:
    from requestor_sdk.model.events import Event
    from requestor_sdk.networks.simulated import SimulatedNetwork

STOPS: Final = frozenset({"stop", "expiring", "expired", "cancel"})
"""The stimuli after which nothing may follow."""


def stopped_by(event: Event) -> str | None:
    """Return the instance for which nothing may be signed or started after this event."""
    match event:
        case events.ServiceStateChanged(instance_id=who, new=new, stimulus=why):
            return who if why in STOPS or new == ServiceState.terminated else None
        case events.ServiceStopAsked(instance_id=who):
            return who
    return None


def broken_acts(network: SimulatedNetwork, *, complete: bool = False) -> Iterator[str]:
    """Return what the acts of a network's runs break, a sentence each.

    Args:
        network: The network.
        complete: Whether its runs are over in good order and no call was hindered: then every
            attempt was released.
    """
    seen = _Acts(network)
    for entry in network.record:
        yield from seen.take(entry)
    if complete:
        yield from seen.unreleased()


class _Acts:
    """What is known of the acts so far."""

    def __init__(self, network: SimulatedNetwork) -> None:
        self._books = network.books
        # Where calls are hindered one wish can reach the market twice.
        self._strict = not network.disturbed
        self._owner: dict[str, str] = {}
        self._stopped: set[str] = set()
        self._state: dict[str, str] = {}
        self._wanted: Counter[str] = Counter()
        self._signed: set[str] = set()
        self._activities: dict[str, str] = {}
        self._within: defaultdict[str, list[str]] = defaultdict(list)
        self._living: defaultdict[str, list[str]] = defaultdict(list)
        self._released: set[str] = set()

    def take(self, entry: Event | Act) -> Iterator[str]:
        """Take the next entry of the record; return what it breaks."""
        if isinstance(entry, Act):
            yield from self._acted(entry)
            return
        if (who := stopped_by(entry)) is not None:
            self._stopped.add(who)
        match entry:
            case events.ServiceStateChanged(instance_id=who, new=new):
                self._state[who] = new
            case events.AgreementCreated(instance_id=who, agreement_id=agreement):
                self._owner[agreement] = who
            case events.ActivityRequested(agreement_id=agreement):
                self._wanted[agreement] += 1

    def _acted(self, act: Act) -> Iterator[str]:
        agreement, activity = act.agreement_id, act.activity_id
        owner = self._owner.get(agreement)
        match act.what:
            case "confirm" if owner is None:
                yield f"agreement {agreement} was signed before it was written down"
            case "confirm" if owner in self._stopped:
                yield f"agreement {agreement} was signed in the market for {owner} after its stop"
            case "create" if owner in self._stopped:
                yield f"activity {activity} was created in the market for {owner} after its stop"
            case "create" if self._strict:
                yield from self._created(act)
            case "execute" if activity in self._released:
                yield f"a batch reached activity {activity} after its release"
        match act.what:
            case "confirm":
                self._signed.add(agreement)
            case "create":
                self._activities[activity] = agreement
                self._within[agreement].append(activity)
                self._living[owner or ""].append(activity)
            case "destroy":
                self._released.add(activity)
            case "terminate":
                self._released.update(self._within[agreement])

    def _created(self, act: Act) -> Iterator[str]:
        self._wanted[act.agreement_id] -= 1
        if self._wanted[act.agreement_id] < 0:
            yield f"activity {act.activity_id} was created before it was written down"
        owner = self._owner.get(act.agreement_id)
        living = [one for one in self._living[owner or ""] if self._lives(one)]
        self._living[owner or ""] = living
        for other in living:
            yield f"activity {act.activity_id} was created for {owner} beside {other}"

    def _lives(self, activity: str) -> bool:
        return activity not in self._released and self._books.activities[activity].refused is None

    def unreleased(self) -> Iterator[str]:
        """Return what was not released although all is over; what is suspended stays."""
        for agreement in sorted(self._signed):
            owner = self._owner.get(agreement, "nobody")
            if self._state.get(owner) == ServiceState.suspended:
                continue
            if not self._books.agreements[agreement].over:
                yield f"agreement {agreement} of {owner} was signed and still stands"
        for activity, agreement in sorted(self._activities.items()):
            owner = self._owner.get(agreement, "nobody")
            if self._state.get(owner) == ServiceState.suspended or activity in self._released:
                continue
            if self._books.activities[activity].refused is None:
                yield f"activity {activity} of {owner} was never released"
