"""A run as numbers over time: what Prometheus and OpenTelemetry are told, read off the events.

One fold counts; what it counts in is handed to it. The libraries load with the classes that need
them, which come with the extra ``observe``. Labels are few and bounded: no metric has an id of an
instance, an agreement or a provider, of which there is no end.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from functools import singledispatchmethod
from typing import TYPE_CHECKING, Any, Final, Protocol

from requestor_sdk.model import events as ev
from requestor_sdk.model.errors import NotSupported
from requestor_sdk.observe.view import RunView

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from prometheus_client import CollectorRegistry

_SECONDS: Final = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0)


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric.

    Attributes:
        name: Its name, as Prometheus has it.
        kind: ``counter``, ``gauge`` or ``histogram``.
        help: What it counts, and in what unit.
        labels: By what it is told apart, besides the network.
    """

    name: str
    kind: str
    help: str
    labels: tuple[str, ...] = ()


METRICS: Final = tuple(
    Metric(f"requestor_sdk_{name}", kind, text, labels)
    for name, kind, text, labels in (
        ("instances", "gauge", "Instances that are not over, by state.", ("service", "state")),
        ("instance_failures_total", "counter", "Attempts of instances that failed.", ("service",)),
        ("instance_restarts_total", "counter", "Attempts that followed another.", ("service",)),
        (
            "instance_start_seconds",
            "histogram",
            "Seconds from an agreement to running, an attempt.",
            ("service",),
        ),
        ("offers_total", "counter", "Offers by how far they came.", ("stage",)),
        ("agreements_total", "counter", "Agreements by what became of them.", ("outcome",)),
        ("open_agreements", "gauge", "Agreements that are not over.", ()),
        ("batches_total", "counter", "Batches that are over.", ("outcome",)),
        ("batch_seconds", "histogram", "Seconds that a batch took.", ()),
        ("commands_total", "counter", "Commands that are over.", ("outcome",)),
        ("tasks_total", "counter", "Tasks that are over, by status.", ("status",)),
        ("debit_notes_total", "counter", "Debit notes, judged.", ("outcome",)),
        ("invoices_total", "counter", "Invoices, judged.", ("outcome",)),
        ("spent_tokens", "gauge", "What was accepted to be paid, in the network's token.", ()),
        ("held_tokens", "gauge", "What living agreements can still cost, likewise.", ()),
        ("budget_tokens", "gauge", "The budget, likewise.", ()),
        ("network_retries_total", "counter", "Errors of the network waited out.", ("loop",)),
    )
)
"""Every metric that there is."""


class Instruments(Protocol):
    """What numbers are told to."""

    def add(self, name: str, amount: float, labels: dict[str, str]) -> None:
        """Raise a counter."""
        ...

    def set(self, name: str, value: float, labels: dict[str, str]) -> None:
        """Set a gauge."""
        ...

    def observe(self, name: str, value: float, labels: dict[str, str]) -> None:
        """Add to a histogram."""
        ...


