"""A timeline as one page: the drawing, and what it shows as tables for reading and for search.

The page loads nothing: no script, no font, no address.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from typing import Final

from requestor_sdk.observe import text
from requestor_sdk.observe._drawing import svg
from requestor_sdk.observe._lanes import Lane
from requestor_sdk.observe._looks import scheme
from requestor_sdk.observe._markup import escape
from requestor_sdk.observe.timeline import Timeline

_STYLE: Final = (
    scheme(":root") + ":root{color-scheme:light dark}"
    "body{margin:0 auto;max-width:1240px;padding:12px;background:var(--ground);color:var(--text);"
    "font:14px/1.45 system-ui,'Segoe UI','DejaVu Sans',sans-serif}"
    "h2{font-size:16px;margin:28px 0 8px 16px}.wide{overflow-x:auto;padding:0 16px}"
    ".drawn{overflow-x:auto}.drawn svg{min-width:900px}"
    "table{border-collapse:collapse;width:100%}"
    "th{text-align:left;color:var(--faint);font-weight:600}"
    "th,td{padding:4px 12px 4px 0;border-bottom:1px solid var(--rule);vertical-align:top}"
    "td.num,th.num{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}"
    "td.bad{color:var(--failure)}"
)


def page(timeline: Timeline) -> str:
    """Return the page."""
    title = escape(f"run {timeline.run_id}" if timeline.run_id else "a run")
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width">',
            f"<title>{title}</title><style>{_STYLE}</style></head><body>",
            f'<div class="drawn">{svg(timeline)}</div>',
            *_instances(timeline),
            *_happenings(timeline),
            "</body></html>",
        ]
    )


def _instances(timeline: Timeline) -> Iterator[str]:
    if not timeline.lanes or timeline.ended is None:
        return
    head = '<th class="num">attempts</th><th class="num">batches</th><th class="num">running</th>'
    yield '<h2>Instances</h2><div class="wide"><table>'
    yield f"<tr><th>instance<th>cluster<th>providers{head}<th class=num>cost</tr>"
    for lane in timeline.ordered:
        yield _instance(lane, timeline.ended)
    yield "</table></div>"


def _instance(lane: Lane, ended: datetime) -> str:
    names = dict.fromkeys(span.provider for span in lane.spans if span.provider)
    lasted: defaultdict[str, float] = defaultdict(float)
    for span in lane.spans:
        lasted[span.state] += ((span.end or ended) - span.begin).total_seconds()
    numbers = (
        str(max((span.attempt for span in lane.spans), default=1)),
        str(len(lane.batches)),
        text.duration(lasted["running"]),
        text.amount(lane.cost),
    )
    words = (lane.instance_id, lane.cluster_id, ", ".join(names))
    cells = "".join(f"<td>{escape(word)}</td>" for word in words)
    return f"<tr>{cells}{''.join(f'<td class=num>{number}</td>' for number in numbers)}</tr>"


def _happenings(timeline: Timeline) -> Iterator[str]:
    found = [(mark.at, "", mark) for mark in timeline.marks]
    found += [
        (mark.at, lane.instance_id, mark) for lane in timeline.lanes.values() for mark in lane.marks
    ]
    if not found or timeline.began is None:
        return
    yield '<h2>What happened</h2><div class="wide"><table>'
    yield '<tr><th class="num">after<th>instance<th>what</tr>'
    for at, owner, mark in sorted(found, key=lambda row: row[0]):
        after = text.duration((at - timeline.began).total_seconds())
        bad = ' class="bad"' if mark.kind in ("failure", "fault") else ""
        yield (
            f"<tr><td class=num>{after}</td><td>{escape(owner)}</td>"
            f"<td{bad}>{escape(mark.text)}</td></tr>"
        )
    yield "</table></div>"
