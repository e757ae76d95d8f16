"""``requestor-sdk dash``: a run as a page in the browser, while it happens or afterwards."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import click

from requestor_sdk.cli._pages import announce, page_options, until_interrupt
from requestor_sdk.cli._runs import run_argument

if TYPE_CHECKING:
    from requestor_sdk.cli._chosen import Chosen
    from requestor_sdk.model.events import Event
    from requestor_sdk.observe.dashboard import Feed

_SOONEST_SEC: Final = 0.1
_LATEST_SEC: Final = 1.0
_AT_ONCE: Final = 500


@click.command()
@run_argument
@page_options
def command(run: str | None, *, port: int, opens: bool) -> None:
    """Show a run as a page in the browser, until Ctrl-C: live while it is alive, else to be played.

    RUN is the id of a run or the beginning of it, or the path of a journal; the newest run, where
    it is left out. The page is served to this machine only, by an address with a token, and reads
    the journal without disturbing who writes it. From another machine: ssh -L 8080:127.0.0.1:PORT.
    """
    from requestor_sdk.cli._chosen import chosen

    until_interrupt(_serve(chosen(run), port, opens=opens))


async def _serve(found: Chosen, port: int, *, opens: bool) -> None:
    from requestor_sdk.observe.dashboard import Dashboard, Feed

    feed = Feed()
    follows = found.alive and hasattr(found.journal, "numbered")
    async with Dashboard(feed, port=port, live=follows) as dashboard:
        await announce(dashboard, opens=opens)
        await _read(found, feed, follows=follows)
        await asyncio.Event().wait()  # until Ctrl-C


async def _read(found: Chosen, feed: Feed, *, follows: bool) -> None:
    """Hand the events of a run over, as long as more may come.

    Nothing wakes a process when another one writes a file, so it is looked at; less often the
    longer it is quiet.
    """
    from requestor_sdk.model.errors import UsageError

    after, wait = 0, _SOONEST_SEC
    try:
        while True:
            # Asked for first: what a run writes last is read after it was still alive.
            alive = follows and await asyncio.to_thread(lambda: found.alive)
            wait = min(wait * 1.5, _LATEST_SEC)
            while events := await asyncio.to_thread(_some, found, after):
                for number, event in events:
                    after = number
                    feed.append(event)
                    if number % _AT_ONCE == 0:
                        await asyncio.sleep(0)  # viewers have their turn
                wait = _SOONEST_SEC
            if not alive:
                break
            await asyncio.sleep(wait)
    except UsageError as error:
        # What could be read is shown.
        click.secho(str(error), err=True, fg="red")
    feed.close()


def _some(found: Chosen, after: int) -> list[tuple[int, Event]]:
    """Return events after a number, as far as they can be read.

    Raises:
        UsageError: There is none, and something is wrong with the journal.
    """
    from requestor_sdk.model.errors import UsageError

    events: list[tuple[int, Event]] = []
    try:
        events.extend(found.numbered(after))
    except UsageError:
        if not events:
            raise
    return events
