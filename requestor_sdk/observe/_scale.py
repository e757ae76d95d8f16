"""Where a moment lies on a drawing: time in pixels, without the times that nobody lived in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

_GAP_PX: Final = 26.0
_STEPS: Final = (
    *(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30),
    *(60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800),
)


@dataclass(frozen=True, slots=True)
class _Piece:
    begin: datetime
    end: datetime
    left: float
    right: float


class Scale:
    """Time on a line.

    Args:
        began: What lies at ``left``.
        ended: What lies at ``right``.
        gaps: Times that are drawn as a short break.
        left: In pixels.
        right: In pixels.
    """

    def __init__(
        self,
        began: datetime,
        ended: datetime,
        gaps: Sequence[tuple[datetime, datetime]],
        *,
        left: float,
        right: float,
    ) -> None:
        self.began, self.left, self.right = began, left, right
        lived = ended - began - sum((end - begin for begin, end in gaps), timedelta())
        self.seconds: float = max(lived.total_seconds(), 0.001)
        self.breaks: list[tuple[float, float, timedelta]] = []
        width = max(1.0, right - left - _GAP_PX * len(gaps))
        self.px_per_sec: float = width / self.seconds
        self._pieces: list[_Piece] = []
        at, x = began, left
        for begin, end in gaps:
            x = self._add(at, begin, x)
            self.breaks.append((x, x + _GAP_PX, end - begin))
            at, x = end, x + _GAP_PX
        self._add(at, ended, x)

    def _add(self, begin: datetime, end: datetime, x: float) -> float:
        right = x + (end - begin).total_seconds() * self.px_per_sec
        self._pieces.append(_Piece(begin, end, x, right))
        return right

    def x(self, at: datetime) -> float:
        """Return where a moment lies; one in a gap lies at its beginning."""
        found = self._pieces[0]
        for piece in self._pieces:
            if piece.begin > at:
                break
            found = piece
        inside = (at - found.begin).total_seconds() * self.px_per_sec
        return min(max(found.left + inside, self.left), found.right)

    def ticks(self, least_px: float = 90.0) -> Iterator[tuple[float, str]]:
        """Return the marks of the axis: where, and how long after the beginning."""
        fitting = (step for step in _STEPS if step * self.px_per_sec >= least_px)
        step = next(fitting, _STEPS[-1])
        passed, number = 0.0, 0
        for piece in self._pieces:
            lasted = (piece.right - piece.left) / self.px_per_sec
            while number * step <= passed + lasted + 1e-9:
                x = piece.left + (number * step - passed) * self.px_per_sec
                yield x, elapsed(number * step, step)
                number += 1
            passed += lasted


def elapsed(seconds: float, step: float) -> str:
    """Return a time after the beginning, as exact as the steps between the marks need it."""
    if step < 1:
        digits = len(f"{step:f}".rstrip("0").partition(".")[2])
        return f"{seconds:.{digits}f} s"
    whole = round(seconds)
    if step < 60 and whole < 60:
        return f"{whole} s"
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    if hours >= 48 and step >= 3600:
        return f"{hours // 24} d {hours % 24} h"
    if hours:
        return f"{hours}:{minutes:02d} h" if step >= 60 else f"{hours}:{minutes:02d}:{rest:02d}"
    return f"{minutes} min" if step >= 60 else f"{minutes}:{rest:02d} min"


def nice_top(most: Decimal) -> tuple[float, float]:
    """Return a round number at or above an amount, and the step of an axis up to it."""
    value = float(most)
    if value <= 0:
        return 1.0, 0.5
    magnitude = 10.0 ** len(str(int(value))) if value >= 1 else 1.0
    while magnitude > value:
        magnitude /= 10
    for factor, parts in (
        (1, 2),
        (1.5, 3),
        (2, 2),
        (3, 3),
        (4, 2),
        (5, 2),
        (6, 3),
        (8, 2),
        (10, 2),
    ):
        if magnitude * factor >= value:
            return magnitude * factor, magnitude * factor / parts
    return magnitude * 10, magnitude * 5
