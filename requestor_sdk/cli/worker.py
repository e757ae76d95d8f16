"""``requestor-sdk worker``: do runs of a queue on this machine."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from requestor_sdk.cli import Group
from requestor_sdk.cli._options import FILE, runtime_option

if TYPE_CHECKING:
    from requestor_sdk.ports.worker import Room


@click.group(cls=Group)
def command() -> None:
    """Do runs of a server's queue on this machine."""


@command.command()
@click.option(
    "--server",
    metavar="URL",
    envvar="GYOZA_SERVER_URL",
    default="http://localhost:8030",
    show_default=True,
    show_envvar=True,
    help="The server that keeps the queue.",
)
@click.option(
    "--id",
    "worker_id",
    metavar="NAME",
    envvar="GYOZA_WORKER_ID",
    show_envvar=True,
    help="The worker's name; by default this host's.",
)
@click.option(
    "--token-file",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The file with the worker's token; else GYOZA_API_KEY has it.",
)
@click.option("--tag", "tags", metavar="TAG", multiple=True, help="What runs can ask for; repeat.")
@click.option("--cpus", type=click.FloatRange(0.1), help="Processors for runs; else what is there.")
@click.option("--memory-mb", type=click.IntRange(32), help="MB of memory for runs.")
@click.option("--disk-mb", type=click.IntRange(32), help="MB of disk for runs.")
@click.option(
    "--folder", metavar="FOLDER", type=click.Path(path_type=Path), help="Where its journal lies."
)
@click.option(
    "--ca",
    metavar="FILE",
    type=FILE,
    help="Certificates that the server's is to be signed by.",
)
@click.option(
    "--drain",
    type=click.FloatRange(0),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="How long runs may go on after a signal.",
)
@click.option(
    "--health-port",
    metavar="PORT",
    type=click.IntRange(0, 65535),
    help="Where on 127.0.0.1 to say how it is: /health, and /metrics for Prometheus.",
)
@click.option(
    "--host-network",
    is_flag=True,
    help="Give runs that may have a network this machine's own, local services included.",
)
@runtime_option
def start(
    *,
    server: str,
    worker_id: str | None,
    token_file: Path | None,
    tags: tuple[str, ...],
    cpus: float | None,
    memory_mb: int | None,
    disk_mb: int | None,
    folder: Path | None,
    ca: Path | None,
    drain: float,
    health_port: int | None,
    host_network: bool,
    runtime: str,
) -> None:
    """Take runs that fit this machine, and do them in sandboxes, until Ctrl-C.

    The first Ctrl-C, or SIGTERM, lets what runs end; the second hands it back to the queue at once.
    A token is made by `requestor-sdk c2d token NAME` on the server.
    """
    from requestor_sdk.worker._config import WorkerConfig
    from requestor_sdk.worker._http_queue import HttpQueue
    from requestor_sdk.worker.runner import folder_of, host_name, serve

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    name = worker_id or host_name()
    place = folder or folder_of(name)
    queue = HttpQueue(server, worker_id=name, token=_token(token_file), ca=ca)
    config = WorkerConfig(
        id=name,
        folder=place,
        tags=tags,
        room=_room(place, cpus, memory_mb, disk_mb),
        drain_timeout=drain,
        host_network=host_network,
    )
    served = serve(queue, config, runtime=runtime, health_port=health_port, tell=_tell)
    asyncio.run(served)


def _token(file: Path | None) -> str:
    if file is None:
        return os.environ.get("GYOZA_API_KEY", "")
    try:
        return file.read_text().strip()
    except (OSError, UnicodeError) as error:
        raise click.BadParameter(f"{file}: {error}", param_hint="--token-file") from None


def _room(
    folder: Path, cpus: float | None, memory_mb: int | None, disk_mb: int | None
) -> Room | None:
    """Return what runs may have, where any of it is named; else it is detected again and again."""
    if cpus is None and memory_mb is None and disk_mb is None:
        return None
    from dataclasses import replace

    from requestor_sdk.worker._room import detect_room

    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    found = detect_room(folder)
    return replace(
        found,
        cpu=found.cpu if cpus is None else cpus,
        ram_mb=found.ram_mb if memory_mb is None else memory_mb,
        disk_mb=found.disk_mb if disk_mb is None else disk_mb,
    )


def _tell(line: str) -> None:
    click.echo(f"{datetime.now().astimezone():%H:%M:%S} {line}")
    sys.stdout.flush()
