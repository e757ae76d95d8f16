"""Amounts, durations, sizes, ids and times as people read them in a terminal."""

from __future__ import annotations

import re
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Final

_COARSE: Final = Decimal("0.000001")
_FINE: Final = Decimal("0.000000001")
_SMALL: Final = Decimal("0.001")

# Providers choose what they are called and why they refuse; programs, what a command is.
_STEERING: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def harmless(words: str) -> str:
    """Return others' words; what would steer a terminal is escaped, as ``ascii()`` does."""
    return _STEERING.sub(lambda found: ascii(found[0])[1:-1], words)


def amount(value: Decimal) -> str:
    """Return an amount with at most six decimals, nine for a small one, and never as nothing."""
    if value and abs(value) < _FINE:
        return f"<{_FINE:f}" if value > 0 else f">-{_FINE:f}"
    places = _FINE if abs(value) < _SMALL else _COARSE
    text = f"{value.quantize(places, rounding=ROUND_HALF_EVEN):f}"
    return text.rstrip("0").rstrip(".") or "0"


def exact(value: Decimal) -> str:
    """Return an amount with all of its digits and no exponent, for programs."""
    return f"{value.normalize():f}"


def duration(seconds: float) -> str:
    """Return a duration in the two units that matter: ``0.4 s``, ``12 s``, ``3 min 05 s``."""
    if seconds < 10:
        return f"{max(0.0, seconds):.1f} s"
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def size(number: int) -> str:
    """Return a number of bytes: ``0 B``, ``640 B``, ``1.2 KiB``, ``3.4 GiB``."""
    value, unit = float(number), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1023.95:
            break
        value, unit = value / 1024, larger
    return f"{number} B" if unit == "B" else f"{value:.1f} {unit}"


def short(identifier: str, most: int = 14) -> str:
    """Return an id cut in the middle, so that both of its ends can be compared."""
    if len(identifier) <= most:
        return identifier
    head = most // 2
    return f"{identifier[:head]}…{identifier[-(most - 1 - head) :]}"
