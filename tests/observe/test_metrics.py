"""A run as metrics, for Prometheus and for OpenTelemetry."""

from __future__ import annotations

import builtins
import sys
from datetime import timedelta
from decimal import Decimal
from urllib.request import Request, urlopen

import prometheus_client
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as prometheus

from requestor_sdk.errors import NotSupported
from requestor_sdk.model import events as ev
from requestor_sdk.monitoring import OpenTelemetryMetrics, PrometheusMetrics
from requestor_sdk.observe.metrics import METRICS, dotted


def whole(story):
    """A story with something for every metric."""
    story.begin()
    story.tell(ev.ClusterStarted, cluster_id="c-1", service="Web", expiration=story.now)
    offer = {"cluster_id": "c-1", "proposal_id": "p", "provider_id": "0x1"}
    story.tell(ev.ProposalReceived, **offer, provider_name="alpha")
    story.tell(ev.ProposalScored, **offer, score=1.0)
    story.tell(ev.ProposalRejected, **offer, reason="no")
    story.agree("a-1")
    story.move("pending", "starting")
    story.move("starting", "running")
    ids = {"instance_id": "i-1", "activity_id": "act", "script_id": "s-1"}
    story.tell(ev.ScriptSent, **ids, commands=("run x",))
    story.tell(ev.CommandExecuted, **ids, index=0, command="run x", success=False)
    story.now += timedelta(seconds=2)
    story.tell(ev.ScriptFinished, **ids, error="exit 1")
    story.tell(ev.ServiceFailed, instance_id="i-1", cluster_id="c-1", attempt=1, error="no")
    story.move("running", "pending", attempt=2, cause="no")
    story.tell(ev.ServiceRestarting, instance_id="i-1", attempt=2, after_sec=1.0)
    story.tell(ev.TaskFinished, task_id="t", job_id="j", status="accepted", attempts=1)
    story.tell(ev.LoopRetried, loop="market", error="no", after_sec=1.0)
    story.note("a-1", "0.1")
    story.end("a-1")
    story.invoice("a-1", "0.25")
    return story.events


@pytest.fixture
def read(story):
    """Returns the value of a sample of Prometheus after the whole story."""
    registry = prometheus_client.CollectorRegistry()
    metrics = PrometheusMetrics(registry)
    for event in whole(story):
        metrics(event)

    def value(name, **labels):
        return registry.get_sample_value(f"requestor_sdk_{name}", {"network": "local", **labels})

    return value


def test_instances_are_counted_by_state(read):
    assert read("instances", service="Web", state="pending") == 1
    assert read("instances", service="Web", state="running") == 0


def test_what_goes_wrong_is_counted(read):
    assert read("instance_failures_total", service="Web") == 1
    assert read("instance_restarts_total", service="Web") == 1
    assert read("network_retries_total", loop="market") == 1
    assert read("commands_total", outcome="failed") == 1


def test_the_way_of_the_offers_is_counted(read):
    stages = ("seen", "scored", "rejected", "agreed")
    assert [read("offers_total", stage=stage) for stage in stages] == [1, 1, 1, 1]


def test_times_are_in_seconds(read):
    assert read("batch_seconds_sum") == 4
    assert read("batch_seconds_count") == 1
    assert read("instance_start_seconds_sum", service="Web") == 4


def test_money_is_what_was_accepted(read):
    assert read("spent_tokens") == 0.25
    assert read("held_tokens") == 0
    assert read("budget_tokens") == 1
    assert read("invoices_total", outcome="accepted") == 1


def test_agreements_that_are_over_are_open_no_more(read):
    assert read("open_agreements") == 0
    assert read("agreements_total", outcome="ended by requestor") == 1


def test_every_metric_is_told_by_some_event(story):
    registry = prometheus_client.CollectorRegistry()
    metrics = PrometheusMetrics(registry)
    for event in whole(story):
        metrics(event)
    told = {family.name for family in registry.collect() if family.samples}
    assert told == {metric.name.removesuffix("_total") for metric in METRICS}


@pytest.mark.parametrize(
    ("accept", "parse"),
    [("text/plain", prometheus), ("application/openmetrics-text; version=1.0.0", openmetrics)],
    ids=["prometheus", "openmetrics"],
)
def test_a_scrape_is_read_by_the_librarys_own_parsers(story, accept, parse):
    registry = prometheus_client.CollectorRegistry()
    metrics = PrometheusMetrics(registry)
    for event in whole(story):
        metrics(event)
    server, thread = prometheus_client.start_http_server(0, "127.0.0.1", registry=registry)
    try:
        asked = Request(
            f"http://127.0.0.1:{server.server_port}/metrics", headers={"Accept": accept}
        )
        with urlopen(asked) as answer:
            families = {family.name: family for family in parse(answer.read().decode())}
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert {metric.name.removesuffix("_total") for metric in METRICS} <= set(families)
    assert families["requestor_sdk_batch_seconds"].type == "histogram"
    [spent] = families["requestor_sdk_spent_tokens"].samples
    assert (spent.labels, spent.value) == ({"network": "local"}, 0.25)


def test_no_label_is_an_id():
    assert {label for metric in METRICS for label in metric.labels} == {
        "service", "state", "stage", "outcome", "status", "loop",
    }  # fmt: skip


def test_opentelemetry_is_told_the_same(story):
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    metrics = OpenTelemetryMetrics(provider)
    for event in whole(story):
        metrics(event)
    data = reader.get_metrics_data()
    provider.shutdown()
    [scope] = data.resource_metrics[0].scope_metrics
    found = {metric.name: metric.data.data_points for metric in scope.metrics}
    assert set(found) == {dotted(metric.name) for metric in METRICS}
    [spent] = found["requestor_sdk.spent_tokens"]
    assert (spent.value, spent.attributes) == (0.25, {"network": "local"})
    states = {p.attributes["state"]: p.value for p in found["requestor_sdk.instances"]}
    assert states == {"starting": 0, "running": 0, "pending": 1}
    [batches] = found["requestor_sdk.batch_seconds"]
    assert (batches.sum, batches.count) == (4, 1)


@pytest.mark.parametrize("cls", [PrometheusMetrics, OpenTelemetryMetrics])
def test_without_its_library_the_error_names_the_extra(cls, monkeypatch):
    for name in list(sys.modules):
        if name.startswith(("prometheus_client", "opentelemetry")):
            monkeypatch.delitem(sys.modules, name)
    ours = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name.startswith(("prometheus_client", "opentelemetry")):
            raise ImportError(name)
        return ours(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(NotSupported, match=r"pip install 'requestor-sdk\[observe\]'"):
        cls()


def test_a_run_that_goes_on_with_a_larger_budget_tells_it(story):
    registry = prometheus_client.CollectorRegistry()
    metrics = PrometheusMetrics(registry)
    metrics(story.begin())
    metrics(story.tell(ev.AllocationAmended, allocation_id="x", amount=Decimal(3)))
    assert registry.get_sample_value("requestor_sdk_budget_tokens", {"network": "local"}) == 3
