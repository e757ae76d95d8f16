"""Draws a timeline as SVG: a lane an instance, the cost under it. No library, the same every time.

Everything that came from outside (names of providers, errors, commands) is escaped here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from decimal import Decimal
from typing import Final

from requestor_sdk.observe import text
from requestor_sdk.observe._lanes import BatchBar, Lane, Mark, Span
from requestor_sdk.observe._looks import STATES, scheme
from requestor_sdk.observe._markup import escape
from requestor_sdk.observe._scale import Scale, nice_top
from requestor_sdk.observe.timeline import Timeline

WIDTH: Final = 1240
_LEFT: Final = 150.0
_RIGHT: Final = WIDTH - 112.0
_HEAD: Final = 96.0
_COST: Final = 120.0
_HEADING: Final = 24.0
_MOST_TIPS: Final = 4000
"""Above so many batches those of a lane are one shape, without a text each."""

_STYLE: Final = (
    scheme(".rsk-timeline") + ".rsk-timeline{background:var(--ground);"
    "font:12px system-ui,'Segoe UI','DejaVu Sans',sans-serif}"
    ".rsk-timeline text{fill:var(--text)}.rsk-timeline .title{font-size:16px;font-weight:600}"
    ".rsk-timeline .faint{fill:var(--faint)}.rsk-timeline .end{text-anchor:end}"
    ".rsk-timeline .mid{text-anchor:middle}.rsk-timeline .bold{font-weight:600}"
    ".rsk-timeline .rule{stroke:var(--rule);fill:none}.rsk-timeline .band{fill:var(--band)}"
    ".rsk-timeline .on{fill:var(--on);font-size:11px}"
    ".rsk-timeline .num{font-variant-numeric:tabular-nums}"
    + "".join(f".rsk-timeline .{state}{{fill:var(--{state})}}" for state in STATES)
    + ".rsk-timeline .batch{fill:var(--batch)}.rsk-timeline .bad{fill:var(--failure)}"
    ".rsk-timeline .bad{stroke:var(--ground);paint-order:stroke}"
    ".rsk-timeline .failure{stroke:var(--failure);stroke-width:2.2;fill:none}"
    ".rsk-timeline .around{stroke:var(--ground);stroke-width:4.8;fill:none}"
    ".rsk-timeline .restart{fill:var(--restart);stroke:var(--ground)}"
    ".rsk-timeline .cost{stroke:var(--cost);stroke-width:2;fill:none}"
    ".rsk-timeline .costarea{fill:var(--costarea)}"
    ".rsk-timeline .budget{stroke:var(--budget);stroke-dasharray:5 4;fill:none}"
    ".rsk-timeline .note{stroke:var(--faint);stroke-width:1.5;stroke-dasharray:2 3}"
    ".rsk-timeline .hint{stroke:var(--unresponsive);stroke-width:3}"
    ".rsk-timeline .fault{stroke:var(--failure);stroke-width:3}"
    ".rsk-timeline .gap{fill:url(#rsk-gap)}"
)
_DEFS: Final = (
    '<defs><pattern id="rsk-gap" width="8" height="8" patternUnits="userSpaceOnUse" '
    'patternTransform="rotate(45)"><line class="rule" x1="0" y1="0" x2="0" y2="8" '
    'stroke-width="4"/></pattern></defs>'
)


def svg(timeline: Timeline) -> str:
    """Return the drawing."""
    if timeline.began is None or timeline.ended is None:
        return _empty()
    groups = _groups(timeline)
    tall = _lane_height(len(timeline.lanes))
    headings = len(groups) if len(groups) > 1 else 0
    lanes_end = _HEAD + len(timeline.lanes) * tall + headings * _HEADING
    height = lanes_end + 34 + _COST + 30
    scale = Scale(timeline.began, timeline.ended, timeline.gaps, left=_LEFT, right=_RIGHT)
    many = sum(len(lane.batches) for lane in timeline.lanes.values()) > _MOST_TIPS
    parts = [_open(height, timeline), f"<style>{_STYLE}</style>", _DEFS, *_head(timeline)]
    parts += _axis(scale, lanes_end + 34 + _COST)
    y = _HEAD
    for cluster_id, lanes in groups:
        if headings:
            parts.append(_heading(timeline, cluster_id, lanes, y))
            y += _HEADING
        for number, lane in enumerate(lanes):
            parts += _lane(lane, y, tall, scale, timeline.ended, banded=number % 2 == 0, many=many)
            y += tall
    parts += _breaks(scale, lanes_end)
    parts += _marks(timeline.marks, scale, lanes_end)
    parts += _costs(timeline, scale, lanes_end + 34)
    return "\n".join([*parts, "</svg>"])


def _open(height: float, timeline: Timeline) -> str:
    label = escape(f"Timeline of run {timeline.run_id}")
    return (
        f'<svg class="rsk-timeline" xmlns="http://www.w3.org/2000/svg" role="img" '
        f'viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" height="{height:.0f}" '
        f'style="max-width:100%;height:auto" aria-label="{label}">'
    )


def _empty() -> str:
    return (
        f'<svg class="rsk-timeline" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} 60" '
        f'width="{WIDTH}" height="60"><style>{_STYLE}</style>'
        '<text x="20" y="35">nothing has happened yet</text></svg>'
    )


def _groups(timeline: Timeline) -> list[tuple[str, list[Lane]]]:
    found: dict[str, list[Lane]] = {}
    for lane in timeline.ordered:
        found.setdefault(lane.cluster_id, []).append(lane)
    return list(found.items())


def _lane_height(number: int) -> float:
    return 26.0 if number <= 60 else 18.0 if number <= 200 else 12.0


# Above the lanes ----------------------------------------------------------------------------------


def _head(timeline: Timeline) -> Iterator[str]:
    assert timeline.began is not None
    assert timeline.ended is not None
    lasted = timeline.ended - timeline.began
    for begin, end in timeline.gaps:
        lasted -= end - begin
    number = len(timeline.lanes)
    said = (
        f"on {timeline.network or 'an unknown network'}, {timeline.began:%Y-%m-%d %H:%M:%S} UTC, "
        f"{text.duration(lasted.total_seconds())}, {number} instance{'' if number == 1 else 's'}, "
        f"spent {text.amount(timeline.total)} of {text.amount(timeline.budget)}"
        + ("" if timeline.finished else "; not over yet")
    )
    yield f'<text class="title" x="16" y="28">run {escape(timeline.run_id)}</text>'
    yield f'<text class="faint" x="16" y="47">{escape(said)}</text>'
    x = 16.0
    for state in STATES:
        yield f'<rect class="{state}" x="{x:.0f}" y="58" width="14" height="12" rx="2"/>'
        yield f'<text class="faint" x="{x + 19:.0f}" y="68">{state}</text>'
        x += 32 + 6.6 * len(state)
    yield f'<rect class="batch" x="{x:.0f}" y="64" width="14" height="4"/>'
    yield f'<text class="faint" x="{x + 19:.0f}" y="68">batch</text>'
    yield _cross(x + 76, 64, "a failure")
    yield f'<text class="faint" x="{x + 86:.0f}" y="68">failure</text>'
    yield _diamond(x + 148, 64, "a restart")
    yield f'<text class="faint" x="{x + 158:.0f}" y="68">restart</text>'
    yield f'<text class="faint end" x="{WIDTH - 16}" y="68">cost</text>'


def _axis(scale: Scale, bottom: float) -> Iterator[str]:
    for x, label in scale.ticks():
        yield f'<path class="rule" d="M{x:.1f} {_HEAD - 6:.0f}V{bottom:.1f}"/>'
        yield f'<text class="faint mid num" x="{x:.1f}" y="{_HEAD - 10:.0f}">{label}</text>'


def _breaks(scale: Scale, lanes_end: float) -> Iterator[str]:
    for left, right, lasted in scale.breaks:
        told = f"nothing lived here for {text.duration(lasted.total_seconds())}"
        yield (
            f'<rect class="gap" x="{left:.1f}" y="{_HEAD:.0f}" width="{right - left:.1f}" '
            f'height="{lanes_end - _HEAD:.1f}"><title>{told}</title></rect>'
        )


def _heading(timeline: Timeline, cluster_id: str, lanes: list[Lane], y: float) -> str:
    service = timeline.services.get(cluster_id, "")
    number = f"{len(lanes)} instance{'' if len(lanes) == 1 else 's'}"
    told = ", ".join(word for word in (cluster_id or "no cluster", service, number) if word)
    return f'<text class="bold" x="16" y="{y + 17:.1f}">{escape(told)}</text>'


# Lanes --------------------------------------------------------------------------------------------


def _lane(
    lane: Lane, y: float, tall: float, scale: Scale, ended: datetime, *, banded: bool, many: bool
) -> Iterator[str]:
    if banded:
        yield f'<rect class="band" x="0" y="{y:.1f}" width="{WIDTH}" height="{tall:.1f}"/>'
    base = y + tall / 2 + 4
    size = "" if tall > 14 else ' style="font-size:9px"'
    yield (
        f'<text x="16" y="{base:.1f}"{size}>{escape(text.short(lane.instance_id, 18))}'
        f"<title>{escape(lane.instance_id)}</title></text>"
    )
    for span in lane.spans:
        yield from _span(span, y, tall, scale, span.end or ended)
    yield from _batches(lane.batches, y, tall, scale, ended, many=many)
    for mark in lane.marks:
        # Beside one another: what failed lies before the moment, what follows it behind.
        fails = mark.kind == "failure"
        x = scale.x(mark.at) + (-5 if fails else 5)
        yield (_cross if fails else _diamond)(x, y + tall / 2, _told(mark, scale.began))
    cost = f"{text.amount(lane.cost)}" if lane.cost else ""
    yield f'<text class="faint end num" x="{WIDTH - 16}" y="{base:.1f}"{size}>{cost}</text>'


def _span(span: Span, y: float, tall: float, scale: Scale, end: datetime) -> Iterator[str]:
    left, right = scale.x(span.begin), scale.x(end)
    wide = max(right - left, 0.75)
    told = f"{span.state}, attempt {span.attempt}"
    told += f" on {span.provider}" if span.provider else ""
    told += f", {text.duration((end - span.begin).total_seconds())}"
    told += f"\n{span.cause}" if span.cause else ""
    state = span.state if span.state in STATES else "pending"
    yield (
        f'<rect class="{state}" x="{left:.2f}" y="{y + 2:.1f}" width="{wide:.2f}" '
        f'height="{tall - 4:.1f}" rx="1.5"><title>{escape(told)}</title></rect>'
    )
    margin = 5 if span.attempt == 1 else 13  # beside the mark of the restart
    room = int((wide - margin - 5) / 6.2)
    if tall > 20 and span.provider and room >= min(len(span.provider), 6):
        name = text.short(span.provider, max(room, 3))
        yield f'<text class="on" x="{left + margin:.1f}" y="{y + 13:.1f}">{escape(name)}</text>'


def _batches(
    bars: Iterable[BatchBar], y: float, tall: float, scale: Scale, ended: datetime, *, many: bool
) -> Iterator[str]:
    top, high = y + tall - 2 - tall / 4, tall / 5
    paths: dict[str, list[str]] = {"batch": [], "bad": []}
    for bar in bars:
        end = bar.end or ended
        left = scale.x(bar.begin)
        wide = max(scale.x(end) - left, 1.2)
        kind = "bad" if bar.error else "batch"
        if many:
            paths[kind].append(f"M{left:.1f} {top:.1f}h{wide:.1f}v{high:.1f}h-{wide:.1f}z")
            continue
        told = "; ".join(bar.commands[:6]) or "an empty batch"
        told += f"\n{text.duration((end - bar.begin).total_seconds())}"
        told += f"\n{bar.error}" if bar.error else ""
        yield (
            f'<rect class="{kind}" x="{left:.2f}" y="{top:.1f}" width="{wide:.2f}" '
            f'height="{high:.1f}"><title>{escape(told)}</title></rect>'
        )
    for kind, found in paths.items():
        if found:
            yield f'<path class="{kind}" d="{"".join(found)}"/>'


def _told(mark: Mark, began: datetime) -> str:
    return f"{mark.text}\nafter {text.duration((mark.at - began).total_seconds())}"


def _cross(x: float, y: float, told: str) -> str:
    # With a margin: on the colour of some states it would hardly be seen.
    path = f"M{x - 4:.1f} {y - 4:.1f}l8 8m0-8l-8 8"
    return (
        f'<path class="around" d="{path}"/>'
        f'<path class="failure" d="{path}"><title>{escape(told)}</title></path>'
    )


def _diamond(x: float, y: float, told: str) -> str:
    return (
        f'<path class="restart" d="M{x:.1f} {y - 6:.1f}l5 6l-5 6l-5-6z">'
        f"<title>{escape(told)}</title></path>"
    )


# The run as a whole -------------------------------------------------------------------------------


def _marks(marks: Iterable[Mark], scale: Scale, bottom: float) -> Iterator[str]:
    """Return lines for what divides the run, and ticks at the top for what may come often."""
    taken: dict[tuple[str, int], None] = {}
    for mark in marks:
        x = scale.x(mark.at)
        line = mark.kind == "note"
        place = (mark.kind, int(x / 4))
        if not line and place in taken:
            continue
        taken[place] = None
        way = f"V{bottom:.1f}" if line else "v9"
        yield (
            f'<path class="{escape(mark.kind)}" d="M{x:.1f} {_HEAD - 7:.0f}{way}">'
            f"<title>{escape(_told(mark, scale.began))}</title></path>"
        )


def _costs(timeline: Timeline, scale: Scale, top: float) -> Iterator[str]:
    bottom = top + _COST
    budget = timeline.budget
    shows_budget = timeline.total > 0 and budget <= timeline.total * 3
    most, step = nice_top(max(budget, timeline.total) if shows_budget else timeline.total)
    yield f'<text class="bold" x="16" y="{top + 10:.1f}">cost</text>'
    yield f'<text class="faint" x="16" y="{top + 27:.1f}">budget {text.amount(budget)}</text>'
    if budget > 0:
        part = timeline.total / budget
        told = "<0.1% spent" if 0 < part < Decimal("0.001") else f"{part:.1%} spent"
        yield f'<text class="faint" x="16" y="{top + 43:.1f}">{escape(told)}</text>'

    def level(amount: float) -> float:
        return bottom - amount / most * _COST

    for number in range(round(most / step) + 1):
        y = level(number * step)
        yield f'<path class="rule" d="M{_LEFT:.0f} {y:.1f}H{_RIGHT:.0f}"/>'
        yield (
            f'<text class="faint num" x="{_RIGHT + 8:.0f}" y="{y + 4:.1f}">'
            f"{number * step:.6g}</text>"
        )
    if shows_budget:
        yield (
            f'<path class="budget" d="M{_LEFT:.0f} {level(float(budget)):.1f}H{_RIGHT:.0f}">'
            f"<title>the budget, {text.amount(budget)}</title></path>"
        )
    line = [f"M{_LEFT:.1f} {bottom:.1f}"]
    line += [
        f"H{scale.x(point.at):.1f}V{level(float(point.amount)):.1f}" for point in timeline.spent
    ]
    line.append(f"H{_RIGHT:.1f}")
    path = "".join(line)
    yield f'<path class="costarea" d="{path}V{bottom:.1f}H{_LEFT:.1f}z"/>'
    yield f'<path class="cost" d="{path}"><title>what was accepted</title></path>'
