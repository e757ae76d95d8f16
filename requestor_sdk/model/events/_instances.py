"""Instances: the life of clusters and of what runs in them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import ClassVar

from requestor_sdk.model.event import Event


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
