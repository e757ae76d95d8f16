"""A run in the log: its events as records of the standard library, with ids in every record.

A record has what its event has, and no more: no key, token or file's content is in any event.
"""

from __future__ import annotations

import logging
from typing import Any, Final

from requestor_sdk.model import events as ev
from requestor_sdk.observe.lines import PlainLines
from requestor_sdk.service import _current

LOGGER: Final = "requestor_sdk.events"
"""The logger of events where no other is named."""

IDS: Final = ("run_id", "cluster_id", "instance_id", "provider_id", "agreement_id", "activity_id")
"""What every record has, empty where it does not apply; a record may have more."""

_WARNS: Final = (
    ev.NoOffersYet,
    ev.BudgetExhausted,
    ev.AgreementRejected,
    ev.ActivityCreateFailed,
    ev.AllocationNotMade,
    ev.AllocationAmendFailed,
    ev.DebitNoteRejected,
    ev.InvoiceRejected,
    ev.PaymentLeftOver,
    ev.PaymentWrittenOff,
    ev.LoopRetried,
    ev.HandlerAbandoned,
    ev.CallbackAbandoned,
    ev.TaskAttemptFailed,
    ev.TaskRejected,
)
_INFORMS: Final = (
    ev.AgreementConfirmed,
    ev.ClusterStarted,
    ev.JobStarted,
    ev.JobFinished,
    ev.TaskFinished,
)


class Reader:
    """Turns events into what a log has of them; remembers whose an agreement is."""

    def __init__(self) -> None:
        self._lines = PlainLines(lambda _line: None)
        self._run_id = ""
        self._owners: dict[str, dict[str, str]] = {}

    def read(self, event: ev.Event) -> tuple[int, str, dict[str, str]]:
        """Return the level of an event, its text on one or several lines, and its ids."""
        text = self._lines.line(event)
        ids = self._ids(event)
        level = _level(event, told=bool(text))
        return level, text or self._quiet(event) or event.line().partition(" ")[2], ids

    def _quiet(self, event: ev.Event) -> str:
        """Return the text of what a log tells and a terminal does not; empty for all else."""
        match event:
            case ev.ClusterStarted():
                until = f"{event.expiration.astimezone():%Y-%m-%d %H:%M:%S}"
                return f"{event.cluster_id} of {event.service} begins, until {until} at the latest"
            case ev.AgreementConfirmed():
                name = self._lines.name(event.provider_id)
                return f"{event.instance_id} has an agreement with {name}"
            case ev.JobStarted():
                return f"{event.job_id} begins, with {event.max_workers} workers at most"
            case ev.JobFinished():
                return _over(event)
            case ev.TaskFinished():
                tries = f" after {event.attempts} attempts" if event.attempts > 1 else ""
                return f"{event.task_id} is {event.status}{tries}"
            case ev.TaskAttemptFailed():
                told = f"{event.task_id} failed in attempt {event.attempt} on {event.instance_id}"
                return f"{told}: {event.error}"
            case ev.TaskRejected():
                again = ", and is tried again" if event.retry else ""
                told = f"the result of {event.task_id} on {event.instance_id} was rejected"
                return f"{told}{again}: {event.reason}"
        return ""

    def _ids(self, event: ev.Event) -> dict[str, str]:
        own = {f"{kind}_id": found for kind, found in event.ids().items()}
        if isinstance(event, ev.ComputationStarted | ev.ComputationRecovered):
            self._run_id = event.run_id
        if isinstance(event, ev.AgreementCreated):
            whose: dict[str, str] = {
                key: own[key] for key in ("instance_id", "cluster_id", "provider_id") if key in own
            }
            self._owners[event.agreement_id] = whose
        known = self._owners.get(own.get("agreement_id", ""), {})
        return {**dict.fromkeys(IDS, ""), "run_id": self._run_id, **known, **own}


def _over(event: ev.JobFinished) -> str:
    counts = ("accepted", "rejected", "failed", "cancelled")
    told = ", ".join(f"{getattr(event, name)} {name}" for name in counts if getattr(event, name))
    why = f": {event.error}" if event.error else ""
    return f"{event.job_id} is over, {told or 'without a task'}{why}"


def _level(event: ev.Event, *, told: bool) -> int:
    match event:
        case ev.ServiceFailed() | ev.ComputationFinished(error=str()) | ev.JobFinished(error=str()):
            return logging.ERROR
        case ev.ComputeJobFinished(outcome="failed"):
            return logging.ERROR
        case ev.ServiceStateChanged(new="unresponsive") | ev.CommandExecuted(success=False):
            return logging.WARNING
        case ev.ServiceStateChanged(cause=str()) if event.new in ("pending", "terminated"):
            return logging.WARNING
    if isinstance(event, _WARNS):
        return logging.WARNING
    return logging.INFO if told or isinstance(event, _INFORMS) else logging.DEBUG


class EventLog:
    """An event consumer that writes each event to a logger.

        logging.basicConfig(level="INFO", format="%(run_id)s %(instance_id)s %(message)s")
        compute = Compute(budget=1, event_consumer=EventLog())

    What a user would be told is of level INFO, what goes wrong of WARNING, a failed attempt or run
    of ERROR, all else of DEBUG. A record has the attributes ``event`` (the kind), ``run_id``,
    ``cluster_id``, ``instance_id``, ``provider_id``, ``agreement_id`` and ``activity_id``, each
    empty where it does not apply, and other ids of its event, e.g. ``task_id``.

    Args:
        logger: Where to; the logger ``requestor_sdk.events`` by default.
    """

    def __init__(self, logger: logging.Logger | str = LOGGER) -> None:
        self.logger: logging.Logger = (
            logging.getLogger(logger) if isinstance(logger, str) else logger
        )
        self._reader = Reader()

    def __call__(self, event: ev.Event, /) -> None:
        """Take one event."""
        level, text, ids = self._reader.read(event)
        if self.logger.isEnabledFor(level):
            self.logger.log(level, "%s", text, extra={"event": event.kind, **ids})


class LogIds(logging.Filter):
    """A filter for handlers that gives ids to every record that has none.

    With it a format may name ``%(run_id)s`` and ``%(instance_id)s`` also for records of other
    loggers: what a service's handler logs by itself gets the ids of its instance.

        handler.addFilter(LogIds())
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Add what is missing; let every record pass."""
        found: dict[str, Any] = record.__dict__
        for name in IDS:
            found.setdefault(name, "")
        found.setdefault("event", "")
        found["run_id"] = found["run_id"] or _current.run_id.get()
        found["instance_id"] = found["instance_id"] or _current.instance_id.get()
        return True
