"""The live table of a run: a row an instance, and a footer with the money and the offers.

Only the command line uses this module, because it imports rich. It is driven by events: nothing
polls, and no thread redraws. While an instance lives the loop's own timer moves the clock of the
rows once a second.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, Self

from rich import box
from rich.console import Console, ConsoleRenderable, Group
from rich.file_proxy import FileProxy
from rich.live import Live
from rich.table import Table
from rich.text import Text

from requestor_sdk.model import events as ev
from requestor_sdk.observe import text
from requestor_sdk.observe._rows import Row
from requestor_sdk.observe.lines import failure
from requestor_sdk.observe.view import RunView

_LOOKS: Final = {
    "pending": ("○", "yellow"),
    "starting": ("◐", "cyan"),
    "running": ("●", "green"),
    "unresponsive": ("!", "magenta"),
    "stopping": ("◌", "blue"),
    "suspended": ("‖", "blue"),
    "terminated": ("✓", "dim"),
}
_FAILED: Final = ("✗", "red")

_COMMAND: Final = "last command"
_COLUMNS: Final = {
    "instance": False,
    "provider": False,
    "state": False,
    "for": True,
    _COMMAND: False,
    "restarts": True,
    "cost": True,
}
"""The columns, and whether they are flush right."""

_YIELDING: Final = ("for", _COMMAND, "restarts", "cost")
"""What a narrow terminal goes without, in this order."""

_BETWEEN_SEC: Final = 0.125
"""The shortest time between two redraws."""
_TICK_SEC: Final = 1.0
"""How often the clocks of living rows move while nothing happens."""
_COMMAND_LEAST: Final = 12
"""Columns that commands have at least."""
_GAP: Final = 3
"""Columns that rich leaves between two columns of the table."""


def _now() -> datetime:
    return datetime.now(UTC)


def render(view: RunView, *, now: datetime, lines: int, width: int) -> ConsoleRenderable:
    """Return the table and its footer.

    Args:
        view: What to show.
        now: The time that the rows' clocks are read at.
        lines: How many lines there are; finished rows go first where the rest does not fit.
        width: How many columns there are.
    """
    footer = _footer(view)
    # Two lines of head, one that counts the hidden rows, one for the cursor below it all.
    rows, hidden = _fitting(list(view.rows.values()), max(3, lines - len(footer) - 4))
    cells = [_cells(row, now) for row in rows]
    columns = _columns(cells, width)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
    for name in columns:
        table.add_column(
            name,
            justify="right" if _COLUMNS[name] else "left",
            no_wrap=True,
            overflow="ellipsis",
            max_width=max(_COMMAND_LEAST, width - _taken(columns)) if name == _COMMAND else None,
        )
    for line in cells:
        shown = dict(zip(_COLUMNS, line, strict=True))
        table.add_row(*(shown[name] for name in columns))
    parts: list[ConsoleRenderable] = [table] if view.rows else []
    if hidden:
        parts.append(Text(f"… and {_counted(hidden)}", style="dim"))
    return Group(*parts, *footer)


def _columns(cells: list[tuple[Text, ...]], width: int) -> dict[str, int]:
    """Return the columns that fit side by side, and how wide each but the command's is."""
    found = {
        column[0]: max(len(str(cell)) for cell in column)
        for column in zip(_COLUMNS, *cells, strict=True)
    }
    for name in _YIELDING:
        least = min(found.get(_COMMAND, 0), _COMMAND_LEAST)
        if _taken(found) + least <= width:
            break
        del found[name]
    return found


def _taken(columns: dict[str, int]) -> int:
    """Return what all columns but the command's take, and the gaps."""
    others = sum(size for name, size in columns.items() if name != _COMMAND)
    return others + _GAP * (len(columns) - 1)


def _cells(row: Row, now: datetime) -> tuple[Text, ...]:
    symbol, style = _FAILED if row.finished and row.cause else _LOOKS.get(row.state, ("?", ""))
    faint = "dim" if row.finished else ""
    # A script of several lines would break the row.
    command = " ".join(text.harmless(f"{row.command} {row.progress}").split())
    provider = text.harmless(row.provider_name) or text.short(row.provider_id)
    age = "" if row.finished else text.duration((now - row.since).total_seconds())
    return (
        Text(text.short(row.instance_id), style=faint or "bold"),
        Text(provider, style=faint),
        Text(f"{symbol} {row.state}", style=style),
        Text(age, style="dim"),
        Text(command, style="red" if row.failed else faint),
        Text(str(row.restarts) if row.restarts else "", style=faint or "yellow"),
        Text(text.amount(row.cost), style=faint),
    )