@dataclass(slots=True)
class Counting:
    """The fold: tells its instruments what each event changes."""

    to: Instruments
    _view: RunView = field(default_factory=RunView)
    _services: dict[str, str] = field(default_factory=dict)
    _cluster_of: dict[str, str] = field(default_factory=dict)
    _states: dict[str, tuple[str, str]] = field(default_factory=dict)
    _numbers: dict[tuple[str, str], int] = field(default_factory=dict)
    _agreed: dict[str, datetime] = field(default_factory=dict)
    _sent: dict[str, datetime] = field(default_factory=dict)
    _open: set[str] = field(default_factory=set)

    def __call__(self, event: ev.Event, /) -> None:
        """Take one event."""
        self._view.apply(event)
        self._take(event)

    def _add(self, name: str, **labels: str) -> None:
        self.to.add(f"requestor_sdk_{name}", 1, {"network": self._view.network, **labels})

    def _set(self, name: str, value: float, **labels: str) -> None:
        self.to.set(f"requestor_sdk_{name}", value, {"network": self._view.network, **labels})

    def _observe(self, name: str, value: float, **labels: str) -> None:
        self.to.observe(f"requestor_sdk_{name}", value, {"network": self._view.network, **labels})

    def _service(self, instance_id: str) -> str:
        return self._services.get(self._cluster_of.get(instance_id, ""), "")

    def _tell_money(self) -> None:
        self._set("spent_tokens", float(self._view.spent))
        self._set("held_tokens", float(self._view.held))
        self._set("budget_tokens", float(self._view.budget))

    @singledispatchmethod
    def _take(self, event: ev.Event) -> None:
        """Take an event that is not counted."""

    @_take.register(ev.ComputationStarted)
    @_take.register(ev.ComputationRecovered)
    @_take.register(ev.AllocationAmended)
    @_take.register(ev.AllocationAmendFailed)
    def _(self, _: ev.Event) -> None:
        self._tell_money()

    # Instances ------------------------------------------------------------------------------------

    @_take.register
    def _(self, event: ev.ClusterStarted) -> None:
        self._services[event.cluster_id] = event.service

    @_take.register
    def _(self, event: ev.ServiceStateChanged) -> None:
        self._cluster_of[event.instance_id] = event.cluster_id
        service = self._service(event.instance_id)
        before = self._states.pop(event.instance_id, None)
        if before is not None:
            self._count_state(before, -1)
        if event.new != "terminated":
            self._states[event.instance_id] = now = (service, event.new)
            self._count_state(now, +1)
        if event.new == "running" and (since := self._agreed.pop(event.instance_id, None)):
            seconds = (event.at - since).total_seconds()
            self._observe("instance_start_seconds", seconds, service=service)

    def _count_state(self, place: tuple[str, str], more: int) -> None:
        self._numbers[place] = self._numbers.get(place, 0) + more
        self._set("instances", self._numbers[place], service=place[0], state=place[1])

    @_take.register
    def _(self, event: ev.ServiceFailed) -> None:
        self._add("instance_failures_total", service=self._services.get(event.cluster_id, ""))

    @_take.register
    def _(self, event: ev.ServiceRestarting) -> None:
        self._add("instance_restarts_total", service=self._service(event.instance_id))

    # The market -----------------------------------------------------------------------------------

    @_take.register(ev.ProposalReceived)
    @_take.register(ev.ProposalScored)
    @_take.register(ev.ProposalRejected)
    @_take.register(ev.ProposalConfirmed)
    def _(self, event: ev.Event) -> None:
        stages = {
            ev.ProposalReceived: "seen",
            ev.ProposalScored: "scored",
            ev.ProposalRejected: "rejected",
            ev.ProposalConfirmed: "negotiated",
        }
        self._add("offers_total", stage=stages[type(event)])

    @_take.register
    def _(self, event: ev.AgreementCreated) -> None:
        self._agreed[event.instance_id] = event.at
        self._tell_money()

    @_take.register
    def _(self, event: ev.AgreementConfirmed) -> None:
        self._open.add(event.agreement_id)
        self._add("offers_total", stage="agreed")
        self._add("agreements_total", outcome="confirmed")
        self._set("open_agreements", len(self._open))

    @_take.register
    def _(self, _: ev.AgreementRejected) -> None:
        self._add("agreements_total", outcome="rejected")
        self._tell_money()

    @_take.register
    def _(self, event: ev.AgreementTerminated) -> None:
        self._open.discard(event.agreement_id)
        self._add("agreements_total", outcome=f"ended by {event.by}")
        self._set("open_agreements", len(self._open))
        self._tell_money()

    @_take.register
    def _(self, event: ev.LoopRetried) -> None:
        self._add("network_retries_total", loop=event.loop)

    # Batches and tasks ----------------------------------------------------------------------------

    @_take.register
    def _(self, event: ev.ScriptSent) -> None:
        self._sent[event.script_id] = event.at

    @_take.register
    def _(self, event: ev.ScriptFinished) -> None:
        self._add("batches_total", outcome="failed" if event.error else "ok")
        if since := self._sent.pop(event.script_id, None):
            self._observe("batch_seconds", (event.at - since).total_seconds())

    @_take.register
    def _(self, event: ev.CommandExecuted) -> None:
        self._add("commands_total", outcome="ok" if event.success else "failed")

    @_take.register
    def _(self, event: ev.TaskFinished) -> None:
        self._add("tasks_total", status=event.status)

    # Money ----------------------------------------------------------------------------------------

    @_take.register(ev.DebitNoteAccepted)
    @_take.register(ev.DebitNoteRejected)
    def _(self, event: ev.DebitNoteAccepted | ev.DebitNoteRejected) -> None:
        good = isinstance(event, ev.DebitNoteAccepted)
        self._add("debit_notes_total", outcome="accepted" if good else "rejected")
        self._tell_money()

    @_take.register(ev.InvoiceAccepted)
    @_take.register(ev.InvoiceRejected)
    def _(self, event: ev.InvoiceAccepted | ev.InvoiceRejected) -> None:
        good = isinstance(event, ev.InvoiceAccepted)
        self._add("invoices_total", outcome="accepted" if good else "rejected")
        self._tell_money()


