"""Rows of cells as text: a table where it fits, a block a row on a narrow terminal."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Collection, Iterator, Sequence
from textwrap import wrap
from typing import Final

import click

from requestor_sdk.observe import text

_GAP: Final = "  "
_GLUE: Final = "\0"
_SHORT: Final = 20


def width() -> int | None:
    """Return how wide the terminal is; ``None`` where the output goes elsewhere."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def table(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    within: int | None,
    right: Collection[str] = (),
) -> Iterator[str]:
    """Return the lines of a table; of blocks, where its lines would be longer than ``within``.

    The columns named in ``right`` hold numbers, which are flush right.
    """
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    if within is not None and sum(widths) + len(_GAP) * (len(widths) - 1) > within:
        yield from _blocks(head, rows, within)
        return
    for row in (head, *rows):
        cells = (
            cell.rjust(wide) if name in right else cell.ljust(wide)
            for name, cell, wide in zip(head, row, widths, strict=True)
        )
        yield _GAP.join(cells).rstrip()


def _blocks(head: Sequence[str], rows: Sequence[Sequence[str]], within: int) -> Iterator[str]:
    for first, *rest in rows:
        yield first
        told = [_whole(name, cell) for name, cell in zip(head[1:], rest, strict=True) if cell]
        for line in wrap(", ".join(told), within, initial_indent=_GAP, subsequent_indent=_GAP):
            yield line.replace(_GLUE, " ")


def _whole(name: str, cell: str) -> str:
    """Return a name with its cell, which are not parted where they are short."""
    return _GLUE.join((name, cell.replace(" ", _GLUE) if len(cell) <= _SHORT else cell))


def fold(line: str, *, within: int | None, indent: str) -> list[str]:
    """Return a line as several where it is longer than ``within``; all but the first indented."""
    if within is None or len(line) <= within:
        return [line]
    return wrap(
        line,
        within,
        subsequent_indent=indent,
        break_on_hyphens=False,
        break_long_words=False,  # a path can be copied
    )


def say(line: str = "", *, colour: str | None = None) -> None:
    """Print a line; what could not be shown, or would steer the terminal, is escaped."""
    line = text.harmless(line)
    encoding = sys.stdout.encoding or "ascii"
    line = line.encode(encoding, "backslashreplace").decode(encoding)
    click.echo(line if colour is None else click.style(line, fg=colour))
