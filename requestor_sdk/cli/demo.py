"""``requestor-sdk demo``: the main job for real, on this machine, with a provider lost on the way.

Nothing is staged: sandboxes run, one provider's are killed by SIGKILL, and what is told is read
off the journal and checked. Where the story did not happen the exit status is 1.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path

import click

from requestor_sdk.cli._marks import mark


class StoryFailed(Exception):
    """Something that the demo shows did not happen."""


@click.command()
@click.option("--unsandboxed", is_flag=True, help="Plain processes where no sandbox can be had.")
def command(*, unsandboxed: bool) -> None:
    """Run a service on three computers of the embedded network, lose one, see the bill.

    Takes a few seconds and leaves nothing behind.
    """
    from requestor_sdk.cli._display import shown
    from requestor_sdk.cli._interrupts import STATUS, staged
    from requestor_sdk.cli._story import tell

    began = time.monotonic()
    with shown(lines=False) as display, staged(display) as interrupts:
        try:
            with tempfile.TemporaryDirectory(prefix="requestor-sdk-demo-") as folder:
                asyncio.run(tell(Path(folder), unsandboxed=unsandboxed))
        except (asyncio.CancelledError, KeyboardInterrupt):
            sys.exit(STATUS)
        except StoryFailed as failed:
            click.echo(f"{mark(ok=False)} {failed}")
            click.echo("  try: requestor-sdk doctor")
            sys.exit(1)
    display.print_bill(sys.stdout)
    if interrupts.count:
        sys.exit(STATUS)
    click.echo(f"\n{mark(ok=True)} all of this was real, and took {time.monotonic() - began:.1f} s")
    click.echo("  next: requestor-sdk new my-app, and the documentation's tutorial")
