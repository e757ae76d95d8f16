"""Activities and batches: what is asked of a provider, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import ClassVar

from requestor_sdk.model.event import Event


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
