"""``requestor-sdk logs``: what a run told while it happened, read from its journal."""

from __future__ import annotations

import json
import logging
import sys
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import click

from requestor_sdk.cli._columns import say
from requestor_sdk.cli._runs import run_argument

if TYPE_CHECKING:
    from requestor_sdk.cli._chosen import Chosen
    from requestor_sdk.model.events import Event

_INTERRUPTED: Final = 130
_LEVELS: Final = ("debug", "info", "warning", "error")
_COLOURS: Final = {logging.WARNING: "yellow", logging.ERROR: "red"}


@click.command()
@run_argument
@click.option("--instance", metavar="ID", help="Only what concerns this instance.")
@click.option(
    "--level",
    type=click.Choice(_LEVELS, case_sensitive=False),
    default="info",
    show_default=True,
    help="Only this and above.",
)
@click.option("-n", "last", metavar="N", type=click.IntRange(min=0), help="Only the last N.")
@click.option("--follow", is_flag=True, help="Go on as long as the run is alive.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
def command(
    run: str | None,
    *,
    instance: str | None,
    level: str,
    last: int | None,
    follow: bool,
    as_json: bool,
) -> None:
    """Print what a run told: states, failures, money; the oldest first.

    RUN is the id of a run or the beginning of it, or the path of a journal; the newest run, where
    it is left out. Each line has the time, the level where it is above info, and what happened;
    `events` prints everything. The status is 1 where not all of the journal could be read.
    """
    from requestor_sdk.cli._chosen import chosen
    from requestor_sdk.cli.events import followed

    found = chosen(run)
    if follow:
        found.check_can_be_followed()
    told = _Told(logging.getLevelNamesMapping()[level.upper()], instance, as_json=as_json)
    try:
        after = _print(found, told, last)
        if follow:
            for event in followed(found, after):
                told.take(event, _write)
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)


def _print(found: Chosen, told: _Told, last: int | None) -> int:
    """Print what is there, as far as it can be read; return the number of the last event."""
    kept: deque[tuple[str, str | None]] = deque(maxlen=last)
    write = _write if last is None else (lambda text, colour: kept.append((text, colour)))
    reached = 0
    try:
        for number, event in found.numbered(0):
            reached = number
            told.take(event, write)
    finally:
        for text, colour in kept:
            _write(text, colour)
    return reached


class _Told:
    """Turns events into lines; those that are not asked for make none."""

    def __init__(self, level: int, instance: str | None, *, as_json: bool) -> None:
        from requestor_sdk.observe.logs import Reader

        self._reader = Reader()
        self._level = level
        self._instance = instance
        self._as_json = as_json

    def take(self, event: Event, write: Callable[[str, str | None], Any]) -> None:
        """Hand the line of an event, and its colour, to ``write``."""
        level, text, ids = self._reader.read(event)
        if level < self._level or self._instance not in (None, ids["instance_id"]):
            return
        name = logging.getLevelName(level).lower()
        if self._as_json:
            known = {key: value for key, value in ids.items() if value}
            record = {"at": event.at.isoformat(), "level": name, "event": event.kind, **known}
            write(json.dumps({**record, "text": text}), None)
            return
        shown = "" if level == logging.INFO else f"{name}: "
        at = event.at.astimezone()
        write(f"{at:%H:%M:%S}.{at.microsecond // 1000:03d} {shown}{text}", _COLOURS.get(level))


def _write(text: str, colour: str | None) -> None:
    for line in text.splitlines():
        say(line, colour=colour)
