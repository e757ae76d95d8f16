"""Signs and colours of terminal output, with words for terminals that cannot show them."""

from __future__ import annotations

import sys

import click


def mark(*, ok: bool) -> str:
    """Return a coloured tick or cross; words where the output's encoding has no such signs."""
    return click.style(sign(ok=ok), fg="green" if ok else "red")


def sign(*, ok: bool) -> str:
    """Return a tick or cross without a colour, or a word likewise."""
    shown, word = ("✓", "ok") if ok else ("✗", "FAIL")
    try:
        shown.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return word
    return shown
