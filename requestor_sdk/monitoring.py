"""What a program that is operated tells its operators: the log, and metrics.

Each is an event consumer: ``Compute(event_consumer=...)``, more by ``add_event_consumer``.
"""

from requestor_sdk.observe.logs import EventLog, LogIds
from requestor_sdk.observe.metrics import OpenTelemetryMetrics, PrometheusMetrics

__all__ = ["EventLog", "LogIds", "OpenTelemetryMetrics", "PrometheusMetrics"]
