"""``requestor-sdk c2d token``: what a worker on another host shows the server."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from requestor_sdk.cli._options import data_dir_option, database_option


@click.command()
@click.argument("worker")
@data_dir_option("The data folder of the server; by default c2d in the user's data folder.")
@database_option("postgresql://..., where the server has its store there.")
@click.option("--revoke", is_flag=True, help="Take the worker's token back instead.")
def command(worker: str, data_dir: Path | None, database: str, revoke: bool) -> None:
    """Print a new token of WORKER; one that it had is worth nothing any more.

    It is shown this once: the server keeps a digest of it. A server that runs takes it at once, and
    refuses the former one within five seconds.
    """
    from requestor_sdk.client._c2d_server import store_of
    from requestor_sdk.settings import data_home

    folder = data_dir or data_home() / "c2d"

    async def main() -> None:
        from requestor_sdk.c2d._worker_tokens import WorkerTokens

        store = store_of(folder, database)
        await store.open()
        try:
            tokens = WorkerTokens(store)
            if not revoke:
                click.echo(await tokens.issue(worker))
            elif await tokens.revoke(worker):
                click.echo(f"{worker} has no token any more", err=True)
            else:
                raise click.ClickException(f"{worker} has no token")
        except ValueError as error:
            raise click.UsageError(str(error)) from None
        finally:
            await store.close()

    asyncio.run(main())