def _missing(package: str, error: ImportError) -> NotSupported:
    made = NotSupported(f"{package} is not installed", hint="pip install 'requestor-sdk[observe]'")
    made.__cause__ = error
    return made


class PrometheusMetrics:
    """An event consumer that keeps the metrics of Prometheus.

        from prometheus_client import start_http_server

        start_http_server(9100)
        compute = Compute(budget=1, event_consumer=PrometheusMetrics())

    One is meant for all runs of a process, one after the other; for two at the same time give each
    a registry of its own.

    Args:
        registry: Where they are registered; the library's own by default.

    Raises:
        NotSupported: ``prometheus_client`` is not installed.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self._counting = Counting(_Prometheus(registry))

    def __call__(self, event: ev.Event, /) -> None:
        """Take one event."""
        self._counting(event)


class _Prometheus:
    def __init__(self, registry: CollectorRegistry | None) -> None:
        try:
            import prometheus_client as library
        except ImportError as error:
            raise _missing("prometheus_client", error) from error
        kinds: dict[str, Any] = {"counter": library.Counter, "gauge": library.Gauge}
        chosen = library.REGISTRY if registry is None else registry
        self._made: dict[str, Any] = {}
        for metric in METRICS:
            labels = ("network", *metric.labels)
            more: dict[str, Any] = {"registry": chosen}
            if metric.kind == "histogram":
                made = library.Histogram(metric.name, metric.help, labels, buckets=_SECONDS, **more)
            else:
                made = kinds[metric.kind](metric.name, metric.help, labels, **more)
            self._made[metric.name] = made

    def add(self, name: str, amount: float, labels: dict[str, str]) -> None:
        self._made[name].labels(**labels).inc(amount)

    def set(self, name: str, value: float, labels: dict[str, str]) -> None:
        self._made[name].labels(**labels).set(value)

    def observe(self, name: str, value: float, labels: dict[str, str]) -> None:
        self._made[name].labels(**labels).observe(value)


class OpenTelemetryMetrics:
    """An event consumer that tells OpenTelemetry the same metrics.

    Names have dots where Prometheus has underscores, and no ``_total``: what exports to Prometheus
    adds it.

    Args:
        provider: Of meters; the global one by default.

    Raises:
        NotSupported: ``opentelemetry-api`` is not installed.
    """

    def __init__(self, provider: MeterProvider | None = None) -> None:
        self._counting = Counting(_OpenTelemetry(provider))

    def __call__(self, event: ev.Event, /) -> None:
        """Take one event."""
        self._counting(event)


class _OpenTelemetry:
    def __init__(self, provider: MeterProvider | None) -> None:
        from requestor_sdk._version import __version__

        try:
            from opentelemetry import metrics
        except ImportError as error:
            raise _missing("opentelemetry-api", error) from error
        meter = metrics.get_meter("requestor_sdk", __version__, meter_provider=provider)
        self._made: dict[str, Any] = {}
        self._told: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
        for metric in METRICS:
            name = dotted(metric.name)
            unit = "s" if metric.kind == "histogram" else ""
            make: Any = {
                "counter": meter.create_counter,
                "gauge": meter.create_up_down_counter,
                "histogram": meter.create_histogram,
            }[metric.kind]
            self._made[metric.name] = make(name, unit=unit, description=metric.help)

    def add(self, name: str, amount: float, labels: dict[str, str]) -> None:
        self._made[name].add(amount, labels)

    def set(self, name: str, value: float, labels: dict[str, str]) -> None:
        key = (name, tuple(sorted(labels.items())))
        before = self._told.get(key, 0.0)
        self._told[key] = value
        if value != before:
            self._made[name].add(value - before, labels)

    def observe(self, name: str, value: float, labels: dict[str, str]) -> None:
        self._made[name].record(value, labels)


def dotted(name: str) -> str:
    """Return what OpenTelemetry calls a metric."""
    return name.removesuffix("_total").replace("requestor_sdk_", "requestor_sdk.", 1)
