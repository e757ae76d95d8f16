"""A timeline in Chrome's trace format: an instance a thread, a cluster a process.

Source: "Trace Event Format", as https://ui.perfetto.dev and chrome://tracing read it. Times are
microseconds after the run's beginning. The first process is the run itself: what it cost, and what
concerns it as a whole.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from requestor_sdk.observe._lanes import Lane
    from requestor_sdk.observe.timeline import Timeline

_RUN = 1


def trace(timeline: Timeline) -> str:
    """Return the trace as JSON."""
    about = {
        "run": timeline.run_id,
        "network": timeline.network,
        "began": timeline.began.isoformat() if timeline.began else None,
        "budget": str(timeline.budget),
        "spent": str(timeline.total),
    }
    events = list(_events(timeline)) if timeline.began is not None else []
    return json.dumps(
        {"displayTimeUnit": "ms", "otherData": about, "traceEvents": events},
        separators=(",", ":"),
    )


def _events(timeline: Timeline) -> Iterator[dict[str, Any]]:
    began, ended = timeline.began, timeline.ended
    assert began is not None
    assert ended is not None

    def micros(at: datetime) -> int:
        return round((at - began).total_seconds() * 1e6)

    pids = {cluster: _RUN + number for number, cluster in enumerate(_clusters(timeline), 1)}
    # A thread whose number is that of a process would be shown as its main thread.
    tid = _RUN + len(pids) + 1
    yield _named("process_name", f"run {timeline.run_id}", _RUN)
    yield _named("thread_name", "run", _RUN, tid)
    for mark in timeline.marks:
        yield {**_instant(mark.text, micros(mark.at), _RUN, tid), "cat": mark.kind}
    yield {"ph": "C", "name": "cost", "pid": _RUN, "ts": 0, "args": {"spent": 0.0}}
    for point in timeline.spent:
        told = {"spent": float(point.amount)}
        yield {"ph": "C", "name": "cost", "pid": _RUN, "ts": micros(point.at), "args": told}
    for cluster, pid in pids.items():
        service = timeline.services.get(cluster, "")
        name = " ".join(filter(None, (cluster or "no cluster", service)))
        yield _named("process_name", name, pid)
    for number, lane in enumerate(timeline.ordered):
        yield from _of_lane(lane, pids[lane.cluster_id], tid + 1 + 2 * number, micros, ended)


def _clusters(timeline: Timeline) -> Iterable[str]:
    return dict.fromkeys(lane.cluster_id for lane in timeline.ordered)


def _of_lane(
    lane: Lane, pid: int, tid: int, micros: Any, ended: datetime
) -> Iterator[dict[str, Any]]:
    # Batches have a track of their own: one that a state's change cuts would not nest in it.
    yield _named("thread_name", lane.instance_id, pid, tid)
    yield _named("thread_sort_index", tid, pid, tid, key="sort_index")
    for span in lane.spans:
        at = micros(span.begin)
        told = {"attempt": span.attempt, "provider": span.provider, "cause": span.cause}
        yield {
            **_complete(span.state, at, micros(span.end or ended) - at, pid, tid),
            "cat": "state",
            "args": {name: value for name, value in told.items() if value},
        }
    for mark in lane.marks:
        yield {**_instant(mark.text, micros(mark.at), pid, tid), "cat": mark.kind}
    if lane.batches:
        yield _named("thread_name", f"{lane.instance_id} batches", pid, tid + 1)
        yield _named("thread_sort_index", tid + 1, pid, tid + 1, key="sort_index")
    for bar in lane.batches:
        at = micros(bar.begin)
        name = bar.commands[0] if bar.commands else "an empty batch"
        failed, more = (" (failed)", {"error": bar.error}) if bar.error else ("", {})
        yield {
            **_complete(name + failed, at, micros(bar.end or ended) - at, pid, tid + 1),
            "cat": "batch",
            "args": {"commands": list(bar.commands), **more},
        }


def _named(
    what: str, value: object, pid: int, tid: int = 0, *, key: str = "name"
) -> dict[str, Any]:
    return {"ph": "M", "name": what, "pid": pid, "tid": tid, "ts": 0, "args": {key: value}}


def _complete(name: str, at: int, lasted: int, pid: int, tid: int) -> dict[str, Any]:
    return {"ph": "X", "name": name, "pid": pid, "tid": tid, "ts": at, "dur": max(lasted, 0)}


def _instant(name: str, at: int, pid: int, tid: int) -> dict[str, Any]:
    return {"ph": "i", "s": "t", "name": name, "pid": pid, "tid": tid, "ts": at}
