"""``requestor-sdk runs``: what was run, and how it is."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from requestor_sdk.cli._columns import say, table, width
from requestor_sdk.observe import text
from requestor_sdk.observe._names import name_of

if TYPE_CHECKING:
    from requestor_sdk.observe.runs import RunStore, RunSummary

_JOBS = "jobs"
_HEAD = ("run", "network", "started", "time", "state", "instances", "spent", "budget", "left over")
_NUMBERS = ("time", "instances", _JOBS, "spent", "budget", "left over")
_PLACE_OF_JOBS = _HEAD.index("instances") + 1


@click.command()
@click.option("--all", "everything", is_flag=True, help="List all, not the newest only.")
@click.option(
    "-n",
    "limit",
    metavar="N",
    type=click.IntRange(1),
    default=20,
    show_default=True,
    help="List that many.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
@click.option("--remove", metavar="RUN", multiple=True, help="Remove a run instead of listing.")
@click.option("--force", is_flag=True, help="With --remove: also one that is not settled.")
def command(
    *, everything: bool, limit: int, as_json: bool, remove: tuple[str, ...], force: bool
) -> None:
    """List the runs, the newest first; or remove old ones.

    They lie in the folder `runs` of the user's data folder; REQUESTOR_SDK_HOME moves it. A run that
    is alive is never removed. The status is 1 where one of those listed could not be read in full.
    """
    from requestor_sdk.observe.runs import RunStore

    store = RunStore()
    if remove:
        _remove(store, remove, unsettled=force)
        return
    ids = store.ids()
    told = [store.summary(run_id) for run_id in (ids if everything else ids[:limit])]
    if as_json:
        click.echo(json.dumps([as_record(summary) for summary in told], indent=2))
    elif not told:
        click.echo("no runs; make one by: requestor-sdk demo", err=True)
    else:
        for line in table(*_columns(told), within=width(), right=_NUMBERS):
            say(line)
        _tell_the_rest(told, len(ids))
    if any(summary.problem is not None for summary in told):
        sys.exit(1)


def _remove(store: RunStore, names: Sequence[str], *, unsettled: bool) -> None:
    # Each name is looked up before anything is removed: a slip of the pen removes nothing.
    for run_id in [store.find(name) for name in names]:
        store.remove(run_id, unsettled=unsettled)
        click.echo(f"removed {run_id}", err=True)


def _tell_the_rest(told: Sequence[RunSummary], number: int) -> None:
    for summary in told:
        if summary.problem is not None:
            click.echo(f"{summary.run_id}: {summary.problem.message}", err=True)
    if len(told) < number:
        click.echo(f"{number - len(told)} older runs: requestor-sdk runs --all", err=True)


def _columns(
    told: Sequence[RunSummary],
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return the head and the rows; the jobs have a column where there are any."""
    head, rows = _HEAD, [_row(summary) for summary in told]
    if not any(summary.view.jobs for summary in told):
        return head, rows
    at = _PLACE_OF_JOBS
    return (*head[:at], _JOBS, *head[at:]), [
        (*row[:at], str(len(summary.view.jobs)), *row[at:])
        for row, summary in zip(rows, told, strict=True)
    ]


def _row(summary: RunSummary) -> tuple[str, ...]:
    view = summary.view
    seconds = lasted(summary)
    return (
        summary.run_id,
        view.network,
        f"{summary.started.astimezone():%Y-%m-%d %H:%M}" if summary.started else "",
        text.duration(seconds) if seconds is not None else "",
        summary.state.value,
        str(len(view.instances)),
        text.amount(view.spent),
        text.amount(view.budget),
        text.amount(view.left_over) if view.left_over else "",
    )


def lasted(summary: RunSummary) -> float | None:
    """Return for how many seconds a run lasted, or has lasted so far."""
    if summary.started is None or summary.last is None:
        return None
    if summary.state.value != "alive":
        return summary.seconds
    return summary.seconds + (datetime.now(UTC) - summary.last).total_seconds()


def nothing_of(run_id: str, path: Path) -> Iterator[str]:
    """Return what to say of a run of which nothing was written down."""
    yield f"run {run_id} is empty: it ended before it did anything, and nothing is to be recovered"
    if _is_stored(path):
        yield f"  try: requestor-sdk runs --remove {path.stem}"


def giving_up(path: Path) -> str:
    """Return how to be rid of a run that cannot be read in full; empty for a file elsewhere."""
    if not _is_stored(path):
        return ""
    return f"to give up what may be open of it: requestor-sdk runs --remove {path.stem} --force"


def _is_stored(path: Path) -> bool:
    """Tell whether a journal lies in the store; a file elsewhere is removed by its owner."""
    return name_of(path) == path.stem


def as_record(summary: RunSummary) -> dict[str, Any]:
    """Return a run as JSON can hold it; amounts are strings, times ISO 8601."""
    view = summary.view
    return {
        "run": summary.run_id,
        "state": summary.state.value,
        "network": view.network,
        "started": summary.started.isoformat() if summary.started else None,
        "last": summary.last.isoformat() if summary.last else None,
        "seconds": lasted(summary),
        "instances": len(view.instances),
        "jobs": len(view.jobs),
        "spent": text.exact(view.spent),
        "budget": text.exact(view.budget),
        "left_over": text.exact(view.left_over),
        "unsettled": summary.unsettled,
        "journal": str(summary.path),
        "problem": summary.problem.message if summary.problem else None,
    }
