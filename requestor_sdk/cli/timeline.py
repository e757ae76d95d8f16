"""``requestor-sdk timeline``: a run as a picture, a page, or a trace."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from requestor_sdk.cli._runs import run_argument


@click.command()
@run_argument
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    type=click.Path(allow_dash=True),
    help="Where to: .svg, .html, or .json for Perfetto; `-` for standard output.  "
    "[default: RUN.svg]",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(("svg", "html", "json")),
    help="What it is written as, where FILE does not say.",
)
def command(run: str | None, *, output: str | None, form: str | None) -> None:
    """Draw a run: a lane an instance, batches and restarts as marks, the cost below.

    RUN is the id of a run or the beginning of it, or the path of a journal; the newest run, where
    it is left out. One that is alive is drawn as far as it is. The status is 1 where not all of the
    journal could be read; what could be is drawn.
    """
    from requestor_sdk.cli._chosen import chosen
    from requestor_sdk.model.errors import UsageError
    from requestor_sdk.observe.timeline import Timeline, format_of

    found = chosen(run)
    timeline, problem = Timeline(), None
    target = None if output == "-" else Path(output or f"{Path(found.name).stem}.{form or 'svg'}")
    if target is not None and form is None:
        form = format_of(target)  # before a long journal is read for nothing
    try:
        for _, event in found.numbered(0):
            timeline.apply(event)
    except UsageError as error:
        problem = error
    if target is None:
        click.echo(timeline.rendered(form or "svg").encode())  # UTF-8, as it says of itself
    else:
        timeline.save(target, form=form)
        click.echo(f"{target}", err=True)
    if problem is not None:
        click.secho(str(problem), err=True, fg="red")
        sys.exit(1)