def _fitting(rows: list[Row], most: int) -> tuple[list[Row], list[Row]]:
    """Return the rows that fit and those that do not; finished ones yield first."""
    if len(rows) <= most:
        return rows, []
    kept = {row.instance_id for row in sorted(rows, key=lambda row: row.finished)[: most - 1]}
    shown = [row for row in rows if row.instance_id in kept]
    return shown, [row for row in rows if row.instance_id not in kept]


def _counted(rows: list[Row]) -> str:
    counts = Counter(row.state for row in rows)
    return ", ".join(f"{number} {state}" for state, number in counts.most_common())


def _footer(view: RunView) -> list[ConsoleRenderable]:
    money = Text.assemble(
        ("spent ", "dim"),
        (text.amount(view.spent), "bold"),
        ("   held ", "dim"),
        text.amount(view.held),
        ("   budget ", "dim"),
        text.amount(view.budget),
    )
    funnel = view.offers
    offers = Text.assemble(
        ("offers: ", "dim"),
        f"{funnel.seen} seen, {funnel.scored} scored, ",
        f"{funnel.negotiated} negotiated, {funnel.agreed} agreed",
    )
    lines: list[ConsoleRenderable] = [money, offers]
    if view.waiting_for and not view.finished:
        waiting = ", ".join(text.short(name) for name in view.waiting_for[:8])
        more = f" and {len(view.waiting_for) - 8} more" if len(view.waiting_for) > 8 else ""
        lines.append(Text(f"stopping: waiting for {waiting}{more}", style="blue"))
    if view.notice:
        lines.append(
            Text(text.harmless(view.notice), style="yellow", overflow="ellipsis", no_wrap=True)
        )
    return lines


class _Above(FileProxy):
    """A stream whose lines appear above the table.

    Has the encoding of the stream that it stands for: click takes a stream without one for a broken
    one, and writes past it, into the table.
    """

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return getattr(self.rich_proxied_file, "encoding", None) or "utf-8"


class LiveTable:
    """A sink that keeps the table of a view on the terminal; a context manager.

    Args:
        view: Gets each event, then is drawn.
        console: Where to draw.
        redirect: Whether what the program prints is put above the table; without it, a program
            whose output goes to the same terminal would break the drawing.
        now: The time, as the rows' clocks show it.
    """

    def __init__(
        self,
        view: RunView,
        console: Console,
        *,
        redirect: bool = True,
        now: Callable[[], datetime] = _now,
    ) -> None:
        self.view = view
        self.console = console
        self._now = now
        # Redrawing is ours: rich's own refresh is a thread that never rests.
        self._live = Live(
            console=console,
            auto_refresh=False,
            get_renderable=self._drawn,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._redirect = redirect
        self._streams = (sys.stdout, sys.stderr)
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._drawn_at = float("-inf")

    def __enter__(self) -> Self:
        """Take the terminal: what is printed meanwhile appears above the table."""
        self._live.start()
        self._streams = (sys.stdout, sys.stderr)
        if self.console.is_terminal:
            sys.stderr = _Above(self.console, sys.stderr)
            if self._redirect:
                sys.stdout = _Above(self.console, sys.stdout)
        return self

    def __exit__(self, *_: object) -> None:
        """Draw the last state and give the terminal back."""
        self._cancel()
        self._live.refresh()
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = self._streams
        self._live.stop()

    def __call__(self, event: ev.Event, /) -> None:
        """Take one event."""
        self.view.apply(event)
        if isinstance(event, ev.ServiceFailed):
            self.console.print(Text(text.harmless(failure(event)), style="red"))
        self._draw_soon()

    def _drawn(self) -> ConsoleRenderable:
        size = self.console.size
        return render(self.view, now=self._now(), lines=size.height, width=size.width)

    def _draw_soon(self) -> None:
        """Draw now, or as soon as the last drawing is old enough."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._live.refresh()
            return
        self._arm(loop, max(loop.time(), self._drawn_at + _BETWEEN_SEC))

    def _arm(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        if self._timer is not None and not self._timer.cancelled() and self._due <= due:
            return
        self._cancel()
        self._due = due
        self._timer = loop.call_at(due, self._draw, loop)

    def _draw(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        self._drawn_at = loop.time()
        self._live.refresh()
        if any(not row.finished for row in self.view.rows.values()):
            self._arm(loop, self._drawn_at + _TICK_SEC)

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
