"""``requestor-sdk c2d serve``: a provider of compute-to-data jobs, over HTTP."""

from __future__ import annotations

import asyncio
import logging
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from requestor_sdk.cli._options import (
    FILE,
    FOLDER,
    PORT,
    data_dir_option,
    database_option,
    runtime_option,
)


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen.")
@click.option(
    "--port", default=8030, show_default=True, type=PORT, help="At which port; 0 for a free one."
)
@data_dir_option("Where jobs, results and keys are kept; by default c2d in the user's data folder.")
@click.option(
    "--assets",
    metavar="PATH",
    type=click.Path(path_type=Path, exists=True),
    help="The catalogue: a DDO as JSON, a list of them, or a folder of such files.",
)
@click.option(
    "--workers",
    default=1,
    show_default=True,
    type=click.IntRange(0, 64),
    help="How many workers run within the server; 0 where workers come from elsewhere.",
)
@runtime_option
@click.option(
    "--environments",
    metavar="FILE",
    type=FILE,
    help="Where jobs run, and at what price: a TOML file.",
)
@click.option("--print-environments", is_flag=True, help="Print an example of such a file.")
@click.option(
    "--rpc", metavar="URL", default="", help="The Ethereum node that orders are checked by."
)
@click.option(
    "--confirmations",
    default=1,
    show_default=True,
    type=click.IntRange(1, 1000),
    help="In how many blocks an order has to be buried.",
)
@click.option(
    "--chain-id",
    default=8996,
    show_default=True,
    type=click.IntRange(1),
    help="The chain that is told where there is no --rpc.",
)
@database_option("postgresql://..., for several servers; by default a file in the data folder.")
@click.option(
    "--runs-dir",
    "runs",
    metavar="DIR",
    type=FOLDER,
    help="Where files of runs lie: one folder for all servers of a database; by default runs in "
    "the data folder.",
)
@click.option(
    "--tls-cert",
    "certificate",
    metavar="FILE",
    type=FILE,
    help="A PEM file: the server's certificate.",
)
@click.option(
    "--tls-key", "key", metavar="FILE", type=FILE, help="A PEM file: the certificate's key."
)
@click.option(
    "--allow-private-urls",
    "allow_private",
    is_flag=True,
    help="Let consumers name web addresses of private networks, too.",
)
@click.option(
    "--host-network",
    is_flag=True,
    help="Give algorithms that may have a network this machine's own, local services included.",
)
@click.option(
    "--connections",
    default=512,
    show_default=True,
    type=click.IntRange(8, 100_000),
    help="How many there may be at one time; the system has to have as many files, and more.",
)
@click.option(
    "--calls-per-minute",
    "calls",
    metavar="N",
    default=0,
    type=click.IntRange(0),
    help="How many calls one address may make in a minute; by default any number.",
)
@click.option(
    "--jobs-per-owner",
    "owned",
    metavar="N",
    default=1000,
    show_default=True,
    type=click.IntRange(1),
    help="How many jobs one owner may have that are not over.",
)
@click.option(
    "--results-gib-per-owner",
    "kept_gib",
    metavar="GIB",
    default=0.0,
    type=click.FloatRange(0),
    help="How much the results of one owner may take; by default a tenth of their disk.",
)
@click.option(
    "--keep-jobs-days",
    "rows_days",
    metavar="DAYS",
    default=90.0,
    show_default=True,
    type=click.FloatRange(0, 36_500),
    help="How long a job that is over is known, once its results are gone.",
)
@click.option(
    "--drain",
    "drain_sec",
    metavar="SECONDS",
    default=0.0,
    type=click.FloatRange(0, 3600),
    help="How long jobs may go on at the end; others are taken up at the next start.",
)
def command(data_dir: Path | None, *, print_environments: bool, **options: Any) -> None:
    """Serve compute-to-data jobs over HTTP, until Ctrl-C.

    Clients of both generations of the Ocean protocol are served: ocean.py and ocean.js, and this
    package's own. Algorithms run in a sandbox, with what their environment gives and no network
    unless each of their datasets allows it.
    """
    if print_environments:
        from requestor_sdk.c2d.environments import EXAMPLE

        click.echo(EXAMPLE, nl=False)
        return
    if (options["certificate"] is None) != (options["key"] is None):
        raise click.UsageError("--tls-cert and --tls-key belong together")
    from requestor_sdk.client._c2d_server import JobServer, ServeConfig, until_signal
    from requestor_sdk.settings import data_home

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s: %(message)s")
    config = ServeConfig(folder=data_dir or data_home() / "c2d", **options)

    async def main() -> None:
        await until_signal(JobServer(config, tell=_tell), tell=_tell)

    asyncio.run(main())


def _tell(line: str) -> None:
    click.echo(f"{datetime.now().astimezone():%H:%M:%S} {line}")
    sys.stdout.flush()
