"""The state diagram as SVG, made from the table of the lifecycle.

Only the places of the states and the bends of the arrows are set here; which arrows there are, and
what is written on them, comes from the table. An arrow without a bend of its own is drawn straight.
"""

from __future__ import annotations

from html import escape

from requestor_sdk.model.lifecycle import TABLE, Guard, Rule, ServiceState, Stimulus, Target

WIDTH, HEIGHT = 960, 600
BOX = (118, 40)

PLACES: dict[str, tuple[int, int]] = {
    "pending": (90, 190),
    "starting": (330, 190),
    "running": (610, 190),
    "suspended": (870, 190),
    "unresponsive": (470, 45),
    "END": (330, 400),
    "stopping": (610, 400),
    "terminated": (330, 540),
}

BENDS: dict[tuple[str, str], float] = {
    ("pending", "terminated"): 60,
    ("pending", "END"): 20,
    ("END", "pending"): 40,
    ("starting", "unresponsive"): -24,
    ("unresponsive", "starting"): -24,
    ("running", "unresponsive"): 24,
    ("unresponsive", "running"): 24,
    ("unresponsive", "stopping"): 12,
    ("unresponsive", "END"): -42,
    ("unresponsive", "suspended"): -30,
    ("unresponsive", "terminated"): -95,
    ("starting", "suspended"): 40,
    ("starting", "terminated"): 110,
    ("starting", "stopping"): 16,
    ("running", "suspended"): -18,
    ("suspended", "running"): -18,
    ("running", "END"): -36,
    ("running", "terminated"): -160,
    ("stopping", "terminated"): -30,
    ("suspended", "terminated"): -170,
    ("suspended", "stopping"): -20,
}

SVG = (
    f'<svg class="lifecycle" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
    'xmlns="http://www.w3.org/2000/svg" aria-label="States of an instance">'
)

DEFS = (
    '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" '
    'markerHeight="8" orient="auto"><path d="M0 0 8 4 0 8z"/></marker></defs>'
)

ABRUPT = frozenset({Stimulus.expired, Stimulus.cancel})
"""What ends an instance from wherever it is; drawn thin, without a label."""


def arrows() -> dict[tuple[str, str], list[str]]:
    """Return what leads from where to where, as labels; rules that change no state are left out."""
    found: dict[tuple[str, str], list[str]] = {}
    for state, row in TABLE.items():
        for stimulus, rules in row.items():
            for rule in rules:
                for target in _targets(state, rule):
                    found.setdefault((str(state), target), []).append(_label(stimulus, rule))
    return found


def _targets(state: ServiceState, rule: Rule) -> tuple[str, ...]:
    if rule.target is Target.STAY:
        return ()
    if rule.target is Target.BEHIND:
        return ("starting", "running")
    if rule.target is Target.END:
        return ("END",)
    return () if rule.target is state else (str(rule.target),)


def _label(stimulus: Stimulus, rule: Rule) -> str:
    if rule.guard is Guard.always:
        return str(stimulus)
    return f"{stimulus} ({rule.guard})"


def lifecycle_svg() -> str:
    """Return the diagram."""
    parts = [SVG, DEFS]
    drawn = arrows()
    drawn["END", "pending"] = ["restart allowed"]
    drawn["END", "terminated"] = ["no restart"]
    pieces = [_arrow(source, target, labels) for (source, target), labels in drawn.items()]
    parts += [path for path, _ in pieces]
    parts += [_node(name, *place) for name, place in PLACES.items()]
    parts += [label for _, label in pieces]
    return "\n".join([*parts, "</svg>"])


def _node(name: str, x: int, y: int) -> str:
    wide, high = BOX
    kind = "end" if name == "END" else "state"
    return (
        f'<g class="{kind}"><rect x="{x - wide / 2}" y="{y - high / 2}" width="{wide}" '
        f'height="{high}" rx="{high / 2 if kind == "end" else 6}"/>'
        f'<text x="{x}" y="{y + 5}">{escape(name)}</text></g>'
    )


def _arrow(source: str, target: str, labels: list[str]) -> tuple[str, str]:
    """Return the line and what is written on it."""
    thin = all(label in ABRUPT for label in labels)
    (x1, y1), (x2, y2) = PLACES[source], PLACES[target]
    bend = BENDS.get((source, target), 0)
    length = max(1.0, ((x2 - x1) ** 2 + (y2 - y1) ** 2) ** 0.5)
    # The control point lies beside the middle, to the right of the way for a positive bend.
    cx = (x1 + x2) / 2 - (y2 - y1) / length * bend * 2
    cy = (y1 + y2) / 2 + (x2 - x1) / length * bend * 2
    sx, sy = _edge(x1, y1, cx, cy)
    ex, ey = _edge(x2, y2, cx, cy)
    title = escape(f"{source} to {target}: {'; '.join(labels)}")
    path = (
        f'<path class="{"abrupt" if thin else "way"}" marker-end="url(#tip)" '
        f'd="M{sx:.0f} {sy:.0f} Q{cx:.0f} {cy:.0f} {ex:.0f} {ey:.0f}"><title>{title}</title></path>'
    )
    if thin:
        return path, ""
    mx, my = (sx + 2 * cx + ex) / 4, (sy + 2 * cy + ey) / 4
    shown = _short(labels)
    lines = "".join(
        f'<tspan x="{mx:.0f}" dy="{0 if n == 0 else 11}">{escape(text)}</tspan>'
        for n, text in enumerate(shown)
    )
    top = my - 11 * (len(shown) - 1) / 2 + 3
    return path, f'<text class="label" x="{mx:.0f}" y="{top:.0f}">{lines}</text>'


def _short(labels: list[str]) -> list[str]:
    """Return labels that fit beside an arrow: conditions go to the tooltip, and what is abrupt."""
    plain = [label.split(" (")[0].split(" or ")[0] for label in labels if label not in ABRUPT]
    return list(dict.fromkeys(plain))


def _edge(x: float, y: float, toward_x: float, toward_y: float) -> tuple[float, float]:
    """Return where the line from a node's middle leaves its box."""
    wide, high = BOX[0] / 2 + 3, BOX[1] / 2 + 3
    dx, dy = toward_x - x, toward_y - y
    scale = min(
        wide / abs(dx) if dx else float("inf"),
        high / abs(dy) if dy else float("inf"),
    )
    return x + dx * scale, y + dy * scale
