"""``requestor-sdk c2d dash``: a provider of jobs as a page in the browser, for who runs it."""

from __future__ import annotations

from pathlib import Path

import click

from requestor_sdk.cli._pages import announce, page_options, until_interrupt


@click.command()
@click.option(
    "--data-dir",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="The data folder of the server; by default c2d in the user's data folder.",
)
@click.option(
    "--database",
    metavar="URL",
    default="",
    envvar="REQUESTOR_C2D_DATABASE",
    help="postgresql://..., where the server has its store there.",
)
@page_options
def command(data_dir: Path | None, *, database: str, port: int, opens: bool) -> None:
    """Show a provider of jobs as a page in the browser, until Ctrl-C.

    Its queue, its jobs, and its workers with what they have and hold. The page is served to this
    machine only, by an address with a token. It reads the server's store and writes nothing,
    whether the server runs or not. From another machine: ssh -L 8080:127.0.0.1:PORT.
    """
    from requestor_sdk.settings import data_home

    until_interrupt(_serve(data_dir or data_home() / "c2d", database, port, opens=opens))


async def _serve(folder: Path, database: str, port: int, *, opens: bool) -> None:
    from requestor_sdk.client._c2d_server import store_of
    from requestor_sdk.client._provider_board import board_of
    from requestor_sdk.observe.dashboard import Dashboard, Latest

    store = store_of(folder, database, looking=True)
    await store.open()
    try:
        latest = Latest()
        board = board_of(store, latest, folder, shared=bool(database))
        async with Dashboard(latest, port=port) as dashboard:
            await board.look()
            await announce(dashboard, opens=opens)
            await board.follow()  # until Ctrl-C
    finally:
        await store.close()
