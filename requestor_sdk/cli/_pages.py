"""What the commands share that show a page in the browser: their options, and how they end."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from requestor_sdk.observe.dashboard import Dashboard


def page_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options ``--port`` and ``--open``."""
    command = click.option(
        "--open", "opens", is_flag=True, help="Open it in the browser of this machine."
    )(command)
    return click.option(
        "--port",
        metavar="N",
        type=click.IntRange(0, 65535),
        default=0,
        help="Where to listen.  [default: any free port]",
    )(command)


async def announce(dashboard: Dashboard, *, opens: bool) -> None:
    """Print where a page is, and open it where that is asked for."""
    click.echo(dashboard.url)
    sys.stdout.flush()
    if opens:
        import webbrowser

        await asyncio.to_thread(webbrowser.open, dashboard.url)


def until_interrupt(showing: Coroutine[Any, Any, None]) -> None:
    """Show a page until Ctrl-C, which is its good end."""
    try:
        asyncio.run(showing)
    except KeyboardInterrupt:
        click.echo("", err=True)
        sys.exit(0)
