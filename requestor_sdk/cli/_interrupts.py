"""Ctrl-C: once stops in good order, twice cancels, three times gives up and says what is left open.

The handler runs between any two steps of the program, so it only counts, asks the runs to go, and
leaves the talking to the loop where there is one.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Final

import click

from requestor_sdk.client import ambient
from requestor_sdk.observe import text

if TYPE_CHECKING:
    from requestor_sdk.cli._display import Display

STATUS: Final = 130
"""The exit status of a program that was interrupted: 128 and the number of SIGINT."""


class Interrupts:
    """Takes SIGINT for the runs of this process.

    Attributes:
        count: How often it came while something ran.
    """

    def __init__(self, display: Display, leave: Callable[[int], object] = os._exit) -> None:
        self.count = 0
        self._display = display
        self._leave = leave

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        """Take one signal.

        Raises:
            KeyboardInterrupt: Nothing runs that could be stopped in good order.
        """
        runs = tuple(ambient.active)
        if not runs:
            raise KeyboardInterrupt
        self.count += 1
        stage = max(run.interrupt() for run in runs)
        if stage == 1:
            self._tell(_stopping(self._display.living()))
        elif stage == 2:
            self._tell("cancelling; Ctrl-C once more gives up and leaves things as they are")
        else:
            self._give_up([run.open_ids() for run in runs])

    def _tell(self, message: str) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._display.say(message)
        else:
            loop.call_soon_threadsafe(self._display.say, message)

    def _give_up(self, left: list[dict[str, tuple[str, ...]]]) -> None:
        self._display.restore()
        for line in _left_open(left):
            click.echo(line, err=True)
        sys.stdout.flush()
        sys.stderr.flush()
        self._leave(STATUS)


def _stopping(living: tuple[str, ...]) -> str:
    shown = ", ".join(text.short(name) for name in living[:8])
    more = f" and {len(living) - 8} more" if len(living) > 8 else ""
    waiting = f"; waiting for {shown}{more}" if living else ""
    return f"stopping in good order{waiting} (Ctrl-C again cancels)"


def _left_open(left: list[dict[str, tuple[str, ...]]]) -> Iterator[str]:
    found: Mapping[str, list[str]] = {
        kind: [name for ids in left for name in ids.get(kind, ())]
        for kind in dict.fromkeys(kind for ids in left for kind in ids)
    }
    if not any(found.values()):
        yield "gave up; nothing is left open"
        return
    yield "gave up; left open:"
    for kind, names in found.items():
        for name in names:
            yield f"  {kind} {name}"


@contextmanager
def staged(display: Display) -> Iterator[Interrupts]:
    """Take Ctrl-C for the runs that happen meanwhile."""
    interrupts = Interrupts(display)
    before = signal.signal(signal.SIGINT, interrupts)
    try:
        yield interrupts
    finally:
        signal.signal(signal.SIGINT, before)
