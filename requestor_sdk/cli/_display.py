"""Shows the runs of this process: the live table on a terminal, plain lines elsewhere, the bill.

It adds itself to ``client.ambient`` and goes away again; a program that makes no ``Compute`` shows
nothing.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

import click

from requestor_sdk.client import ambient
from requestor_sdk.model import events as ev
from requestor_sdk.observe._names import name_of
from requestor_sdk.observe.bill import Accounts
from requestor_sdk.observe.runs import RunStore
from requestor_sdk.observe.view import RunView

if TYPE_CHECKING:
    from requestor_sdk.model.events import Event


_SILENT: Final = logging.NullHandler()
_DUMB: Final = ("dumb", "unknown")
"""Terminals that can only be written to, line after line."""


class Display:
    """What is known of the runs of this process, and where it is shown.

    Attributes:
        view: The runs as rows and a footer.
        accounts: The bill as it grows.
        restore: Gives the terminal back, for one who will not leave in good order.
    """

    def __init__(self) -> None:
        self.view = RunView()
        self.accounts = Accounts()
        self.restore: Callable[[], object] = lambda: None
        self._sinks: list[Callable[[Event], None]] = [self.accounts.apply]
        self._ways_on = ""

    def __call__(self, event: Event, /) -> None:
        """Take one event."""
        if isinstance(event, ev.ComputationSuspended):
            self._ways_on = _ways_on(event.run_id)
        for sink in self._sinks:
            sink(event)

    def add(self, sink: Callable[[Event], None]) -> None:
        """Have a sink called with each event."""
        self._sinks.append(sink)

    def say(self, text: str) -> None:
        """Tell the user something, above the table if there is one."""
        click.secho(text, err=True, fg="yellow")

    def living(self) -> tuple[str, ...]:
        """Return the instances that are not over."""
        return tuple(row.instance_id for row in self.view.instances if not row.finished)

    def print_bill(self, file: IO[str] | None = None) -> None:
        """Print the bill, if anything ran."""
        if self.view.run_id:
            click.echo(f"\n{self.accounts.bill().render()}", file=file, err=file is None)
        if self.view.staying:
            click.echo(
                f"\n{', '.join(self.view.staying)} of run {self.view.run_id} stay suspended, and "
                f"cost: {self._ways_on}",
                file=file,
                err=file is None,
            )


def _ways_on(run_id: str) -> str:
    """Return how to go on with a run of this process that is left with suspended instances."""
    found = [run.journal for run in ambient.active if run.run_id == run_id]
    path = getattr(found[0], "path", None) if found else RunStore().path(run_id)
    if not isinstance(path, Path):
        # Only the program knows a journal that is no file.
        return f"take them up by Compute.recover({run_id!r}, journal=...) and resume_service()"
    name = name_of(path)
    journal = "" if name == run_id else f", journal={str(path)!r}"
    return (
        f"take them up by Compute.recover({run_id!r}{journal}) and resume_service(), or end them "
        f"by `requestor-sdk recover --end-suspended {name}`"
    )


@contextmanager
def shown(*, lines: bool = True) -> Iterator[Display]:
    """Show the runs that happen meanwhile on standard error.

    Args:
        lines: Whether there are plain lines where there is no terminal.
    """
    display = Display()
    # What goes wrong is shown from its events; Python's last resort would print it once more.
    logging.getLogger("requestor_sdk").addHandler(_SILENT)
    with ExitStack() as stack:
        if sys.stderr.isatty() and os.environ.get("TERM") not in _DUMB:
            _add_table(display, stack)
        else:
            display.add(display.view.apply)
            if lines:
                _add_lines(display)
        ambient.consumers.append(display)
        stack.callback(ambient.consumers.remove, display)
        yield display


def _add_lines(display: Display) -> None:
    from requestor_sdk.observe.lines import PlainLines
    from requestor_sdk.observe.text import harmless

    display.add(PlainLines(lambda line: click.echo(harmless(line), err=True)))


def _add_table(display: Display, stack: ExitStack) -> None:
    from rich.console import Console

    from requestor_sdk.observe.table import LiveTable

    console = Console(stderr=True)
    # A program whose output goes to a file or a pipe keeps it there.
    table = LiveTable(display.view, console, redirect=sys.stdout.isatty())
    opened: list[LiveTable] = []

    def show(event: Event) -> None:
        # The terminal is taken by the first event: a program that runs nothing keeps it.
        if not opened:
            opened.append(stack.enter_context(table))
        table(event)

    display.restore = stack.close
    display.add(show)
