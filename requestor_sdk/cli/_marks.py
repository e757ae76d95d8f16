"""Signs and colours of terminal output, with words for terminals that cannot show them."""

from __future__ import annotations

import sys

import click


def mark(*, ok: bool) -> str:
    """Return a coloured tick or cross; words where the output's encoding has no such signs."""
    sign, word = ("✓", "ok") if ok else ("✗", "FAIL")
    try:
        sign.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        sign = word
    return click.style(sign, fg="green" if ok else "red")
