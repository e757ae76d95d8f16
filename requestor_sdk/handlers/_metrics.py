"""Counts and times of the handlers, and their text for Prometheus (exposition format 0.0.4)."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

from requestor_sdk.handlers._model import TERMINAL, Status

_BOUNDS: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0, 300.0)
_QUICK_SEC: Final = 0.0002


class LaneMetrics:
    """What one handler did."""

    def __init__(self) -> None:
        self.ended: Counter[Status] = Counter()
        self.accepted = 0
        self.refused = 0
        self.invalid = 0
        self._buckets = [0] * (len(_BOUNDS) + 1)
        self._seconds = 0.0
        self._works = 0
        self._recent = 1.0
        self._batched = 0
        self._batches = 0

    def took(self, seconds: float) -> None:
        """A work took so long."""
        self._buckets[bisect_left(_BOUNDS, seconds)] += 1
        self._seconds += seconds
        self._works += 1

    def worked(self, seconds: float) -> None:
        """A handler itself took so long, all ways to it and back left out."""
        self._recent += (seconds - self._recent) / 8

    def batch(self, size: int) -> None:
        """So many calls were handed over together."""
        self._batched += size
        self._batches += 1

    def mean(self) -> float:
        """Return the mean seconds of a work; 1 where there was none."""
        return self._seconds / self._works if self._works else 1.0

    @property
    def quick(self) -> bool:
        """Whether the last works took so little that waiting for one costs less than being told."""
        return self._recent < _QUICK_SEC

    def samples(self, name: str) -> Iterable[tuple[str, str, float]]:
        """Return metric, labels and value."""
        label = f'function="{name}"'
        for status in TERMINAL:
            yield "handlers_calls_total", f'{label},status="{status}"', self.ended[status]
        yield "handlers_accepted_total", label, self.accepted
        yield "handlers_refused_total", f'{label},reason="full"', self.refused
        yield "handlers_refused_total", f'{label},reason="invalid"', self.invalid
        yield "handlers_batches_total", label, self._batches
        yield "handlers_batched_calls_total", label, self._batched
        total = 0
        for bound, count in zip((*_BOUNDS, "+Inf"), self._buckets, strict=True):
            total += count
            yield "handlers_duration_seconds_bucket", f'{label},le="{bound}"', total
        yield "handlers_duration_seconds_sum", label, self._seconds
        yield "handlers_duration_seconds_count", label, self._works


KINDS: Final[Mapping[str, tuple[str, str]]] = {
    "handlers_calls_total": ("counter", "Calls that are over, by how they ended."),
    "handlers_accepted_total": ("counter", "Calls that were accepted."),
    "handlers_refused_total": ("counter", "Calls that were not accepted."),
    "handlers_batches_total": ("counter", "Times that calls were handed to a handler."),
    "handlers_batched_calls_total": ("counter", "Calls that were handed to a handler."),
    "handlers_duration_seconds": ("histogram", "Seconds that handlers worked."),
    "handlers_queued": ("gauge", "Calls that wait."),
    "handlers_working": ("gauge", "Places of a handler that are taken."),
    "handlers_abandoned": ("gauge", "Works that are over for their callers and still run."),
    "handlers_ready": ("gauge", "Whether calls are taken."),
    "handlers_stalls_total": ("counter", "Times that an async handler held up all others."),
    "handlers_processes": ("gauge", "Handler processes that live."),
    "handlers_process_restarts_total": ("counter", "Handler processes that were stopped or died."),
    "handlers_callbacks_total": ("counter", "Ends that were sent to the callback, by result."),
    "handlers_callbacks_waiting": ("gauge", "Ends that the callback does not have yet."),
}
"""What there is, with type and meaning."""


def text(samples: Iterable[tuple[str, str, float]]) -> str:
    """Return the exposition of samples."""
    grouped: dict[str, list[str]] = {name: [] for name in KINDS}
    for metric, labels, value in samples:
        base = metric
        if base not in grouped:
            base = metric.rsplit("_", 1)[0]
        number = repr(float(value)) if isinstance(value, float) else str(value)
        grouped[base].append(f"{metric}{{{labels}}} {number}" if labels else f"{metric} {number}")
    lines: list[str] = []
    for name, rows in grouped.items():
        if rows:
            kind, meaning = KINDS[name]
            lines += [f"# HELP {name} {meaning}", f"# TYPE {name} {kind}", *rows]
    return "\n".join(lines) + "\n"
