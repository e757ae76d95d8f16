"""``requestor-sdk events``: what happened in a run, event by event."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

import click

from requestor_sdk.cli._columns import say
from requestor_sdk.cli._options import completed
from requestor_sdk.cli._runs import run_argument

if TYPE_CHECKING:
    from requestor_sdk.cli._chosen import Chosen
    from requestor_sdk.model.events import Event

_INTERRUPTED: Final = 130
_SOONEST_SEC: Final = 0.1
_LATEST_SEC: Final = 1.0


def _kinds() -> list[str]:
    from requestor_sdk.model.events import Event

    return sorted(Event.kinds)


@click.command()
@run_argument
@click.option("--id", "ids", metavar="KIND=ID", multiple=True, help="Only of it: instance=i-1.")
@click.option(
    "--kind",
    "kinds",
    metavar="KIND",
    multiple=True,
    help="Only these: InvoiceAccepted.",
    shell_complete=completed(_kinds),
)
@click.option("-n", "last", metavar="N", type=click.IntRange(min=0), help="Only the last N.")
@click.option("--follow", is_flag=True, help="Go on as long as the run is alive.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
def command(
    run: str | None,
    *,
    ids: tuple[str, ...],
    kinds: tuple[str, ...],
    last: int | None,
    follow: bool,
    as_json: bool,
) -> None:
    """Print the events of a run, the oldest first.

    RUN is the id of a run or the beginning of it, or the path of a journal; the newest run, where
    it is left out. A damaged journal is printed as far as it can be read, then what is missing is
    told and the status is 1.
    """
    from requestor_sdk.cli._chosen import chosen

    wanted = _filter(dict(map(_parsed_id, ids)), frozenset(map(_known_kind, kinds)))
    found = chosen(run)
    if follow:
        found.check_can_be_followed()
    write = _write_json if as_json else _write_line
    try:
        after = _print(found, wanted, last, write)
        if follow:
            for event in followed(found, after):
                if wanted(event):
                    write(event)
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)


def _print(
    found: Chosen, wanted: Callable[[Event], bool], last: int | None, write: Callable[[Event], None]
) -> int:
    """Print what is there; return the number of the last event.

    Raises:
        JournalDamaged: Not all could be read; what could be is printed.
    """
    kept: deque[Event] = deque(maxlen=last)
    take = write if last is None else kept.append
    reached = 0
    try:
        for number, event in found.numbered(0):
            reached = number
            if wanted(event):
                take(event)
    finally:
        for event in kept:
            write(event)
    return reached


def followed(
    found: Chosen, after: int, pause: Callable[[float], object] = time.sleep
) -> Iterator[Event]:
    """Return the events after that number as they are written, until the run is over.

    Nothing wakes a process when another one writes a file, so it is looked at; less often the
    longer it is quiet.
    """
    wait = _SOONEST_SEC
    while True:
        # Asked for first: what a run writes last is read after it was still alive.
        alive = found.alive
        wait = min(wait * 1.5, _LATEST_SEC)
        for number, event in found.numbered(after):
            after, wait = number, _SOONEST_SEC
            yield event
        if not alive:
            return
        pause(wait)


def _filter(ids: dict[str, str], kinds: frozenset[str]) -> Callable[[Event], bool]:
    return lambda event: event.concerns(ids) and (not kinds or event.kind in kinds)


def _parsed_id(given: str) -> tuple[str, str]:
    from requestor_sdk.model.events import Event

    kind, _, name = given.partition("=")
    fields = (field.name for cls in Event.kinds.values() for field in dataclasses.fields(cls))
    known = sorted({field.removesuffix("_id") for field in fields if field.endswith("_id")})
    if not name or kind not in known:
        raise click.BadParameter(
            f"{given!r}; it takes KIND=ID, and KIND is one of {', '.join(known)}",
            param_hint="--id",
        )
    return kind, name


def _known_kind(given: str) -> str:
    from requestor_sdk.model.events import Event

    found = {kind.lower(): kind for kind in Event.kinds}.get(given.lower())
    if found is None:
        raise click.BadParameter(
            f"there is no event {given!r}; there is {', '.join(sorted(Event.kinds))}",
            param_hint="--kind",
        )
    return found


def _write_line(event: Event) -> None:
    say(event.line())


def _write_json(event: Event) -> None:
    click.echo(json.dumps(event.to_record()))
